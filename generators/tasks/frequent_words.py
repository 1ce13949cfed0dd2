"""Frequent words extraction: the three most frequent words of a coded text (paper, appendix B.2).

Invariants of every prompt: frequencies fall with the rank as a Zeta distribution's; the first rank is
dots, to be ignored; the next three are the answer, and no other word is as frequent as they are.
"""

from __future__ import annotations

import string
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from generators.assembly import Piece, TokenizedTexts
from generators.budget import PromptBuilder, Rendered
from generators.corpora.sets import Corpora
from generators.random_streams import RandomStream
from generators.scoring import all_references
from generators.tasks.registry import TaskContext, task
from generators.tokenization import Tokenizer

__all__ = ["FrequentWords", "frequent_words"]

_ANSWERS: Final = 3
_TOKENS_A_WORD_OF_THE_VOCABULARY: Final = 50
_WORDS_A_POOL: Final = 8192
_WORDS_A_ROUND: Final = 4096

# RULER's words (Copyright (c) 2024, NVIDIA CORPORATION, Apache License 2.0; see NOTICE): a model asked in other
# words is measured on another scale.
_INTRODUCTION: Final = (
    "Read the following coded text and track the frequency of each coded word. "
    "Find the three most frequently appeared coded words."
)
_QUESTION: Final = (
    "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. "
    "What are the three most frequently appeared words in the above coded text?"
)
_ANSWER_PREFIX: Final = " Answer: According to the coded text above, the three most frequently appeared words are:"
_TOKENS_TO_GENERATE: Final = 50
_DOTS: Final = "..."


@dataclass(frozen=True)
class FrequentWords:
    """Find the three most frequent words.

    Attributes:
        exponent: Of the Zeta distribution; the larger, the easier.
        word_length: Letters in a coded word.
        vocabulary: Different words at most, dots included; 0 takes one for every 50 tokens of the
            prompt, as RULER does.
    """

    exponent: float = 2.0
    word_length: int = 6
    vocabulary: int = 0

    def __post_init__(self) -> None:
        if not 1 < self.exponent <= 4:
            raise ValueError(f"exponent must be above 1 and at most 4, not {self.exponent}")
        if not 3 <= self.word_length <= 64:
            raise ValueError(f"word_length must be between 3 and 64, not {self.word_length}")
        if self.vocabulary != 0 and not _ANSWERS < self.vocabulary <= 10_000:
            raise ValueError(f"vocabulary must be 0 or between {_ANSWERS + 1} and 10000, not {self.vocabulary}")


def _oracle(text: str, corpora: Corpora) -> str | None:
    before, asked, _ = text.rpartition(_QUESTION)
    if not asked:
        return None
    _, found, coded = before.rpartition(_INTRODUCTION)
    if not found:
        # A part of the text would give the wrong counts.
        return ""
    counts = Counter(word for word in coded.split() if word != _DOTS)
    return " ".join(word for word, _ in counts.most_common(_ANSWERS))


@task(
    "fwe",
    FrequentWords(),
    tokens_to_generate=_TOKENS_TO_GENERATE,
    score=all_references,
    oracle=_oracle,
    has_depth=False,
)
def frequent_words(parameters: FrequentWords, random: RandomStream, context: TaskContext) -> PromptBuilder:
    """The prompt of one example; its number of words is still open."""
    room = context.length - context.tokens_to_generate
    possible = len(string.ascii_lowercase) ** parameters.word_length
    wanted = parameters.vocabulary or max(room // _TOKENS_A_WORD_OF_THE_VOCABULARY, _ANSWERS + 1)
    # Half of all words that are possible, so that drawing different ones comes to an end.
    vocabulary = min(wanted, possible // 2)
    shares, sizes = _shares(parameters.exponent, vocabulary)
    # Twice the words that can occur, so that examples choose different ones.
    occurring = min(vocabulary, int(np.count_nonzero(room * shares >= 1)) + 1)
    words = min(max(_WORDS_A_POOL, 2 * occurring), possible // 2)
    coded = _coded_words(context.tokenizer, parameters.word_length, words, context.shared.stream("words").path)
    # By rank: dots, then the example's own choice of words.
    ranked = np.concatenate([[0], 1 + random.stream("words").distinct(words, min(occurring, words // 2))])
    tokens_of = coded.tokenized.counts[ranked]

    def counts(units: int) -> npt.NDArray[np.int64]:
        # Beyond the sizes that have ties now and then, every size is possible.
        size = sizes[units - 1] if units <= len(sizes) else sizes[-1] + units - len(sizes)
        found = (size * shares).astype(np.int64)
        return found[: min(int(np.count_nonzero(found)), len(ranked))]

    def tokens(units: int) -> int:
        found = counts(units)
        return int(found @ tokens_of[: len(found)])

    def render(units: int) -> Rendered:
        found = counts(units)
        order = np.repeat(ranked[: len(found)], found)
        order = order[random.stream("text").order(len(order))]
        text = "".join(coded.tokenized.chosen(order))
        piece = Piece(text, coded.tokenized.strung(order) if coded.at_boundaries else None)
        return Rendered((Piece(_INTRODUCTION), piece, Piece(_QUESTION)), _ANSWER_PREFIX)

    answers = [coded.tokenized.texts[rank][1:] for rank in ranked[1 : _ANSWERS + 1].tolist()]
    return PromptBuilder(tuple(answers), tokens, render, constant=coded.at_boundaries)


class _CodedWords:
    """Random words that the examples of a task choose from, so that each is tokenized once; dots come first."""

    def __init__(self, tokenizer: Tokenizer, letters: int, words: int, path: tuple[str | int, ...]) -> None:
        known = {" " + _DOTS: None}
        random, number = RandomStream(*path), 0
        while len(known) <= words:
            numbers = random.stream(number).numbers(_WORDS_A_ROUND * letters)
            spelled = (numbers % len(string.ascii_lowercase) + ord("a")).astype(np.uint8).tobytes().decode()
            known.update(dict.fromkeys(" " + spelled[i : i + letters] for i in range(0, len(spelled), letters)))
            number += 1
        self.tokenized = TokenizedTexts(tokenizer, list(known)[: words + 1])
        joins = tokenizer.joins
        self.at_boundaries = joins("aa", " ab") and joins("..", " ab") and joins("aa", " ..") and joins("..", " ..")


@lru_cache(maxsize=16)
def _coded_words(tokenizer: Tokenizer, letters: int, words: int, path: tuple[str | int, ...]) -> _CodedWords:
    return _CodedWords(tokenizer, letters, words, path)


@lru_cache(maxsize=64)
def _shares(exponent: float, vocabulary: int) -> tuple[npt.NDArray[np.float64], tuple[int, ...]]:
    """The share of each rank in the text, and the smallest sizes at which nothing ties with the answer.

    After the last of the sizes there are no ties any more.
    """
    from scipy.special import zeta

    shares = np.arange(1, vocabulary + 1, dtype=np.float64) ** -exponent / zeta(exponent)
    last, next_one = (_weight(rank, exponent) for rank in (_ANSWERS + 1, _ANSWERS + 2))
    settled = int(np.ceil(zeta(exponent) / (last - next_one))) + 1
    sizes = np.arange(1, settled + 1)
    answer = (sizes * shares[_ANSWERS]).astype(np.int64)
    other = (sizes * shares[_ANSWERS + 1]).astype(np.int64) if vocabulary > _ANSWERS + 1 else np.zeros_like(sizes)
    return shares, tuple(int(size) for size in sizes[answer > other])


def _weight(rank: int, exponent: float) -> float:
    """The weight of a rank."""
    return float(rank) ** -exponent
