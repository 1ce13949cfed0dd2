"""Early warnings come where expected answers became more or less likely, and hardly ever elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cells import Cell
from drift.statistics.findings import PairedCell, PairedNight, Severity
from drift.statistics.likelihoods import STATISTIC, likelihood_drifts, signed_rank_p_value
from drift.statistics.pools import Pool
from drift.statistics.thresholds import Thresholds, ThresholdTable

THRESHOLDS = ThresholdTable(Thresholds())
TASKS = ("niah_single_1", "niah_single_2", "vt")
LENGTHS = (512, 1024)
MATRIX = [Cell("m2a", task, length) for task in TASKS for length in LENGTHS]

differences = st.lists(st.floats(-3, 3).map(lambda x: round(x, 3)), min_size=1, max_size=30)


def cells(noise: np.random.Generator, shifts: dict[str, float], examples: int = 32) -> dict[Cell, Sequence[float]]:
    """A model's cells whose answers drift by so many nats, by task, with what else moves them."""
    seeds = {task: noise.normal(0, 0.05, examples) for task in TASKS}
    return {
        cell: (shifts.get(cell.task, 0.0) + seeds[cell.task] + noise.normal(0, 0.05, examples)).round(3).tolist()
        for cell in MATRIX
    }


@given(differences, st.randoms(use_true_random=False))
@settings(max_examples=12)
def test_direction_and_order_do_not_matter(given_differences: list[float], random) -> None:
    """The p-value is the same for the opposite drift and for any order of examples."""
    expected = signed_rank_p_value(given_differences)
    shuffled = random.sample(given_differences, len(given_differences))
    assert signed_rank_p_value(shuffled) == pytest.approx(expected)
    assert signed_rank_p_value([-each for each in given_differences]) == pytest.approx(expected)
    assert 0 < expected <= 1


def _enumerated(values: Sequence[float]) -> float:
    """The two-sided signed-rank p-value of a few different sizes, over all sign patterns."""
    ranks = np.argsort(np.argsort(np.abs(values))) + 1
    sums = [sum(rank for i, rank in enumerate(ranks) if pattern >> i & 1) for pattern in range(2 ** len(ranks))]
    observed = ranks[np.asarray(values) > 0].sum()
    middle = ranks.sum() / 2
    return float(np.mean([abs(each - middle) >= abs(observed - middle) - 1e-9 for each in sums]))


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=9, unique=True), st.data())
def test_the_test_is_the_enumerated_one(sizes: list[int], data: st.DataObject) -> None:
    """For a few examples the p-value is that of all sign patterns."""
    signs = data.draw(st.lists(st.sampled_from([-1, 1]), min_size=len(sizes), max_size=len(sizes)))
    values = [sign * size / 1000 for sign, size in zip(signs, sizes, strict=True)]
    assert signed_rank_p_value(values) == pytest.approx(_enumerated(values))


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6, unique=True), st.floats(0.01, 0.9))
@settings(max_examples=20)
def test_p_is_uniform_or_larger_under_the_null(sizes: list[int], alpha: float) -> None:
    """Over all signs that drifts of different sizes can have, p is at most alpha no more often than alpha."""
    signs = itertools.product((1, -1), repeat=len(sizes))
    p_values = [signed_rank_p_value([a * b / 1000 for a, b in zip(each, sizes, strict=True)]) for each in signs]
    assert sum(p <= alpha for p in p_values) / len(p_values) <= alpha * (1 + 1e-9)


@pytest.mark.parametrize("examples", [32, 250])
def test_ties_and_zeros_raise_no_false_alarms(examples: int) -> None:
    """Where drifts are kept to a thousandth, many of them equal or zero, p is still at most alpha about as often."""
    noise, runs = np.random.default_rng(examples), 1000
    p_values = np.array([signed_rank_p_value(noise.normal(0, 0.002, examples).round(3)) for _ in range(runs)])
    for alpha in (0.01, 0.05, 0.2):
        assert (p_values <= alpha).mean() <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / runs)


