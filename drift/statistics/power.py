"""What a night can see: the power of the looks at one cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, xlogy

from drift.statistics.paired import mcnemar_p_values
from drift.statistics.stages import Stage

__all__ = ["power", "smallest_drop"]

_Grid = npt.NDArray[np.float64]

# Counts of pairs further than this from what is expected, in standard deviations, are left out.
_WIDTH = 7
_PRECISION = 0.0005


def power(drop: float, flips: float, plan: Sequence[Stage], smallest_effect: float) -> float:
    """The chance that a drop of one cell is found, by the rules of `drift.statistics.stages.judged`.

    Computed in full over how many pairs fell and rose, for scores of 0 and 1 and examples that change
    independently; with fractional scores, which vary less, a drop is found rather more often.

    Args:
        drop: How much lower the accuracy is, in [0, 1].
        flips: The share of examples that differ without a shift, half of them falling, half rising.
        plan: The stages.
        smallest_effect: The smallest change that is a shift, in percentage points.
    """
    falls = min(drop + flips / 2, 1.0)
    rises = min(flips / 2, 1.0 - falls)
    limits = [_limit(plan[-1].examples, share) for share in (falls, rises)]
    fell, rose = np.ogrid[: limits[0], : limits[1]]
    p_values = mcnemar_p_values(fell, rose)
    found, seen = 0.0, 0
    # The chances of each pair of counts, of cells that are still looked at.
    chances: _Grid = np.ones((1, 1))
    for stage in plan:
        chances = _added(chances, _changes(stage.examples - seen, falls, rises), limits)
        seen = stage.examples
        shifted = (p_values <= stage.significant) & (100 * np.abs(fell - rose) >= smallest_effect * seen)
        found += float(chances[shifted & (fell > rose)].sum())
        chances = np.where(shifted | (p_values > stage.gate), 0.0, chances)
    return found


def smallest_drop(flips: float, plan: Sequence[Stage], smallest_effect: float, wanted: float) -> float:
    """The smallest drop of one cell that is found with the wanted chance, in percentage points.

    Args:
        flips, plan, smallest_effect: As for `power`.
        wanted: The chance, in (0, 1).

    Returns:
        The drop; infinity where not even the loss of every answer is found so often.
    """
    if power(1.0, flips, plan, smallest_effect) < wanted:
        return float("inf")
    low, high = 0.0, 1.0
    while high - low > _PRECISION:
        middle = (low + high) / 2
        if power(middle, flips, plan, smallest_effect) < wanted:
            low = middle
        else:
            high = middle
    return 100 * high


def _limit(examples: int, share: float) -> int:
    expected = examples * share
    return min(examples, int(expected + _WIDTH * (expected * (1 - share)) ** 0.5 + _WIDTH)) + 1


def _changes(examples: int, falls: float, rises: float) -> _Grid:
    """The chance of each count of falls and rises among some examples."""
    fell, rose = np.ogrid[: _limit(examples, falls), : _limit(examples, rises)]
    same = examples - fell - rose
    logarithms = (
        gammaln(examples + 1)
        - gammaln(fell + 1)
        - gammaln(rose + 1)
        - gammaln(np.maximum(same, 0) + 1)
        + xlogy(fell, falls)
        + xlogy(rose, rises)
        + xlogy(np.maximum(same, 0), max(1 - falls - rises, 0.0))
    )
    return np.where(same >= 0, np.exp(logarithms), 0.0)


def _added(chances: _Grid, changes: _Grid, limits: Sequence[int]) -> _Grid:
    """The chances of the sums of counts, within the limits."""
    shape = [a + b - 1 for a, b in zip(chances.shape, changes.shape, strict=True)]
    product = np.fft.rfft2(chances, shape) * np.fft.rfft2(changes, shape)
    sums = np.fft.irfft2(product, shape)[: limits[0], : limits[1]]
    return np.pad(np.maximum(sums, 0.0), [(0, limit - size) for limit, size in zip(limits, sums.shape, strict=True)])
