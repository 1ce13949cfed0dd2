"""Whole runs that accept: what they say, what they leave alone, and what becomes of orphans."""

from __future__ import annotations

import re
import shutil

import pytest

from drift.snapshots import SnapshotFile
from suites.invariants.runs import REPOSITORY, SmallZoo

_ZOO = """
samples = 12
batch_tokens = 16384
tokens_to_generate = {{ niah_single_1 = 48, niah_single_2 = 48, essay-word-number = 48 }}

[sweeps.ruler]
tasks = {tasks}
lengths = [1024]

[sweeps.niah_position]
tasks = ["essay-word-number"]
lengths = [256]
depths = [0]

[sweeps.niah_format]
tasks = ["essay-word-number"]
lengths = [256]
depths = [0]

[models.oracle]
family = "oracle"
window = {window}
tokenizer = "tokenizer.json"
end_of_sequence = "<|endoftext|>"
"""

_TASKS = ["niah_single_1", "niah_single_2"]
_CELLS = {"niah_single_1-1024", "niah_single_2-1024", "essay-word-number-256-d0"}


def _write(zoo: SmallZoo, window: int = 2048, tasks: list[str] = _TASKS) -> None:
    zoo.file.write_text(_ZOO.format(window=window, tasks=tasks), encoding="utf-8")


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallZoo, str]:
    """A zoo of one oracle whose accuracies two workers have accepted, and what the run said."""
    folder = tmp_path_factory.mktemp("accepting")
    shutil.copy(REPOSITORY / "zoo" / "pocket" / "tokenizer.json", folder)
    zoo = SmallZoo(folder)
    _write(zoo)
    done = zoo.run("--snapshot-update", "-n", "2")
    assert done.returncode == 0, done.stdout
    shutil.copytree(folder / "snapshots", folder / "as accepted")
    return zoo, done.stdout


@pytest.fixture
def zoo(accepted: tuple[SmallZoo, str]) -> SmallZoo:
    """That zoo, with just what was accepted then."""
    small = accepted[0]
    shutil.rmtree(small.folder / "snapshots")
    shutil.copytree(small.folder / "as accepted", small.folder / "snapshots")
    _write(small)
    return small


def _section(output: str, name: str) -> list[str]:
    """The lines of a section of the terminal's report."""
    lines = output.partition(f" {name} ")[2].partition("\n")[2]
    return [line for line in re.split(r"(?m)^[=-]{3,}", lines)[0].splitlines() if line]


def test_what_is_accepted_is_said_by_workers_too(accepted):
    """A first update says of every cell, once, that it is new and what it scores, with two workers as with none."""
    *cells, total = _section(accepted[1], "accepted snapshots")
    assert {line.split()[0] for line in cells} == {f"oracle-{key}" for key in _CELLS}
    assert all(re.fullmatch(r"\S+ +none → 100\.00  new cell", line) for line in cells)
    assert total == f"accepted: 3 cells, in {accepted[0].snapshot('oracle').parent}"


def test_an_update_without_news_writes_nothing(zoo):
    """Updating what has not changed says so, and leaves the file as it is, byte for byte."""
    before = zoo.snapshot("oracle").read_bytes()
    done = zoo.run("--snapshot-update")
    assert _section(done.stdout, "accepted snapshots") == [
        "unchanged: 3 cells measured as accepted",
        "nothing changed: no snapshot was written",
    ]
    assert zoo.snapshot("oracle").read_bytes() == before


def test_an_update_says_what_changed(zoo):
    """An update of selected cells says the old and the new mean and why, and what changed around them."""
    before = SnapshotFile(zoo.snapshot("oracle")).read()
    _write(zoo, window=512)
    done = zoo.run("--snapshot-update", "--tasks=niah_single_1")
    cell, environment, total = _section(done.stdout, "accepted snapshots")
    said = re.fullmatch(
        r"oracle-niah_single_1-1024 +100\.00 → +([\d.]+)  (\d+) of 12 scores changed; "
        r"log-likelihoods changed by -[\d.]+; environment changed",
        cell,
    )
    assert said, cell
    assert float(said[1]) == pytest.approx(100 * (1 - int(said[2]) / 12), abs=0.01)
    assert environment == "oracle, environment: the oracle's window: 2048 → 512"
    assert total.startswith("accepted: 1 cell, ")
    after = SnapshotFile(zoo.snapshot("oracle")).read()
    assert {key for key in after if after[key] != before[key]} == {"niah_single_1-1024"}


