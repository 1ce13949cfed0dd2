"""`python -m drift judge` and `accept`: what they print, how they end, and one line for whatever cannot be read."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from core.cells import Cell
from drift.__main__ import main
from drift.exit_statuses import ExitStatus
from drift.records.run_file import RUN_FILE, Problem, Purpose
from drift.records.snapshots import SnapshotFile
from drift.reports.alert_text import as_json, as_markdown, whole_json
from suites.support.nights import accept_results, judged_folders, run_record, write_run
from suites.support.receivers import running_receiver
from suites.support.sample_results import sample_result

LENGTHS = (256, 512, 768, 1024)
CELLS = [Cell("m2a", "niah_single_1", length) for length in LENGTHS]
GOOD = [sample_result([1.0] * 40, length=length) for length in LENGTHS]
FELL = [sample_result([0.0] * 40, length=length) for length in LENGTHS]
OTHER = sample_result([1.0] * 40, length=512, prompt="f{:07x}")


@pytest.fixture(autouse=True)
def _no_job_of_github(monkeypatch):
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path):
    """A run of four cells that is as it was accepted."""
    accept_results(tmp_path / "snapshots", GOOD)
    return write_run(tmp_path / "night", GOOD)


def _ended(*arguments):
    """The status of a command, whether it returns or exits."""
    try:
        return main([str(each) for each in arguments])
    except SystemExit as error:
        return error.code


@pytest.mark.parametrize(
    ("results", "fields", "status"),
    [
        (GOOD, {}, 0),
        ([FELL[0], *GOOD[1:]], {}, 1),
        (GOOD[:3], {"selected": CELLS}, 2),
        (GOOD[:3], {"selected": CELLS, "problems": [Problem(str(CELLS[3]), "no logits")]}, 2),
        (GOOD[:2], {"selected": CELLS, "cause": "SIGTERM"}, 2),
        (GOOD[:2], {"selected": CELLS, "killed": True}, 2),
        (GOOD, {"killed": True}, 0),
        ([GOOD[0], OTHER, *GOOD[2:]], {}, 6),
        ([*GOOD, sample_result([1.0] * 40, length=4096)], {}, 7),
        ([FELL[0], OTHER], {"selected": CELLS}, 1),
    ],
)
def test_the_status_is_that_of_the_night(tmp_path, capsys, results, fields, status):
    """The command ends with the status of the night, which its last line says too."""
    accept_results(tmp_path / "snapshots", GOOD)
    assert _ended("judge", write_run(tmp_path / "night", results, **fields)) == status
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith(f"exit status {status} ({ExitStatus(status).name.lower().replace('_', ' ')}")
    assert err == ""


def test_every_declared_cell_can_be_demanded(tmp_path, capsys):
    """With --whole a filtered run is incomplete, and the cells that it left out are named."""
    accept_results(tmp_path / "snapshots", GOOD)
    folder = write_run(tmp_path / "night", GOOD[:2], declared=CELLS)
    assert _ended("judge", folder) == 0
    assert _ended("judge", folder, "--whole") == 2
    assert f"missing: 2 cells: {CELLS[2]}, {CELLS[3]}" in capsys.readouterr().out


def test_the_three_forms_say_the_same(folder, capsys):
    """Lines, Markdown and JSON are of one night; JSON has every cell."""
    night = judged_folders(folder)
    assert _ended("judge", folder, "--json") == 0
    assert capsys.readouterr().out == whole_json(night)
    assert _ended("judge", folder, "--markdown") == 0
    assert capsys.readouterr().out == as_markdown(night)
    assert _ended("judge", folder) == 0
    assert night.title.removeprefix("longwatch: ") in capsys.readouterr().out.splitlines()
    assert _ended("judge", folder, "--json", "--markdown") == 4


def test_shards_are_judged_together(tmp_path, capsys):
    """Shards in either order come to one night; one of them alone is quiet, since it is all that it was to ask."""
    accept_results(tmp_path / "snapshots", GOOD)
    shards = [
        write_run(tmp_path / name, results, declared=CELLS, run=name)
        for name, results in (("one", GOOD[:2]), ("two", [GOOD[2], FELL[3]]))
    ]
    contents = []
    for order in (shards, shards[::-1]):
        assert _ended("judge", *order, "--json") == 1
        contents.append(
            {k: v for k, v in json.loads(capsys.readouterr().out).items() if k not in ("results", "history")}
        )
    assert contents[0] == contents[1]
    assert [each["name"] for each in contents[0]["cells"]] == list(map(str, CELLS))
    assert _ended("judge", shards[0]) == 0


def test_other_thresholds_and_snapshots_judge_again(tmp_path, folder, capsys):
    """--thresholds and --against take the place of what the run was judged by; corrections stay those of the matrix."""
    fell = write_run(tmp_path / "fell", FELL[:1], declared=CELLS)
    path = tmp_path / "thresholds.toml"
    path.write_text("smallest_effect = 100\npooled_smallest_effect = 100\nerror_rate = 1e-30\n", encoding="utf-8")
    assert _ended("judge", fell) == 1
    assert _ended("judge", fell, "--thresholds", path) == 0
    accept_results(tmp_path / "elsewhere", FELL)
    assert _ended("judge", fell, "--against", tmp_path / "elsewhere") == 0
    assert _ended("judge", folder, "--against", tmp_path / "elsewhere") == 0  # all have risen
    capsys.readouterr()
    path.write_text("error_rate = 7\n", encoding="utf-8")
    assert _ended("judge", fell, "--thresholds", path) == 4
    assert "error_rate must be" in capsys.readouterr().err


def test_thresholds_may_name_what_a_part_of_the_zoo_lacks(tmp_path, capsys):
    """Thresholds of one's own may name models and tasks that the folder, which says not what its zoo has, lacks."""
    accept_results(tmp_path / "snapshots", GOOD)
    folder = write_run(tmp_path / "night", GOOD, run_file=False)
    path = tmp_path / "thresholds.toml"
    path.write_text("[models.unheard-of]\nerror_rate = 0.1\n[tasks.vt]\nsmallest_effect = 3\n", encoding="utf-8")
    assert _ended("judge", folder, "--thresholds", path, "--against", tmp_path / "snapshots") == 0


