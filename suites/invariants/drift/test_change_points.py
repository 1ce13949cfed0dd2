"""Change points: found where they are, and nowhere else."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.statistics.change_points import SHORTEST, change_points


def _cheapest(values, penalty):
    """The segmentation of least cost, by trying all of them."""

    def cost(cut):
        bounds = [0, *cut, len(values)]
        parts = [values[start:stop] for start, stop in pairwise(bounds)]
        if any(len(part) < SHORTEST for part in parts):
            return math.inf
        means = [sum(part) / len(part) for part in parts]
        squares = sum((v - mean) ** 2 for part, mean in zip(parts, means, strict=True) for v in part)
        return squares + penalty * len(cut)

    places = range(SHORTEST, len(values) - SHORTEST + 1)
    return min((cut for n in range(4) for cut in combinations(places, n)), key=cost)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 12), min_size=6, max_size=12))
def test_change_points_are_the_best_there_are(values):
    """The change points are those of the cheapest of all segmentations, with the means of their sides."""
    jumps = sorted(abs(b - a) for a, b in pairwise(values))
    middle = (jumps[(len(jumps) - 1) // 2] + jumps[len(jumps) // 2]) / 2
    noise = max(middle * 1.4826 / math.sqrt(2), 1.0)
    best = _cheapest(values, 5 * noise**2 * math.log(len(values)))
    found = change_points(values, 1.0)
    assert [each.at for each in found] == list(best)
    for before, each, after in zip([0, *best], found, [*best[1:], len(values)], strict=False):
        assert each.before == pytest.approx(sum(values[before : each.at]) / (each.at - before))
        assert each.after == pytest.approx(sum(values[each.at : after]) / (after - each.at))


@settings(max_examples=40)
@given(st.floats(0, 100), st.integers(0, 60))
def test_calm_nights_have_no_change_point(level, nights):
    """A level that never changes has no change point, and neither has one that differs in a single night."""
    assert change_points([level] * nights, 0.4) == []
    if nights > 2:
        values = [level] * nights
        values[nights // 2] -= 1.0
        assert change_points(values, 0.4) == []


@settings(max_examples=40)
@given(st.integers(5, 40), st.integers(5, 40), st.floats(3, 50), st.sampled_from([-1, 1]))
def test_a_planted_change_is_found(before, after, size, sign):
    """A change of some size is found on its very night, in either direction."""
    values = [50.0 + 0.4 * (i % 2) for i in range(before + after)]
    values = [value + sign * size * (i >= before) for i, value in enumerate(values)]
    (found,) = change_points(values, 0.4)
    assert found.at == before
    assert found.after - found.before == pytest.approx(sign * size, abs=0.2)


def test_a_slow_drift_shows_as_a_staircase():
    """A drift of a twentieth of a point a night, too slow for any night to fail, is found within 60 nights."""
    drift = [-0.05 * night + (0.4, 0.0, -0.4)[night % 3] for night in range(60)]
    found = change_points(drift, 0.4)
    assert found
    assert all(each.after < each.before for each in found)
    assert found[-1].after < -2
