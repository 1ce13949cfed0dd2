"""Shifts that many cells share: tests over all cells of a model, and of its tasks, lengths and depths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np

from drift.statistics.outcomes import Outcome
from drift.statistics.paired import Shift, confidence_interval, sign_flip_p_value
from drift.statistics.thresholds import ThresholdTable

__all__ = [
    "ComparedCell",
    "Pool",
    "PooledVerdict",
    "adjusted_p_values",
    "cluster_sums",
    "pooled_outcome",
    "pooled_verdicts",
    "pools",
]


class _Placed(Protocol):
    """Anything with a place in the matrix."""

    @property
    def model(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def length(self) -> int: ...
    @property
    def depth(self) -> int | None: ...


Placed = TypeVar("Placed", bound=_Placed)


@dataclass(frozen=True)
class ComparedCell:
    """What a cell adds to its pools.

    Attributes:
        model, task, length, depth: The cell.
        differences: Score now minus score before of the first look's examples. Later looks are taken
            because of what the first one showed, so their examples would bias a pool.
    """

    model: str
    task: str
    length: int
    depth: int | None
    differences: tuple[float, ...]


@dataclass(frozen=True)
class Pool:
    """The cells of a model that have something in common.

    Attributes:
        model: Whose cells these are.
        by: What they have in common beside the model, if anything.
        value: Its name, or number.
    """

    model: str
    by: Literal["task", "length", "depth"] | None = None
    value: str | int | None = None

    def __str__(self) -> str:
        if self.by is None:
            return f"{self.model}, all cells"
        return f"{self.model}, {self.by} {self.value}{'%' if self.by == 'depth' else ''}"


@dataclass(frozen=True)
class PooledVerdict:
    """What the comparison of a pool came to.

    Attributes:
        pool: The pool.
        outcome: Passed, improved, regressed; or incomplete, where no shift was found and cells are missing.
        shift: Over all its examples. The test and the interval take examples of one seed as one.
        adjusted: The p-value after correction for all pools of the declared matrix.
        cells: How many cells were compared.
        declared: How many there are.
    """

    pool: Pool
    outcome: Outcome
    shift: Shift
    adjusted: float
    cells: int
    declared: int

    @property
    def message(self) -> str:
        """The verdict, for a person."""
        shift, missing = self.shift, self.declared - self.cells
        low, high = shift.interval
        return (
            f"{self.pool}: {self.outcome}: {shift.points:+.2f} points over {self.cells} cells "
            f"(95% interval {low:+.2f} to {high:+.2f}; {shift.fell} examples fell, {shift.rose} rose; "
            f"p = {self.adjusted:.2g} corrected for all pools)" + (f"; {missing} cells not compared" if missing else "")
        )


def pools(cells: Iterable[Placed]) -> dict[Pool, list[Placed]]:
    """The pools of some cells: each model's, and by task, length and depth of the needle."""
    members: defaultdict[Pool, list[Placed]] = defaultdict(list)
    for cell in cells:
        members[Pool(cell.model)].append(cell)
        members[Pool(cell.model, "task", cell.task)].append(cell)
        members[Pool(cell.model, "length", cell.length)].append(cell)
        if cell.depth is not None:
            members[Pool(cell.model, "depth", cell.depth)].append(cell)
    return dict(members)


def pooled_verdicts(
    compared: Collection[ComparedCell], declared: Iterable[_Placed], thresholds: ThresholdTable
) -> list[PooledVerdict]:
    """Judges every pool that has at least two compared cells.

    Corrections are for all pools of the declared matrix that have two cells or more, whichever of them
    a run could judge; so shards and filters are held to the same standard as the whole.

    Args:
        compared: The cells that could be compared with their snapshots.
        declared: Every cell of the whole matrix.
        thresholds: Of the run.
    """
    sizes = {pool: len(cells) for pool, cells in pools(declared).items() if len(cells) > 1}
    judged = {pool: cells for pool, cells in pools(compared).items() if pool in sizes and len(cells) > 1}
    shifts = {pool: _shift(cells) for pool, cells in judged.items()}
    adjusted = adjusted_p_values(
        [shift.p_value for shift in shifts.values()], len(sizes), thresholds.common.pooled_correction
    )
    verdicts = []
    for (pool, shift), p in zip(shifts.items(), adjusted, strict=True):
        outcome = pooled_outcome(pool, shift.points, p, thresholds)
        if outcome is Outcome.PASSED and len(judged[pool]) < sizes[pool]:
            outcome = Outcome.INCOMPLETE
        verdicts.append(PooledVerdict(pool, outcome, shift, p, len(judged[pool]), sizes[pool]))
    return verdicts


def pooled_outcome(pool: Pool, points: float, adjusted: float, thresholds: ThresholdTable) -> Outcome:
    """What a pool came to whose cells are all there.

    Args:
        pool: The pool.
        points: The mean change of its examples, in percentage points.
        adjusted: Its p-value after correction.
        thresholds: Of the run.
    """
    own = thresholds.of(pool.model, str(pool.value) if pool.by == "task" else None)
    if adjusted > own.pooled_error_rate or round(abs(points), 9) < own.pooled_smallest_effect:
        return Outcome.PASSED
    return Outcome.REGRESSED if points < 0 else Outcome.IMPROVED


def adjusted_p_values(p_values: Sequence[float], family: int, correction: Literal["bh", "by"]) -> list[float]:
    """P-values after control of the false discovery rate.

    Args:
        p_values: Of the pools that could be judged.
        family: How many pools there are; the others count as p = 1.
        correction: Benjamini-Hochberg or Benjamini-Yekutieli.
    """
    # Only a finished run needs it, and it is slow to import.
    from scipy.stats import false_discovery_control

    padded = np.ones(max(family, len(p_values)))
    padded[: len(p_values)] = p_values
    adjusted: list[float] = false_discovery_control(padded, method=correction).tolist() if len(padded) else []
    return adjusted[: len(p_values)]


def cluster_sums(cells: Iterable[ComparedCell]) -> Mapping[tuple[str, int], float]:
    """The sum of differences of each seed: of a task's example of one number, over all cells.

    Cells of one task ask the same questions at every length and depth, so what makes example 17 of one
    fall may make example 17 of all of them fall. As a whole they count once.
    """
    sums: defaultdict[tuple[str, int], float] = defaultdict(float)
    for cell in cells:
        for i, difference in enumerate(cell.differences):
            sums[cell.task, i] += difference
    return sums


def _shift(cells: Sequence[ComparedCell]) -> Shift:
    differences = np.concatenate([cell.differences for cell in cells])
    sums = np.array(list(cluster_sums(cells).values()))
    return Shift(
        examples=differences.size,
        fell=int((differences < 0).sum()),
        rose=int((differences > 0).sum()),
        points=100 * float(differences.mean()),
        # In units of one example, so that the mean over clusters is the mean over examples.
        interval=confidence_interval(sums * (sums.size / differences.size)),
        p_value=sign_flip_p_value(sums),
    )
