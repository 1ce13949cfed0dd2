"""The history: nothing written is lost, nothing unusable is overwritten, and steps are found where they are."""

from __future__ import annotations

import json
import math
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
from itertools import combinations, pairwise
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.__main__ import main
from drift.records.history import Entry, History, HistoryError, Run, onset
from drift.records.history_file import _STATEMENTS
from drift.records.snapshots import Baseline
from drift.reports.history import sparkline
from drift.statistics.change_points import SHORTEST, steps
from drift.statistics.outcomes import Outcome
from drift.time_series import cell_nights, mean_nights
from suites.support.runs import REPOSITORY
from suites.support.sample_results import cell_results, sample_result

quick = settings(deadline=None, derandomize=True, max_examples=40)
RUN = Run("2026-11-24T03:00:00Z", "/results/tonight", "4ad73a8c0de1")
ACCEPTED = sample_result([1.0] * 20)
BASELINE = Baseline.of(ACCEPTED)


def _night(path, accuracies, *, day=1, run=None, outcome=Outcome.PASSED, environment=None, **options):
    """Adds a run that measured so many right answers of 20, by length; returns nothing."""
    history, _ = History.append_to(path)
    number = history.begin(run or Run(f"2026-11-{day:02}T03:00:00Z", str(path.parent / f"night{day}"), "abc"))
    for length, right in accuracies.items():
        result = sample_result([1.0] * right + [0.0] * (20 - right), length=length, environment=environment)
        history.add(number, result, outcome, **{"before": 100.0, "baseline": BASELINE, **options})
    history.close()


@settings(quick, max_examples=15)
@given(cell_results(), st.none() | st.floats(0, 100), st.sampled_from(Outcome), st.booleans())
def test_a_cell_comes_back(tmp_path_factory, result, before, outcome, accepted):
    """What is added is read as it was: cell, accuracy, verdict, run, and the environment by its fingerprint."""
    path = tmp_path_factory.mktemp("history") / "history.sqlite"
    history, notice = History.append_to(path)
    history.add(history.begin(RUN), result, outcome, before=before, baseline=None, accepted=accepted)
    history.close()
    reader = History.read_from(path)
    (entry,) = reader.entries(result.model)
    assert notice is None
    assert (entry.zoo, entry.model, entry.key) == (result.zoo, result.model, result.key)
    assert (entry.started, entry.results, entry.revision) == (RUN.started, RUN.results, RUN.revision)
    assert (entry.accuracy, entry.examples) == (result.accuracy, len(result.scores))
    assert (entry.before, entry.outcome, entry.accepted, entry.baseline) == (before, outcome, accepted, None)
    assert json.dumps(reader.environment(entry.environment)) == json.dumps(result.environment, sort_keys=True)
    reader.close()


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


_WRITER = """
import sys
from pathlib import Path
from drift.records.history import History, Run
from drift.statistics.outcomes import Outcome
from suites.support.sample_results import sample_result
history, _ = History.append_to(Path(sys.argv[1]))
run = history.begin(Run("now", "here"))
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
    runs, together = 6, Barrier(6)
    paths = [tmp_path / str(i) / "history.sqlite" for i in range(8)]

    def write(_):
        notices = []
        for path in paths:
            together.wait()
            history, notice = History.append_to(path)
            run = history.begin(RUN)
            for length in range(3):
                history.add(run, sample_result([1.0], length=length), Outcome.PASSED, before=None, baseline=None)
            history.close()
            notices.append(notice)
        return notices

    with ThreadPoolExecutor(runs) as pool:
        assert list(pool.map(write, range(runs))) == [[None] * len(paths)] * runs
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
        for statement in _STATEMENTS:
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


def _newer(path):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()


def _other_database(path):
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()


def _no_database(path):
    path.write_bytes(b"not a database at all\n" * 100)


def _truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 100])


def _scribbled(path):
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 5] = b"\xff" * (4096 * 3)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_newer, "has schema 2, this version of longwatch reads 1"),
        (_other_database, "is a database, but no history of longwatch"),
        (_no_database, "is damaged: file is not a database"),
        (_truncated, "is damaged"),
        (_scribbled, "is damaged"),
    ],
)
def test_an_unusable_history_is_set_aside(tmp_path, spoil, reason):
    """What cannot be used is renamed with its content as it is, said in one line, and refused by readers."""
    path = tmp_path / "history.sqlite"
    _night(path, {256: 20})
    spoil(path)
    content = path.read_bytes()
    with pytest.raises(HistoryError) as refusal:
        History.read_from(path)
    assert str(path) in str(refusal.value)
    assert path.read_bytes() == content
    history, notice = History.append_to(path)
    assert reason in notice
    assert "\n" not in notice
    (aside,) = (file for file in tmp_path.iterdir() if file.name != "history.sqlite")
    assert aside.name in notice
    assert aside.read_bytes() == content
    assert history.begin(RUN) == 1
    history.close()
    # A second one does not take the place of the first.
    spoil(path)
    History.append_to(path)[0].close()
    assert len(list(tmp_path.iterdir())) == 3
    assert aside.read_bytes() == content


def test_a_history_that_cannot_be_made(tmp_path):
    """Where no file can be made the error names it, and a missing one is not made by reading."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HistoryError, match=r"history\.sqlite cannot be written"):
        History.append_to(tmp_path / "file" / "history.sqlite")
    with pytest.raises(HistoryError, match="there is no history at"):
        History.read_from(tmp_path / "history.sqlite")
    assert not (tmp_path / "history.sqlite").exists()


