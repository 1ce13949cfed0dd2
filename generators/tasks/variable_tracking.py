"""Variable tracking: every name that one value reaches through chains of assignments (paper, appendix B.2).

Invariants of every prompt: names are different from each other, within the demonstration and without;
a chain's assignments stand in their order; all values are different, so that only the first chain's
names have the value asked for.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np

from generators.assembly import Piece, assemble, separately_counted
from generators.budget import PromptBuilder, Rendered, largest
from generators.corpora.sets import Corpora
from generators.haystacks import NOISE, NoiseHaystack
from generators.insertion import insert_sentences
from generators.oracles import last_match
from generators.random_streams import RandomStream
from generators.scoring import all_references
from generators.tasks.registry import TaskContext, task
from generators.tokenization import Tokenizer

__all__ = ["VariableTracking", "variable_tracking"]

_NAME_LETTERS: Final = 5
_DEMONSTRATED_NAME_LETTERS: Final = 3
_LOWEST_VALUE, _HIGHEST_VALUE = 10_000, 99_999
_LONGEST_DEMONSTRATION: Final = 500
_DEMONSTRATED_HOPS: Final = 10
_SPARE_TOKENS: Final = 4
_DEMONSTRATIONS: Final = 16

# RULER's words (Copyright (c) 2024, NVIDIA CORPORATION, Apache License 2.0; see NOTICE): a model asked in other
# words is measured on another scale.
_INTRODUCTION: Final = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
_QUESTION: Final = "Question: Find all variables that are assigned the value {value} in the text above."
_ANSWER_PREFIX: Final = (
    " Answer: According to the chain(s) of variable assignment in the text above, {count} variables are assigned "
    "the value {value}, they are: "
)
_ASSIGNED_VALUE: Final = "VAR {name} = {value}"
# The blank at the end is RULER's.
_ASSIGNED_VARIABLE: Final = "VAR {name} = VAR {other} "
_TOKENS_TO_GENERATE: Final = 30

_ASKED: Final = re.compile(r"Question: Find all variables that are assigned the value (\d+) in the text above\.")
_ASSIGNMENT: Final = re.compile(r"VAR ([A-Z]+) = (?:VAR )?(\w+)")


@dataclass(frozen=True)
class VariableTracking:
    """Follow chains of assignments to every name of one value.

    Attributes:
        chains: How many chains are hidden; the first one is asked for.
        hops: Assignments of one name to another in a chain; it has one name more.
        demonstrations: Solved examples before the prompt, 0 or 1.
    """

    chains: int = 1
    hops: int = 4
    demonstrations: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.chains <= 100:
            raise ValueError(f"chains must be between 1 and 100, not {self.chains}")
        if not 1 <= self.hops <= 100:
            raise ValueError(f"hops must be between 1 and 100, not {self.hops}")
        if self.demonstrations not in (0, 1):
            raise ValueError(f"demonstrations must be 0 or 1, not {self.demonstrations}")


@dataclass(frozen=True)
class _Chains:
    """Chains of assignments.

    Attributes:
        value: What is asked for.
        values: The values of all chains.
        names: The names that have it.
        statements: All assignments, a tuple for each chain.
    """

    value: str
    values: tuple[str, ...]
    names: tuple[str, ...]
    statements: tuple[tuple[str, ...], ...]

    @property
    def question(self) -> str:
        return _QUESTION.format(value=self.value)

    @property
    def answer_prefix(self) -> str:
        return _ANSWER_PREFIX.format(count=len(self.names), value=self.value)


def _oracle(text: str, corpora: Corpora) -> str | None:
    question = last_match(_ASKED, text)
    if question is None:
        return None
    assigned: dict[str, str] = {}
    for name, source in _ASSIGNMENT.findall(text):
        # Statements stand in the order of their chain, so what they refer to is known already.
        assigned[name] = assigned.get(source, source)
    return " ".join(name for name, reached in assigned.items() if reached == question[1])


@task(
    "vt",
    VariableTracking(),
    tokens_to_generate=_TOKENS_TO_GENERATE,
    score=all_references,
    oracle=_oracle,
    has_depth=False,
    # As the demonstration words it: the answer prefix ends with a blank, and the answer begins with another.
    answer=lambda references: " " + " ".join(references),
)
def variable_tracking(parameters: VariableTracking, random: RandomStream, context: TaskContext) -> PromptBuilder:
    """The prompt of one example; its haystack is still open in size."""
    haystack = NoiseHaystack(context.tokenizer)
    chains = _chains(parameters.chains, parameters.hops, _NAME_LETTERS, random.stream("chains"))
    depths = _depths(chains, random.stream("depths"))
    before = _demonstration(parameters, random.stream("demonstration"), context, chains)

    def render(units: int) -> Rendered:
        pieces, where, reached = _task_pieces(haystack, units, chains, depths)
        return Rendered(
            pieces=(*before, *pieces),
            answer_prefix=chains.answer_prefix,
            needles=tuple(len(before) + place for place in where[: len(chains.names)]),
            depths=reached[: len(chains.names)],
        )

    beside = context.template_tokens + _beside(context.tokenizer, chains, before)
    return PromptBuilder(chains.names, haystack.tokens, render, haystack.constant, spread=True, beside=beside)


def _beside(tokenizer: Tokenizer, chains: _Chains, before: Sequence[Piece]) -> int:
    """The tokens of everything but the haystack, if no two assignments are next to each other."""
    word = NOISE.partition(" ")[0]

    def followed(text: str) -> int:
        """The tokens of a text before a line of the haystack."""
        return (
            tokenizer.count(text)
            if tokenizer.joins(text, word)
            else tokenizer.count(text + word) - tokenizer.count(word)
        )

    introduction = "".join(piece.text for piece in before[-1:]) + _INTRODUCTION
    rest = (*before[:-1], Piece(chains.question), Piece(chains.answer_prefix))
    statements = (followed(statement + "\n") for chain in chains.statements for statement in chain)
    return followed(introduction) + sum(statements) + separately_counted(tokenizer, rest)


def _chains(count: int, hops: int, letters: int, random: RandomStream) -> _Chains:
    drawn: dict[str, None] = {}
    while len(drawn) < count * (hops + 1):
        numbers = random.numbers(letters * count * (hops + 1))
        spelled = (numbers % len(string.ascii_uppercase) + ord("A")).astype(np.uint8).tobytes().decode()
        drawn.update(dict.fromkeys(spelled[i : i + letters] for i in range(0, len(spelled), letters)))
    names = list(drawn)[: count * (hops + 1)]
    values: list[int] = []
    while len(values) < count:
        value = _LOWEST_VALUE + random.below(_HIGHEST_VALUE - _LOWEST_VALUE)
        if value not in values:
            values.append(value)
    groups = [names[i : i + hops + 1] for i in range(0, len(names), hops + 1)]
    statements = [
        (
            _ASSIGNED_VALUE.format(name=group[0], value=value),
            *(_ASSIGNED_VARIABLE.format(name=name, other=other) for other, name in pairwise(group)),
        )
        for group, value in zip(groups, values, strict=True)
    ]
    return _Chains(str(values[0]), tuple(map(str, values)), tuple(groups[0]), tuple(statements))


def _depths(chains: _Chains, random: RandomStream) -> tuple[float, ...]:
    """Depths in percent, rising along each chain."""
    return tuple(depth for chain in chains.statements for depth in sorted(100 * random.fraction() for _ in chain))


def _task_pieces(
    haystack: NoiseHaystack, units: int, chains: _Chains, depths: tuple[float, ...]
) -> tuple[list[Piece], tuple[int, ...], tuple[float, ...]]:
    sentences = [statement for chain in chains.statements for statement in chain]
    hidden = insert_sentences(haystack, units, sentences, depths)
    introduction, question = Piece(_INTRODUCTION), Piece(chains.question)
    return [introduction, *hidden.pieces, question], tuple(1 + place for place in hidden.where), hidden.depths


@dataclass(frozen=True)
class _Demonstration:
    """A solved example.

    Attributes:
        values: Those that its chains assign.
        pieces: The whole of it.
    """

    values: tuple[str, ...]
    pieces: tuple[Piece, ...]


def _demonstration(
    parameters: VariableTracking, random: RandomStream, context: TaskContext, chains: _Chains
) -> tuple[Piece, ...]:
    """A solved example, one of a few that all examples choose from, so that each is tokenized once."""
    if not parameters.demonstrations:
        return ()
    room = context.length - context.tokens_to_generate - context.template_tokens
    path = context.shared.stream("demonstration").path
    shown = _demonstrations(parameters, context.tokenizer, room, path)
    first = random.below(len(shown))
    return next(each for each in (*shown[first:], *shown[:first]) if chains.value not in each.values).pieces


@lru_cache(maxsize=64)
def _demonstrations(
    parameters: VariableTracking, tokenizer: Tokenizer, room: int, path: tuple[str | int, ...]
) -> tuple[_Demonstration, ...]:
    """Demonstrations that share their layout, as RULER's do, and differ in names and values."""
    haystack = NoiseHaystack(tokenizer)
    layout = _layout(parameters, tokenizer, room, path)
    result = []
    for number in range(_DEMONSTRATIONS):
        shown = _demonstrated(parameters, RandomStream(*path, number))
        pieces, last = _solved(haystack, layout.units, shown, layout.depths)
        if not tokenizer.marks_beginning and haystack.constant:
            # As one piece from here on: it is the same whatever the size of the prompt.
            ids = np.array(assemble(tokenizer, pieces).ids, dtype=np.int32)
            pieces = [Piece("".join(piece.text for piece in pieces), ids)]
        result.append(_Demonstration(shown.values, (*pieces, last)))
    return tuple(result)


