"""The judgement of one cell; a case's own pass or fail, and every cell of a night, come from here."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.cells import Cell
from drift.records.results import CellResult
from drift.records.snapshots import Baseline
from drift.replay import replayed
from drift.statistics.findings import PairedCell
from drift.statistics.outcomes import Outcome
from drift.statistics.thresholds import ThresholdTable
from drift.verdicts import Verdict, compare

__all__ = ["JudgedCell", "judge_cell"]


@dataclass(frozen=True)
class JudgedCell:
    """A cell, what was measured of it, and what that means.

    Attributes:
        result: What was measured.
        baseline: What is accepted; None where nothing is.
        verdict: What the comparison of the two came to.
    """

    result: CellResult = field(repr=False)
    baseline: Baseline | None = field(repr=False)
    verdict: Verdict

    @property
    def cell(self) -> Cell:
        return self.result.cell

    @property
    def outcome(self) -> Outcome:
        return self.verdict.outcome

    @property
    def moved(self) -> float:
        """Points above what is accepted; zero where there is nothing to compare with."""
        return 0.0 if self.verdict.before is None else self.result.accuracy - self.verdict.before

    @property
    def paired(self) -> PairedCell | None:
        """What it adds to statistics over many cells; None where it could not be compared."""
        verdict = self.verdict
        if verdict.differences is None:
            return None
        dtype = str(self.result.environment.get("dtype", ""))
        return PairedCell(self.cell, verdict.differences, verdict.likelihood_differences, dtype)


def judge_cell(result: CellResult, baseline: Baseline | None, thresholds: ThresholdTable) -> JudgedCell:
    """Compares a result with what is accepted.

    Args:
        result: What was measured.
        baseline: What is accepted; None where nothing is.
        thresholds: When a shift is one.
    """
    if result.chosen:
        return JudgedCell(result, baseline, replayed(result, baseline))
    return JudgedCell(result, baseline, compare(result, baseline, thresholds.of(result.model, result.task)))
