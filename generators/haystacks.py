"""Haystacks: the distracting text that needles are hidden in."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from generators.assembly import Ids, Piece, TokenizedTexts
from generators.corpora.essays import Corpus
from generators.random_streams import RandomStream
from generators.tokenization import Tokenizer

__all__ = ["NOISE", "EssayHaystack", "Haystack", "LineHaystack", "Lines", "NoiseHaystack"]

# RULER's words (Copyright (c) 2024, NVIDIA CORPORATION, Apache License 2.0; see NOTICE).
NOISE: Final = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."


class Haystack(Protocol):
    """Text that grows unit by unit and can be opened between blocks.

    Insertion points are numbered from 0, before the first block, to the number of blocks.

    Attributes:
        leading: What stands before every block and needle but the first.
        trailing: What stands after every block and needle.
        constant: As in `PromptBuilder`: sentences hidden in it take as many tokens whatever its size.
    """

    @property
    def leading(self) -> str: ...

    @property
    def trailing(self) -> str: ...

    @property
    def constant(self) -> bool: ...

    def tokens(self, units: int) -> int:
        """The tokens that the first `units` units take."""

    def insertion_points(self, units: int) -> Sequence[int]:
        """For each insertion point, the tokens before it."""

    def pieces(self, units: int, first: int, last: int, *, at_start: bool) -> list[Piece]:
        """The text between two insertion points; `at_start` leaves out what leads the first block."""


class EssayHaystack:
    """The beginning of a corpus: grows by words, opens between sentences."""

    leading: Final = " "
    trailing: Final = ""
    # The first block is not led by a blank, and which that is may depend on the size.
    constant: Final = False

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer) -> None:
        self._words = _tokenized_words(corpus, tokenizer)
        self._corpus = corpus
        self._known: tuple[int, list[int], list[int]] = (-1, [], [])

    def tokens(self, units: int) -> int:
        return self._words.before(units)

    def insertion_points(self, units: int) -> Sequence[int]:
        return self._sentences(units)[1]

    def pieces(self, units: int, first: int, last: int, *, at_start: bool) -> list[Piece]:
        words = self._sentences(units)[0]
        begin, end = words[first], words[last]
        result: list[Piece] = []
        if at_start and begin < end:
            result.append(Piece(self._corpus.word(begin)))
            begin += 1
        # The last word apart: should the question not meet it at a token boundary, only the two are tokenized again.
        result += [self._words.stretch(a, b) for a, b in ((begin, end - 1), (max(begin, end - 1), end)) if a < b]
        return result

    def _sentences(self, units: int) -> tuple[list[int], list[int]]:
        """The words at insertion points, and the tokens before them."""
        if self._known[0] != units:
            words, tokens = self._words.sentences(units)
            self._known = units, [*words, units], [*tokens, self._words.before(units)]
        return self._known[1:]


class _TokenizedWords:
    """A corpus, each word with the blank before it, begun again where it ends."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer) -> None:
        self._text = "".join(" " + word for word in corpus.words)
        lengths = np.array([len(word) + 1 for word in corpus.words])
        self._characters = np.concatenate([[0], np.cumsum(lengths)])
        encoding = tokenizer.continued(self._text)
        self._ids: Ids = np.array(encoding.ids, dtype=np.int32)
        # A token may leave its blank out of its extent, but begins no earlier than that.
        self._before = np.searchsorted(np.array(encoding.starts), self._characters, side="left").tolist()
        self._before[-1] = len(self._ids)
        self._corpus = corpus
        self._words = len(corpus.words)
        self._sentence_words, self._sentence_tokens = [0], [0]
        borders = {(word[-2:], " " + following[:2]) for word, following in _neighbours(corpus.words)}
        self.at_boundaries = all(tokenizer.joins(left, right) for left, right in borders)

    def before(self, word: int) -> int:
        """The tokens of the first `word` words."""
        rounds, rest = divmod(word, self._words)
        return rounds * len(self._ids) + self._before[rest]

    def sentences(self, words: int) -> tuple[list[int], list[int]]:
        """The words that begin sentences among the first `words` words, and the tokens before each."""
        while self._sentence_words[-1] < words:
            done = len(self._sentence_words)
            more = self._corpus.sentence_starts(2 * words + self._words)[done:]
            self._sentence_words += more
            self._sentence_tokens += map(self.before, more)
        count = bisect_left(self._sentence_words, words)
        return self._sentence_words[:count], self._sentence_tokens[:count]

    def stretch(self, first: int, last: int) -> Piece:
        """The words from `first` to before `last`."""
        rounds, begin = divmod(first, self._words)
        end = last - rounds * self._words
        if end <= self._words:
            a, b = self._characters[begin], self._characters[end]
            ids = self._ids[self._before[begin] : self._before[end]]
            return Piece(self._text[a:b], ids if self.at_boundaries else None)
        whole, rest = divmod(end, self._words)
        text = self._text[self._characters[begin] :] + self._text * (whole - 1) + self._text[: self._characters[rest]]
        parts = [self._ids[self._before[begin] :], *[self._ids] * (whole - 1), self._ids[: self._before[rest]]]
        return Piece(text, np.concatenate(parts) if self.at_boundaries else None)


