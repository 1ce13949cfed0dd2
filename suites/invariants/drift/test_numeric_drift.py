"""Numeric drift: a model that computes something else is told of, also where nothing drifts; no other one is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cells import Cell
from drift.statistics import likelihoods
from drift.statistics.findings import PairedCell, PairedNight, Severity
from drift.statistics.numeric_drift import STATISTIC, numeric_drifts
from drift.statistics.pools import Pool
from drift.statistics.thresholds import DEFAULT, Thresholds, ThresholdTable, load_thresholds

_SMALLEST = {"float32": 0.01, "bfloat16": 0.1}
THRESHOLDS = ThresholdTable(Thresholds(warning_smallest_scatter=_SMALLEST))

_nats = st.integers(-200, 200).map(lambda thousandths: thousandths / 1000)
_cells = st.lists(st.lists(_nats, min_size=1, max_size=12), min_size=1, max_size=6)


def _compared(cells: list[list[float]], model: str = "m2a") -> dict[Cell, list[float]]:
    return {Cell(model, "vt", 512 * (i + 1)): each for i, each in enumerate(cells)}


@given(_cells, st.sampled_from(["float32", "bfloat16"]))
def test_a_warning_comes_exactly_beyond_the_threshold(cells, dtype):
    """A model is told of where the root mean square over all its examples reaches what its precision may cause."""
    differences = np.concatenate(cells)
    size = np.linalg.norm(differences) / len(differences) ** 0.5
    found = numeric_drifts(_compared(cells), {"m2a": dtype}, THRESHOLDS)
    assert bool(found) == (size >= _SMALLEST[dtype])
    for warning in found:
        assert warning.pool == Pool("m2a")
        assert warning.nats == pytest.approx(size)
        assert (warning.examples, warning.cells) == (len(differences), len(cells))
        assert warning.moved == sum(each != 0 for each in differences)


@given(_cells, st.randoms(use_true_random=False))
def test_neither_direction_nor_order_matters(cells, random):
    """Opposite changes, and the same ones in another order, differ alike."""
    turned = [[-each for each in random.sample(cell, len(cell))] for cell in random.sample(cells, len(cells))]
    one, other = (numeric_drifts(_compared(each), {"m2a": "float32"}, THRESHOLDS) for each in (cells, turned))
    assert [replace(each, nats=0) for each in one] == [replace(each, nats=0) for each in other]
    assert [each.nats for each in one] == pytest.approx([each.nats for each in other])


def test_models_are_told_of_apart():
    """Of two models only the one that changed is told of; and not where a drift of it is told already."""
    cells = _compared([[0.05, -0.05, 0.0]]) | _compared([[0.0, 0.0, 0.001]], "tpp")
    dtypes = {"m2a": "float32", "tpp": "float32"}
    (warning,) = numeric_drifts(cells, dtypes, THRESHOLDS)
    assert warning.message == (
        "m2a, all cells: the model computes something else: log-likelihoods of expected answers differ by 0.041 nats "
        "(root mean square over 1 cells; 2 of 3 examples differ), though no pool of them became more or less likely"
    )
    assert numeric_drifts(cells, dtypes, THRESHOLDS, drifting={"m2a"}) == []
    assert numeric_drifts(cells, {**dtypes, "m2a": "float64"}, THRESHOLDS) == []
    own = ThresholdTable(THRESHOLDS.common, models={"m2a": {"warning_smallest_scatter": {"float32": 1.0}}})
    assert numeric_drifts(cells, dtypes, own) == []


def test_every_precision_has_a_threshold():
    """By default the coarser a precision, the more it may scatter."""
    table = load_thresholds(DEFAULT, [], []).common.warning_smallest_scatter
    assert list(table) == sorted(table, key=table.__getitem__) == ["float32", "float16", "bfloat16"]


def test_what_drifts_is_told_once():
    """In a night, a model that computes something else is a warning; a drift that is found before it says more."""
    cells = [Cell("m2a", "vt", 512 * (i + 1)) for i in range(8)]
    for signs, both in (((-1, 1), False), ((-1, -1), True)):
        changes = [0.5 * signs[i % 2] + i / 1000 for i in range(32)]
        paired = tuple(PairedCell(cell, (0.0,) * 32, tuple(changes), "float32") for cell in cells)
        night = PairedNight(paired, tuple(cells), THRESHOLDS)
        earlier = likelihoods.STATISTIC.find(night, ())
        assert bool(earlier.found) == both
        found = STATISTIC.find(night, (earlier,))
        assert [each.severity for each in found.found] == ([] if both else [Severity.WARNING])
        assert bool(STATISTIC.find(night, ()).found)
