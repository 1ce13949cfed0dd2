"""Early warnings: expected answers that a model finds more or less likely than it did.

Log-likelihoods move before accuracy does, and where accuracy sits at 0 or 100. A warning is no verdict: a
model may find the right answer less likely and give it all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from core.cells import Cell
from drift.statistics.findings import Finding, Findings, PairedNight, Severity, Statistic
from drift.statistics.pools import Pool, adjusted_p_values, pools, seed_sums
from drift.statistics.thresholds import ThresholdTable

__all__ = ["STATISTIC", "LikelihoodDrift", "likelihood_drifts", "signed_rank_p_value"]


@dataclass(frozen=True)
class LikelihoodDrift:
    """A drift of log-likelihood that is no accident.

    Attributes:
        pool: The cells it was found in.
        nats: The mean change of an expected answer's log-likelihood; below zero where it became less likely.
        fell: Examples whose answer became less likely.
        rose: Examples whose answer became more likely.
        adjusted: The p-value after correction for all pools of the declared matrix.
        cells: How many cells were compared.
    """

    kind: ClassVar[str] = "drift"

    pool: Pool
    nats: float
    fell: int
    rose: int
    adjusted: float
    cells: int

    @property
    def headline(self) -> str:
        """The warning in a few words."""
        return f"{self.pool}: expected answers are {'less' if self.nats < 0 else 'more'} likely"

    @property
    def message(self) -> str:
        """The warning, for a person."""
        return (
            f"{self.headline}: {self.nats:+.3f} nats each over {self.cells} cells "
            f"({self.fell} examples fell, {self.rose} rose; p = {self.adjusted:.2g} corrected for all pools)"
        )


def likelihood_drifts(
    compared: Mapping[Cell, Sequence[float]], declared: Iterable[Cell], thresholds: ThresholdTable
) -> list[LikelihoodDrift]:
    """Tests every pool for drift, the surest first.

    Args:
        compared: The differences of the log-likelihoods of each cell's examples, now minus before, in nats.
        declared: Every cell of the whole matrix; corrections are for all pools that it has.
        thresholds: Of the run.
    """
    family = pools(declared)
    tested = {
        pool: [(cell, compared[cell]) for cell in cells] for pool, cells in pools(compared).items() if pool in family
    }
    p_values = [signed_rank_p_value(list(seed_sums(cells).values())) for cells in tested.values()]
    common = thresholds.common
    adjusted = adjusted_p_values(p_values, len(family), common.pooled_correction)
    drifts = [_drift(pool, cells, p) for (pool, cells), p in zip(tested.items(), adjusted, strict=True)]
    return sorted(
        (
            each
            for each in drifts
            if each.adjusted <= common.warning_error_rate
            and round(abs(each.nats), 9) >= thresholds.of(each.pool.model).warning_smallest_effect
        ),
        key=lambda each: (each.adjusted, -abs(each.nats)),
    )


def signed_rank_p_value(differences: Sequence[float]) -> float:
    """Wilcoxon's two-sided signed-rank test; it heeds signs and order of size, not size, which has long tails.

    Args:
        differences: Paired; those of zero take part in the ranking and then count for neither side (Pratt).

    Returns:
        The p-value; 1 where nothing differs.
    """
    # Only a finished run needs it, and it is slow to import.
    from scipy.stats import wilcoxon

    values = np.asarray(differences, dtype=float)
    return float(wilcoxon(values, zero_method="pratt").pvalue) if values.any() else 1.0


def _drift(pool: Pool, cells: Sequence[tuple[Cell, Sequence[float]]], adjusted: float) -> LikelihoodDrift:
    differences = np.concatenate([differences for _, differences in cells])
    return LikelihoodDrift(
        pool=pool,
        nats=float(differences.mean()),
        fell=int((differences < 0).sum()),
        rose=int((differences > 0).sum()),
        adjusted=adjusted,
        cells=len(cells),
    )


def _find(night: PairedNight, _: Sequence[Findings]) -> Findings:
    known = {each.cell: each.log_likelihoods for each in night.cells if each.log_likelihoods is not None}
    fails = night.thresholds.common.warning_fails
    drifts = likelihood_drifts(known, night.declared, night.thresholds)
    found = [
        Finding(
            Severity.FAILURE if fails and drift.nats < 0 else Severity.WARNING,
            drift.pool,
            drift.headline,
            drift.message,
            drift,
        )
        for drift in drifts
    ]
    closing = ("These fail nothing: scores decide.",) if found and not fails else ()
    return Findings(STATISTIC.name, tuple(found), closing)


STATISTIC = Statistic("early warnings", _find)
