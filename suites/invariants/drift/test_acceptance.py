"""What updating a snapshot does, and why, as it is decided."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cells import Cell
from drift.acceptance import AcceptanceFolder, Decision, acceptance
from drift.records.baselines import (
    Accepted,
    AcceptedSnapshots,
    Orphans,
    accelerator_of,
    baseline_file,
    model_files,
    orphans,
)
from drift.records.snapshots import Baseline
from drift.statistics.outcomes import Outcome
from drift.statistics.thresholds import Thresholds
from drift.verdicts import compare
from suites.support.sample_results import sample_result, shares

THRESHOLDS = Thresholds(comparisons=10)
SCORES = (1.0,) * 30 + (0.0,) * 10
CPU = {"weights": "a", "torch": "1", "device": "cpu", "threads": 2}
GPU = {**CPU, "device": "NVIDIA H100 80GB HBM3", "driver": "570"}
MEASURED = replace(sample_result(SCORES, environment=CPU), log_likelihoods=(-0.5,) * 40)
SHARED = Baseline.of(MEASURED)
FELL = replace(MEASURED, scores=(0.0,) * 40)


def _decided(result, shared=SHARED, own=None):
    return acceptance(result, Accepted(shared, own), THRESHOLDS)


def test_a_new_cell_is_written():
    """A cell of which nothing is accepted is written as new, for all accelerators."""
    update = _decided(MEASURED, shared=None)
    assert (update.decision, update.before, update.now) == (Decision.WRITTEN, None, 75.0)
    assert (update.reasons, update.accelerator) == (("new cell",), None)


@pytest.mark.parametrize(
    ("result", "reasons"),
    [
        (MEASURED, ()),
        (replace(MEASURED, scores=(0.0,) * 40), ("30 of 40 scores changed",)),
        (replace(MEASURED, prompts=("feedbeef", *MEASURED.prompts[1:])), ("1 of 40 prompts changed",)),
        (replace(sample_result((*SCORES, 1.0), environment=CPU)), ("41 examples, 40 before",)),
        (sample_result(SCORES[:20], environment=CPU), ()),
        (sample_result((0.0,) * 20, environment=CPU), ("20 of 20 scores changed", "20 examples, 40 before")),
        (replace(MEASURED, log_likelihoods=(-0.51,) * 40), ()),
        (replace(MEASURED, log_likelihoods=(-0.6,) * 40), ("log-likelihoods changed by -0.100",)),
        (replace(MEASURED, environment={**CPU, "torch": "2"}), ("environment changed",)),
        (replace(MEASURED, environment={**CPU, "threads": 1}), ()),
    ],
)
def test_every_reason_is_said(result, reasons):
    """A snapshot is written for what is not as accepted, which is said; with nothing to say it is left alone."""
    update = _decided(result)
    assert update.reasons == reasons
    assert update.decision is (Decision.WRITTEN if reasons else Decision.UNCHANGED)
    assert (update.before, update.now) == (75.0, result.accuracy)


def test_missing_log_likelihoods_are_added():
    """A cell that was accepted without log-likelihoods gets them, though nothing else changed."""
    update = _decided(MEASURED, shared=replace(SHARED, log_likelihoods=()))
    assert (update.decision, update.reasons) == (Decision.WRITTEN, ("log-likelihoods added",))
    shorter = replace(MEASURED, **{name: getattr(MEASURED, name)[:20] for name in ("scores", "prompts")})
    assert _decided(shorter, shared=replace(SHARED, log_likelihoods=())).decision is Decision.UNCHANGED


@given(st.lists(st.tuples(shares, shares), min_size=1, max_size=60))
def test_accelerators_share_a_baseline_within_noise(pairs):
    """Another accelerator gets a baseline of its own just where a night would call the difference a shift."""
    before, now = zip(*pairs, strict=True)
    shared = Baseline.of(sample_result(before, environment=CPU))
    result = sample_result(now, environment=GPU)
    shifted = compare(result, shared, THRESHOLDS).outcome in (Outcome.REGRESSED, Outcome.IMPROVED)
    update = _decided(result, shared)
    assert update.decision is (Decision.WRITTEN if shifted else Decision.SHARED)
    assert update.accelerator == ("nvidia-h100-80gb-hbm3" if shifted else None)
    assert "NVIDIA H100 80GB HBM3 differs" in update.reasons[0]


def test_an_accelerators_own_baseline_is_updated():
    """Where an accelerator has a baseline of its own, that one is compared and written, and the shared one stays."""
    own = Baseline.of(sample_result([0.0] * 40, environment=GPU))
    better = sample_result([1.0] * 40, environment=GPU)
    update = _decided(better, own=own)
    assert (update.before, update.accelerator) == (0.0, "nvidia-h100-80gb-hbm3")
    assert update.reasons == ("40 of 40 scores changed",)
    assert _decided(sample_result([0.0] * 40, environment=GPU), own=own).decision is Decision.UNCHANGED


@pytest.mark.parametrize(
    "result",
    [
        sample_result([0.0] * 40, environment={**GPU, "weights": "b"}),
        sample_result([0.0] * 40, environment=GPU, prompt="f{:07x}"),
        sample_result([0.0] * 40, environment={"server_version": "1"}),
    ],
    ids=["other weights", "other prompts", "a server"],
)
def test_what_is_not_the_accelerators_replaces_the_shared_baseline(result):
    """Other weights, other prompts and servers tell nothing of an accelerator: the shared baseline is replaced."""
    update = _decided(result)
    assert (update.decision, update.accelerator) == (Decision.WRITTEN, None)


def test_an_accelerators_own_baseline_is_read_first(tmp_path):
    """Cells are read from an accelerator's own file where it has them, else from the shared one."""
    own = Baseline.of(sample_result([0.0], environment=GPU))
    baseline_file(tmp_path, "m2a").update({"vt-256": SHARED, "vt-512": SHARED})
    baseline_file(tmp_path, "m2a", accelerator_of(GPU)).update({"vt-512": own})
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json")} == {
        "m2a.json",
        "nvidia-h100-80gb-hbm3/m2a.json",
    }
    snapshots = AcceptedSnapshots(tmp_path)
    cells = [Cell("m2a", "vt", length) for length in (256, 512)]
    assert [snapshots.of(cell, GPU) for cell in cells] == [Accepted(SHARED), Accepted(SHARED, own)]
    assert [snapshots.of(cell, GPU).baseline for cell in cells] == [SHARED, own]
    for elsewhere in (CPU, {}):
        assert [snapshots.of(cell, elsewhere) for cell in cells] == [Accepted(SHARED)] * 2
    assert snapshots.of(Cell("m2a", "vt", 1024), GPU) == snapshots.of(Cell("tpp", "vt", 256), GPU) == Accepted()
    assert [file.path for file in model_files(tmp_path, "m2a")] == [
        baseline_file(tmp_path, "m2a", accelerator).path for accelerator in (None, accelerator_of(GPU))
    ]