def _neighbours(words: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(words, [*words[1:], words[0]], strict=True))


@lru_cache(maxsize=4)
def _tokenized_words(corpus: Corpus, tokenizer: Tokenizer) -> _TokenizedWords:
    return _TokenizedWords(corpus, tokenizer)


class NoiseHaystack:
    """RULER's five noise sentences, a line of them again and again.

    Grows by sentences, so that less of the budget is left empty than RULER's whole lines leave;
    opens between lines.
    """

    leading: Final = ""
    trailing: Final = "\n"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._parts = _tokenized_noise(tokenizer)
        self.constant = self._parts.at_boundaries

    def tokens(self, units: int) -> int:
        lines, rest = divmod(units, len(self._parts))
        return lines * len(self._parts[0][1]) + (len(self._parts[rest][1]) if rest else 0)

    def insertion_points(self, units: int) -> Sequence[int]:
        blocks = -(-units // len(self._parts))
        line = len(self._parts[0][1])
        return [*range(0, blocks * line, line), self.tokens(units)]

    def pieces(self, units: int, first: int, last: int, *, at_start: bool) -> list[Piece]:
        lines, rest = divmod(units, len(self._parts))
        whole = min(last, lines) - first
        head, line_ids = self._parts[0]
        result = []
        if whole > 0:
            # The first word apart, for what may end before it in a blank and a line end.
            word, remainder = _split_first_word(head)
            result.append(Piece(word))
            if self._parts.remainder is None:
                result += [Piece(remainder), *([Piece(head * (whole - 1))] if whole > 1 else [])]
            else:
                size = len(self._parts.remainder) + (whole - 1) * len(line_ids)
                result.append(Piece(remainder + head * (whole - 1), self._parts.repeated(size)))
        if first <= lines < last and rest:
            result += [Piece(part) for part in _split_first_word(self._parts[rest][0])]
        return result


def _split_first_word(text: str) -> tuple[str, str]:
    word, blank, rest = text.partition(" ")
    return word, blank + rest


class _Noise(list[tuple[str, Ids]]):
    """The line whole, then its beginnings of one sentence, two and so on, with their ids.

    Attributes:
        at_boundaries: Whether a line meets the next at a token boundary.
        remainder: The ids of the line after its first word, if that ends at a token boundary too.
    """

    at_boundaries: bool
    remainder: Ids | None
    _repeated: Ids = np.zeros(0, dtype=np.int32)

    def repeated(self, size: int) -> Ids:
        """The first `size` ids of the line after its first word, with the line again and again behind it."""
        if self.remainder is None:
            raise ValueError("the line has no ids without its first word")
        if size > len(self._repeated):
            line = self[0][1]
            # Twice what is asked for, so that a long haystack takes few steps.
            self._repeated = np.concatenate([self.remainder, np.tile(line, 2 * size // len(line) + 1)])
        return self._repeated[:size]


@lru_cache(maxsize=4)
def _tokenized_noise(tokenizer: Tokenizer) -> _Noise:
    sentences = NOISE.replace(". ", ".|").split("|")
    beginnings = [" ".join(sentences[:count]) + "\n" for count in range(1, len(sentences))]
    texts = [NOISE + "\n", *beginnings]
    result = _Noise((text, np.array(tokenizer.continued(text).ids, dtype=np.int32)) for text in texts)
    result.at_boundaries = tokenizer.joins(texts[0], texts[0])
    word, remainder = _split_first_word(texts[0])
    is_boundary = result.at_boundaries and tokenizer.joins(word, remainder)
    result.remainder = np.array(tokenizer.continued(remainder).ids, dtype=np.int32) if is_boundary else None
    return result


class LineHaystack:
    """Distractor lines in an order of the example's own; a longer haystack begins alike.

    Lines come from rounds of a pool that all examples share, so that each is tokenized once. Within
    a round no line comes twice.

    Args:
        lines: Round to its lines, tokenized.
        random: The example's own random stream.
        excluded: Texts in lower case that no line may hold.
    """

    leading: Final = ""
    trailing: Final = "\n"

    def __init__(self, lines: Callable[[int], Lines], random: RandomStream, excluded: Sequence[str]) -> None:
        self._lines = lines
        self._random = random
        self._excluded = excluded
        self._texts: list[str] = []
        self._at_boundaries = True
        self._before: npt.NDArray[np.int64] = np.zeros(1, dtype=np.int64)
        self._flat: Ids = np.zeros(0, dtype=np.int32)
        self._rounds = 0
        # What of the present round has not been taken yet.
        self._order: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    @property
    def constant(self) -> bool:
        return self._at_boundaries

    def tokens(self, units: int) -> int:
        self._grow(units)
        return int(self._before[units])

    def insertion_points(self, units: int) -> Sequence[int]:
        self._grow(units)
        return self._before[: units + 1].tolist()

    def pieces(self, units: int, first: int, last: int, *, at_start: bool) -> list[Piece]:
        self._grow(units)
        if first == last:
            return []
        word, rest = _split_first_word(self._texts[first])
        result = [Piece(word), Piece(rest)]
        if last > first + 1:
            ids = self._flat[self._before[first + 1] : self._before[last]] if self._at_boundaries else None
            result.append(Piece("".join(self._texts[first + 1 : last]), ids))
        return result

    def _grow(self, units: int) -> None:
        while len(self._texts) < units:
            if not len(self._order):
                lines = self._lines(self._rounds)
                order = self._random.stream(self._rounds).order(len(lines.tokenized.texts))
                forbidden = [index for text in self._excluded for index in lines.holding(text)]
                self._order = order[~np.isin(order, forbidden)] if forbidden else order
                self._at_boundaries = self._at_boundaries and lines.at_boundaries
                self._rounds += 1
            tokenized = self._lines(self._rounds - 1).tokenized
            # Twice what is there, so that a long haystack takes few steps.
            taken, self._order = np.split(self._order, [max(units - len(self._texts), len(self._texts))])
            self._texts += [tokenized.texts[index] for index in taken.tolist()]
            self._flat = np.concatenate([self._flat, tokenized.strung(taken)])
            self._before = np.concatenate([self._before, self._before[-1] + np.cumsum(tokenized.counts[taken])])


class Lines:
    """One round of distractor lines, each with its line end."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
        self.tokenized = TokenizedTexts(tokenizer, texts)
        self.at_boundaries = self.tokenized.meets_at_boundaries(self.tokenized)
        self._folded = "".join(texts).lower()
        self._ends = np.cumsum([len(text.lower()) for text in texts]).tolist()

    def holding(self, folded: str) -> list[int]:
        """The indices of the lines that hold a text, in any case of letters."""
        found = []
        place = self._folded.find(folded)
        while place >= 0:
            found.append(bisect_right(self._ends, place))
            place = self._folded.find(folded, place + 1)
        return found
