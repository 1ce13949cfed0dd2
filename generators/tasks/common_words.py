"""Common words extraction: the words of a numbered list that occur most often (paper, appendix B.2).

Invariants of every prompt: the words asked for are the most frequent ones, without a tie; each occurs
exactly as often as the parameters say; a longer prompt of the same example has the same common words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from generators.assembly import Piece, TokenizedTexts, assemble, separately_counted
from generators.budget import PromptBuilder, Rendered
from generators.corpora import words
from generators.corpora.sets import Corpora, CorpusName
from generators.oracles import last_match
from generators.random_streams import RandomStream
from generators.scoring import all_references
from generators.tasks.registry import TaskContext, task
from generators.tokenization import Tokenizer

__all__ = ["CommonWords", "common_words"]

_NUMBERS_A_ROUND: Final = 1024
_WORDS_AT_LEAST: Final = 64
# Of the words that are expected to fit, for examples whose words are short.
_SPARE: Final = 1.15
_DEMONSTRATIONS: Final = 16

# RULER's words (Copyright (c) 2024, NVIDIA CORPORATION, Apache License 2.0; see NOTICE): a model asked in other
# words is measured on another scale.
_INTRODUCTION: Final = (
    "Below is a numbered list of words. In these words, some appear more often than others. "
    "Memorize the ones that appear most often.\n"
)
_QUESTION: Final = "\nQuestion: What are the {count} most common words in the above list?"
_ANSWER_PREFIX: Final = " Answer: The top {count} words that appear most often in the list are:"
_TOKENS_TO_GENERATE: Final = 120

# The first number is the same in every list.
_OPENING: Final = Piece(_INTRODUCTION + "1.")

_ASKED: Final = re.compile(r"\nQuestion: What are the (\d+) most common words in the above list\?")
_NUMBER: Final = re.compile(r"(?:^| )\d+\. ")


@dataclass(frozen=True)
class CommonWords:
    """Find the words that occur most often.

    Attributes:
        common: How many common words there are.
        frequency: How often each of them occurs.
        uncommon_frequency: How often every other word occurs.
        short_frequency: `frequency` at lengths below `short_below`.
        short_uncommon_frequency: `uncommon_frequency` there.
        short_below: In tokens, prompt plus answer.
        demonstrations: Solved examples before the prompt.
    """

    common: int = 10
    frequency: int = 30
    uncommon_frequency: int = 3
    short_frequency: int = 6
    short_uncommon_frequency: int = 1
    short_below: int = 4096
    demonstrations: int = 1

    @property
    def corpus(self) -> CorpusName | None:
        """The corpus its prompts are made from."""
        return "words"

    def __post_init__(self) -> None:
        if not 1 <= self.common <= 1000:
            raise ValueError(f"common must be between 1 and 1000, not {self.common}")
        for prefix in ("", "short_"):
            often, seldom = getattr(self, f"{prefix}frequency"), getattr(self, f"{prefix}uncommon_frequency")
            if not 1 <= often <= 1000:
                raise ValueError(f"{prefix}frequency must be between 1 and 1000, not {often}")
            if not 1 <= seldom < often:
                raise ValueError(
                    f"{prefix}uncommon_frequency must be at least 1 and below {prefix}frequency ({often}), not {seldom}"
                )
        for name in ("frequency", "uncommon_frequency"):
            # So that a longer length always has the longer list.
            if getattr(self, f"short_{name}") > getattr(self, name):
                raise ValueError(f"short_{name} must be at most {name} ({getattr(self, name)})")
        if self.short_below < 0 or self.demonstrations < 0:
            raise ValueError("short_below and demonstrations must not be negative")

    def shape(self, length: int) -> tuple[_Shape, _Shape]:
        """The list of the prompt, and of its demonstrations, at a length."""
        if length < self.short_below:
            return _Shape(self.common, self.short_frequency, self.short_uncommon_frequency), _Shape(self.common, 3, 1)
        return _Shape(self.common, self.frequency, self.uncommon_frequency), _Shape(self.common, 10, 3)


@dataclass(frozen=True)
class _Shape:
    """How often the common words and all others occur in a list."""

    common: int
    frequency: int
    uncommon_frequency: int

    def items(self, uncommon: int) -> int:
        return self.common * self.frequency + uncommon * self.uncommon_frequency


class _Vocabulary:
    """Words and numbers, each tokenized once; both grow as prompts need them."""

    def __init__(self, tokenizer: Tokenizer, corpora: Corpora) -> None:
        self._rounds = words.more_words(corpora.words.words)
        self.words = TokenizedTexts(tokenizer, [" " + word for word in words.common_words()])
        self.rounds = [len(self.words.texts)]
        self.numbers = TokenizedTexts(tokenizer, [f" {i + 1}." for i in range(_NUMBERS_A_ROUND)])
        self._tally()

    def reach(self, *, items: int, words_needed: int) -> None:
        """Sees to it that there are so many numbers and words."""
        there = len(self.numbers.texts)
        if items <= there and words_needed <= len(self.words.texts):
            return
        if items > there:
            rounds = -(-items // _NUMBERS_A_ROUND)
            self.numbers.extend(f" {i + 1}." for i in range(there, rounds * _NUMBERS_A_ROUND))
        while words_needed > len(self.words.texts):
            (more,) = islice(self._rounds, 1)
            self.words.extend(" " + word for word in more)
            self.rounds.append(len(self.words.texts))
        self._tally()

    def _tally(self) -> None:
        self.number_tokens = np.concatenate([[0], np.cumsum(self.numbers.counts)])
        self.at_boundaries = self.words.meets_at_boundaries(self.numbers) and self.numbers.meets_at_boundaries(
            self.words
        )

    def expected_words(self, tokens: int, shape: _Shape) -> int:
        """About as many different words as lists of so many tokens hold."""
        item = float(self.words.counts.mean() + self.numbers.counts.mean())
        uncommon = (tokens / item - shape.items(0)) / shape.uncommon_frequency
        return shape.common + max(int(_SPARE * uncommon), _WORDS_AT_LEAST)


@lru_cache(maxsize=4)
def _vocabulary(tokenizer: Tokenizer, corpora: Corpora) -> _Vocabulary:
    return _Vocabulary(tokenizer, corpora)


class _WordOrder:
    """An example's words in random order: all of one round before any of the next.

    Args:
        vocabulary: What they are drawn from.
        random: The example's own random stream.
        expected: About as many words as will be asked for, which are then drawn at once.
    """

    def __init__(self, vocabulary: _Vocabulary, random: RandomStream, expected: int) -> None:
        self._vocabulary = vocabulary
        self._random = random
        self.expected = expected
        self._order: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def first(self, count: int) -> npt.NDArray[np.int64]:
        """The numbers of the first `count` words."""
        if count > len(self._order):
            self._vocabulary.reach(items=0, words_needed=count)
            words = self._vocabulary.rounds[0]
            few = self._random.distinct(words, min(max(count, self.expected), words // 2))
            self._order = few if count <= len(few) else np.concatenate([few, *self._more(few, count)])
        return self._order[:count]

    def _more(self, few: npt.NDArray[np.int64], count: int) -> list[npt.NDArray[np.int64]]:
        """The rest of the first round in random order, then as many other rounds as are needed."""
        edges = [0, *self._vocabulary.rounds]
        orders = [
            begin + self._random.stream("round", begin).order(end - begin)
            for begin, end in pairwise(edges)
            if begin < count
        ]
        return [orders[0][~np.isin(orders[0], few)], *orders[1:]]


def _oracle(text: str, corpora: Corpora) -> str | None:
    question = last_match(_ASKED, text)
    if question is None:
        return None
    _, found, listed = text[: question.start()].rpartition(_INTRODUCTION)
    if not found:
        # A part of the list would give the wrong counts.
        return ""
    return " ".join(word for word, _ in Counter(_NUMBER.split(listed)[1:]).most_common(int(question[1])))


@task(
    "cwe",
    CommonWords(),
    tokens_to_generate=_TOKENS_TO_GENERATE,
    score=all_references,
    oracle=_oracle,
    has_depth=False,
    # As the demonstration words it.
    answer=lambda references: "".join(f" {number}. {word}" for number, word in enumerate(references, 1)),
)
def common_words(parameters: CommonWords, random: RandomStream, context: TaskContext) -> PromptBuilder:
    """The prompt of one example; its number of uncommon words is still open."""
    vocabulary = _vocabulary(context.tokenizer, context.corpora)
    shape, shown_shape = parameters.shape(context.length)
    drawn = _WordOrder(vocabulary, random.stream("words"), vocabulary.expected_words(context.length, shape))
    answers = _texts(vocabulary, drawn.first(shape.common))
    question = Piece(_QUESTION.format(count=shape.common))
    answer_prefix = _ANSWER_PREFIX.format(count=shape.common)
    shown = _demonstrations(context.tokenizer, context.corpora, shown_shape, context.shared.stream("shown").path)
    first = random.stream("demonstration").below(len(shown))
    before = [
        piece
        for number in range(first, first + parameters.demonstrations)
        for piece in (*shown[number % len(shown)], Piece("\n"))
    ]
    costs = _Costs(vocabulary, drawn, shape)

    def render(units: int) -> Rendered:
        listed = _listed(vocabulary, drawn, shape, units, random.stream("list"))
        return Rendered((*before, _OPENING, listed, question), answer_prefix)

    around = (*before, _OPENING, question, Piece(answer_prefix))
    beside = context.template_tokens + separately_counted(context.tokenizer, around)
    return PromptBuilder(tuple(answers), costs.tokens, render, constant=vocabulary.at_boundaries, beside=beside)


@lru_cache(maxsize=16)
def _demonstrations(
    tokenizer: Tokenizer, corpora: Corpora, shape: _Shape, path: tuple[str | int, ...]
) -> tuple[tuple[Piece, ...], ...]:
    """Solved examples that all examples choose from, so that each is tokenized once."""
    vocabulary = _vocabulary(tokenizer, corpora)
    question = _QUESTION.format(count=shape.common)
    answer_prefix = _ANSWER_PREFIX.format(count=shape.common)
    result = []
    for number in range(_DEMONSTRATIONS):
        random = RandomStream(*path, number)
        # As many uncommon words as common ones, or three times as many: RULER's 20 and 40 words.
        uncommon = shape.common * shape.uncommon_frequency
        words = _WordOrder(vocabulary, random.stream("words"), shape.common + uncommon)
        listed = _listed(vocabulary, words, shape, uncommon, random)
        answer = _numbered(vocabulary, words.first(shape.common))
        pieces = [_OPENING, listed, Piece(question + answer_prefix), answer]
        if not tokenizer.marks_beginning and vocabulary.at_boundaries:
            ids = np.array(assemble(tokenizer, pieces).ids, dtype=np.int32)
            pieces = [Piece("".join(piece.text for piece in pieces), ids)]
        result.append(tuple(pieces))
    return tuple(result)


class _Costs:
    """The tokens of an example's list, after its first number, by its number of uncommon words."""

    def __init__(self, vocabulary: _Vocabulary, drawn: _WordOrder, shape: _Shape) -> None:
        self._vocabulary, self._drawn, self._shape = vocabulary, drawn, shape
        self._words: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def tokens(self, uncommon: int) -> int:
        shape, vocabulary = self._shape, self._vocabulary
        if uncommon >= len(self._words):
            order = self._drawn.first(max(shape.common + uncommon, self._drawn.expected))
            counts = vocabulary.words.counts[order]
            counts[: shape.common] *= shape.frequency
            counts[shape.common :] *= shape.uncommon_frequency
            # From the last of the common words on, which are always there.
            self._words = np.cumsum(counts)[shape.common - 1 :]
            vocabulary.reach(items=shape.items(len(self._words)), words_needed=0)
        numbers = vocabulary.number_tokens[shape.items(uncommon)] - vocabulary.number_tokens[1]
        return int(self._words[uncommon] + numbers)


