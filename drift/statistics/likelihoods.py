"""Early warnings: expected answers that a model finds more or less likely than it did.

Log-likelihoods move before accuracy does, and where accuracy sits at 0 or 100. A warning is no verdict: a
model may find the right answer less likely and give it all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from drift.statistics.pooled import ComparedCell, Pool, adjusted_p_values, cluster_sums, pools
from drift.statistics.thresholds import ThresholdTable

__all__ = ["EarlyWarning", "early_warnings", "signed_rank_p_value"]


@dataclass(frozen=True)
class EarlyWarning:
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
    def message(self) -> str:
        """The warning, for a person."""
        likely = "less" if self.nats < 0 else "more"
        return (
            f"{self.pool}: expected answers are {likely} likely: {self.nats:+.3f} nats each over {self.cells} cells "
            f"({self.fell} examples fell, {self.rose} rose; p = {self.adjusted:.2g} corrected for all pools)"
        )


def early_warnings(
    compared: Collection[ComparedCell], declared: Iterable[Any], thresholds: ThresholdTable
) -> list[EarlyWarning]:
    """Tests every pool for drift, the surest first.

    Args:
        compared: Cells with the differences of their examples' log-likelihoods, now minus before, in nats.
        declared: Every cell of the whole matrix; corrections are for all pools that it has.
        thresholds: Of the run.
    """
    family = pools(declared)
    tested = {pool: cells for pool, cells in pools(compared).items() if pool in family}
    p_values = [signed_rank_p_value(list(cluster_sums(cells).values())) for cells in tested.values()]
    common = thresholds.common
    adjusted = adjusted_p_values(p_values, len(family), common.pooled_correction)
    warnings = [_warning(pool, cells, p) for (pool, cells), p in zip(tested.items(), adjusted, strict=True)]
    return sorted(
        (
            each
            for each in warnings
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


def _warning(pool: Pool, cells: Sequence[ComparedCell], adjusted: float) -> EarlyWarning:
    differences = np.concatenate([cell.differences for cell in cells])
    return EarlyWarning(
        pool=pool,
        nats=float(differences.mean()),
        fell=int((differences < 0).sum()),
        rose=int((differences > 0).sum()),
        adjusted=adjusted,
        cells=len(cells),
    )
