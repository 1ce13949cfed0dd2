"""Running text that an essay haystack is cut from."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path

__all__ = ["Corpus", "embedded_essays"]

_SENTENCE_END = re.compile(r"[.!?][\"')\]]*$")


@dataclass(frozen=True, eq=False)
class Corpus:
    """Running text as words, with the places where its sentences begin.

    All white space counts as one blank, as in RULER's essay haystack.

    Attributes:
        name: What reports call the corpus.
        words: The words in reading order.
    """

    name: str
    words: tuple[str, ...]
    _starts: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.words:
            raise ValueError(f"corpus {self.name!r} is empty; an essay haystack needs at least one word")
        ends = (i + 1 for i, word in enumerate(self.words) if _SENTENCE_END.search(word))
        starts = (0, *(end for end in ends if end < len(self.words)))
        object.__setattr__(self, "_starts", starts)

    @classmethod
    def from_text(cls, name: str, text: str) -> Corpus:
        """Splits `text` at white space.

        Raises:
            ValueError: `text` has no words.
        """
        return cls(name, tuple(text.split()))

    @cached_property
    def folded(self) -> str:
        """The text in lower case, to look for words in."""
        return " ".join(self.words).lower()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the words, in hexadecimal."""
        return hashlib.sha256(" ".join(self.words).encode()).hexdigest()

    def word(self, index: int) -> str:
        """The word at `index`; past the end the corpus begins again (RULER's rule)."""
        return self.words[index % len(self.words)]

    def sentence_starts(self, words: int) -> list[int]:
        """The indices of the words that begin a sentence, among the first `words` words."""
        rounds, rest = divmod(words, len(self.words))
        starts = [turn * len(self.words) + start for turn in range(rounds) for start in self._starts]
        return starts + [rounds * len(self.words) + start for start in self._starts[: bisect_left(self._starts, rest)]]

    def sentences(self, words: int) -> list[str]:
        """The first `words` words, cut into sentences; the last one may be cut short."""
        edges = pairwise([*self.sentence_starts(words), words])
        return [" ".join(self.word(index) for index in range(a, b)) for a, b in edges]


@cache
def embedded_essays() -> Corpus:
    """The essays written for this project, in the order of their file names."""
    folder = Path(__file__).with_name("essays")
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))]
    return Corpus.from_text("embedded", "\n".join(texts))