def _demonstrated(parameters: VariableTracking, random: RandomStream) -> _Chains:
    hops = min(parameters.hops, _DEMONSTRATED_HOPS)
    return _chains(parameters.chains, hops, _DEMONSTRATED_NAME_LETTERS, random)


def _solved(
    haystack: NoiseHaystack, units: int, shown: _Chains, depths: tuple[float, ...]
) -> tuple[list[Piece], Piece]:
    pieces, _, _ = _task_pieces(haystack, units, shown, depths)
    return pieces, Piece(shown.answer_prefix + " " + " ".join(shown.names) + "\n\n")


@dataclass(frozen=True)
class _Layout:
    """What the demonstrations of all examples of a cell share.

    Attributes:
        units: Haystack units.
        depths: Of the statements, in percent.
    """

    units: int
    depths: tuple[float, ...]


def _layout(parameters: VariableTracking, tokenizer: Tokenizer, room: int, path: tuple[str | int, ...]) -> _Layout:
    """As much haystack as 500 tokens hold (RULER's limit) with names of one stream.

    Where that would leave the prompt itself without, it takes half of what both have room for.
    """
    random, haystack = RandomStream(*path), NoiseHaystack(tokenizer)
    shown, asked = _demonstrated(parameters, random), _chains(parameters.chains, parameters.hops, _NAME_LETTERS, random)
    depths = _depths(shown, random)
    pieces, last = _solved(haystack, 1, shown, depths)
    own = assemble(tokenizer, [*pieces, last]).count
    prompt = _task_pieces(haystack, 1, asked, _depths(asked, random))[0]
    both = own + assemble(tokenizer, [*prompt, Piece(asked.answer_prefix)]).count
    # Other names may take more tokens.
    spare = _SPARE_TOKENS * sum(map(len, (*shown.statements, *asked.statements)))
    free = min(_LONGEST_DEMONSTRATION - own, (room - both - spare) // 2)
    return _Layout(largest(haystack.tokens, free + haystack.tokens(1)), depths)
