"""Change points: where the level of a series of nights changed for good."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

__all__ = ["SHORTEST", "ChangePoint", "change_points"]

# Nights on either side of a change point: one odd night, or two, is none.
SHORTEST: Final = 3

# Chosen by simulation: of series of 14 to 365 nights without a change point, at most 4 in 100 seem to have one.
_PENALTY: Final = 5.0


@dataclass(frozen=True)
class ChangePoint:
    """A change of level.

    Attributes:
        at: The index of the first night on the new level.
        before: The mean of the nights since the change point before it.
        after: The mean of the nights up to the change point behind it.
    """

    at: int
    before: float
    after: float


def change_points(values: Sequence[float], resolution: float) -> list[ChangePoint]:
    """Finds where the level of a series changed; a slow drift shows as a staircase.

    The levels are those that least squares finds, under a price for every change: optimal partitioning by PELT
    (Killick, Fearnhead and Eckley, 2012), with a penalty that grows with the logarithm of the length, as in
    the Bayesian information criterion.

    Args:
        values: One a night, in the order of time.
        resolution: The smallest difference that a night can show, in the same units; a series that is
            calmer than that is taken to be as noisy.
    """
    from ruptures import KernelCPD

    series = np.asarray(values, dtype=float)
    if series.size < 2 * SHORTEST:
        return []
    # From one night to the next, so that changes of level do not count as noise; robust, for the same reason.
    jumps = np.abs(np.diff(series))
    noise = max(float(np.median(jumps)) * 1.4826 / math.sqrt(2), resolution)
    penalty = _PENALTY * noise**2 * math.log(series.size)
    found = KernelCPD(kernel="linear", min_size=SHORTEST).fit(series.reshape(-1, 1)).predict(pen=penalty)
    bounds = [0, *found]
    levels = [float(series[start:stop].mean()) for start, stop in pairwise(bounds)]
    return [ChangePoint(at, old, new) for at, (old, new) in zip(found, pairwise(levels), strict=False)]
