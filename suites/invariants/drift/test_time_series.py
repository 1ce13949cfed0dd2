"""Time series: drift from one snapshot, of a cell and of many."""

from __future__ import annotations

from drift.records.history import History
from drift.records.snapshots import Baseline
from drift.time_series import cell_time_series, mean_time_series
from suites.support.sample_histories import add_night, unsynchronized
from suites.support.sample_results import sample_result

__all__ = ["unsynchronized"]


def test_nights_before_a_new_baseline_are_not_watched(tmp_path):
    """Drift is measured from one snapshot: nights with an earlier one, and those that accepted, are left out."""
    path = tmp_path / "history.sqlite"
    old = Baseline.of(sample_result([0.0] * 20))
    for day in range(1, 8):
        add_night(path, {256: 12}, day=day, before=0.0, baseline=old)
    add_night(path, {256: 20}, day=8, accepted=True, baseline=None)
    for day in range(9, 19):
        add_night(path, {256: 20 if day < 14 else 15}, day=day)
    (cell,) = cell_time_series(History.read_from(path).entries("m2a"))
    assert len(cell.entries) == 18
    assert [entry.started[8:10] for entry in cell.watched] == [f"{day:02}" for day in range(9, 19)]
    assert list(map(str, cell.change_points)) == ["2026-11-14: +0.0 → -25.0"]


def test_the_mean_shows_what_no_cell_does(tmp_path):
    """The mean is over the last run's cells, through the runs that have them all."""
    path = tmp_path / "history.sqlite"
    add_night(path, {256: 20}, day=1)
    for day in range(2, 22):
        add_night(path, dict.fromkeys((256, 512, 1024, 2048), 20 if day < 12 else 19), day=day)
    cells = cell_time_series(History.read_from(path).entries("m2a"))
    mean = mean_time_series(cells)
    assert (mean.cells, len(mean.runs)) == (4, 20)
    assert mean.drift == (0.0,) * 10 + (-5.0,) * 10
    assert list(map(str, mean.change_points)) == ["2026-11-12: +0.0 → -5.0"]
    assert mean_time_series(cells[:1]) is None