def test_what_is_accepted_stays_as_it_was_first_read(tmp_path):
    """What a run accepts while it runs does not change what its later cells are compared with."""
    files = [baseline_file(tmp_path, "m2a", accelerator) for accelerator in (None, accelerator_of(GPU))]
    for file in files:
        file.update({"vt-256": SHARED})
    snapshots, cell = AcceptedSnapshots(tmp_path), Cell("m2a", "vt", 256)
    snapshots.read("m2a")
    before = snapshots.of(cell, GPU)
    for file in files:
        file.update({"vt-256": replace(SHARED, scores=(0.0,) * 40)})
    assert snapshots.of(cell, GPU) == before == Accepted(SHARED, SHARED)
    assert AcceptedSnapshots(tmp_path).of(cell, GPU) != before


def test_what_a_run_accepted_is_read_again(tmp_path):
    """What became of each snapshot is kept beside the results, and comes back as it was."""
    folder = AcceptanceFolder(tmp_path)
    assert folder.read() == {}
    decided = {
        result.cell: _decided(result)
        for result in (MEASURED, replace(MEASURED, depth=50), replace(FELL, length=512), replace(FELL, environment=GPU))
    }
    for cell, decision in decided.items():
        folder.write(cell, decision)
    assert AcceptanceFolder(tmp_path).read() == decided


def test_orphans_are_what_the_matrix_does_not_have(tmp_path):
    """Orphans are the cells of a file that are not declared, and the files of models without a card."""
    for model, accelerator in (("m2a", None), ("m2a", "cpu"), ("gone", None), ("gone", "cpu")):
        baseline_file(tmp_path, model, accelerator).update({"vt-256": SHARED, "vt-512": SHARED})
    assert orphans(tmp_path, {"m2a": {"vt-256", "vt-512"}, "gone": {"vt-256", "vt-512"}}) == []
    assert set(orphans(tmp_path, {"m2a": {"vt-256"}})) == {
        Orphans(tmp_path / "m2a.json", ("vt-512",)),
        Orphans(tmp_path / "cpu" / "m2a.json", ("vt-512",)),
        Orphans(tmp_path / "gone.json", None),
        Orphans(tmp_path / "cpu" / "gone.json", None),
    }