def test_a_busy_history_is_no_damaged_one(tmp_path, monkeypatch):
    """A history that another run holds for too long is an error, and stays where it is."""
    path = tmp_path / "history.sqlite"
    _night(path, {256: 20})
    monkeypatch.setattr("drift.records.history_file._PATIENCE_SECONDS", 0)
    holder = sqlite3.connect(path)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(HistoryError, match="locked"):
        History.append_to(path)
    with pytest.raises(HistoryError, match="locked"):
        History.read_from(path)
    holder.rollback()
    holder.close()
    assert len(History.read_from(path).entries("m2a")) == 1


def _entries(outcomes):
    empty = Entry(
        0, "", "", None, "", "pocket", "m2a", "vt", 256, None, 20, 50.0, 60.0, Outcome.PASSED, False, "b", "e"
    )
    return [
        replace(empty, run=i, outcome=Outcome.REGRESSED if each == "accepted" else each, accepted=each == "accepted")
        for i, each in enumerate(outcomes)
    ]


@quick
@given(st.lists(st.sampled_from([*Outcome, "accepted"]), max_size=12))
def test_since_when(outcomes):
    """A regression began behind the last good run, in the first run that found it; other verdicts are passed over."""
    good = [i for i, each in enumerate(outcomes) if each in ("accepted", Outcome.PASSED, Outcome.IMPROVED)]
    streak = [i for i, each in enumerate(outcomes) if each is Outcome.REGRESSED and i > max(good, default=-1)]
    found = onset(_entries(outcomes))
    if not streak:
        assert found is None
    else:
        assert (found.first.run, found.runs) == (streak[0], len(streak))
        assert (found.last_good.run if found.last_good else None) == (max(good) if good else None)


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


