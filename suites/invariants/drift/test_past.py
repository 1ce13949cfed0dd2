"""The past of a night: since when a cell has fallen, what was answered before, and a history in trouble."""

from __future__ import annotations

import json
import random
import re
import shutil
from contextlib import closing
from dataclasses import replace

import pytest

from drift.past import NoPast, RecordedPast
from drift.records.history import History, onset
from drift.records.run_file import Purpose, RunRecord
from drift.reports.alert_text import as_json, as_markdown
from drift.reports.history_database import HistoryDatabase
from suites.support.nights import accept_results, judged_folders, run_record, write_run
from suites.support.sample_results import sample_result

GOOD = sample_result([1.0] * 40, prediction="Right.", environment={"weights": "a", "torch": "1"})
FELL = replace(GOOD, scores=(0.0,) * 30 + (1.0,) * 10, predictions=("Wrong.",) * 40)
BROKEN = replace(FELL, environment={"weights": "b", "torch": "1"})


class Nights:
    """Nights of one cell, one after the other, each in the history as a run's own is."""

    def __init__(self, folder):
        self.folder = folder
        accept_results(folder / "snapshots", [GOOD])

    def measured(self, number, result, **fields):
        """Lets a night end with this result of its cell; returns the night and what the history says of it."""
        folder = write_run(
            self.folder / str(number), [result], run=f"run-{number}", started=f"2026-01-{number:02}T00:00:00Z", **fields
        )
        night = judged_folders(folder)
        database = HistoryDatabase(RunRecord.read(folder), folder)
        lines = [line for cell in night.cells for line in database.cell_judged(cell)]
        return night, [*lines, *database.night_judged(night)]

    def alert(self, number, result, **fields):
        """The same; returns the alert's JSON."""
        return json.loads(as_json(self.measured(number, result, **fields)[0]))


@pytest.fixture
def nights(tmp_path):
    """No night yet, and one accepted cell."""
    return Nights(tmp_path)


def test_an_alert_knows_the_nights_before(nights, tmp_path):
    """An alert says since when, what has changed since the last good run, and what was answered then."""
    nights.measured(1, GOOD)
    content = nights.alert(2, FELL)
    (cell,), (suspects,) = content["fallen"], content["suspects"]
    assert cell["since"] == "this run; last good 2026-01-01"
    assert (suspects["since_accepted"], suspects["since_good"]) == ([], [])
    content = nights.alert(3, BROKEN)
    (cell,), (suspects,) = content["fallen"], content["suspects"]
    assert cell["since"] == "2026-01-02, 2 runs; last good 2026-01-01"
    assert [each["name"] for each in suspects["since_good"]] == ["weights"]
    assert {(flip["prediction_before"], flip["prediction"]) for flip in cell["flips"]} == {("Right.", "Wrong.")}
    shutil.rmtree(tmp_path / "1")
    (cell,) = nights.alert(4, BROKEN)["fallen"]
    assert {(flip["prediction_before"], flip["prediction"]) for flip in cell["flips"]} == {(None, "Wrong.")}


def test_answers_are_found_in_any_earlier_night(nights, tmp_path):
    """Where the last good night's results are gone, the answers then are those of an earlier one; else it says so."""
    nights.measured(1, GOOD)
    nights.measured(2, GOOD)
    shutil.rmtree(tmp_path / "2")
    assert 'was `"Right."`; is `"Wrong."`' in as_markdown(nights.measured(3, FELL)[0])
    shutil.rmtree(tmp_path / "1")
    assert 'the answer then is not kept here; is `"Wrong."`' in as_markdown(nights.measured(4, FELL)[0])


def test_a_damaged_result_of_an_earlier_night_is_passed_over(nights, tmp_path):
    """What cannot be read of an earlier night is no answer, and no trouble."""
    nights.measured(1, GOOD)
    (tmp_path / "1" / "cells" / "m2a" / f"{GOOD.key}.json").write_text("{", encoding="utf-8")
    assert "the answer then is not kept here" in as_markdown(nights.measured(2, FELL)[0])


