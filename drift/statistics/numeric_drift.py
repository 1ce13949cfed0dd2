"""Scatter: expected answers whose log-likelihoods moved, one this way and one that: a model computes something else.

Rounded weights, another kernel or another precision change every answer's log-likelihood a little. As long as the
changes cancel, no mean drifts and no score shifts; but where nothing has changed there is nothing that could cancel.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from drift.statistics.pooled import ComparedCell, Pool
from drift.statistics.thresholds import ThresholdTable

__all__ = ["ScatterWarning", "scatter_warnings"]


@dataclass(frozen=True)
class ScatterWarning:
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
    def message(self) -> str:
        """The warning, for a person."""
        return (
            f"{self.pool}: the model computes something else: log-likelihoods of expected answers differ by "
            f"{self.nats:.3f} nats (root mean square over {self.cells} cells; {self.moved} of {self.examples} examples "
            "differ), though no pool of them became more or less likely"
        )


def scatter_warnings(
    compared: Collection[ComparedCell],
    dtypes: Mapping[str, str],
    thresholds: ThresholdTable,
    drifting: Collection[str] = (),
) -> list[ScatterWarning]:
    """Looks for scatter, model by model.

    Args:
        compared: Cells with the differences of their examples' log-likelihoods, now minus before, in nats.
        dtypes: What each model computes in, as torch names it.
        thresholds: Of the run.
        drifting: Models of which a drift is told already, which says more.
    """
    warnings = []
    for model in dict.fromkeys(cell.model for cell in compared):
        own = [cell.differences for cell in compared if cell.model == model]
        differences = np.concatenate([np.asarray(each, dtype=float) for each in own])
        nats = float(np.sqrt(np.mean(differences**2)))
        smallest = thresholds.of(model).warning_smallest_scatter.get(dtypes[model], math.inf)
        if model not in drifting and nats >= smallest:
            moved = int(np.count_nonzero(differences))
            warnings.append(ScatterWarning(Pool(model), nats, moved, len(differences), len(own)))
    return warnings
