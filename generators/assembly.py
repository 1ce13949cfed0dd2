"""Prompts put together from pieces that are tokenized once each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from generators.prompt_templates import PromptTemplate, Special
from generators.tokenization import Tokenizer

__all__ = ["Assembly", "Ids", "Piece", "TokenizedTexts", "assemble", "separately_counted", "templated"]

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a prompt.

    Attributes:
        text: Its text.
        ids: Its tokens as the continuation of a text that it meets at a token boundary; None leaves them to
            the tokenizer.
    """

    text: str
    ids: Ids | None = None


@dataclass(frozen=True)
class Assembly:
    """The tokens of a prompt.

    Attributes:
        count: How many there are.
        starts: For each part, the index of the token that holds its first visible character; of its
            first token where its ids were given.
    """

    count: int
    starts: tuple[int, ...]
    _groups: tuple[Ids | Sequence[int], ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids, exactly those of the whole text."""
        lists = (group.tolist() if isinstance(group, np.ndarray) else group for group in self._groups)
        return tuple(chain.from_iterable(lists))


def assemble(tokenizer: Tokenizer, parts: Sequence[Piece | Special]) -> Assembly:
    """Puts parts together; those that do not meet at a token boundary are tokenized as one text."""
    groups: list[Ids | Sequence[int]] = []
    starts: list[int] = []
    count = 0
    i = 0
    while i < len(parts):
        part = parts[i]
        if isinstance(part, Special):
            groups.append((part.id,))
            starts.append(count)
            count += 1
            i += 1
            continue
        before = parts[i - 1] if i else None
        at_start = before is None or isinstance(before, Special)
        together = [part]
        for j in range(i + 1, len(parts)):
            other = parts[j]
            if isinstance(other, Special) or tokenizer.joins(together[-1].text, other.text):
                break
            together.append(other)
        if part.ids is not None and len(together) == 1 and not (at_start and tokenizer.marks_beginning):
            ids: Ids | Sequence[int] = part.ids
            starts.append(count)
        else:
            text = "".join(each.text for each in together)
            if not at_start or not tokenizer.marks_beginning:
                encoding = tokenizer.continued(text)
            elif isinstance(before, Special) and before.spelled:
                encoding = tokenizer.after_special(text)
            else:
                encoding = tokenizer.encode(text)
            ids = encoding.ids
            character = 0
            for each in together:
                visible = len(each.text) - len(each.text.lstrip())
                starts.append(count + max(encoding.token_at(character + visible), 0))
                character += len(each.text)
        groups.append(ids)
        count += len(ids)
        i += len(together)
    return Assembly(count, tuple(starts), tuple(groups))


def templated(prompt_template: PromptTemplate, prompt: Sequence[Piece], answer_prefix: str) -> list[Piece | Special]:
    """A prompt and its answer prefix in a model's prompt template, ready to assemble."""
    before, after = (
        [part if isinstance(part, Special) else Piece(part) for part in side]
        for side in (prompt_template.before, prompt_template.after)
    )
    return [*before, *prompt, *after, Piece(answer_prefix)]


def separately_counted(tokenizer: Tokenizer, pieces: Iterable[Piece]) -> int:
    """The tokens of pieces that meet at token boundaries."""
    return sum(tokenizer.count(piece.text) if piece.ids is None else len(piece.ids) for piece in pieces)


class TokenizedTexts:
    """Many texts tokenized once each, to be strung together in any order.

    Attributes:
        texts: The texts.
        counts: Their numbers of tokens, [texts].
    """

    def __init__(self, tokenizer: Tokenizer, texts: Iterable[str]) -> None:
        self._tokenizer = tokenizer
        self.texts: tuple[str, ...] = ()
        self.counts: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._ids: Ids = np.zeros(0, dtype=np.int32)
        self._lefts: set[str] = set()
        self._rights: set[str] = set()
        self.extend(texts)

    def extend(self, texts: Iterable[str]) -> None:
        """Goes on with more texts, which alone are tokenized."""
        more = tuple(texts)
        encoded = self._tokenizer.all_continued(more)
        counts = np.array([len(ids) for ids in encoded], dtype=np.int64)
        ids: Ids = np.fromiter(chain.from_iterable(encoded), dtype=np.int32, count=int(counts.sum()))
        self.texts += more
        self.counts = np.concatenate([self.counts, counts])
        self._ids = np.concatenate([self._ids, ids])
        self._texts = np.array(self.texts, dtype=np.object_)
        self._offsets = np.cumsum(self.counts) - self.counts
        # Rules look further than this only where white space ends or begins a text twice.
        self._lefts |= {text[-2:] if text[-1:].isspace() else text[-1:] for text in more}
        self._rights |= {text[:3] if text[:2].isspace() else text[:2] for text in more}

    def meets_at_boundaries(self, other: TokenizedTexts) -> bool:
        """Whether any of these texts meets any of the other's at a token boundary."""
        return all(self._tokenizer.joins(left, right) for left in self._lefts for right in other._rights)

    def chosen(self, order: npt.NDArray[np.int64]) -> list[str]:
        """The texts at `order`."""
        return self._texts[order].tolist()

    def strung(self, order: npt.NDArray[np.int64]) -> Ids:
        """The ids of the texts at `order`, one after the other."""
        return _gathered(self._ids, self._offsets[order], self.counts[order])

    def interleaved(self, own: npt.NDArray[np.int64], other: TokenizedTexts, theirs: npt.NDArray[np.int64]) -> Ids:
        """The ids of one of these texts, one of the other's, and so on in turn."""
        both = np.concatenate([self._ids, other._ids])
        offsets, counts = np.empty((2, 2 * len(own)), dtype=np.int64)
        offsets[::2], offsets[1::2] = self._offsets[own], other._offsets[theirs] + len(self._ids)
        counts[::2], counts[1::2] = self.counts[own], other.counts[theirs]
        return _gathered(both, offsets, counts)


def _gathered(ids: Ids, offsets: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> Ids:
    """The slices `ids[offset : offset + count]`, joined."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return ids[np.repeat(offsets - (ends - counts), counts) + np.arange(total)]
