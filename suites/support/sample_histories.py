"""Histories to test with."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from drift.records import history_file
from drift.records.history import History, Run
from drift.records.snapshots import Baseline
from drift.statistics.outcomes import Outcome
from suites.support.sample_results import sample_result

__all__ = ["RUN", "add_night", "unsynchronized"]

RUN = Run("2026-11-24T03:00:00Z", "/results/tonight", "4ad73a8c0de1")

_BASELINE = Baseline.of(sample_result([1.0] * 20))


def add_night(
    path: Path,
    accuracies: Mapping[int, int],
    *,
    day: int = 1,
    outcome: Outcome = Outcome.PASSED,
    environment: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Adds a run of a day in November that measured so many right answers of 20, by length."""
    history, _ = History.append_to(path)
    number = history.begin(Run(f"2026-11-{day:02}T03:00:00Z", str(path.parent / f"night{day}"), "abc"))
    for length, right in accuracies.items():
        result = sample_result([1.0] * right + [0.0] * (20 - right), length=length, environment=environment)
        history.add(number, result, outcome, **{"before": 100.0, "baseline": _BASELINE, **options})
    history.close()


@pytest.fixture(autouse=True)
def unsynchronized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps histories from waiting for the disk, which these tests do not pull out."""
    connect = history_file.connect

    def connected(*given: Any) -> sqlite3.Connection:
        connection = connect(*given)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    monkeypatch.setattr(history_file, "connect", connected)
