"""The power of the looks at a cell against enumeration, and the smallest drop they find."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.statistics.power import power, smallest_drop
from drift.statistics.stages import judged, planned

quick = settings(max_examples=25)


@quick
@given(
    st.floats(0, 1),
    st.floats(0, 0.5),
    st.sampled_from([(3,), (7,), (2, 5), (3, 4, 7)]),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.floats(0.05, 0.9),
    st.sampled_from([0.0, 2.0, 30.0, 60.0]),
)
def test_equals_enumeration(drop, flips, examples, gates, error_rate, smallest_effect):
    """The power is the chance of all outcomes that the suite's own judgement calls a drop."""
    plan = planned(examples, gates[: len(examples)], error_rate, 1.0)
    # As many examples cannot differ both ways as fall already.
    falls = min(drop + flips / 2, 1.0)
    rises = min(flips / 2, 1.0 - falls)
    chances = {-1.0: falls, 1.0: rises, 0.0: max(1 - falls - rises, 0.0)}
    expected = 0.0
    # A look knows its examples by how many fell and rose alone, so their order within a look is one of many.
    parts = [b - a for a, b in zip([0, *examples[:-1]], examples, strict=True)]
    for looks in product(*(_outcomes(count) for count in parts)):
        judgement = judged([each for look, _ in looks for each in look], plan, smallest_effect)
        if judgement.shifted and judgement.shift.points < 0:
            chance = 1.0
            for look, orders in looks:
                chance *= orders
                for each in look:
                    chance *= chances[each]
            expected += chance
    assert power(drop, flips, plan, smallest_effect) == pytest.approx(expected, abs=1e-9)


def _outcomes(count: int) -> list[tuple[tuple[float, ...], int]]:
    orders = Counter(tuple(sorted(each)) for each in product((-1.0, 0.0, 1.0), repeat=count))
    return list(orders.items())


@pytest.mark.parametrize("flips", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("examples", [(40,), (250,), (64, 250), (250, 500, 1000)])
def test_the_smallest_drop_is_the_smallest(examples, flips):
    """The smallest drop is found as often as wanted, and one a little smaller is not."""
    plan = planned(examples, [0.1] * len(examples), 0.05 / 900, 1.0)
    drop = smallest_drop(flips, plan, 2.0, wanted=0.9) / 100
    assert power(drop, flips, plan, 2.0) >= 0.9
    assert power(drop - 0.001, flips, plan, 2.0) < 0.9


def test_too_few_examples_find_nothing():
    """Where not even the loss of every answer is significant, no drop is the smallest."""
    assert smallest_drop(0.02, planned([5], [0.1], 0.0001, 1.0), 2.0, wanted=0.9) == float("inf")


def test_without_a_drop_power_stays_within_the_error_rate():
    """Without a shift a cell is said to have fallen at most half as often as the error rate says."""
    plan = planned([50, 100], [1.0, 0.0], 0.1, 1.0)
    assert 0 < power(0.0, 0.3, plan, 0.0) <= 0.05
