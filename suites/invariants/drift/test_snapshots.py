"""Snapshot files: what is accepted comes back, and a damaged file is refused and left as it is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from drift.records.snapshots import Baseline, SnapshotError, SnapshotFile
from suites.support.sample_results import baselines, sample_result

quick = settings(max_examples=20)
REPOSITORY = Path(__file__).resolve().parents[3]

IN_ORDER = (
    "essay-word-uuid-256-d0",
    "essay-word-uuid-256-d20",
    "essay-word-uuid-256-d100",
    "essay-word-uuid-1024-d0",
    "niah_single_1-256",
    "niah_single_1-1024",
    "niah_single_1-16384",
)
cells = st.dictionaries(st.sampled_from(IN_ORDER), baselines(), min_size=1, max_size=5)


def _rows(path: Path) -> dict[str, str]:
    """The lines of the cells by key; the comma between entries belongs to no cell."""
    lines = path.read_text(encoding="utf-8").split("\n")
    rows = [line.removesuffix(",") for line in lines[lines.index('"cells": {') + 1 : lines.index("}")]]
    return {key: row for row in rows for key in json.loads("{" + row + "}")}


def _sample(path: Path) -> SnapshotFile:
    file = SnapshotFile(path)
    file.update(
        {
            "niah_single_1-256": Baseline.of(sample_result([1.0, 0.0, 0.5])),
            "niah_single_1-1024": Baseline.of(sample_result([0.0, 1 / 3, 1.0], environment={"torch": "2.9.1"})),
            "essay-word-uuid-256-d50": Baseline.of(sample_result([1.0])),
        }
    )
    return file


def _refusal(file: SnapshotFile, damaged: bytes) -> str:
    """The message with which a damaged file is refused, by readers and by updates, which leave it as it is."""
    file.path.write_bytes(damaged)
    with pytest.raises(SnapshotError) as reading:
        file.read()
    with pytest.raises(SnapshotError) as updating:
        file.update({"niah_single_1-512": Baseline.of(sample_result([1.0]))})
    assert file.path.read_bytes() == damaged
    assert list(file.path.parent.iterdir()) == [file.path]
    assert str(updating.value) == str(reading.value)
    assert str(file.path) in str(reading.value)
    return str(reading.value)


def _line_named(message: str) -> int:
    return int(re.search(r", line (\d+): ", message)[1])


def test_no_file_yet(tmp_path):
    """Where there is no file, nothing is accepted yet."""
    assert SnapshotFile(tmp_path / "m2a.json").read() == {}


@quick
@given(cells)
def test_what_is_accepted_comes_back(tmp_path_factory, accepted):
    """Reading gives every accepted cell, with its scores, its prompts and its environment."""
    file = SnapshotFile(tmp_path_factory.mktemp("snapshots") / "m2a.json")
    file.update(accepted)
    assert file.read() == accepted


@quick
@given(cells, cells)
def test_updates_add_up(tmp_path_factory, first, second):
    """A file that was updated twice is the file that was updated once with both, byte for byte."""
    folder = tmp_path_factory.mktemp("snapshots")
    twice, once = SnapshotFile(folder / "twice.json"), SnapshotFile(folder / "once.json")
    twice.update(first)
    twice.update(second)
    once.update({**first, **second})
    assert twice.path.read_bytes() == once.path.read_bytes()


@quick
@given(cells)
def test_one_line_a_cell(tmp_path_factory, accepted):
    """The file is valid JSON as a whole, and every cell is one line of it."""
    file = SnapshotFile(tmp_path_factory.mktemp("snapshots") / "m2a.json")
    file.update(accepted)
    whole = json.loads(file.path.read_text(encoding="utf-8"))
    assert whole["schema"] == 1
    assert set(whole["cells"]) == set(accepted)
    for key, baseline in accepted.items():
        cell = whole["cells"][key]
        assert json.loads("{" + _rows(file.path)[key] + "}") == {key: cell}
        assert cell["samples"] == len(baseline.scores)
        assert cell["accuracy"] == round(baseline.accuracy, 2)
        assert whole["environments"][cell["environment"]] == baseline.environment


@quick
@given(cells, st.sampled_from(IN_ORDER), baselines())
def test_other_lines_stay(tmp_path_factory, accepted, key, baseline):
    """Updating one cell leaves the lines of the others as they were, byte for byte."""
    file = SnapshotFile(tmp_path_factory.mktemp("snapshots") / "m2a.json")
    file.update(accepted)
    before = _rows(file.path)
    file.update({key: baseline})
    after = _rows(file.path)
    assert set(after) == {*before, key}
    assert {other: after[other] for other in before if other != key} == {
        other: row for other, row in before.items() if other != key
    }


def test_other_lines_stay_where_accuracy_is_near_a_rounding_edge(tmp_path):
    """An accuracy of 1.875 made of thirds is written the same after an update of another cell."""
    file = SnapshotFile(tmp_path / "m2a.json")
    file.update({"niah_single_1-256": Baseline.of(sample_result([1 / 3] * 9 + [0.0] * 151))})
    before = _rows(file.path)
    file.update({"niah_single_1-512": Baseline.of(sample_result([1.0]))})
    assert _rows(file.path)["niah_single_1-256"] == before["niah_single_1-256"]


@settings(quick, max_examples=10)
@given(st.permutations(IN_ORDER))
def test_cells_are_in_natural_order(tmp_path_factory, keys):
    """Cells are sorted by task, then by length and depth as numbers, in whatever order they are accepted."""
    file = SnapshotFile(tmp_path_factory.mktemp("snapshots") / "m2a.json")
    for key in keys:
        file.update({key: Baseline.of(sample_result([1.0]))})
    assert tuple(_rows(file.path)) == IN_ORDER


@settings(quick, max_examples=150)
@given(
    st.sampled_from(["niah_single_1-256", "niah_single_1-1024", "essay-word-uuid-256-d50"]),
    st.integers(min_value=0),
    st.one_of(st.sampled_from(list('0123456789abcdef"[]{}:,.- \n')), st.characters(codec="utf-8")),
)
def test_hand_edits_are_refused(tmp_path_factory, key, position, character):
    """A cell's line in which one character was changed, so that it means something else, is refused by its number."""
    file = _sample(tmp_path_factory.mktemp("snapshots") / "m2a.json")
    text, row = file.path.read_text(encoding="utf-8"), _rows(file.path)[key]
    position %= len(row)
    edited = row[:position] + character + row[position + 1 :]
    with suppress(json.JSONDecodeError):
        assume(json.loads("{" + edited + "}") != json.loads("{" + row + "}"))
    message = _refusal(file, text.replace(row, edited).encode())
    assert _line_named(message) == text[: text.index(row)].count("\n") + 1


