"""Variable tracking: every name that one value reaches through chains of assignments (paper, appendix B.2).

Invariants of every prompt: names are different from each other, within the demonstration and without;
a chain's assignments stand in their order; all values are different, so that only the first chain's
names have the value asked for.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from generators import protocol
from generators.assembly import Piece, assemble
from generators.budget import Draft, Rendered
from generators.draws import Draw
from generators.haystacks import NoiseHaystack
from generators.placement import placed
from generators.scoring import all_references
from generators.tasks import Setting, task

__all__ = ["VariableTracking", "variable_tracking"]

_NAME_LETTERS: Final = 5
_DEMONSTRATED_NAME_LETTERS: Final = 3
_LOWEST_VALUE, _HIGHEST_VALUE = 10_000, 99_999
_LONGEST_DEMONSTRATION: Final = 500
_DEMONSTRATED_HOPS: Final = 10


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
        return protocol.VARIABLES_QUESTION.format(value=self.value)

    @property
    def answer_prefix(self) -> str:
        return protocol.VARIABLES_ANSWER_PREFIX.format(count=len(self.names), value=self.value)


@task(
    "vt",
    VariableTracking(),
    tokens_to_generate=protocol.VARIABLES_TOKENS_TO_GENERATE,
    score=all_references,
    has_depth=False,
)
def variable_tracking(parameters: VariableTracking, draw: Draw, setting: Setting) -> Draft:
    """The prompt of one example; its haystack is still open in size."""
    haystack = NoiseHaystack(setting.tokenizer)
    chains = _chains(parameters.chains, parameters.hops, _NAME_LETTERS, draw.stream("chains"))
    depths = _depths(chains, draw.stream("depths"))
    before = _demonstration(parameters, haystack, draw.stream("demonstration"), setting, chains)

    def render(units: int) -> Rendered:
        pieces, where, reached = _task_pieces(haystack, units, chains, depths)
        return Rendered(
            pieces=(*before, *pieces),
            answer_prefix=chains.answer_prefix,
            needles=tuple(len(before) + place for place in where[: len(chains.names)]),
            depths=reached[: len(chains.names)],
        )

    return Draft(chains.names, haystack.tokens, render, haystack.constant)


def _chains(count: int, hops: int, letters: int, draw: Draw) -> _Chains:
    names: list[str] = []
    while len(names) < count * (hops + 1):
        name = "".join(draw.choice(string.ascii_uppercase) for _ in range(letters))
        if name not in names:
            names.append(name)
    values: list[int] = []
    while len(values) < count:
        value = _LOWEST_VALUE + draw.below(_HIGHEST_VALUE - _LOWEST_VALUE)
        if value not in values:
            values.append(value)
    groups = [names[i : i + hops + 1] for i in range(0, len(names), hops + 1)]
    statements = [
        (
            protocol.ASSIGNED_VALUE.format(name=group[0], value=value),
            *(protocol.ASSIGNED_VARIABLE.format(name=name, other=other) for other, name in pairwise(group)),
        )
        for group, value in zip(groups, values, strict=True)
    ]
    return _Chains(str(values[0]), tuple(map(str, values)), tuple(groups[0]), tuple(statements))


def _depths(chains: _Chains, draw: Draw) -> list[float]:
    """Depths in percent, rising along each chain."""
    return [depth for chain in chains.statements for depth in sorted(100 * draw.fraction() for _ in chain)]


def _task_pieces(
    haystack: NoiseHaystack, units: int, chains: _Chains, depths: list[float]
) -> tuple[list[Piece], tuple[int, ...], tuple[float, ...]]:
    sentences = [statement for chain in chains.statements for statement in chain]
    hidden = placed(haystack, units, sentences, depths)
    introduction, question = Piece(protocol.VARIABLES_INTRODUCTION), Piece(chains.question)
    return [introduction, *hidden.pieces, question], tuple(1 + place for place in hidden.where), hidden.depths


def _demonstration(
    parameters: VariableTracking, haystack: NoiseHaystack, draw: Draw, setting: Setting, chains: _Chains
) -> list[Piece]:
    """A solved example of at most 500 tokens, as in RULER, with as much haystack as fits.

    Where that would leave the prompt itself without, it takes half of what both have room for.
    """
    if not parameters.demonstrations:
        return []
    hops = min(parameters.hops, _DEMONSTRATED_HOPS)
    while True:
        shown = _chains(parameters.chains, hops, _DEMONSTRATED_NAME_LETTERS, draw)
        if chains.value not in shown.values:
            break
    depths = _depths(shown, draw)
    answer = Piece(shown.answer_prefix + " " + " ".join(shown.names) + "\n\n")

    def pieces(units: int) -> list[Piece]:
        return [*_task_pieces(haystack, units, shown, depths)[0], answer]

    asked = _task_pieces(haystack, 1, chains, [0.0] * sum(map(len, chains.statements)))[0]
    own = assemble(setting.tokenizer, pieces(1)).count
    both = assemble(setting.tokenizer, [*pieces(1), *asked, Piece(chains.answer_prefix)]).count
    free = setting.length - setting.tokens_to_generate - setting.frame_tokens - both
    room = min(_LONGEST_DEMONSTRATION, own + free // 2)
    units = 1
    while own + haystack.tokens(units + 1) - haystack.tokens(1) <= room:
        units += 1
    return pieces(units)
