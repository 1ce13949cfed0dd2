"""Pools: the cells of a model that have something in common, and what tests over them share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.cells import Cell

__all__ = ["Pool", "adjusted_p_values", "pools", "seed_sums"]


@dataclass(frozen=True)
class Pool:
    """The cells of a model that have something in common.

    Attributes:
        model: Whose cells these are.
        by: The axis on which they are alike beside the model's, if any.
        value: Their value there.
    """

    model: str
    by: str | None = None
    value: str | int | None = None

    def holds(self, cell: Cell) -> bool:
        """Whether a cell is one of them."""
        return cell.model == self.model and (self.by is None or getattr(cell, self.by) == self.value)

    def __str__(self) -> str:
        if self.by is None:
            return f"{self.model}, all cells"
        return f"{self.model}, {self.by} {self.value}{'%' if self.by == 'depth' else ''}"


def pools(cells: Iterable[Cell]) -> dict[Pool, list[Cell]]:
    """The pools of some cells: each model's, and those alike on one more axis."""
    members: defaultdict[Pool, list[Cell]] = defaultdict(list)
    for cell in cells:
        members[Pool(cell.model)].append(cell)
        for axis, value in cell.axes.items():
            if axis != "model" and value is not None:
                members[Pool(cell.model, axis, value)].append(cell)
    return dict(members)


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


def seed_sums(cells: Iterable[tuple[Cell, Sequence[float]]]) -> Mapping[tuple[str, int], float]:
    """The sum of differences of each seed: of a task's example of one number, over all cells.

    Cells of one task ask the same questions at every length and depth, so what makes example 17 of one
    fall may make example 17 of all of them fall. As a whole they count once.

    Args:
        cells: Each with the differences of its examples.
    """
    sums: defaultdict[tuple[str, int], float] = defaultdict(float)
    for cell, differences in cells:
        for i, difference in enumerate(differences):
            sums[cell.task, i] += difference
    return sums
