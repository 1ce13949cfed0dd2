"""Shifts of scores that many cells share: tests over all cells of a model, and of its tasks, lengths and depths."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.cells import Cell
from drift.statistics.findings import Finding, Findings, PairedNight, Severity, Statistic
from drift.statistics.outcomes import Outcome
from drift.statistics.paired import Shift, confidence_interval, sign_flip_p_value
from drift.statistics.pools import Pool, adjusted_p_values, pools, seed_sums
from drift.statistics.thresholds import ThresholdTable

__all__ = ["STATISTIC", "PooledVerdict", "pooled_outcome", "pooled_verdicts"]

_SEVERITIES = {Outcome.REGRESSED: Severity.FAILURE, Outcome.IMPROVED: Severity.IMPROVEMENT}


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
    def headline(self) -> str:
        """The verdict in a few words."""
        moved = "fell" if self.shift.points < 0 else "rose"
        return f"{self.pool} {moved} {abs(self.shift.points):.1f} points, over {self.cells} cells"

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


def pooled_verdicts(
    compared: Mapping[Cell, Sequence[float]], declared: Iterable[Cell], thresholds: ThresholdTable
) -> list[PooledVerdict]:
    """Judges every pool that has at least two compared cells.

    Corrections are for all pools of the declared matrix that have two cells or more, whichever of them
    a run could judge; so shards and filters are held to the same standard as the whole.

    Args:
        compared: The cells that could be compared with their snapshots: score now minus score before, per example.
        declared: Every cell of the whole matrix.
        thresholds: Of the run.
    """
    sizes = {pool: len(cells) for pool, cells in pools(declared).items() if len(cells) > 1}
    judged = {pool: cells for pool, cells in pools(compared).items() if pool in sizes and len(cells) > 1}
    shifts = {pool: _shift([(cell, compared[cell]) for cell in cells]) for pool, cells in judged.items()}
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


def _shift(cells: Collection[tuple[Cell, Sequence[float]]]) -> Shift:
    differences = np.concatenate([differences for _, differences in cells])
    sums = np.array(list(seed_sums(cells).values()))
    return Shift(
        examples=differences.size,
        fell=int((differences < 0).sum()),
        rose=int((differences > 0).sum()),
        points=100 * float(differences.mean()),
        # In units of one example, so that the mean over seeds is the mean over examples.
        interval=confidence_interval(sums * (sums.size / differences.size)),
        p_value=sign_flip_p_value(sums),
    )


def _find(night: PairedNight, _: Sequence[Findings]) -> Findings:
    verdicts = pooled_verdicts({each.cell: each.scores for each in night.cells}, night.declared, night.thresholds)
    found = [
        Finding(
            _SEVERITIES.get(verdict.outcome, Severity.NOTE), verdict.pool, verdict.headline, verdict.message, verdict
        )
        for verdict in verdicts
    ]
    quiet = [verdict for verdict in verdicts if verdict.outcome in (Outcome.PASSED, Outcome.INCOMPLETE)]
    incomplete = sum(verdict.outcome is Outcome.INCOMPLETE for verdict in quiet)
    partly = f", {incomplete} of them over part of their cells" if incomplete else ""
    closing = (f"no shift in {len(quiet)} of {len(verdicts)} pools{partly}",) if verdicts else ()
    surest_first = sorted(found, key=lambda each: (each.severity, each.details.adjusted))
    return Findings(STATISTIC.name, tuple(surest_first), closing)


STATISTIC = Statistic("pooled verdicts", _find)
