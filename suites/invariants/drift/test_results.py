"""Result files: what is written comes back, and no file is ever there by half."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.records.files import UnwritableFolder, ensure_writable, write_atomically
from drift.records.results import CellResult, ResultError, ResultFolder
from suites.support.sample_results import cell_results, sample_result

REPOSITORY = Path(__file__).resolve().parents[3]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@given(cell_results())
def test_a_result_comes_back(tmp_path_factory, result):
    """A result is read from its file exactly as it was."""
    path = tmp_path_factory.mktemp("results") / "result.json"
    path.write_text(result.to_json(), encoding="utf-8")
    assert CellResult.read(path) == result


@given(cell_results())
def test_a_result_file_speaks_for_itself(result):
    """A result file is JSON with one line a field, and holds the accuracy."""
    content = json.loads(result.to_json())
    lines = result.to_json().split("\n")[1:-2]
    assert content["accuracy"] == pytest.approx(100 * sum(result.scores) / len(result.scores))
    assert [{name: value} for name, value in content.items()] == [
        json.loads("{" + line.removesuffix(",") + "}") for line in lines
    ]


@given(st.lists(cell_results(), max_size=6))
def test_a_folder_keeps_the_last_result_of_each_cell(tmp_path_factory, results):
    """Reading a folder gives every cell once, as it was written last, sorted by file name."""
    folder = ResultFolder(tmp_path_factory.mktemp("results"))
    written = {folder.write(result): result for result in results}
    assert folder.read() == [written[path] for path in sorted(written)]
    assert {path.relative_to(folder.path).as_posix() for path in written} == {
        f"cells/{result.model}/{result.key}.json" for result in results
    }
    assert _files(folder.path) == sorted(written)


def test_an_empty_folder_holds_no_results(tmp_path):
    """A folder that nothing was written to, or that is not there, holds no results."""
    assert ResultFolder(tmp_path).read() == []
    assert ResultFolder(tmp_path / "missing").read() == []


@pytest.mark.parametrize(
    "damaged",
    [b"", b"{", b"null", b"5", b'"text"', b"[]", b"[1, 2]", b"{}", b'{"schema": 1}', b'{"schema": 2}', b"\xff\xfe"],
)
def test_a_damaged_result_is_refused(tmp_path, damaged):
    """A file that is no cell result is refused by its name, whatever is in it."""
    folder = ResultFolder(tmp_path)
    path = folder.write(sample_result([1.0]))
    path.write_bytes(damaged)
    with pytest.raises(ResultError) as refusal:
        folder.read()
    assert str(path) in str(refusal.value)


def test_a_truncated_result_is_refused_at_every_byte(tmp_path):
    """A result file cut short anywhere is refused; only the last line end may be missing."""
    path = tmp_path / "result.json"
    whole = sample_result([1.0, 0.5], prediction="naïve 答").to_json().encode()
    for cut in range(len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ResultError, match=r"result\.json"):
            CellResult.read(path)
    path.write_bytes(whole[:-1])
    assert CellResult.read(path).scores == (1.0, 0.5)


REQUIRED = {each.name for each in fields(CellResult) if each.default is MISSING}


@pytest.mark.parametrize("field", sorted({"schema", *REQUIRED}))
def test_a_result_without_a_field_is_refused(tmp_path, field):
    """A result file that lacks a field is refused by its name and the field's."""
    content = json.loads(sample_result([1.0]).to_json())
    del content[field]
    path = tmp_path / "result.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ResultError, match=rf"result\.json .*{field}"):
        CellResult.read(path)


