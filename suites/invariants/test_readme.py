"""The README shows what was measured."""

from __future__ import annotations

import pytest

from drift.records.snapshots import SnapshotFile
from drift.reports.markdown import length_by_depth
from drift.statistics.paired import sign_flip_p_value
from suites.support.runs import REPOSITORY
from zoo.cards import load_zoo
from zoo.report import needles_by_length, page

ZOO = load_zoo("pocket")
SNAPSHOTS = REPOSITORY / "snapshots" / "pocket"
BASELINES = SnapshotFile(SNAPSHOTS / "m2a.json").read()


@pytest.mark.parametrize(
    "table", [needles_by_length(ZOO, SNAPSHOTS), length_by_depth(BASELINES, "essay-word-number")], ids=["models", "m2a"]
)
def test_the_tables_are_the_accepted_accuracies(table):
    """Each table of the README is the one its snapshots make."""
    assert table in (REPOSITORY / "README.md").read_text(encoding="utf-8"), f"the README should hold\n\n{table}"


def test_the_pocket_zoo_has_its_page():
    """The zoo's page is the one that its checkpoints and snapshots make, with a picture of every model."""
    shown = (REPOSITORY / "zoo" / "README.md").read_text(encoding="utf-8")
    assert shown == page(ZOO, SNAPSHOTS), "write it anew: python -m zoo report"
    for name in ZOO.models:
        assert f"(pictures/{name}.png)" in shown
        assert (REPOSITORY / "zoo" / "pictures" / f"{name}.png").is_file()


@pytest.mark.parametrize("task", ["niah_single_1", "niah_single_2"])
def test_the_model_falls_only_beyond_its_trained_length(task):
    """Accuracy is at least 95 at 256 and 90 at 512, and significantly lower at 4096, same needles in each."""
    assert BASELINES[f"{task}-256"].accuracy >= 95
    assert BASELINES[f"{task}-512"].accuracy >= 90
    near, far = (BASELINES[f"{task}-{length}"].scores for length in (512, 4096))
    drop = [b - a for a, b in zip(near, far, strict=True)]
    assert sum(drop) < 0
    assert sign_flip_p_value(drop) < 0.05