@pytest.mark.parametrize(
    ("old", "new"), [('"niah_single_1-256"', '"niah_single_2-256"'), ('"niah_single_1-256"', '"niah_single_1-512"')]
)
def test_a_line_moved_to_another_cell_is_refused(tmp_path, old, new):
    """The scores of one cell cannot be passed off as those of another by renaming its line."""
    file = _sample(tmp_path / "m2a.json")
    message = _refusal(file, file.path.read_bytes().replace(old.encode(), new.encode()))
    assert _line_named(message) == 9


def test_a_repeated_line_is_refused(tmp_path):
    """A cell that is there twice, as after a careless merge, is refused at its second line."""
    file = _sample(tmp_path / "m2a.json")
    lines = file.path.read_text(encoding="utf-8").splitlines(keepends=True)
    message = _refusal(file, "".join([*lines[:9], lines[8], *lines[9:]]).encode())
    assert _line_named(message) == 10


@pytest.mark.parametrize("key", ["essay-word-uuid-256-d50", "niah_single_1-256", "niah_single_1-1024"])
def test_a_line_can_be_removed(tmp_path, key):
    """After a cell's line was removed, as refusals advise, the other cells are read and it can be accepted again."""
    file = _sample(tmp_path / "m2a.json")
    whole, accepted = file.path.read_bytes(), file.read()
    lines = file.path.read_text(encoding="utf-8").splitlines(keepends=True)
    file.path.write_text("".join(line for line in lines if not line.startswith(f'"{key}"')), encoding="utf-8")
    removed = accepted.pop(key)
    assert file.read() == accepted
    file.update({key: removed})
    assert file.path.read_bytes() == whole