def test_results_of_earlier_versions_are_read(tmp_path):
    """A result without log-likelihoods, chosen examples and a run, as earlier versions wrote, is read."""
    content = json.loads(sample_result([1.0]).to_json())
    for name in {each.name for each in fields(CellResult)} - REQUIRED:
        del content[name]
    path = tmp_path / "result.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert CellResult.read(path) == sample_result([1.0])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scores", ["1.0", 0.5]),
        ("scores", [True, 0.5]),
        ("scores", [None, 0.5]),
        ("scores", [[1.0], [0.5]]),
        ("scores", "10"),
        ("scores", {"0": 1.0, "1": 0.5}),
        ("scores", [1.5, 0.5]),
        ("scores", [-0.5, 0.5]),
        ("scores", [float("nan"), 0.5]),
        ("scores", [float("inf"), 0.5]),
        ("scores", []),
        ("scores", [1.0]),
        ("prompts", ["00000000"]),
        ("prompts", [0, 1]),
        ("predictions", ["An answer."] * 3),
        ("predictions", [None, None]),
        ("references", [["1234567"]]),
        ("references", ["1234567", "1234567"]),
        ("prompt_tokens", [216.5, 216]),
        ("prompt_tokens", ["216", "216"]),
        ("needle_tokens", [[17]]),
        ("reached_depths", [[50.5], ["50.5"]]),
        ("log_likelihoods", [-0.5]),
        ("chosen", [7]),
        ("chosen", ["7", "8"]),
        ("length", "256"),
        ("length", 256.5),
        ("depth", "50"),
        ("model", 5),
        ("zoo", None),
        ("seconds", []),
        ("seconds", {"decode": "1.5"}),
        ("environment", []),
        ("run", 5),
    ],
)
def test_a_field_that_is_not_what_it_should_be_is_refused(tmp_path, field, value):
    """A value of another type, out of range, or of another number of examples is one line with file and field."""
    content = json.loads(sample_result([1.0, 0.5]).to_json())
    path = tmp_path / "result.json"
    path.write_text(json.dumps({**content, field: value}), encoding="utf-8")
    with pytest.raises(ResultError) as refusal:
        CellResult.read(path)
    assert str(path) in str(refusal.value)
    assert field in str(refusal.value) or field == "scores"
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("opening", ["[", '{"schema": 1, "environment": ' + '{"a": ', "[{"])
def test_json_that_is_nested_too_deep_is_refused(tmp_path, opening):
    """JSON nested a hundred thousand deep is refused as any other damage is."""
    path = tmp_path / "result.json"
    first, _, again = opening.rpartition(": ") if opening.startswith("{") else ("", "", opening)
    path.write_text(first + again * 100_000, encoding="utf-8")
    with pytest.raises(ResultError, match=r"result\.json"):
        CellResult.read(path)
    whole = sample_result([1.0]).to_json().replace('"cpu"', "[" * 100_000 + "]" * 100_000)
    path.write_text(whole, encoding="utf-8")
    with pytest.raises(ResultError, match=r"result\.json"):
        CellResult.read(path)


@given(cell_results(), st.floats(0, 9), st.text(max_size=5))
def test_measured_alike_is_all_but_when_and_how_fast(result, seconds, run):
    """Two results are alike where nothing differs but their times and their run."""
    again = replace(result, seconds={"generate": seconds}, run=run)
    assert result.measured_alike(again)
    assert again.measured_alike(result)
    for other in (replace(result, zoo="elsewhere"), replace(result, scores=(2.0,)), replace(result, chosen=(99,))):
        assert not result.measured_alike(other)


def test_a_cells_own_file_is_read(tmp_path):
    """The result of one cell is read by the cell, none is none, and a damaged one is refused."""
    folder = ResultFolder(tmp_path)
    result = sample_result([1.0], depth=50)
    path = folder.write(result)
    assert path == folder.file(result.cell)
    assert folder.of(result.cell) == result
    assert folder.of(sample_result([1.0]).cell) is None
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ResultError, match=r"d50\.json"):
        folder.of(result.cell)


def test_another_schema_is_refused(tmp_path):
    """A result of another schema is refused, and the message says that this is why."""
    path = tmp_path / "result.json"
    path.write_text(sample_result([1.0]).to_json().replace('"schema": 1', '"schema": 2'), encoding="utf-8")
    with pytest.raises(ResultError, match=r"result\.json has another schema than 1"):
        CellResult.read(path)


def test_a_missing_result_is_refused(tmp_path):
    """A result file that is not there is refused by its name."""
    with pytest.raises(ResultError, match=r"missing\.json"):
        CellResult.read(tmp_path / "missing.json")


def test_preparing_makes_the_folder(tmp_path):
    """Preparing makes the folder, its parents too, and leaves nothing in it."""
    folder = ResultFolder(tmp_path / "results" / "today")
    folder.prepare()
    folder.prepare()
    assert folder.path.is_dir()
    assert list(folder.path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "today", "results/today"])
