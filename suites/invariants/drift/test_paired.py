"""The sign-flip test against enumeration, McNemar's test and scipy, and what holds of any p-value."""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.statistics.paired import confidence_interval, mcnemar_p_values, paired_shift, sign_flip_p_value
from suites.support.sample_results import shares

quick = settings(max_examples=60)

# Differences of halves, thirds, quarters and fifths; mixed, they fall on a grid of sixtieths.
fractions = st.integers(1, 5).flatmap(lambda d: st.integers(-d, d).map(lambda n: Fraction(n, d)))
differences = st.lists(fractions, max_size=10)


def _enumerated(exact: Sequence[Fraction]) -> Fraction:
    """The share of all sign patterns whose sum is at least as far from zero as the one observed."""
    sums = [Fraction(0)]
    for each in exact:
        sums = [total + signed for total in sums for signed in (each, -each)]
    observed = abs(sum(exact))
    return Fraction(sum(abs(total) >= observed for total in sums), len(sums))


def _p(exact: Sequence[Fraction]) -> float:
    return sign_flip_p_value([float(each) for each in exact])


@quick
@given(differences)
def test_equals_enumeration(exact):
    """The p-value is the share of sign patterns with a sum as far from zero, fractions included."""
    assert _p(exact) == pytest.approx(float(_enumerated(exact)), rel=1e-12)


@quick
@given(st.lists(st.tuples(shares, shares), max_size=8))
def test_rounding_of_scores_does_not_matter(pairs):
    """Differences of floating-point scores, rounded to six digits, count as the fractions they stand for."""
    exact = [Fraction(after).limit_denominator(10) - Fraction(before).limit_denominator(10) for before, after in pairs]
    rounded = [round(after - before, 6) for before, after in pairs]
    assert sign_flip_p_value(rounded) == pytest.approx(float(_enumerated(exact)), rel=1e-12)


@quick
@given(st.integers(0, 150), st.integers(0, 150), st.integers(0, 20))
def test_equals_mcnemar_where_scores_are_zero_or_one(fell, rose, same):
    """For scores of 0 and 1 the test is McNemar's exact one on the pairs that differ."""
    expected = scipy.stats.binomtest(rose, rose + fell, 0.5).pvalue if rose + fell else 1.0
    assert sign_flip_p_value([-1.0] * fell + [1.0] * rose + [0.0] * same) == pytest.approx(expected, rel=1e-9)


@quick
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=8))
def test_equals_scipys_permutation_test(pairs):
    """The p-value is the one of scipy's exact permutation test on pairs."""
    before, after = np.array(pairs, dtype=float).T
    expected = scipy.stats.permutation_test(
        (after, before),
        lambda x, y, axis: np.sum(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue
    assert sign_flip_p_value(list((after - before) / 4)) == pytest.approx(expected, rel=1e-12)


@quick
@given(differences)
def test_direction_does_not_matter(exact):
    """A drop is exactly as surprising as the same rise."""
    assert _p([-each for each in exact]) == _p(exact)


@quick
@given(st.data(), differences, st.integers(0, 5))
def test_order_and_ties_do_not_matter(data, exact, zeros):
    """Neither the order of the examples nor examples that did not change move the p-value."""
    shuffled = data.draw(st.permutations(exact + [Fraction(0)] * zeros))
    assert _p(shuffled) == pytest.approx(_p(exact), rel=1e-12)


@quick
@given(differences, st.integers(1, 40), st.integers(1, 10))
def test_scale_does_not_matter(exact, divisor, factor):
    """The p-value is the same on any scale of scores."""
    assert _p([each * factor / divisor for each in exact]) == _p(exact)


@quick
@given(st.lists(fractions, max_size=300))
def test_is_a_probability(exact):
    """The p-value lies in (0, 1]."""
    assert 0 < _p(exact) <= 1


@pytest.mark.parametrize("count", [250, 1000, 2000])
def test_is_never_zero(count):
    """However many examples all fall, the p-value is above zero."""
    p = sign_flip_p_value([-1.0] * count)
    assert 0 < p <= max(2.0 ** (1 - count), sys.float_info.min)


@pytest.mark.parametrize("count", [0, 1, 250])
def test_nothing_differs(count):
    """Where no example changed, the p-value is 1."""
    assert sign_flip_p_value([0.0] * count) == 1.0


@quick
@given(st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 1200)), min_size=1, max_size=20))
def test_counts_alone_give_the_same(pairs):
    """From counts of fallen and risen examples come scipy's exact binomial p-values, all at once."""
    fell, rose = np.array(pairs).T
    expected = [scipy.stats.binomtest(b, a + b, 0.5).pvalue if a + b else 1.0 for a, b in pairs]
    expected = np.maximum(expected, sys.float_info.min)
    assert mcnemar_p_values(fell, rose) == pytest.approx(expected, rel=1e-8, abs=1e-300)