def _texts(vocabulary: _Vocabulary, order: npt.NDArray[np.int64]) -> Sequence[str]:
    return [text[1:] for text in vocabulary.words.chosen(order)]


def _numbered(vocabulary: _Vocabulary, order: npt.NDArray[np.int64]) -> Piece:
    """Words with the numbers from 1 on."""
    words, numbers = vocabulary.words, vocabulary.numbers
    texts = [""] * (2 * len(order))
    texts[::2], texts[1::2] = numbers.texts[: len(order)], words.chosen(order)
    return Piece(
        "".join(texts), numbers.interleaved(np.arange(len(order)), words, order) if vocabulary.at_boundaries else None
    )


def _listed(vocabulary: _Vocabulary, drawn: _WordOrder, shape: _Shape, uncommon: int, random: RandomStream) -> Piece:
    """The numbered list after its first number, "1."."""
    items = shape.items(uncommon)
    vocabulary.reach(items=items, words_needed=0)
    order = drawn.first(shape.common + uncommon)
    frequencies = np.full(len(order), shape.uncommon_frequency)
    frequencies[: shape.common] = shape.frequency
    whole = _numbered(vocabulary, np.repeat(order, frequencies)[random.order(items)])
    numbers = vocabulary.numbers
    return Piece(whole.text[len(numbers.texts[0]) :], None if whole.ids is None else whole.ids[numbers.counts[0] :])
