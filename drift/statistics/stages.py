"""Looks at a cell: few examples for all, more for those that look suspicious."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drift.statistics.paired import Shift, paired_shift

__all__ = ["Judgement", "Stage", "judged", "planned"]


@dataclass(frozen=True)
class Stage:
    """One look at a cell.

    Attributes:
        examples: How many of the cell's first examples it looks at.
        significant: The p-value they must reach.
        gate: The p-value up to which the cell looks suspicious and is looked at again.
    """

    examples: int
    significant: float
    gate: float = 0.0


def planned(examples: Sequence[int], gates: Sequence[float], error_rate: float, spending: float) -> tuple[Stage, ...]:
    """The looks at a cell, which together err no more often than they may.

    Every look gets its own part of the error rate and an exact test of all examples so far, so the
    chance that any of them errs is at most the sum of the parts, however they depend on each other.
    What is spent by the time that n of N examples are seen is (n / N) ** spending of the whole: the
    power family of Kim and DeMets (1987, "Design and analysis of group sequential tests based on the
    type I error spending rate function").

    Args:
        examples: How many examples each look has, growing; fixed before anything is looked at.
        gates: Each look's, in [0, 1].
        error_rate: Of all looks together.
        spending: Above 1 keeps more of the error rate for later looks, below 1 less.
    """
    spent = [error_rate * (count / examples[-1]) ** spending for count in examples]
    parts = [now - before for now, before in zip(spent, [0.0, *spent[:-1]], strict=True)]
    return tuple(Stage(*each) for each in zip(examples, parts, gates, strict=True))


@dataclass(frozen=True)
class Judgement:
    """What the looks at a cell came to.

    Attributes:
        shift: Of the last look.
        stage: That look's.
        shifted: Whether it found a shift.
        suspicious: Whether its p-value asks for another look, unless a shift is found already.
        wanted: How many examples that other look needs, where they are not there yet.
    """

    shift: Shift
    stage: Stage
    shifted: bool
    suspicious: bool
    wanted: int | None


def judged(differences: Sequence[float], plan: Sequence[Stage], smallest_effect: float) -> Judgement:
    """Looks at a cell's examples, stage by stage, until one decides.

    A stage finds a shift where its p-value is significant and the change is large enough; it passes
    the cell where its p-value is above the gate; and it asks for the next one otherwise. Examples that
    no stage asked for are not looked at.

    Args:
        differences: Score now minus score before, per example; the first stage's at least.
        plan: The stages.
        smallest_effect: The smallest change that is a shift, in percentage points.
    """
    for stage, later in zip(plan, [*plan[1:], None], strict=True):
        shift = paired_shift(differences[: stage.examples])
        # Rounded, since 82 - 77 percent is a little less than five in binary.
        shifted = shift.p_value <= stage.significant and round(abs(shift.points), 9) >= smallest_effect
        suspicious = shift.p_value <= stage.gate
        if shifted or not suspicious or later is None:
            break
        if later.examples > len(differences):
            return Judgement(shift, stage, shifted=False, suspicious=True, wanted=later.examples)
    return Judgement(shift, stage, shifted, suspicious, wanted=None)