@settings(quick, max_examples=60)
@given(st.lists(st.integers(0, 12), min_size=6, max_size=12))
def test_steps_are_the_best_there_are(values):
    """The steps are those of the cheapest of all segmentations, with the means of their sides."""
    jumps = sorted(abs(b - a) for a, b in pairwise(values))
    middle = (jumps[(len(jumps) - 1) // 2] + jumps[len(jumps) // 2]) / 2
    noise = max(middle * 1.4826 / math.sqrt(2), 1.0)
    best = _cheapest(values, 5 * noise**2 * math.log(len(values)))
    found = steps(values, 1.0)
    assert [each.at for each in found] == list(best)
    for before, each, after in zip([0, *best], found, [*best[1:], len(values)], strict=False):
        assert each.before == pytest.approx(sum(values[before : each.at]) / (each.at - before))
        assert each.after == pytest.approx(sum(values[each.at : after]) / (after - each.at))


@quick
@given(st.floats(0, 100), st.integers(0, 60))
def test_calm_nights_have_no_step(level, nights):
    """A level that never changes has no step, and neither has one that differs in a single night."""
    assert steps([level] * nights, 0.4) == []
    if nights > 2:
        values = [level] * nights
        values[nights // 2] -= 1.0
        assert steps(values, 0.4) == []


@quick
@given(st.integers(5, 40), st.integers(5, 40), st.floats(3, 50), st.sampled_from([-1, 1]))
def test_a_planted_step_is_found(before, after, size, sign):
    """A step of some size is found on its very night, in either direction."""
    values = [50.0 + 0.4 * (i % 2) for i in range(before + after)]
    values = [value + sign * size * (i >= before) for i, value in enumerate(values)]
    (found,) = steps(values, 0.4)
    assert found.at == before
    assert found.after - found.before == pytest.approx(sign * size, abs=0.2)


def test_a_slow_drift_shows_as_a_staircase():
    """A drift of a twentieth of a point a night, too slow for any night to fail, is found within 60 nights."""
    drift = [-0.05 * night + (0.4, 0.0, -0.4)[night % 3] for night in range(60)]
    found = steps(drift, 0.4)
    assert found
    assert all(each.after < each.before for each in found)
    assert found[-1].after < -2


def test_nights_before_a_new_baseline_are_not_watched(tmp_path):
    """Drift is measured from one snapshot: nights with an earlier one, and those that accepted, are left out."""
    path = tmp_path / "history.sqlite"
    old = Baseline.of(sample_result([0.0] * 20))
    for day in range(1, 8):
        _night(path, {256: 12}, day=day, before=0.0, baseline=old)
    _night(path, {256: 20}, day=8, accepted=True, baseline=None)
    for day in range(9, 19):
        _night(path, {256: 20 if day < 14 else 15}, day=day)
    (cell,) = cell_nights(History.read_from(path).entries("m2a"))
    assert len(cell.entries) == 18
    assert [entry.started[8:10] for entry in cell.watched] == [f"{day:02}" for day in range(9, 19)]
    assert list(map(str, cell.steps)) == ["2026-11-14: +0.0 → -25.0"]


def test_the_mean_shows_what_no_cell_does(tmp_path):
    """The mean is over the last run's cells, through the runs that have them all."""
    path = tmp_path / "history.sqlite"
    _night(path, {256: 20}, day=1)
    for day in range(2, 22):
        _night(path, dict.fromkeys((256, 512, 1024, 2048), 20 if day < 12 else 19), day=day)
    cells = cell_nights(History.read_from(path).entries("m2a"))
    mean = mean_nights(cells)
    assert (mean.cells, len(mean.runs)) == (4, 20)
    assert mean.drift == (0.0,) * 10 + (-5.0,) * 10
    assert list(map(str, mean.steps)) == ["2026-11-12: +0.0 → -5.0"]
    assert mean_nights(cells[:1]) is None


@quick
@given(st.lists(st.floats(0, 100), max_size=40))
def test_a_sparkline_keeps_the_order(values):
    """A sparkline has a bar for each of the last 30 values, the higher the larger."""
    bars = sparkline(values, 0, 100)
    shown = values[-30:]
    assert len(bars) == len(shown)
    for (a, x), (b, y) in combinations(list(zip(shown, bars, strict=True)), 2):
        assert (a < b) <= (x <= y)


def test_the_command_shows_nights_and_steps(tmp_path, capsys):
    """The command prints cells, nights and steps, as JSON too, and draws them."""
    path = tmp_path / "history.sqlite"
    for day in range(1, 13):
        driver = {"driver": "550" if day < 7 else "570"}
        _night(path, {256: 20 if day < 7 else 10, 512: 20}, day=day, environment=driver)
    command = ["history", "--model=m2a", "--task=niah_single_1", f"--database={path}"]
    assert main([*command, f"--plot={tmp_path / 'plot.png'}"]) == 0
    out = capsys.readouterr().out
    assert "2026-11-07: +0.0 → -50.0" in out
    assert "mean of 2 cells: -25.00 points" in out
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert main([*command, "--length=256"]) == 0
    out = capsys.readouterr().out
    assert "2026-11-12T03:00:00Z" in out
    assert "changed at 2026-11-07: +0.0 → -50.0: the NVIDIA driver: 550 → 570\n" in out
    assert "mean of" not in out
    assert main([*command, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [len(cell["nights"]) for cell in content["cells"]] == [12, 12]
    assert content["cells"][0]["steps"] == [
        {"run": 7, "started": "2026-11-07T03:00:00Z", "before": 0.0, "after": -50.0}
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model=m2b"], "unknown model m2b (did you mean m2a?); there are m2a"),
        (["--model=m2a", "--task=niah_single"], "unknown task niah_single (did you mean niah_single_1?)"),
        (["--model=m2a", "--length=300"], "has such a cell of m2a"),
        (["--model=m2a", "--plot=drawing.xyz"], "xyz"),
        (["--model=m2a", "--database=nowhere.sqlite"], "there is no history at nowhere.sqlite"),
    ],
)
def test_bad_input_ends_in_one_line(tmp_path, monkeypatch, capsys, options, message):
    """What is not in the history, or cannot be drawn, ends in one line that says so, with status 2."""
    monkeypatch.chdir(tmp_path)
    _night(tmp_path / "results" / "history.sqlite", {256: 20})
    assert main(["history", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_two_zoos_are_not_mixed(tmp_path, capsys):
    """Where two zoos have a model of one name, the command asks which."""
    path = tmp_path / "history.sqlite"
    history, _ = History.append_to(path)
    for zoo in ("paper", "pocket"):
        result = replace(ACCEPTED, zoo=zoo)
        history.add(history.begin(RUN), result, Outcome.PASSED, before=None, baseline=None)
    history.close()
    assert main(["history", "--model=m2a", f"--database={path}"]) == 2
    assert "the zoos paper, pocket all have a model m2a; choose one with --zoo" in capsys.readouterr().err
    assert main(["history", "--model=m2a", "--zoo=paper", f"--database={path}"]) == 0


def test_times_are_utc(tmp_path):
    """A cell's time is that of its end, in UTC."""
    before = time.time()
    _night(tmp_path / "history.sqlite", {256: 20})
    (entry,) = History.read_from(tmp_path / "history.sqlite").entries("m2a")
    assert before - 1 <= datetime.fromisoformat(entry.finished).timestamp() <= time.time()
