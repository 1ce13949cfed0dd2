"""Haystacks: the distracting text that needles are hidden in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from generators import protocol
from generators.corpora import Corpus

__all__ = ["EssayHaystack", "Haystack", "NeedleHaystack", "NoiseHaystack"]


class Haystack(Protocol):
    """Text that grows unit by unit and can be opened between blocks.

    Attributes:
        joiner: What stands between blocks, and around a needle between them.
    """

    @property
    def joiner(self) -> str: ...

    def unit(self, index: int) -> str:
        """The unit at `index`, separator included: the step by which the haystack can grow."""

    def blocks(self, units: int) -> list[str]:
        """The first `units` units, cut where a needle may be inserted."""


@dataclass(frozen=True)
class EssayHaystack:
    """The beginning of a corpus: grows by words, opens between sentences."""

    corpus: Corpus
    joiner: str = " "

    def unit(self, index: int) -> str:
        return " " + self.corpus.word(index)

    def blocks(self, units: int) -> list[str]:
        return self.corpus.sentences(units)


@dataclass(frozen=True)
class NoiseHaystack:
    """RULER's five noise sentences, a line of them again and again."""

    joiner: str = "\n"

    def unit(self, index: int) -> str:
        return "\n" + protocol.NOISE

    def blocks(self, units: int) -> list[str]:
        return [protocol.NOISE] * units


@dataclass
class NeedleHaystack:
    """A line of distractor needles each; drawn one after the other, so a longer one begins alike."""

    distractor: Callable[[], str]
    joiner: str = "\n"
    _lines: list[str] = field(default_factory=list)

    def unit(self, index: int) -> str:
        return "\n" + self.blocks(index + 1)[index]

    def blocks(self, units: int) -> list[str]:
        while len(self._lines) < units:
            self._lines.append(self.distractor())
        return self._lines[:units]
