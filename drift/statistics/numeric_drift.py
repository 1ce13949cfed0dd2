"""Numeric drift: log-likelihoods of expected answers moved, one this way and one that: a model computes something else.

Rounded weights, another kernel or another precision change every answer's log-likelihood a little. As long as the
changes cancel, no mean drifts and no score shifts; but where nothing has changed there is nothing that could cancel.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from core.cells import Cell
from drift.statistics.findings import Finding, Findings, PairedNight, Severity, Statistic
from drift.statistics.likelihoods import LikelihoodDrift
from drift.statistics.pools import Pool
from drift.statistics.thresholds import ThresholdTable

__all__ = ["STATISTIC", "NumericDrift", "numeric_drifts"]


@dataclass(frozen=True)
class NumericDrift:
    """Changes of log-likelihood that are larger than what other batches, threads and kernels cause.

    Attributes:
        pool: All cells of one model.
        nats: The root mean square of the changes.
        moved: How many examples' log-likelihoods changed at all.
        examples: Of how many.
        cells: How many cells were compared.
    """

    kind: ClassVar[str] = "scatter"

    pool: Pool
    nats: float
    moved: int
    examples: int
    cells: int

    @property
    def headline(self) -> str:
        """The warning in a few words."""
        return f"{self.pool}: the model computes something else"

    @property
    def message(self) -> str:
        """The warning, for a person."""
        return (
            f"{self.headline}: log-likelihoods of expected answers differ by "
            f"{self.nats:.3f} nats (root mean square over {self.cells} cells; {self.moved} of {self.examples} examples "
            "differ), though no pool of them became more or less likely"
        )


def numeric_drifts(
    compared: Mapping[Cell, Sequence[float]],
    dtypes: Mapping[str, str],
    thresholds: ThresholdTable,
    drifting: Collection[str] = (),
) -> list[NumericDrift]:
    """Looks for numeric drift, model by model.

    Args:
        compared: The differences of the log-likelihoods of each cell's examples, now minus before, in nats.
        dtypes: What each model computes in, as torch names it.
        thresholds: Of the run.
        drifting: Models of which a drift is told already, which says more.
    """
    found = []
    for model in dict.fromkeys(cell.model for cell in compared):
        own = [differences for cell, differences in compared.items() if cell.model == model]
        differences = np.concatenate([np.asarray(each, dtype=float) for each in own])
        nats = float(np.sqrt(np.mean(differences**2)))
        smallest = thresholds.of(model).warning_smallest_scatter.get(dtypes[model], math.inf)
        if model not in drifting and nats >= smallest:
            moved = int(np.count_nonzero(differences))
            found.append(NumericDrift(Pool(model), nats, moved, len(differences), len(own)))
    return found


def _find(night: PairedNight, earlier: Sequence[Findings]) -> Findings:
    known = {each.cell: each.log_likelihoods for each in night.cells if each.log_likelihoods is not None}
    dtypes = {each.cell.model: each.dtype for each in night.cells}
    told = (finding.details for findings in earlier for finding in findings.found)
    drifting = {details.pool.model for details in told if isinstance(details, LikelihoodDrift)}
    drifts = numeric_drifts(known, dtypes, night.thresholds, drifting)
    found = [Finding(Severity.WARNING, drift.pool, drift.headline, drift.message, drift) for drift in drifts]
    return Findings(STATISTIC.name, tuple(found))


STATISTIC = Statistic("numeric drift", _find)