@quick
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=400))
def test_any_scores_have_an_exact_test(values):
    """However fine the scores are, direction does not matter, and p is at most 1 and at least that of all signs."""
    p = sign_flip_p_value(values)
    assert p == sign_flip_p_value([-each for each in values])
    assert min(2.0 ** (1 - len(values)), 1.0) * (1 - 1e-9) <= p <= 1


def test_a_coarser_grid_moves_p_little():
    """Where differences are too fine to enumerate, rounding them moves the p-value by next to nothing."""
    rng = np.random.default_rng(5)
    fine = rng.choice([-1.0, -0.37, -0.0123, 0.21, 0.9], 400) + rng.uniform(-1e-3, 1e-3, 400)
    spread = math.sqrt(float(fine @ fine))
    # 400 differences of about the same size: the sum is as good as normal.
    normal = 2 * scipy.stats.norm.sf(abs(fine.sum()) / spread)
    assert sign_flip_p_value(fine) == pytest.approx(normal, rel=0.05)


@quick
@given(st.lists(shares.map(lambda share: 2 * share - 1), min_size=1, max_size=60))
def test_the_interval_holds_the_shift(values):
    """The interval has the mean inside, lies within 100 points, mirrors with the sign, and is never empty."""
    shift, mirrored = paired_shift(values), paired_shift([-each for each in values])
    low, high = shift.interval
    assert -100 <= low < high <= 100
    assert low - 1e-9 <= shift.points <= high + 1e-9
    assert mirrored.interval == pytest.approx((-high, -low))
    assert (shift.fell, shift.rose) == (sum(each < 0 for each in values), sum(each > 0 for each in values))
    assert shift.examples == len(values)
    assert shift.p_value == sign_flip_p_value(values)


@pytest.mark.parametrize(("falls", "rises"), [(0.01, 0.01), (0.06, 0.01), (0.3, 0.1), (0.02, 0.2)])
def test_the_interval_covers_the_truth(falls, rises):
    """Over all outcomes of 100 examples the interval covers the true difference 19 times in 20, or a little less."""
    count, covered = 100, 0.0
    for fell in range(count + 1):
        for rose in range(count + 1 - fell):
            chance = scipy.stats.multinomial.pmf(
                [fell, rose, count - fell - rose], count, [falls, rises, 1 - falls - rises]
            )
            if chance > 1e-9:
                low, high = confidence_interval(np.repeat([-1.0, 1.0, 0.0], [fell, rose, count - fell - rose]))
                covered += chance * (low <= 100 * (rises - falls) <= high)
    assert covered > 0.935


@quick
@given(st.lists(fractions.map(abs), min_size=1, max_size=8), st.sampled_from([0.01, 0.05, 0.1, 0.25, 0.5, 0.9]))
def test_p_is_uniform_or_larger_under_the_null(sizes, alpha):
    """Over all signs that differences of any sizes can have, p is at most alpha no more often than alpha."""
    p_values = [
        _p([sign * size for sign, size in zip(signs, sizes, strict=True)])
        for signs in itertools.product((1, -1), repeat=len(sizes))
    ]
    for level in (alpha, min(p_values)):
        assert sum(p <= level for p in p_values) / len(p_values) <= level * (1 + 1e-9)


@pytest.mark.parametrize("references", [1, 4])
def test_false_alarms_stay_within_the_error_rate(references):
    """Where nothing shifted, p is at most alpha no more often than alpha, binomial error apart."""
    runs, examples = 1500, 40
    rng = random.Random(f"null of {references}")
    p_values = []
    for _ in range(runs):
        ease = [rng.random() for _ in range(examples)]
        before, after = (
            [sum(rng.random() < each for _ in range(references)) / references for each in ease] for _ in range(2)
        )
        p_values.append(sign_flip_p_value([b - a for a, b in zip(before, after, strict=True)]))
    for alpha in (0.001, 0.01, 0.05, 0.2):
        share = sum(p <= alpha for p in p_values) / runs
        assert share <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
