"""The history: nothing that was added is lost, whoever writes at the same time."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.records.history import Entry, History, Run, onset
from drift.records.history_file import STATEMENTS
from drift.statistics.outcomes import Outcome
from suites.support.runs import REPOSITORY
from suites.support.sample_histories import RUN, add_night, unsynchronized
from suites.support.sample_results import cell_results, sample_result

__all__ = ["unsynchronized"]


@pytest.fixture(scope="module")
def any_history(tmp_path_factory):
    """A history that the examples of a property share."""
    history, notice = History.append_to(tmp_path_factory.mktemp("history") / "history.sqlite")
    assert notice is None
    yield history
    history.close()


@settings(max_examples=20)
@given(cell_results(), st.none() | st.floats(0, 100), st.sampled_from(Outcome), st.booleans())
def test_a_cell_comes_back(any_history, result, before, outcome, accepted):
    """What is added is read as it was: cell, accuracy, verdict, run, and the environment by its fingerprint."""
    run = any_history.begin(RUN)
    any_history.add(run, result, outcome, before=before, baseline=None, accepted=accepted)
    (entry,) = (entry for entry in any_history.entries(result.model) if entry.run == run)
    assert (entry.zoo, entry.model, entry.key) == (result.zoo, result.model, result.key)
    assert (entry.started, entry.results, entry.revision) == (RUN.started, RUN.results, RUN.revision)
    assert (entry.accuracy, entry.examples) == (result.accuracy, len(result.scores))
    assert (entry.before, entry.outcome, entry.accepted, entry.baseline) == (before, outcome, accepted, None)
    assert json.dumps(any_history.environment(entry.environment)) == json.dumps(result.environment, sort_keys=True)


def test_a_cell_of_two_suites_stands_once(tmp_path):
    """A cell that two suites of a run share has one row, with or without a depth; another run adds its own."""
    path = tmp_path / "history.sqlite"
    history, _ = History.append_to(path)
    for _ in range(2):
        run = history.begin(RUN)
        for depth in (None, None, 50, 50):
            history.add(run, sample_result([1.0], depth=depth), Outcome.PASSED, before=None, baseline=None)
    assert [(entry.run, entry.depth) for entry in history.entries("m2a")] == [(1, None), (1, 50), (2, None), (2, 50)]


def test_selecting_cells(tmp_path):
    """Entries are selected by task, length, depth and zoo, each exactly."""
    history, _ = History.append_to(tmp_path / "history.sqlite")
    run = history.begin(RUN)
    cells = [(task, length, depth) for task in ("vt", "cwe") for length in (256, 512) for depth in (None, 0, 50)]
    for task, length, depth in cells:
        result = sample_result([1.0], task=task, length=length, depth=depth)
        history.add(run, result, Outcome.PASSED, before=None, baseline=None)
    assert len(history.entries("m2a")) == len(cells)
    assert {each.task for each in history.entries("m2a", "vt")} == {"vt"}
    assert [each.key for each in history.entries("m2a", "vt", 512, 0)] == ["vt-512-d0"]
    assert len(history.entries("m2a", zoo="pocket")) == len(cells)
    assert history.entries("m2a", zoo="paper") == history.entries("m2b") == []


def test_the_past_of_a_run_is_what_started_before_it(tmp_path):
    """Entries before a time are those of runs that started earlier, not at it, in whichever order they were added."""
    path = tmp_path / "history.sqlite"
    for day in (3, 1, 4, 2):
        add_night(path, {256: day}, day=day)
    with closing(History.read_from(path)) as history:
        earlier = {day: history.entries("m2a", before=f"2026-11-{day:02}T03:00:00Z") for day in range(1, 6)}
    assert {day: {entry.started[9:10] for entry in found} for day, found in earlier.items()} == {
        1: set(),
        2: {"1"},
        3: {"1", "2"},
        4: {"1", "2", "3"},
        5: {"1", "2", "3", "4"},
    }


_WRITER = """
import sys
from pathlib import Path
from drift.records.history import History
from drift.statistics.outcomes import Outcome
from suites.support.sample_histories import RUN
from suites.support.sample_results import sample_result
history, _ = History.append_to(Path(sys.argv[1]))
run = history.begin(RUN)
for length in range(1, 100_000):
    history.add(run, sample_result([1.0], length=length), Outcome.PASSED, before=None, baseline=None)
    print(length, flush=True)
