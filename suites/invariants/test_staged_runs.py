"""Whole runs that look again at suspicious cells, and fail for what only their pools show."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from drift.results import ResultFolder
from drift.snapshots import Baseline, SnapshotFile
from suites.invariants.runs import REPOSITORY, SmallZoo

# An oracle that sees the last 512 of 2,048 tokens finds a needle one time in four.
_ZOO = """
samples = 10
baseline_samples = 40
batch_tokens = 16384
tokens_to_generate = { niah_single_1 = 48, niah_single_2 = 48, niah_single_3 = 48 }

[sweeps.ruler]
tasks = ["niah_single_1", "niah_single_2", "niah_single_3"]
lengths = [2048]

[models.window]
family = "oracle"
window = 512
tokenizer = "tokenizer.json"
end_of_sequence = "<|endoftext|>"
"""

CELLS = [f"niah_single_{i}-2048" for i in (1, 2, 3)]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> SmallZoo:
    """A zoo of one oracle whose accuracies are accepted."""
    folder = tmp_path_factory.mktemp("staged")
    shutil.copy(REPOSITORY / "zoo" / "pocket" / "tokenizer.json", folder)
    (folder / "small.toml").write_text(_ZOO, encoding="utf-8")
    small = SmallZoo(folder)
    done = small.run("--snapshot-update", results="accepted")
    assert done.returncode == 0, done.stdout
    shutil.copy(small.snapshot("window"), folder / "accepted.json")
    return small


def _claim(zoo: SmallZoo, **better: int) -> None:
    """Accepts for some cells that the first examples, so many of them, had all been right."""
    path = zoo.snapshot("window")
    shutil.copy(zoo.folder / "accepted.json", path)
    accepted = SnapshotFile(path).read()
    for cell, count in better.items():
        baseline = accepted[cell]
        scores = (1.0,) * count + baseline.scores[count:]
        SnapshotFile(path).update({cell: Baseline(scores, baseline.prompts, baseline.environment)})


def _samples(folder: Path) -> dict[str, int]:
    return {each.key: len(each.scores) for each in ResultFolder(folder).read()}


def test_an_accepted_cell_holds_the_examples_of_later_looks(zoo):
    """Accepting asks every cell the zoo's baseline_samples, and a night without suspicion only its samples."""
    assert _samples(zoo.folder / "accepted") == dict.fromkeys(CELLS, 40)
    _claim(zoo)
    done = zoo.run(results="quiet")
    assert done.returncode == 0, done.stdout
    assert _samples(zoo.folder / "quiet") == dict.fromkeys(CELLS, 10)
    assert re.search(r"a cell shifts at p ≤ 0\.017 \(0\.05 over 3 cells\)", done.stdout)
    assert (
        "looked at again with 40 examples up to p = 0.1; where 2% of examples differ anyway, a drop of " in done.stdout
    )
    assert "a pool of cells shifts at p ≤ 0.05 after correction over 2 pools (by)" in done.stdout
    assert "no shift in 2 of 2 pools" in done.stdout


def test_a_suspicious_cell_is_asked_further_examples(zoo):
    """A cell that falls in its first examples draws more: it regresses where those fall too; others draw none."""
    _claim(zoo, **{CELLS[0]: 40, CELLS[1]: 7})
    done = zoo.run(results="suspicious")
    assert done.returncode == 1, done.stdout
    assert _samples(zoo.folder / "suspicious") == {CELLS[0]: 40, CELLS[1]: 40, CELLS[2]: 10}
    assert re.search(rf"{CELLS[0]}: regressed: .* points over 40 examples", done.stdout)
    assert "window, all cells: regressed: " in done.stdout
    scores = {each.key: each.scores for each in ResultFolder(zoo.folder / "suspicious").read()}
    accepted = {each.key: each.scores for each in ResultFolder(zoo.folder / "accepted").read()}
    # What further looks add are the very examples that a longer first look would have had.
    assert all(scores[cell] == accepted[cell][: len(scores[cell])] for cell in CELLS)


def test_a_pool_fails_the_session(zoo):
    """Where every cell passes on its worker and their pool has fallen, the session fails and says why."""
    strict = zoo.folder / "strict.toml"
    strict.write_text("smallest_effect = 99.0\nstages = [10]\ngates = []\n", encoding="utf-8")
    _claim(zoo, **dict.fromkeys(CELLS, 7))
    junit = zoo.folder / "report.xml"
    done = zoo.run("-n", "2", f"--thresholds={strict}", f"--junit-xml={junit}", "--models=window", results="pooled")
    assert re.search(r"^=+ pooled verdicts =+$", done.stdout, re.MULTILINE)
    assert re.search(
        r"^window, all cells: regressed: -\d\d\.\d\d points over 3 cells \(95% interval .* to .*; \d+ examples fell, "
        r"0 rose; p = \S+ corrected for all pools\)$",
        done.stdout,
        re.MULTILINE,
    )
    assert re.search(r"=+ 3 passed", done.stdout)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "longwatch-pairs" in junit.read_text(encoding="utf-8")


def test_accepting_judges_no_pools(zoo):
    """A run that accepts new accuracies is not failed for their being new."""
    _claim(zoo, **dict.fromkeys(CELLS, 10))
    done = zoo.run("--snapshot-update", "--samples=10", results="updated")
    assert done.returncode == 0, done.stdout
    assert "pooled verdicts" not in done.stdout
    assert {cell["samples"] for cell in json.loads(zoo.snapshot("window").read_text())["cells"].values()} == {10}


def test_wrong_thresholds_stop_the_run(zoo):
    """Thresholds out of range stop the run in one line, before any case."""
    path = zoo.folder / "wrong.toml"
    path.write_text("[models.windw]\nsmallest_effect = 3\n", encoding="utf-8")
    done = zoo.run(f"--thresholds={path}", results="wrong")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = (done.stdout + done.stderr).strip().splitlines()
    assert line == f"ERROR: --thresholds: {path}: unknown model windw (did you mean window?); there are window"
    assert not (zoo.folder / "wrong").exists()


def test_less_likely_answers_warn_and_fail_only_if_asked(zoo: SmallZoo) -> None:
    """Where expected answers became less likely and no score fell, a run warns; it fails where thresholds say so."""
    path = zoo.snapshot("window")
    shutil.copy(zoo.folder / "accepted.json", path)
    accepted = SnapshotFile(path).read()
    likelier = {
        key: replace(each, log_likelihoods=tuple(nats + 0.5 for nats in each.log_likelihoods))
        for key, each in accepted.items()
    }
    SnapshotFile(path).update(likelier)
    done = zoo.run("--alert-always", results="drifting")
    assert done.returncode == 0, done.stdout
    assert "early warnings" in done.stdout
    assert "window, all cells: expected answers are less likely: -0.500 nats" in done.stdout
    alert = json.loads((zoo.folder / "drifting" / "alert.json").read_text(encoding="utf-8"))
    assert alert["early_warnings"][0]["pool"]["model"] == "window"
    assert not alert["failed"]
    thresholds = zoo.folder / "strict.toml"
    thresholds.write_text("warning_fails = true\n", encoding="utf-8")
    failed = zoo.run(f"--thresholds={thresholds}", results="drifting")
    assert failed.returncode == 1, failed.stdout
