"""Needles in a haystack: RULER's eight retrieval tasks and the paper's formats (appendix B.1).

Invariants of every prompt: a reference occurs exactly once, in its own needle; no distractor
carries a queried key; a longer prompt of the same example holds the same needles.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from typing import Final, Literal, get_args

from generators.assembly import Piece
from generators.budget import PromptBuilder, Rendered
from generators.corpora.sets import Corpora, CorpusName
from generators.corpora.words import wonder_words
from generators.haystacks import NOISE, EssayHaystack, Haystack, LineHaystack, Lines, NoiseHaystack
from generators.insertion import insert_sentences
from generators.oracles import last_match
from generators.random_streams import RandomStream
from generators.scoring import all_references
from generators.tasks.registry import TaskContext, task
from generators.tokenization import Tokenizer

__all__ = [
    "DEPTHS",
    "FORMATS",
    "Kind",
    "Needle",
    "NeedleInAHaystack",
    "NeedleQuestion",
    "Plan",
    "draw_text",
    "joined_query",
    "needle_in_a_haystack",
    "planned_needles",
]

Kind = Literal["word", "number", "uuid"]
HaystackKind = Literal["noise", "essay", "needles"]

_DISTRACTORS_A_ROUND: Final = 4096

# RULER's words (Copyright (c) 2024, NVIDIA CORPORATION, Apache License 2.0; see NOTICE): a model asked in other
# words is measured on another scale.
_INTRODUCTION: Final = (
    "Some special magic {values} are hidden within the following text. "
    "Make sure to memorize it. I will quiz you about the {values} afterwards.\n"
)
_QUESTION: Final = "\nWhat are all the special magic {values} for {query} mentioned in the provided text?"
_ANSWER_PREFIX: Final = " The special magic {values} for {query} mentioned in the provided text are"
_NEEDLE: Final = "One of the special magic {values} for {key} is: {value}."
_TOKENS_TO_GENERATE: Final = 128

# Forty depths in percent, evenly spaced and rounded half to even, as in RULER.
DEPTHS: Final = tuple(round(100 * i / 39) for i in range(40))

_HIDDEN: Final = re.compile(r"One of the special magic \w+ for (.+?) is: (.+?)\.(?=\s|$)")
_ASKED: Final = re.compile(r"What (?:is|are all) the special magic \w+ for (.+?) mentioned in the provided text\?")


@dataclass(frozen=True)
class NeedleInAHaystack:
    """Retrieve the values of the queried keys from a haystack.

    Attributes:
        haystack: The distracting text.
        key: What keys look like.
        value: What values look like.
        keys: How many keys are hidden; those not queried are hard distractors.
        values: How many values each key has.
        queries: How many of the keys are asked for.
    """

    haystack: HaystackKind
    key: Kind
    value: Kind
    keys: int = 1
    values: int = 1
    queries: int = 1

    @property
    def corpus(self) -> CorpusName | None:
        """The corpus its prompts are made from."""
        return "essays" if self.haystack == "essay" else None

    def __post_init__(self) -> None:
        for name, valid in (("haystack", HaystackKind), ("key", Kind), ("value", Kind)):
            if getattr(self, name) not in get_args(valid):
                raise ValueError(f"{name} must be one of {', '.join(get_args(valid))}, not {getattr(self, name)!r}")
        for name in ("keys", "values", "queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.queries > self.keys:
            raise ValueError(f"queries must be at most keys ({self.keys}), not {self.queries}")
        if self.keys * self.values > len(DEPTHS):
            raise ValueError(
                f"{self.keys} keys of {self.values} values are more needles than the "
                f"{len(DEPTHS)} positions RULER places them at"
            )


@dataclass(frozen=True)
class Needle:
    """One hidden fact."""

    key: str
    value: str
    kind: Kind

    @property
    def sentence(self) -> str:
        return _NEEDLE.format(values=f"{self.kind}s", key=self.key, value=self.value)


@dataclass(frozen=True)
class NeedleQuestion:
    """What stands around the haystack: the task before it, the question and answer prefix behind.

    Attributes:
        kind: What the values look like.
        keys: The queried keys.
        plural: Whether more than one value is asked for; RULER words the prompt by it.
    """

    kind: Kind
    keys: tuple[str, ...]
    plural: bool

    def _worded(self, template: str) -> str:
        query = joined_query(list(self.keys))
        if not self.plural:
            template = _singular(template)
        return template.format(values=f"{self.kind}s", value=self.kind, query=query)

    @property
    def introduction(self) -> str:
        return self._worded(_INTRODUCTION)

    @property
    def text(self) -> str:
        return self._worded(_QUESTION)

    @property
    def answer_prefix(self) -> str:
        return self._worded(_ANSWER_PREFIX)


def joined_query(keys: list[str]) -> str:
    """The keys as the question lists them: "a", "a, and b", "a, b, and c"."""
    return keys[0] if len(keys) == 1 else ", ".join(keys[:-1]) + ", and " + keys[-1]


def _singular(template: str) -> str:
    """Rewords the introduction, the question or the answer prefix for one needle with one value.

    RULER replaces "Some" by "A", "are all" and "are" by "is", and drops the plural of the value.
    """
    template = template.replace("Some", "A").replace("are all", "is").replace("are", "is")
    return template.replace("{values}", "{value}")


def draw_text(kind: Kind, random: RandomStream) -> str:
    """A key or value: an adjective-noun pair, a number of seven digits or a UUID (RULER's kinds)."""
    if kind == "number":
        return random.digits(7)
    if kind == "uuid":
        return random.uuid()
    return f"{random.choice(wonder_words('adjective'))}-{random.choice(wonder_words('noun'))}"


def _unlike(
    taken: list[str], kind: Kind, random: RandomStream, elsewhere: Callable[[str], bool] = lambda text: False
) -> str:
    """A text that neither holds nor is held by any of `taken`, in any case of letters."""
    while True:
        text = draw_text(kind, random)
        folded = text.lower()
        if not elsewhere(folded) and not any(folded in other or other in folded for other in taken):
            taken.append(folded)
            return text


@dataclass(frozen=True)
class Plan:
    """The needles of one example and what they go into.

    Attributes:
        needles: All of them.
        answering: Those that hold references; the first ones.
        question: What is asked.
        haystack: Still open in size.
    """

    needles: tuple[Needle, ...]
    answering: tuple[Needle, ...]
    question: NeedleQuestion
    haystack: Haystack


def planned_needles(parameters: NeedleInAHaystack, random: RandomStream, context: TaskContext) -> Plan:
    """Draws the needles of one example."""
    haystack_text = context.corpora.essays.folded if parameters.haystack == "essay" else NOISE.lower()
    taken: list[str] = []
    facts = random.stream("needles")
    needles = [
        Needle(key, _unlike(taken, parameters.value, facts, haystack_text.__contains__), parameters.value)
        for key in [_unlike(taken, parameters.key, facts, haystack_text.__contains__) for _ in range(parameters.keys)]
        for _ in range(parameters.values)
    ]
    answering = needles[: parameters.queries * parameters.values]
    queried = tuple(dict.fromkeys(needle.key for needle in answering))
    question = NeedleQuestion(parameters.value, queried, plural=len(answering) > 1)
    haystack = _haystack(parameters, taken, random.stream("distractors"), context)
    return Plan(tuple(needles), tuple(answering), question, haystack)


def needle_in_a_haystack(parameters: NeedleInAHaystack, random: RandomStream, context: TaskContext) -> PromptBuilder:
    """The prompt of one example; its haystack is still open in size."""
    plan = planned_needles(parameters, random, context)
    haystack, question, answering = plan.haystack, plan.question, plan.answering
    depths = _depths(parameters, random.stream("depths"))
    if context.depth is not None:
        depths[: len(answering)] = [context.depth] * len(answering)
    sentences = [needle.sentence for needle in plan.needles]
    # Where blocks end in a line end, the last one ends where the question's would be.
    asked = question.text.removeprefix(haystack.trailing or "\0")

    def render(units: int) -> Rendered:
        hidden = insert_sentences(haystack, units, sentences, depths)
        return Rendered(
            pieces=(Piece(question.introduction), *hidden.pieces, Piece(asked)),
            answer_prefix=question.answer_prefix,
            needles=tuple(1 + place for place in hidden.where[: len(answering)]),
            depths=hidden.depths[: len(answering)],
        )

    return PromptBuilder(tuple(needle.value for needle in answering), haystack.tokens, render, haystack.constant)


def _oracle(text: str, corpora: Corpora) -> str | None:
    question = last_match(_ASKED, text)
    if question is None:
        return None
    keys = re.split(r", and |, ", question[1])
    return ", ".join(value for key, value in _HIDDEN.findall(text) if key in keys)


def _haystack(parameters: NeedleInAHaystack, taken: list[str], random: RandomStream, context: TaskContext) -> Haystack:
    if parameters.haystack == "essay":
        return EssayHaystack(context.corpora.essays, context.tokenizer)
    if parameters.haystack == "noise":
        return NoiseHaystack(context.tokenizer)
    # Distractors may repeat one another's keys, as in RULER, but never hold a real key or value.
    path = context.shared.stream("distractors", parameters.key, parameters.value).path
    lines = partial(_distractors, context.tokenizer, parameters.key, parameters.value, path)
    return LineHaystack(lines, random, taken)


@lru_cache(maxsize=32)
def _distractors(tokenizer: Tokenizer, key: Kind, value: Kind, path: tuple[str | int, ...], number: int) -> Lines:
    """One round of the pool of distractors."""
    streams = (RandomStream(*path, number, index) for index in range(_DISTRACTORS_A_ROUND))
    needles = (Needle(draw_text(key, random), draw_text(value, random), value) for random in streams)
    return Lines(tokenizer, [needle.sentence + "\n" for needle in needles])


def _depths(parameters: NeedleInAHaystack, random: RandomStream) -> list[float]:
    """Depths in percent as RULER draws them: forty steps in essays, any line elsewhere."""
    count = parameters.keys * parameters.values
    if parameters.haystack == "essay":
        return [float(depth) for depth in random.sample(DEPTHS, count)]
    return [100 * random.fraction() for _ in range(count)]


_RULER: Final = {
    "niah_single_1": NeedleInAHaystack("noise", "word", "number"),
    "niah_single_2": NeedleInAHaystack("essay", "word", "number"),
    "niah_single_3": NeedleInAHaystack("essay", "word", "uuid"),
    "niah_multikey_1": NeedleInAHaystack("essay", "word", "number", keys=4),
    "niah_multikey_2": NeedleInAHaystack("needles", "word", "number"),
    "niah_multikey_3": NeedleInAHaystack("needles", "uuid", "uuid"),
    "niah_multivalue": NeedleInAHaystack("essay", "word", "number", values=4),
    "niah_multiquery": NeedleInAHaystack("essay", "word", "number", keys=4, queries=4),
}

_NAMES: Final = {"noise": "repeat", "essay": "essay", "needles": "needles"}

# Every format by the paper's naming, haystack-key-value; the paper calls the noise "repeat".
FORMATS: Final = {
    f"{_NAMES[haystack]}-{key}-{value}": NeedleInAHaystack(haystack, key, value)
    for haystack, key, value in product(get_args(HaystackKind), get_args(Kind), get_args(Kind))
}

for _name, _parameters in (_RULER | FORMATS).items():
    task(
        _name,
        _parameters,
        tokens_to_generate=_TOKENS_TO_GENERATE,
        score=all_references,
        oracle=_oracle,
        answer=lambda references: " " + joined_query(list(references)),
    )(needle_in_a_haystack)