def test_an_alert_is_written_and_sent_where_that_is_asked(tmp_path, folder, capsys):
    """--alerts and --alert-url tell as a run does; a quiet night tells only with --alert-always."""
    fell = write_run(tmp_path / "fell", FELL[:1])
    with running_receiver() as receiver:
        where = ["--alerts", tmp_path / "alerts", "--alert-url", f"json://{receiver.address}"]
        assert _ended("judge", folder, *where) == 0
        assert (list(tmp_path.glob("alerts/*")), receiver.posted) == ([], [])
        assert _ended("judge", folder, *where, "--alert-always") == 0
        assert _ended("judge", fell, *where) == 1
    assert [each["type"] for each in receiver.posted] == ["success", "failure"]
    night = judged_folders(fell)
    assert (tmp_path / "alerts" / "alert.json").read_text(encoding="utf-8") == as_json(night)
    assert "alert sent to 1 of 1 URLs" in capsys.readouterr().out


def test_what_reporters_say_does_not_spoil_what_is_printed(tmp_path, monkeypatch, capsys):
    """What reporters say stands before the lines of the night, and apart from JSON and Markdown."""
    accept_results(tmp_path / "snapshots", GOOD)
    fell = write_run(tmp_path / "fell", FELL[:1])
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert _ended("judge", fell) == 1
    said = "::error title=m2a-niah_single_1-256 fell 100.0 points::"
    out, err = capsys.readouterr()
    assert out.startswith(said)
    assert err == ""
    (tmp_path / "history.sqlite").write_bytes(b"damaged" * 200)
    for form in ("--json", "--markdown"):
        assert _ended("judge", fell, form, "--alert-url=nonsense://host") == 1
        out, err = capsys.readouterr()
        assert json.loads(out)["status"] == 1 if form == "--json" else out.startswith("# longwatch: ")
        assert said in err
        assert "alert not sent: alert URL 1 (nonsense://…) is malformed" in err
        assert "the history tells nothing of earlier runs: " in err


def _damaged_result(folder, change):
    path = folder / "cells" / "m2a" / "niah_single_1-512.json"
    path.write_bytes(change(path.read_bytes()))
    return path


def _field(name, value):
    return lambda whole: json.dumps({**json.loads(whole), name: value}).encode()


_DEEP = b"[" * 100_000 + b"]" * 100_000