def test_nights_without_drift_are_quiet() -> None:
    """Of nights whose log-likelihoods only jitter, at most one in a hundred warns."""
    noise = np.random.default_rng(5)
    thresholds = ThresholdTable(replace(Thresholds(), warning_smallest_effect=0.0))
    warned = 0
    for _ in range(150):
        night = cells(noise, {})
        warned += bool(likelihood_drifts(night, night, thresholds))
    assert warned <= 3


@pytest.mark.parametrize("nats", [-0.1, 0.1])
def test_a_drift_of_one_task_is_found_and_named(nats: float) -> None:
    """Where one task's answers drift, its pool comes first, and other tasks are not named."""
    night = cells(np.random.default_rng(1), {"vt": nats})
    found = likelihood_drifts(night, night, THRESHOLDS)
    assert found[0].pool == Pool("m2a", "task", "vt")
    assert found[0].nats == pytest.approx(nats, abs=0.03)
    assert not {Pool("m2a", "task", task) for task in TASKS[:2]} & {each.pool for each in found}
    assert ("less" if nats < 0 else "more") in found[0].message


def test_a_drift_too_small_to_matter_is_no_warning() -> None:
    """A sure drift below the smallest effect stays unsaid, one above it does not."""
    night = {Cell("m2a", "vt", 512): [-0.010 - i / 10_000 for i in range(40)]}
    assert likelihood_drifts(night, night, THRESHOLDS) == []
    sensitive = ThresholdTable(replace(THRESHOLDS.common, warning_smallest_effect=0.01))
    assert likelihood_drifts(night, night, sensitive)
    own = ThresholdTable(THRESHOLDS.common, models={"m2a": {"warning_smallest_effect": 0.01}})
    assert likelihood_drifts(night, night, own)


def test_cells_that_share_seeds_count_once() -> None:
    """The same drift at ten lengths is far less sure than that of ten tasks with examples of their own."""
    drift = (-0.5, -0.4, -0.3, 0.1, -0.2, -0.6, -0.7, -0.8)
    lengths = {Cell("m2a", "vt", 512 * i): drift for i in range(1, 11)}
    tasks = {Cell("m2a", f"vt_{i}", 512): drift for i in range(1, 11)}
    certain = ThresholdTable(replace(THRESHOLDS.common, warning_error_rate=0.5))
    shared, apart = (
        next(each.adjusted for each in likelihood_drifts(night, night, certain) if each.pool == Pool("m2a"))
        for night in (lengths, tasks)
    )
    assert apart < shared / 1000


def test_a_part_is_held_to_the_standard_of_the_whole() -> None:
    """A run of one cell corrects for all pools of the declared matrix."""
    declared = cells(np.random.default_rng(2), {"vt": -0.3})
    part = {cell: differences for cell, differences in declared.items() if cell.task == "vt"}
    loose = ThresholdTable(replace(THRESHOLDS.common, warning_error_rate=0.5))

    def p(matrix: Iterable[Cell]) -> float:
        found = likelihood_drifts(part, matrix, loose)
        return next(each.adjusted for each in found if each.pool == Pool("m2a", "task", "vt"))

    assert p(declared) > p(part)


@pytest.mark.parametrize("fails", [False, True])
def test_a_night_fails_for_less_likely_answers_only_where_it_is_asked_to(fails: bool) -> None:
    """Every drift is a warning, and says that scores decide; one downwards is a failure where thresholds say so."""
    thresholds = ThresholdTable(replace(THRESHOLDS.common, warning_fails=fails))
    for nats in (-0.1, 0.1):
        drifts = cells(np.random.default_rng(1), {"vt": nats})
        paired = tuple(PairedCell(cell, (0.0,) * 32, tuple(each), "float32") for cell, each in drifts.items())
        found = STATISTIC.find(PairedNight(paired, tuple(MATRIX), thresholds), ())
        assert [each.details for each in found.found] == likelihood_drifts(drifts, MATRIX, thresholds)
        assert {each.severity for each in found.found} == {
            Severity.FAILURE if fails and nats < 0 else Severity.WARNING,
        }
        assert found.closing == (() if fails else ("These fail nothing: scores decide.",))
    unknown = (PairedCell(MATRIX[0], (0.0,)),)
    assert STATISTIC.find(PairedNight(unknown, tuple(MATRIX), thresholds), ()).found == ()