def test_a_night_is_judged_later_as_it_was(nights, tmp_path):
    """What was recorded since, the night itself included, changes nothing of what is said of it."""
    nights.measured(1, GOOD)
    first, _ = nights.measured(2, FELL)
    nights.measured(3, BROKEN)
    nights.measured(4, GOOD)
    assert judged_folders(tmp_path / "2") == first


def test_what_is_accepted_is_no_night(nights, tmp_path):
    """A run that accepts what it measures is in the history as that, and a good run for those that follow."""
    nights.measured(1, FELL, purpose=Purpose.ACCEPT)
    nights.measured(2, BROKEN)
    with closing(History.read_from(tmp_path / "history.sqlite")) as history:
        entries = history.entries("m2a")
    assert [(entry.accepted, entry.baseline is None) for entry in entries] == [(True, True), (False, False)]
    assert onset(entries).last_good == entries[0]


def test_replayed_examples_are_not_in_the_history(nights, tmp_path):
    """A run of chosen examples measures no cell: it leaves no trace in the history."""
    chosen = replace(GOOD, chosen=tuple(range(40)))
    _, lines = nights.measured(1, chosen, purpose=Purpose.REPLAY)
    assert lines == []
    assert not (tmp_path / "history.sqlite").exists()


def test_a_damaged_history_is_set_aside_once(nights, tmp_path):
    """A damaged history is said and kept, a new one has the night, and the alert stands."""
    (tmp_path / "history.sqlite").write_bytes(b"damaged" * 200)
    night, (notice,) = nights.measured(1, FELL)
    assert re.match(r"history: the history .*history\.sqlite is damaged: .*; it is kept as history-set-aside-", notice)
    with closing(History.read_from(tmp_path / "history.sqlite")) as history:
        assert len(history.entries("m2a")) == 1
    assert [each.cell for each in night.fallen] == [FELL.cell]


def test_a_history_that_cannot_be_written_is_said_once(nights, tmp_path):
    """After the first trouble nothing more of the run is recorded, which is one line, however many cells follow."""
    folder = write_run(tmp_path / "1", [FELL, sample_result([1.0] * 40, length=512)])
    night = judged_folders(folder)
    record = run_record(folder, [FELL], history=str(folder / "run.json" / "history.sqlite"))
    database = HistoryDatabase(record, folder)
    lines = [line for cell in night.cells for line in database.cell_judged(cell)]
    (line,) = [*lines, *database.night_judged(night)]
    assert line.startswith("history: nothing more of this run is recorded: ")


def test_a_history_damaged_in_any_way_changes_no_verdict(nights, tmp_path):
    """Bytes flipped and cut off anywhere: the night is judged as without a history, and any trouble is one line."""
    for number in (1, 2, 3):
        nights.measured(number, GOOD)
    path = tmp_path / "history.sqlite"
    whole = path.read_bytes()
    expected = judged_folders(write_run(tmp_path / "night", [BROKEN], started="2026-02-01T00:00:00Z"))
    dice = random.Random(11)
    troubled = 0
    for _ in range(120):
        damaged = bytearray(whole)
        for _ in range(dice.choice((1, 8, 64))):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        if dice.random() < 0.3:
            del damaged[dice.randrange(len(damaged)) :]
        path.write_bytes(damaged)
        past = RecordedPast(path, "pocket", "2026-02-01T00:00:00Z")
        for entry in past.entries(BROKEN.cell):
            past.environment(entry)
        past.close()
        assert len(past.trouble.splitlines()) <= 1
        troubled += bool(past.trouble)
        night = judged_folders(tmp_path / "night")
        assert (night.status, night.title) == (expected.status, expected.title)
        assert [each.verdict for each in night.cells] == [each.verdict for each in expected.cells]
    assert troubled > 20


def test_a_missing_history_knows_nothing(tmp_path):
    """Where there is no history, nothing is known of a cell, and nothing is said."""
    past = RecordedPast(tmp_path / "history.sqlite", "pocket", "9")
    assert (list(past.entries(GOOD.cell)), past.trouble) == ([], "")
    assert list(NoPast().entries(GOOD.cell)) == []
    past.close()
    assert not (tmp_path / "history.sqlite").exists()