DAMAGES = {
    "cut short": lambda whole: whole[:100],
    "empty": lambda _: b"",
    "no JSON": lambda _: b"\xff\xfe",
    "deep": lambda _: _DEEP,
    "a deep field": lambda whole: whole.replace(b'"zoo": "pocket"', b'"zoo": ' + _DEEP),
    "a string for a score": _field("scores", ["1.0"] * 40),
    "a score above one": _field("scores", [2.0] * 40),
    "no score": _field("scores", []),
    "NaN for a score": lambda whole: re.sub(rb'"scores": \[1.0', b'"scores": [NaN', whole),
    "fewer prompts": _field("prompts", ["00000000"]),
    "another schema": _field("schema", 2),
    "a number for a model": _field("model", 5),
    "a text for a length": _field("length", "512"),
    "no object": lambda _: b"[1, 2]",
}


@pytest.mark.parametrize("command", ["judge", "accept"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_result_is_one_line_with_its_name(folder, capsys, command, damage):
    """A result that is damaged in any way ends the command with status 4 and one line that names the file."""
    path = _damaged_result(folder, damage)
    assert _ended(command, folder) == 4
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith(f"error: {path}")


RUN_DAMAGES = {
    "cut short": lambda whole: whole[:100],
    "deep": lambda _: _DEEP,
    "another schema": _field("schema", 2),
    "thresholds of another version": _field("thresholds", {"common": {"unheard_of": 1}}),
    "a text for a threshold": _field("thresholds", {"common": {"error_rate": "high"}, "models": {}, "tasks": {}}),
    "no comparisons": _field("thresholds", {"common": {"comparisons": 0}, "models": {}, "tasks": {}}),
    "no samples": _field("thresholds", {"common": {"samples": 0}, "models": {}, "tasks": {}}),
    "an unknown threshold of a model": _field("thresholds", {"common": {}, "models": {"m2a": {"x": 1}}, "tasks": {}}),
    "a table that is none": _field("thresholds", {"common": {}, "models": {"m2a": 5}, "tasks": {}}),
}


@pytest.mark.parametrize("command", ["judge", "accept"])
@pytest.mark.parametrize("damage", RUN_DAMAGES.values(), ids=RUN_DAMAGES)
def test_a_damaged_run_file_is_one_line_with_its_name(folder, capsys, command, damage):
    """A run file that is damaged in any way, its thresholds too, is status 4 and one line that names the file."""
    path = folder / RUN_FILE
    path.write_bytes(damage(path.read_bytes()))
    assert _ended(command, folder) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["judge"], "the following arguments are required: RESULTS"),
        (["judge", "missing"], "error: missing holds no results: a run's folder has a run file, and results under"),
        (["judge", "empty"], "error: empty holds no results"),
        (["judge", "night", "missing"], "error: missing holds no results"),
        (["judge", "snapshots"], "error: snapshots holds no results"),
        (["judge", "night", "--unheard-of"], "unrecognized arguments: --unheard-of"),
        (["judge", "night", "--against", "missing"], "error: --against: there is no folder of snapshots at missing"),
        (["judge", "night", "--against", "night/run.json"], "error: --against: there is no folder of snapshots at"),
        (["accept", "night", "--against", "night/run.json"], "error: --against: there is no folder of snapshots at"),
        (["judge", "night", "--history", "missing"], "error: --history: there is no history at missing"),
        (["judge", "night", "--thresholds", "missing"], "error: missing: No such file"),
        (["judge", "old"], "old: it is not recorded what these were compared with; name the folder of snapshots"),
        (["accept"], "the following arguments are required: RESULTS"),
        (["accept", "missing"], "error: missing holds no results"),
        (["accept", "nothing"], "error: nothing: there are no results to accept"),
        (["accept", "night", "--unheard-of"], "unrecognized arguments: --unheard-of"),
    ],
)
def test_wrong_use_is_told_in_a_line(folder, monkeypatch, capsys, arguments, said):
    """What cannot be used ends with status 4, which no shift has, and the line says what would be right."""
    monkeypatch.chdir(folder.parent)
    (folder.parent / "empty").mkdir()
    write_run(folder.parent / "old", GOOD, run_file=False)
    write_run(folder.parent / "nothing", [], selected=CELLS)
    assert _ended(*arguments) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err.splitlines()[-1]
    assert sum("error: " in line for line in err.splitlines()) == 1


def test_a_damaged_snapshot_is_told_in_a_line(folder, capsys):
    """What is accepted is never judged by where its file is damaged."""
    path = folder.parent / "snapshots" / "m2a.json"
    path.write_bytes(path.read_bytes()[:-40])
    assert _ended("judge", folder) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line


