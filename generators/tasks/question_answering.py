"""Question answering: a question's documents among others (paper, appendix B.2).

Invariants of every prompt: the documents that answer the question are there exactly once; documents
of the same subject are the first to stand beside them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Final, Literal

import numpy as np

from generators.assembly import Piece
from generators.budget import PromptBuilder, Rendered
from generators.corpora.people import people_questions
from generators.corpora.questions import Question, QuestionSet
from generators.corpora.sets import Corpora, CorpusName
from generators.random_streams import RandomStream
from generators.scoring import best_reference
from generators.tasks.registry import TaskContext, task
from generators.tokenization import Tokenizer

__all__ = ["QuestionAnswering", "question_answering", "question_set"]


_RANKS_AT_ONCE: Final = 64
_KINDS: Final = ("single_hop", "two_hop", "single_hop_people", "two_hop_people")
# Enough for any pocket length; beyond, documents come again.
_PEOPLE: Final = 400

# RULER's words (Copyright (c) 2024, NVIDIA CORPORATION, Apache License 2.0; see NOTICE): a model asked in other
# words is measured on another scale.
_INTRODUCTION: Final = (
    "Answer the question based on the given documents. Only give me the answer and do not output any other words."
    "\n\nThe following are given documents.\n\n"
)
_HEADER: Final = "Document {number}:\n"
_QUESTION: Final = (
    "\n\nAnswer the question based on the given documents. Only give me the answer and do not output any other words."
    "\n\nQuestion: {question}"
)
_ANSWER_PREFIX: Final = " Answer:"
_TOKENS_TO_GENERATE: Final = 32

# What is asked of a person, and the sentences to follow from one name to the next, up to the answer.
_OF_PEOPLE: Final = (
    (r"Where was the teacher of (\w+) born\?", (r"The teacher of {} was (\w+)\.", r"\b{} was born in (\w+) in ")),
    (r"Where was (\w+) born\?", (r"\b{} was born in (\w+) in ",)),
    (r"In what year was (\w+) born\?", (r"\b{} was born in \w+ in (\d+)\.",)),
    (r"What did (\w+) work as\?", (r"\b{} worked as a (\w+) ",)),
    (r"What did (\w+) collect\?", (r"\b{} worked as a \w+ and was known for a collection of (\w+)\.",)),
)


@dataclass(frozen=True)
class QuestionAnswering:
    """Answer a question from documents.

    Attributes:
        questions: single_hop (SQuAD's kind: one document answers) or two_hop (HotpotQA's: two are needed); or
            single_hop_people and two_hop_people, the same about invented people in few plain words.
        documents: At most so many documents; 0 takes as many as fit, as RULER does.
    """

    questions: Literal["single_hop", "two_hop", "single_hop_people", "two_hop_people"] = "single_hop"
    documents: int = 0

    @property
    def corpus(self) -> CorpusName | None:
        """The corpus its prompts are made from; none where its people are drawn."""
        return self.questions if self.questions in ("single_hop", "two_hop") else None

    @property
    def needed(self) -> int:
        """How many documents a question needs."""
        return 1 if self.questions.startswith("single_hop") else 2

    def __post_init__(self) -> None:
        if self.questions not in _KINDS:
            raise ValueError(f"questions must be one of {', '.join(_KINDS)}, not {self.questions!r}")
        if self.documents != 0 and self.documents < self.needed:
            fewest = f"documents must be 0 or at least {self.needed} for {self.questions}"
            raise ValueError(f"{fewest}, not {self.documents}")


def question_answering(parameters: QuestionAnswering, random: RandomStream, context: TaskContext) -> PromptBuilder:
    """The prompt of one example; its number of documents is still open."""
    questions = question_set(parameters, context)
    order = _order(context.shared.stream(parameters.questions).path, len(questions.questions))
    question = questions.questions[order[context.index % len(order)]]
    shelf = _Shelf(questions, question, random, context)
    most = max(parameters.documents - len(question.gold), 0) + 1 if parameters.documents else None
    asked = Piece(_QUESTION.format(question=question.text.strip()))

    def render(units: int) -> Rendered:
        pieces, gold, depths = shelf.pieces(units)
        return Rendered(
            pieces=(Piece(_INTRODUCTION), *pieces, asked),
            answer_prefix=_ANSWER_PREFIX,
            needles=tuple(1 + place for place in gold),
            depths=depths,
        )

    return PromptBuilder(question.answers, shelf.tokens, render, constant=shelf.constant, most=most)


def question_set(parameters: QuestionAnswering, context: TaskContext) -> QuestionSet:
    """The questions and documents that examples are made from."""
    if parameters.corpus is None:
        return _people(context.shared.stream("people").path, parameters.needed)
    questions: QuestionSet = getattr(context.corpora, parameters.corpus)
    return questions


@lru_cache(maxsize=8)
def _people(path: tuple[str | int, ...], hops: int) -> QuestionSet:
    return people_questions(RandomStream(*path), hops=hops, people=_PEOPLE)


@lru_cache(maxsize=8)
def _order(path: tuple[str | int, ...], count: int) -> list[int]:
    return RandomStream(*path).order(count).tolist()


class _Library:
    """Every document of a set and the headers to number them by, tokenized once.

    Attributes:
        documents: The texts, with what stands between one and the next header where that is the text's.
        last: The same without it.
        counts: The tokens of each document.
        at_boundaries: Whether documents and headers meet at token boundaries, whichever they are.
    """

    def __init__(self, tokenizer: Tokenizer, questions: QuestionSet) -> None:
        self._tokenizer = tokenizer
        # Line ends go to the side of a document's header where they meet its text at a token boundary.
        self._before, after = ("\n\n", "") if tokenizer.joins("a.", "\n\nD") else ("", "\n\n")
        self.documents = [self._piece(text + after) for text in questions.documents]
        self.last = [self._piece(text) for text in questions.documents] if after else self.documents
        self.counts = [len(ids) for piece in self.documents if (ids := piece.ids) is not None]
        header = self._header_text(0)
        self.at_boundaries = all(
            tokenizer.joins(header, piece.text) and tokenizer.joins(piece.text, header) for piece in self.documents
        )
        self._headers: list[Piece] = []

    def _piece(self, text: str) -> Piece:
        return Piece(text, np.array(self._tokenizer.continued(text).ids, dtype=np.int32))

    def _header_text(self, place: int) -> str:
        return self._before + _HEADER.format(number=place + 1)

    def header(self, place: int) -> Piece:
        """The header of the document at a place."""
        while len(self._headers) <= place:
            self._headers.append(self._piece(self._header_text(len(self._headers))))
        return self._headers[place]


@lru_cache(maxsize=8)
def _library(tokenizer: Tokenizer, questions: QuestionSet) -> _Library:
    return _Library(tokenizer, questions)


class _Shelf:
    """The documents of one example: what answers the question, then distractors, as many as are asked for."""

    def __init__(self, questions: QuestionSet, question: Question, random: RandomStream, context: TaskContext) -> None:
        self._library = _library(context.tokenizer, questions)
        self._gold = question.gold
        self._depth = context.depth
        self._random = random
        near = random.stream("near").order(len(question.near)).tolist()
        held = {*question.gold, *question.near}
        rest = [i for i in random.stream("rest").order(len(questions.documents)).tolist() if i not in held]
        # A set that is used up begins again, but what answers the question is there once.
        self._distractors = [question.near[i] for i in near] + rest
        self._tokens = [0]
        # Ranks in the order of the prompt: what answers the question, then distractors.
        self._own_ranks = [random.fraction() for _ in self._gold]
        self._ranks: list[int] = []

    @property
    def constant(self) -> bool:
        """As `PromptBuilder.constant`."""
        return self._library.at_boundaries

    def tokens(self, units: int) -> int:
        """The tokens of `units` - 1 distractors with their headers; what answers is constant."""
        while len(self._tokens) < units:
            number = len(self._tokens) - 1
            document = self._distractors[number % len(self._distractors)]
            header = self._library.header(number + len(self._gold)).ids
            assert header is not None
            self._tokens.append(self._tokens[-1] + self._library.counts[document] + len(header))
        return self._tokens[units - 1]

    def pieces(self, units: int) -> tuple[list[Piece], tuple[int, ...], tuple[float, ...]]:
        """The documents with their headers; where what answers the question begins, and at what depths."""
        documents, gold = self._ordered(units - 1)
        library = self._library
        before = [0, *accumulate(library.counts[document] for document in documents)]
        pieces: list[Piece] = [Piece(_HEADER.format(number=1))]
        for place, document in enumerate(documents[:-1], 1):
            pieces += (library.documents[document], library.header(place))
        pieces.append(library.last[documents[-1]])
        depths = tuple(100 * before[place] / max(before[-1], 1) for place in gold)
        return pieces, tuple(2 * place + 1 for place in gold), depths

    def _ordered(self, distractors: int) -> tuple[list[int], list[int]]:
        """Documents in the order of the prompt, and the places of those that answer."""
        while len(self._ranks) < distractors:
            self._ranks += self._random.stream("ranks", len(self._ranks)).numbers(_RANKS_AT_ONCE).tolist()
        ranks = self._ranks[:distractors]
        order = sorted(range(distractors), key=ranks.__getitem__)
        documents = [self._distractors[number % len(self._distractors)] for number in order]
        if self._depth is None:
            places = [round(rank * distractors) for rank in self._own_ranks]
        else:
            before = [0, *accumulate(self._library.counts[document] for document in documents)]
            places = [bisect_right(before, self._depth / 100 * before[-1] + 1e-6) - 1] * len(self._gold)
        own = sorted(range(len(self._gold)), key=lambda i: (places[i], self._own_ranks[i]))
        # From the back, so that the places in front stay what they are.
        for i in reversed(own):
            documents.insert(places[i], self._gold[i])
        final = {i: places[i] + behind for behind, i in enumerate(own)}
        return documents, [final[i] for i in range(len(self._gold))]


def _oracle(text: str, corpora: Corpora) -> str | None:
    # It knows the answers of all questions, but gives one only where the documents it follows from are in the text.
    _, found, asked = text.rpartition(_QUESTION.format(question=""))
    if not found:
        return None
    asked = asked.rpartition(_ANSWER_PREFIX)[0]
    for questions in _held(corpora):
        # A chat template's words may stand between the question and the answer prefix.
        question = questions.by_text.get(asked.strip()) or next(
            (each for words, each in questions.by_text.items() if asked.startswith(words)), None
        )
        if question is not None:
            seen = all(":\n" + questions.documents[gold] in text for gold in question.gold)
            return min(question.answers, key=len) if seen else ""
    return _answer_about_people(text, asked)


@dataclass(frozen=True)
class _Answered:
    """The questions of a set by their words."""

    documents: tuple[str, ...]
    by_text: Mapping[str, Question]


@lru_cache(maxsize=8)
def _answered(questions: QuestionSet) -> _Answered:
    return _Answered(questions.documents, {question.text.strip(): question for question in questions.questions})


def _held(corpora: Corpora) -> Iterator[_Answered]:
    yield _answered(corpora.single_hop)
    yield _answered(corpora.two_hop)


def _answer_about_people(text: str, asked: str) -> str | None:
    for question, sentences in _OF_PEOPLE:
        found = re.match(question, asked)
        if found is None:
            continue
        for sentence in sentences:
            found = re.search(sentence.format(found[1]), text)
            if found is None:
                return ""
        return found[1]
    return None


for _name, _parameters in (("qa_1", QuestionAnswering("single_hop")), ("qa_2", QuestionAnswering("two_hop"))):
    task(
        _name,
        _parameters,
        tokens_to_generate=_TOKENS_TO_GENERATE,
        score=best_reference,
        oracle=_oracle,
        # The references are other wordings of one answer.
        answer=lambda references: " " + references[0],
    )(question_answering)