def test_an_accelerator_that_differs_gets_a_baseline_of_its_own(zoo, monkeypatch):
    """On another accelerator cells within noise stay shared, others get a file that only this accelerator reads."""
    elsewhere = ("-p", "suites.invariants.other_accelerator")
    monkeypatch.setenv("ACCELERATOR", "Test GPU")
    before = zoo.snapshot("oracle").read_bytes()
    own = zoo.folder / "snapshots" / "small" / "test-gpu" / "oracle.json"

    same = zoo.run("--snapshot-update", *elsewhere)
    assert _section(same.stdout, "accepted snapshots") == [
        "left as accepted on another accelerator: 3 cells; Test GPU differs by no more than noise from cpu: "
        "+0.00 points, p = 1 at most",
        "nothing changed: no snapshot was written",
    ]
    assert not own.exists()

    monkeypatch.setenv("WINDOW", "200")
    assert zoo.run(*elsewhere).returncode == 1
    other = zoo.run("--snapshot-update", *elsewhere)
    cells = [line for line in _section(other.stdout, "accepted snapshots") if line.startswith("oracle-")]
    assert len(cells) == 2
    assert all("Test GPU differs from cpu: -" in line and "(for test-gpu alone)" in line for line in cells)
    assert set(SnapshotFile(own).read()) == {"niah_single_1-1024", "niah_single_2-1024"}
    assert zoo.snapshot("oracle").read_bytes() == before
    assert zoo.run(*elsewhere, "-n", "2").returncode == 0
    assert zoo.run().returncode == 0


def test_orphans_are_listed_and_removed_on_request(zoo):
    """A run of the whole matrix lists what is accepted beyond it, and removes just that where it is asked to."""
    path = zoo.snapshot("oracle")
    stranger = path.with_name("gone.json")
    shutil.copy(path, stranger)
    _write(zoo, tasks=["niah_single_1"])
    listed = zoo.run("-n", "1")
    assert listed.returncode == 0, listed.stdout
    assert _section(listed.stdout, "orphaned snapshots") == [
        f"orphaned: {stranger}: no card has this model",
        f"orphaned: {path}: niah_single_2-1024",
        "the zoo does not declare these; --snapshot-orphans=remove removes them",
    ]
    before = SnapshotFile(path).read()
    partial = zoo.run("--snapshot-orphans=remove", "--snapshot-update", "--tasks=niah_single_1")
    assert "removed only by a run that selects the whole matrix; none was removed" in partial.stdout
    assert SnapshotFile(path).read() == before
    assert stranger.exists()

    removed = zoo.run("--snapshot-orphans=remove", "--collect-only", "-q")
    assert [line.partition(":")[0] for line in _section(removed.stdout, "orphaned snapshots")][:2] == ["removed"] * 2
    assert not stranger.exists()
    assert SnapshotFile(path).read() == {key: each for key, each in before.items() if key != "niah_single_2-1024"}
    assert "orphaned" not in zoo.run("--collect-only", "-q").stdout


def test_a_snapshot_that_cannot_be_written_is_told_in_one_line(zoo):
    """Where a snapshot cannot be written, its cell fails in one line that names the file, and is not said accepted."""
    path = zoo.snapshot("oracle")
    before = path.read_bytes()
    lock = path.with_name("oracle.json.lock")
    lock.unlink(missing_ok=True)
    lock.mkdir()
    _write(zoo, window=200)
    done = zoo.run("--snapshot-update", "--tasks=niah_single_1")
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("E ")]
    assert f"snapshot file {path} not written: " in line
    assert _section(done.stdout, "accepted snapshots") == []
    assert path.read_bytes() == before