def test_a_history_in_trouble_changes_nothing_but_a_line(tmp_path, capsys):
    """A damaged history is said in one line, and the night ends as it would."""
    accept_results(tmp_path / "snapshots", GOOD)
    fell = write_run(tmp_path / "fell", FELL[:1])
    (tmp_path / "history.sqlite").write_bytes(b"damaged" * 200)
    assert _ended("judge", fell) == 1
    out = capsys.readouterr().out
    assert sum(line.startswith("the history tells nothing of earlier runs: ") for line in out.splitlines()) == 1


@pytest.mark.parametrize("form", [[], ["--markdown"]])
def test_a_reviewed_run_is_accepted(tmp_path, capsys, form):
    """Accepting makes what was measured the baseline, says of each cell what became of it, and the night is quiet."""
    accept_results(tmp_path / "snapshots", GOOD[1:])
    folder = write_run(tmp_path / "night", [*FELL[:2], *GOOD[2:]])
    assert _ended("judge", folder) == 1
    capsys.readouterr()
    assert _ended("accept", folder, *form) == 0
    out = capsys.readouterr().out
    for part in (str(CELLS[0]), "new cell", "40 of 40 scores changed", "unchanged: 2 cells", "accepted: 2 cells, in "):
        assert part in out
    assert out.startswith("| cell |") == bool(form)
    held = SnapshotFile(tmp_path / "snapshots" / "m2a.json").read()
    assert [held[cell.key].accuracy for cell in CELLS] == [0, 0, 100, 100]
    assert _ended("judge", folder) == 0


def test_a_baseline_is_shortened_only_where_that_is_asked(tmp_path, folder, capsys):
    """Fewer examples than are accepted are refused with the command that asks all, unless --shorter is given."""
    short = write_run(tmp_path / "short", [sample_result([0.0] * 20)], declared=CELLS)
    assert _ended("accept", short) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "m2a-niah_single_1-256 (40 → 20). Ask all of them with: pytest -m gpu --models=m2a" in line
    assert _ended("judge", folder) == 0
    assert _ended("accept", short, "--shorter") == 0
    assert len(SnapshotFile(tmp_path / "snapshots" / "m2a.json").read()[CELLS[0].key].scores) == 20


def test_chosen_examples_are_not_accepted(tmp_path, capsys):
    """A folder of replayed examples is refused, and nothing is accepted of it."""
    accept_results(tmp_path / "snapshots", GOOD)
    chosen = replace(FELL[0], chosen=tuple(range(40)))
    folder = write_run(tmp_path / "night", [chosen], purpose=Purpose.REPLAY)
    assert _ended("accept", folder, "--shorter") == 4
    assert "was asked chosen examples, which are no baseline" in capsys.readouterr().err


def test_the_first_baseline_may_go_anywhere(tmp_path, capsys):
    """A folder of snapshots that is not there yet is made where accepting names it."""
    folder = write_run(tmp_path / "night", GOOD)
    assert _ended("accept", folder, "--against", tmp_path / "new" / "snapshots") == 0
    assert len(SnapshotFile(tmp_path / "new" / "snapshots" / "m2a.json").read()) == 4
    assert f"accepted: 4 cells, in {tmp_path / 'new' / 'snapshots'}" in capsys.readouterr().out


def test_folders_of_different_runs_are_refused(tmp_path, folder, capsys):
    """Folders that are no one night end with status 4, and both are named."""
    other = write_run(tmp_path / "other", FELL, run="run-2")
    assert _ended("judge", folder, other) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {folder} and {other} hold different results of m2a-niah_single_1-")
    elsewhere = write_run(tmp_path / "elsewhere", GOOD, run="run-3", snapshots="/elsewhere")
    assert _ended("judge", folder, elsewhere) == 4
    assert _ended("judge", folder, elsewhere, "--against", tmp_path / "snapshots") == 0


def test_a_mixed_folder_is_said(tmp_path, folder, capsys):
    """Judging and accepting say where a folder holds results of another run."""
    write_run(folder, FELL[:1], run="run-2", run_file=False)
    assert run_record(folder).id == "run-1"
    assert _ended("judge", folder) == 1
    assert f"{folder} is mixed: {CELLS[0]} is not of the run run-1" in capsys.readouterr().out
    assert _ended("accept", folder) == 0
    assert f"{folder} is mixed: {CELLS[0]} is not of the run run-1" in capsys.readouterr().out
