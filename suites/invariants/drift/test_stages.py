"""Looks at a cell: they never err more often than they may, and ask for no more than they need."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from drift.statistics.paired import paired_shift, sign_flip_p_value
from drift.statistics.stages import Stage, judged, planned

quick = settings(max_examples=60)
few = settings(quick, max_examples=12)

error_rates = st.floats(0.01, 0.9)
spendings = st.floats(0.2, 5)
gates = st.floats(0, 1)
changes = st.sampled_from([-1.0, -0.5, -1 / 3, 0.0, 0.25, 0.5, 1.0])


@st.composite
def plans(draw, longest=60):
    """The stages of some plan."""
    examples = sorted(draw(st.sets(st.integers(1, longest), min_size=1, max_size=4)))
    return planned(examples, [draw(gates) for _ in examples], draw(error_rates), draw(spendings))


@quick
@given(st.lists(st.integers(1, 2000), min_size=1, max_size=5, unique=True).map(sorted), error_rates, spendings)
def test_the_stages_share_the_error_rate(examples, error_rate, spending):
    """Every stage has a part of the error rate, and all parts together are the whole."""
    plan = planned(examples, [0.1] * len(examples), error_rate, spending)
    assert [stage.examples for stage in plan] == examples
    assert all(stage.significant > 0 for stage in plan)
    assert sum(stage.significant for stage in plan) == pytest.approx(error_rate)


def test_a_larger_spending_keeps_more_for_later():
    """At spending 1 parts go by examples; above it the first look gets less."""
    first = [planned([250, 500, 1000], [0.1] * 3, 0.04, spending)[0].significant for spending in (1, 2, 3)]
    assert first == pytest.approx([0.01, 0.04 / 16, 0.04 / 64])


@few
@given(
    st.lists(st.sampled_from([0.25, 1 / 3, 0.5, 1.0, 1.0]), min_size=9, max_size=9),
    st.sets(st.integers(1, 8), max_size=2),
    st.lists(gates, min_size=3, max_size=3),
    error_rates,
    spendings,
)
def test_stages_never_exceed_their_error_rate(sizes, looks, some_gates, error_rate, spending):
    """Over all signs that the differences could have, a shift is found no more often than the error rate says."""
    examples = sorted({*looks, 9})
    plan = planned(examples, some_gates[: len(examples)], error_rate, spending)
    patterns = list(product((-1, 1), repeat=9))
    found = sum(
        judged([sign * size for sign, size in zip(signs, sizes, strict=True)], plan, 0.0).shifted for signs in patterns
    )
    assert found <= error_rate * len(patterns) * (1 + 1e-9)


@quick
@given(st.lists(changes, min_size=60, max_size=60), plans(), st.floats(0, 50))
def test_direction_does_not_matter_to_the_looks(differences, plan, smallest_effect):
    """A drop is judged as the same rise is, after as many looks."""
    down, up = (judged([sign * each for each in differences], plan, smallest_effect) for sign in (1, -1))
    assert (down.stage, down.shifted, down.suspicious) == (up.stage, up.shifted, up.suspicious)
    assert down.shift.points == -up.shift.points
    assert (down.shift.fell, down.shift.rose) == (up.shift.rose, up.shift.fell)


@quick
@given(st.lists(changes, min_size=60, max_size=60), plans(), st.floats(0, 50))
def test_the_deciding_look_explains_itself(differences, plan, smallest_effect):
    """Every look but the last was suspicious and found nothing; the last found a shift or had no reason to go on."""
    judgement = judged(differences, plan, smallest_effect)
    before = plan[: plan.index(judgement.stage)]
    shifts = [paired_shift(differences[: stage.examples]) for stage in before]
    for stage, shift in zip(before, shifts, strict=True):
        assert shift.p_value <= stage.gate
        assert shift.p_value > stage.significant or abs(shift.points) < smallest_effect
    assert judgement.shift == paired_shift(differences[: judgement.stage.examples])
    if judgement.shifted:
        assert judgement.shift.p_value <= judgement.stage.significant
        assert abs(judgement.shift.points) >= smallest_effect - 1e-8
    elif judgement.stage != plan[-1]:
        assert judgement.shift.p_value > judgement.stage.gate
    assert judgement.wanted is None


@quick
@given(st.lists(changes, min_size=60, max_size=60), plans(), st.data())
def test_a_missing_look_is_asked_for(differences, plan, data):
    """Cut short, a cell gets the verdict of the whole, or asks for just the examples of its next look."""
    assume(len(plan) > 1)
    count = data.draw(st.integers(plan[0].examples, 60))
    part, whole = judged(differences[:count], plan, 2.0), judged(differences, plan, 2.0)
    if part.wanted is None:
        assert part == whole
    else:
        assert part.suspicious
        assert not part.shifted
        assert part.wanted > count
        assert part.wanted == plan[plan.index(part.stage) + 1].examples
        assert whole.stage.examples >= part.wanted


def test_a_small_shift_is_looked_at_again():
    """What is significant but too small goes on, and is found once it is large enough."""
    plan = (Stage(100, 0.05, 0.05), Stage(200, 0.05, 0.0))
    differences = [-1.0] * 8 + [0.0] * 92 + [-1.0] * 20 + [0.0] * 80
    assert sign_flip_p_value(differences[:100]) <= 0.05
    assert judged(differences[:100], plan, 10.0).wanted == 200
    assert judged(differences, plan, 10.0).shifted
