"""Accuracies without their examples: how far two apart are, from counts alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Proportion", "UnpairedShift", "unpaired_shift"]


@dataclass(frozen=True)
class Proportion:
    """An accuracy and how many examples it was measured on.

    Attributes:
        accuracy: In percent.
        examples: At least one.
    """

    accuracy: float
    examples: int

    @property
    def count(self) -> int:
        """Right answers, to the nearest whole one."""
        return round(self.accuracy / 100 * self.examples)


@dataclass(frozen=True)
class UnpairedShift:
    """How far an accuracy is from another one.

    Attributes:
        points: The difference, in percentage points.
        interval: Its confidence interval, in percentage points.
        p_value: Of Fisher's exact two-sided test.
    """

    points: float
    interval: tuple[float, float]
    p_value: float


def unpaired_shift(before: Proportion, now: Proportion, confidence: float = 0.95) -> UnpairedShift:
    """The difference of two accuracies that were measured on different examples.

    The interval is Newcombe's hybrid score interval (1998, "Interval estimation for the difference between
    independent proportions", method 10), made of Wilson's two. Scores between 0 and 1 vary less than those
    of 0 and 1 with the same mean, so for them both the interval and the test are on the safe side.

    Args:
        before: One accuracy.
        now: The other.
        confidence: Of the interval.
    """
    # Imported late, since it takes longer than the rest of this package.
    from scipy.stats import binomtest, fisher_exact

    (p1, low1, high1), (p2, low2, high2) = (
        (each.count / each.examples, *binomtest(each.count, each.examples).proportion_ci(confidence, method="wilson"))
        for each in (before, now)
    )
    middle = p2 - p1
    low = middle - math.hypot(p2 - low2, high1 - p1)
    high = middle + math.hypot(high2 - p2, p1 - low1)
    table = [[each.count, each.examples - each.count] for each in (before, now)]
    return UnpairedShift(
        points=now.accuracy - before.accuracy,
        interval=(100 * low, 100 * high),
        p_value=min(float(fisher_exact(table).pvalue), 1.0),
    )
