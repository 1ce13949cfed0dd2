"""The exact sign-flip test on paired scores."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

__all__ = ["sign_flip_p_value"]

_LARGEST_DENOMINATOR = 10_000


def sign_flip_p_value(differences: Sequence[float]) -> float:
    """How likely a sum as far from zero is, if every difference were as likely to have the other sign.

    The distribution over all sign patterns is computed in full, by convolution, not sampled. Where
    scores are 0 or 1 this is the exact two-sided McNemar test.

    Args:
        differences: Score now minus score before, per example; scores are shares of references, so
            each is taken as the nearest fraction with a denominator of at most 10,000.

    Returns:
        The two-sided p-value, in (0, 1]; 1 where nothing differs.
    """
    exact = [Fraction(each).limit_denominator(_LARGEST_DENOMINATOR) for each in differences]
    unit = math.lcm(*(each.denominator for each in exact)) if exact else 1
    steps = [int(each * unit) for each in exact if each]
    if not steps:
        return 1.0
    common = math.gcd(*steps)
    steps = [each // common for each in steps]
    reach = sum(map(abs, steps))
    # probabilities[k] belongs to the sum k - reach.
    probabilities = np.zeros(2 * reach + 1)
    probabilities[reach] = 1.0
    for step in map(abs, steps):
        moved = np.zeros_like(probabilities)
        moved[step:] += probabilities[:-step]
        moved[:-step] += probabilities[step:]
        probabilities = moved / 2
    observed = abs(sum(steps))
    # Both tails are equal by symmetry; at zero they meet in the middle.
    p = 2 * probabilities[reach + observed :].sum() if observed else 1.0
    # Beyond a thousand flips one way the smallest float stands for what is smaller still.
    return float(min(max(p, sys.float_info.min), 1.0))