"""


def test_a_killed_run_keeps_what_it_added(tmp_path):
    """Every cell that was added before a kill is there after it, and the next run goes on in the same file."""
    path = tmp_path / "history.sqlite"
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    said = [int(writer.stdout.readline()) for _ in range(20)]
    os.kill(writer.pid, signal.SIGKILL)
    said += [int(line) for line in writer.stdout.read().split()]
    writer.wait()
    writer.stdout.close()
    kept = [entry.length for entry in History.read_from(path).entries("m2a")]
    # The last one may have been added and not said any more.
    assert kept in (said, [*said, said[-1] + 1])
    history, notice = History.append_to(path)
    assert notice is None
    assert history.begin(RUN) == 2


def test_runs_may_write_at_once(tmp_path):
    """Several runs that begin one history and add to it at the same time lose nothing."""
    runs = 4
    together = Barrier(runs)
    paths = [tmp_path / str(i) / "history.sqlite" for i in range(3)]

    def write(_):
        notices = []
        for path in paths:
            together.wait()
            history, _ = History.append_to(path)
            run = history.begin(RUN)
            for length in range(3):
                history.add(run, sample_result([1.0], length=length), Outcome.PASSED, before=None, baseline=None)
            history.close()
            notices += history.notices
        return notices

    with ThreadPoolExecutor(runs) as pool:
        assert list(pool.map(write, range(runs))) == [[]] * runs
    for path in paths:
        entries = History.read_from(path).entries("m2a")
        expected = [(run, length) for run in range(1, runs + 1) for length in range(3)]
        assert sorted((entry.run, entry.length) for entry in entries) == expected
        assert [file.name for file in path.parent.iterdir()] == ["history.sqlite"]


def test_a_history_in_the_making_is_waited_for(tmp_path):
    """A run that opens a history while another is making its tables waits, and then finds them."""
    path = tmp_path / "history.sqlite"
    with closing(sqlite3.connect(path)) as maker, ThreadPoolExecutor(1) as pool:
        maker.execute("BEGIN IMMEDIATE")
        for statement in STATEMENTS:
            maker.execute(statement)

        def open_it():
            history, notice = History.append_to(path)
            history.close()
            return notice

        waiting = pool.submit(open_it)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.3)
        maker.commit()
        assert waiting.result() is None


def _entries(outcomes):
    empty = Entry(
        0, "", "", None, "", "pocket", "m2a", "vt", 256, None, 20, 50.0, 60.0, Outcome.PASSED, False, "b", "e"
    )
    return [
        replace(
            empty,
            started=str(i),
            outcome=Outcome.REGRESSED if each == "accepted" else each,
            accepted=each == "accepted",
        )
        for i, each in enumerate(outcomes)
    ]


@given(st.lists(st.sampled_from([*Outcome, "accepted"]), max_size=12))
def test_since_when(outcomes):
    """A regression began behind the last good run, in the first run that found it; other verdicts are passed over."""
    good = [i for i, each in enumerate(outcomes) if each in ("accepted", Outcome.PASSED, Outcome.IMPROVED)]
    streak = [i for i, each in enumerate(outcomes) if each is Outcome.REGRESSED and i > max(good, default=-1)]
    found = onset(_entries(outcomes))
    if not streak:
        assert found is None
    else:
        assert (found.first.started, found.runs) == (str(streak[0]), len(streak))
        assert (found.last_good.started if found.last_good else None) == (str(max(good)) if good else None)


@given(st.lists(st.sampled_from([*Outcome, "accepted"]), max_size=12))
def test_since_when_as_the_run_itself_asks(outcomes):
    """A run that regressed learns from earlier runs alone what the history says once the run is in it."""
    earlier = _entries(outcomes)
    (own,) = _entries([Outcome.REGRESSED])
    own = replace(own, started="now")
    assert onset(earlier, Run(own.started, own.results, own.revision)) == onset([*earlier, own])


def test_histories_of_schema_1_are_read(tmp_path):
    """A history as the first version wrote it is read, added to, and set aside by nobody."""
    path = tmp_path / "history.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(Path(__file__).with_name("history_schema_1.sql").read_text(encoding="utf-8"))
    add_night(path, {256: 3}, day=4)
    with closing(History.read_from(path)) as history:
        entries = history.entries("m2a", before="2026-11-04T00:00:00Z")
        assert [(entry.run, entry.depth, entry.accuracy, entry.before) for entry in entries] == [
            (run, depth, accuracy, before)
            for run, accuracy, before in ((1, 100.0, 100.0), (2, 25.0, 100.0), (3, 25.0, None))
            for depth in (None, 50)
        ]
        assert [entry.outcome for entry in entries[::2]] == [Outcome.PASSED, Outcome.REGRESSED, Outcome.REGRESSED]
        assert [entry.accepted for entry in entries[::2]] == [False, False, True]
        assert history.environment(entries[0].environment) == {"device": "cpu", "torch": "2.8.0"}
        assert history.entries("m2a")[-1].run == 4
    assert [file.name for file in tmp_path.iterdir()] == ["history.sqlite"]


def test_times_are_utc(tmp_path):
    """A cell's time is that of its end, in UTC."""
    before = time.time()
    add_night(tmp_path / "history.sqlite", {256: 20})
    (entry,) = History.read_from(tmp_path / "history.sqlite").entries("m2a")
    assert before - 1 <= datetime.fromisoformat(entry.finished).timestamp() <= time.time()