def test_an_unwritable_folder_is_named(tmp_path, below):
    """A folder that cannot be made, since a file is in its way, is refused by its name and left alone."""
    file = tmp_path / "file"
    file.write_text("in the way", encoding="utf-8")
    with pytest.raises(UnwritableFolder) as refusal:
        ensure_writable(file / below)
    assert str(file / below) in str(refusal.value)
    assert file.read_text(encoding="utf-8") == "in the way"


@given(st.text(), st.text())
def test_writing_replaces_the_whole_content(tmp_path_factory, old, new):
    """Writing leaves exactly the new content, in UTF-8, and no other file."""
    path = tmp_path_factory.mktemp("files") / "folder" / "file.json"
    for text in (old, new):
        write_atomically(path, text)
        assert path.read_bytes() == text.replace("\n", os.linesep).encode()
    assert _files(path.parent) == [path]


@pytest.mark.parametrize("partial", [None, ".partial"])
@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("at", ["fsync", "replace", "chmod"])
def test_failing_midway_keeps_the_old_content(tmp_path, monkeypatch, at, kind, partial):
    """Where writing fails at any step, or is interrupted, the old content stays and nothing partial is left."""
    path, folder = tmp_path / "file.json", partial and tmp_path / partial
    write_atomically(path, "old", folder)

    def fail(*_, **__):
        raise kind("no space left")

    with monkeypatch.context() as patch:
        for owner in (os, Path):
            if hasattr(owner, at):
                patch.setattr(owner, at, fail)
        with pytest.raises(kind, match="no space left"):
            write_atomically(path, "new" * 100_000, folder)
    assert path.read_text(encoding="utf-8") == "old"
    assert _files(tmp_path) == [path]


def test_text_that_cannot_be_encoded_keeps_the_old_content(tmp_path):
    """Text that is no Unicode cannot be written, and does no harm to what was there."""
    path = tmp_path / "file.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new" * 100_000 + "\ud800")
    assert path.read_text(encoding="utf-8") == "old"
    assert _files(tmp_path) == [path]


def test_text_that_cannot_be_encoded_fits_a_result(tmp_path):
    """A prediction with half a surrogate pair is written and read like any other."""
    result = sample_result([1.0], prediction="half \ud83d")
    assert CellResult.read(ResultFolder(tmp_path).write(result)) == result


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o027, 0o077])
def test_permissions_follow_the_umask(tmp_path, mask):
    """A file can be read by whom the umask says, and the umask stays what it was."""
    path = tmp_path / "file.json"
    before = os.umask(mask)
    try:
        write_atomically(path, "text")
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    finally:
        assert os.umask(before) == mask


WRITE_UNTIL_KILLED = """
import sys
from itertools import count
from pathlib import Path
from drift.records.results import ResultFolder
from suites.support.sample_results import sample_result
folder = ResultFolder(Path(sys.argv[1]))
for i in count():
    # Long enough that many kills come in the middle of a file.
    result = sample_result([1.0, 0.0], length=256 * (1 + i % 3), prediction=f"{i} " * 300_000)
    folder.write(result)
"""


def test_killing_leaves_whole_results(tmp_path):
    """A run that is killed while it writes leaves only whole results, again and again in one folder."""
    folder = ResultFolder(tmp_path)
    for delay in (0.05, 0.12, 0.21):
        for path in (tmp_path / "cells").rglob("*.json"):
            path.unlink()
        process = subprocess.Popen([sys.executable, "-c", WRITE_UNTIL_KILLED, str(tmp_path)], cwd=REPOSITORY)
        try:
            while not folder.read():
                assert process.poll() is None
                time.sleep(0.005)
            time.sleep(delay)
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()
        results = folder.read()
        assert results
        assert [path.name for path in _files(tmp_path / "cells")] == [f"{result.key}.json" for result in results]
        for result in results:
            assert result == sample_result([1.0, 0.0], length=result.length, prediction=result.predictions[0])
            assert len(set(result.predictions[0].split())) == 1


def test_replacing_one_cell_leaves_the_others(tmp_path):
    """Writing a cell again changes its file and no other."""
    folder = ResultFolder(tmp_path)
    first, second = sample_result([1.0]), sample_result([0.0], length=512)
    folder.write(first)
    folder.write(second)
    changed = replace(first, scores=(0.5,))
    folder.write(changed)
    assert folder.read() == [changed, second]