def test_an_edited_environment_is_refused(tmp_path):
    """An environment that was changed by hand is refused by its line."""
    file = _sample(tmp_path / "m2a.json")
    damaged = file.path.read_bytes().replace(b"2.9.1", b"2.9.0")
    assert damaged.count(b"2.9.0") == 1
    line = damaged[: damaged.index(b"2.9.0")].count(b"\n") + 1
    assert _line_named(_refusal(file, damaged)) == line


def test_truncation_is_refused_at_every_byte(tmp_path):
    """A file cut short anywhere is refused, an empty one too; only the last line end may be missing."""
    file = _sample(tmp_path / "m2a.json")
    whole, accepted = file.path.read_bytes(), file.read()
    for cut in range(len(whole) - 1):
        kept = whole[:cut]
        # The line that was cut, or the one after it where the cut one is whole.
        assert _line_named(_refusal(file, kept)) - (kept.count(b"\n") + 1) in (0, 1)
    file.path.write_bytes(whole[:-1])
    assert file.read() == accepted


def test_a_line_nested_too_deeply_is_refused(tmp_path):
    """A line that nests lists 100,000 deep is refused by its number, as any damaged line is."""
    path = tmp_path / "m2a.json"
    SnapshotFile(path).update({"niah_single_1-256": Baseline((1.0,), ("00000000",), {})})
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[3] = '"x": ' + "[" * 100_000 + "]" * 100_000
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(SnapshotError, match="line 4: not a JSON entry"):
        SnapshotFile(path).read()


@pytest.mark.parametrize("schema", [0, 2, '"1"', "1.5", "null"])
def test_another_schema_is_refused(tmp_path, schema):
    """A file of another schema is refused, with the schema that this version reads."""
    file = _sample(tmp_path / "m2a.json")
    message = _refusal(file, file.path.read_bytes().replace(b'"schema": 1', f'"schema": {schema}'.encode()))
    assert _line_named(message) == 2
    assert "schema 1" in message


@pytest.mark.parametrize("damaged", [b"\xff\xfe{", b"{\n\x80\n"])
def test_a_binary_file_is_refused(tmp_path, damaged):
    """A file that is no text is refused by its name."""
    _refusal(SnapshotFile(tmp_path / "m2a.json"), damaged)


def test_anything_after_the_end_is_refused(tmp_path):
    """A line after the closing brace is refused by its number."""
    file = _sample(tmp_path / "m2a.json")
    whole = file.path.read_bytes()
    assert _line_named(_refusal(file, whole + b"{}\n")) == whole.count(b"\n") + 1


UPDATES = """
import sys, time
from pathlib import Path
from syrupy.utils import exclusive_file_lock
from drift.records.snapshots import Baseline, SnapshotFile
path, start, task = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
path.with_name(f"ready-{task}").touch()
while not start.exists():
    time.sleep(0.001)
for length in range(1, 26):
    with exclusive_file_lock(path):
        SnapshotFile(path).update({f"{task}-{length}": Baseline((1.0,), (f"{length:08x}",), {"task": task})})
"""


def test_two_processes_lose_nothing(tmp_path):
    """Two processes that accept different cells of one file at once, under its lock, lose none."""
    path, start = tmp_path / "m2a.json", tmp_path / "start"
    tasks = ("niah_single_1", "niah_single_2")
    processes = [
        subprocess.Popen([sys.executable, "-c", UPDATES, str(path), str(start), task], cwd=REPOSITORY) for task in tasks
    ]
    try:
        while not all((tmp_path / f"ready-{task}").exists() for task in tasks):
            assert all(process.poll() is None for process in processes)
            time.sleep(0.001)
        start.touch()
        assert [process.wait(timeout=60) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert set(SnapshotFile(path).read()) == {f"{task}-{length}" for task in tasks for length in range(1, 26)}
