"""Paired scores: the exact sign-flip test, and the shift with its confidence interval."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, ndtri

__all__ = ["Shift", "confidence_interval", "mcnemar_p_values", "paired_shift", "sign_flip_p_value"]

_LARGEST_DENOMINATOR = 10_000
# Of the grid of sums: 4,000 differences of 60ths fit.
_LARGEST_REACH = 2**18


@dataclass(frozen=True)
class Shift:
    """How far paired scores moved.

    Attributes:
        examples: How many pairs there are.
        fell: Pairs whose score is lower now.
        rose: Pairs whose score is higher now.
        points: The mean difference, in percentage points.
        interval: The 95% confidence interval of `points`.
        p_value: Of the two-sided sign-flip test.
    """

    examples: int
    fell: int
    rose: int
    points: float
    interval: tuple[float, float]
    p_value: float


def paired_shift(differences: Sequence[float] | npt.NDArray[np.float64]) -> Shift:
    """The shift of paired scores.

    Args:
        differences: Score now minus score before, per example, in [-1, 1]; at least one.
    """
    given = np.asarray(differences, dtype=float)
    return Shift(
        examples=given.size,
        fell=int((given < 0).sum()),
        rose=int((given > 0).sum()),
        points=100 * float(given.mean()),
        interval=confidence_interval(given),
        p_value=sign_flip_p_value(given),
    )


def confidence_interval(differences: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The 95% confidence interval of the mean difference, in percentage points.

    It is Bonett and Price's (2012, "Adjusted Wald confidence interval for a difference of binomial
    proportions based on paired data"), one of those that Fagerland, Lydersen and Laake (2014) recommend:
    one pair that fell and one that rose are added, which keeps it honest where few or no pairs differ.
    Fractional scores vary less than scores of 0 and 1, so theirs is wider than it need be.

    Args:
        differences: Score now minus score before, per example, in [-1, 1]; at least one.
    """
    count = differences.size + 2
    # The added pair leaves the sum as it is.
    middle = float(differences.sum()) / count
    variance = (float(differences @ differences) + 2) / count - middle**2
    margin = float(ndtri(0.975)) * math.sqrt(variance / count)
    return 100 * max(middle - margin, -1.0), 100 * min(middle + margin, 1.0)


def sign_flip_p_value(differences: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """How likely a sum as far from zero is, if every difference were as likely to have the other sign.

    The distribution over all sign patterns is computed in full, not sampled. Where scores are 0 or 1
    this is the exact two-sided McNemar test.

    Args:
        differences: Score now minus score before, per example; scores are shares of references, so
            each is taken as the nearest fraction with a denominator of at most 10,000. Where their
            common grid would be too fine to enumerate, they are rounded to a coarser one, which
            changes what is summed and leaves the test of it exact.

    Returns:
        The two-sided p-value, in (0, 1]; 1 where nothing differs.
    """
    values, counts = np.unique(np.asarray(differences, dtype=float), return_counts=True)
    steps = _steps(values.tolist(), counts.tolist())
    sizes: Counter[int] = Counter()
    for step, count in zip(steps, counts.tolist(), strict=True):
        sizes[abs(step)] += count
    observed = sum(step * count for step, count in zip(steps, counts.tolist(), strict=True))
    del sizes[0]
    return _two_sided(tuple(sorted(sizes.items())), abs(observed))


def mcnemar_p_values(fell: npt.ArrayLike, rose: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The exact two-sided McNemar test: the sign-flip test where all differences are of one size.

    Args:
        fell: How many pairs fell, in any shape.
        rose: How many rose, in the same shape.

    Returns:
        The p-values, in that shape, in (0, 1].
    """
    fewer = np.minimum(fell, rose)
    more = np.maximum(np.maximum(fell, rose), 1)
    # The lower tail of the binomial distribution with probability 1/2, as an incomplete beta function.
    tails: npt.NDArray[np.float64] = 2 * betainc(more, fewer + 1.0, 0.5)
    # Beyond a thousand flips one way the smallest float stands for what is smaller still.
    return np.clip(tails, sys.float_info.min, 1.0)


def _steps(values: Sequence[float], counts: Sequence[int]) -> list[int]:
    """Whole numbers in the proportion of the values, as small as they can be."""
    exact = [_fraction(value) for value in values]
    unit = math.lcm(*(each.denominator for each in exact))
    steps = [each.numerator * (unit // each.denominator) for each in exact]
    common = math.gcd(*steps) or 1
    reach = sum(abs(step) * count for step, count in zip(steps, counts, strict=True)) // common
    if reach <= _LARGEST_REACH:
        return [step // common for step in steps]
    scale = _LARGEST_REACH / sum(abs(value) * count for value, count in zip(values, counts, strict=True))
    return [round(value * scale) for value in values]


@lru_cache(maxsize=4096)
def _fraction(value: float) -> Fraction:
    return Fraction(value).limit_denominator(_LARGEST_DENOMINATOR)


@lru_cache(maxsize=2**16)
def _two_sided(steps: tuple[tuple[int, int], ...], observed: int) -> float:
    """The p-value of a sum.

    Args:
        steps: Sizes of differences, and how often each occurs.
        observed: The sum's distance from zero.
    """
    if not observed:
        return 1.0
    if len(steps) == 1:
        ((size, count),) = steps
        net = observed // size
        return float(mcnemar_p_values((count - net) // 2, (count + net) // 2))
    # What rose adds up to half of reach and sum. Multiples of the commonest size have a coarse grid of
    # their own, on which most steps are cheap.
    needed = (sum(size * count for size, count in steps) + observed) // 2
    grid = max(steps, key=lambda step: step[1])[0]
    coarse = _sums([(size // grid, count) for size, count in steps if size % grid == 0])
    fine = _sums([(size, count) for size, count in steps if size % grid])
    at_least = np.append(np.cumsum(coarse[::-1])[::-1], 0.0)
    missing = -(-(needed - np.arange(fine.size)) // grid)
    p = 2 * float(fine @ at_least[np.clip(missing, 0, coarse.size)])
    return min(max(p, sys.float_info.min), 1.0)


def _sums(steps: Sequence[tuple[int, int]]) -> npt.NDArray[np.float64]:
    """The chance of each sum of the steps that rose, where each is as likely to rise as to fall."""
    chances = np.ones(1)
    for size, count in steps:
        added = _risen(count)
        reach = size * count
        moved = np.zeros(chances.size + reach)
        # Either loop gives the same; the shorter one is faster.
        if added.size < chances.size:
            for i, chance in enumerate(added.tolist()):
                moved[i * size : i * size + chances.size] += chance * chances
        else:
            for i, chance in enumerate(chances.tolist()):
                moved[i : i + reach + 1 : size] += chance * added
        chances = moved
    return chances


@lru_cache(maxsize=4096)
def _risen(count: int) -> npt.NDArray[np.float64]:
    """The chance of each number of risen ones among `count`."""
    chances = np.ones(1)
    for _ in range(count):
        chances = (np.append(chances, 0.0) + np.append(0.0, chances)) / 2
    return chances
