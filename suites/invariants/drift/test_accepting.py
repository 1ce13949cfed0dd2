"""Accepting a reviewed night: what was measured becomes the baseline, all of it or nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.acceptance import Decision
from drift.accepting import AcceptanceRefused, accept, decisions
from drift.exit_statuses import ExitStatus
from drift.records import snapshots
from drift.records.baselines import AcceptedSnapshots
from drift.records.evidence import read_evidence
from drift.records.run_file import Purpose
from drift.records.snapshots import Baseline, SnapshotError, SnapshotFile
from suites.support.nights import THRESHOLDS, accept_results, judged_folders, write_run
from suites.support.sample_results import sample_result

LENGTHS = (256, 512, 768)
HELD = [sample_result([1.0] * 20, length=length) for length in LENGTHS]


def _held(folder):
    return SnapshotFile(folder / "snapshots" / "m2a.json").read()


def _accepted(folder, *results, shorter=False, **fields):
    """Lets a night accept these results; returns what was decided."""
    evidence = read_evidence([write_run(folder / "run", results, **fields)])
    accepted = AcceptedSnapshots(folder / "snapshots")
    decided = decisions(evidence, accepted, THRESHOLDS, shorter=shorter)
    accept(evidence, accepted, decided)
    return decided


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=20, max_size=25), min_size=1, max_size=3))
@settings(max_examples=20)
def test_what_was_measured_is_what_is_accepted(tmp_path_factory, scores):
    """After accepting, each measured cell holds what was measured, every other stays, and the night is quiet."""
    folder = tmp_path_factory.mktemp("night")
    accept_results(folder / "snapshots", HELD)
    results = [sample_result(each, length=length) for each, length in zip(scores, LENGTHS, strict=False)]
    decided = _accepted(folder, *results)
    assert set(decided) == {result.cell for result in results}
    expected = {result.key: Baseline.of(result) for result in [*HELD, *results]}
    assert {key: (each.scores, each.prompts) for key, each in _held(folder).items()} == {
        key: (each.scores, each.prompts) for key, each in expected.items()
    }
    assert judged_folders(folder / "run").status is ExitStatus.QUIET


def test_what_is_accepted_already_is_not_written(tmp_path):
    """Accepting what is accepted changes not a byte, and says so of each cell."""
    accept_results(tmp_path / "snapshots", HELD)
    path = tmp_path / "snapshots" / "m2a.json"
    before = path.stat().st_mtime_ns, path.read_bytes()
    decided = _accepted(tmp_path, *HELD)
    assert {each.decision for each in decided.values()} == {Decision.UNCHANGED}
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before


def test_a_shorter_baseline_is_refused_with_what_asks_the_rest(tmp_path):
    """Fewer examples than are accepted are refused, with both numbers and the command that asks all of them."""
    accept_results(tmp_path / "snapshots", HELD)
    before = _held(tmp_path)
    fell = [sample_result([0.0] * 10, length=length) for length in LENGTHS[:2]]
    grown = sample_result([0.0] * 20, length=LENGTHS[2])
    declared = [result.cell for result in HELD]
    fields = {"declared": declared, "repeat": ("--zoo=z.toml", "--samples=10")}
    with pytest.raises(AcceptanceRefused) as refusal:
        _accepted(tmp_path, *fell, grown, **fields)
    assert str(refusal.value) == (
        "accepting would leave these cells with fewer examples than are accepted: m2a-niah_single_1-256 (20 → 10), "
        "m2a-niah_single_1-512 (20 → 10). Ask all of them with: pytest -m gpu --models=m2a --tasks=niah_single_1 "
        "--lengths=256,512 --zoo=z.toml --samples=20; then accept that run's results. Or give --shorter"
    )
    assert _held(tmp_path) == before
    _accepted(tmp_path, *fell, grown, shorter=True, **fields)
    assert {key: len(each.scores) for key, each in _held(tmp_path).items()} == {
        "niah_single_1-256": 10,
        "niah_single_1-512": 10,
        "niah_single_1-768": 20,
    }


def test_a_shorter_run_that_agrees_shortens_nothing(tmp_path):
    """Fewer examples that score as accepted leave the longer baseline as it is, also where a shorter one is allowed."""
    accept_results(tmp_path / "snapshots", HELD)
    before = _held(tmp_path)
    decided = _accepted(tmp_path, sample_result([1.0] * 10), shorter=True)
    assert {each.decision for each in decided.values()} == {Decision.UNCHANGED}
    assert _held(tmp_path) == before


def test_many_shorter_cells_are_refused_in_short(tmp_path):
    """Of many shortened cells the first few are named, and the command asks them all."""
    lengths = range(256, 256 * 20, 256)
    accept_results(tmp_path / "snapshots", [sample_result([1.0] * 20, length=length) for length in lengths])
    with pytest.raises(AcceptanceRefused, match=r"\(20 → 10\) and 14 more\. Ask all"):
        _accepted(tmp_path, *(sample_result([0.0] * 10, length=length) for length in lengths))


@pytest.mark.parametrize("purpose", [Purpose.REPLAY, Purpose.JUDGE])
def test_chosen_examples_are_no_baseline(tmp_path, purpose):
    """Examples that were chosen one by one are refused, and so is all that is beside them."""
    accept_results(tmp_path / "snapshots", HELD)
    before = _held(tmp_path)
    chosen = replace(sample_result([0.0] * 20), chosen=tuple(range(20)))
    with pytest.raises(AcceptanceRefused, match="m2a-niah_single_1-256 was asked chosen examples"):
        _accepted(tmp_path, sample_result([0.0] * 20, length=512), chosen, shorter=True, purpose=purpose)
    assert _held(tmp_path) == before


def test_a_damaged_snapshot_is_left_alone(tmp_path):
    """Where what is accepted cannot be read, nothing is accepted, of other models neither."""
    accept_results(tmp_path / "snapshots", [*HELD, *(replace(each, model="tpp") for each in HELD)])
    path = tmp_path / "snapshots" / "tpp.json"
    path.write_bytes(path.read_bytes()[:-40])
    before = {file: file.read_bytes() for file in (tmp_path / "snapshots").glob("*.json")}
    with pytest.raises(SnapshotError, match=r"tpp\.json"):
        _accepted(tmp_path, sample_result([0.0] * 20), replace(sample_result([0.0] * 20), model="tpp"))
    assert {file: file.read_bytes() for file in (tmp_path / "snapshots").glob("*.json")} == before


def test_a_file_that_cannot_be_written_takes_the_others_back(tmp_path, monkeypatch):
    """Where one model's file cannot be written, those that were written before it are as they were, or gone again."""
    models = ("m2a", "new", "tpp")
    accept_results(tmp_path / "snapshots", [replace(HELD[0], model=model) for model in ("m2a", "tpp")])
    before = {file: file.read_bytes() for file in (tmp_path / "snapshots").glob("*.json")}
    write = snapshots.write_atomically

    def full(path, *others):
        if path.name == "tpp.json":
            raise OSError("no space left")
        write(path, *others)

    monkeypatch.setattr(snapshots, "write_atomically", full)
    with pytest.raises(SnapshotError, match=r"tpp\.json cannot be written"):
        _accepted(tmp_path, *(replace(sample_result([0.0] * 20), model=model) for model in models))
    assert {file: file.read_bytes() for file in (tmp_path / "snapshots").glob("*.json")} == before


def test_an_accelerator_that_differs_gets_a_baseline_of_its_own(tmp_path):
    """What shifted on another accelerator goes into a file of its own; the shared one stays."""
    on_cpu = sample_result([1.0] * 20, environment={"device": "cpu"})
    on_gpu = sample_result([0.0] * 20, environment={"device": "NVIDIA H100"})
    accept_results(tmp_path / "snapshots", [on_cpu])
    _accepted(tmp_path, on_gpu)
    assert _held(tmp_path)[on_cpu.key] == Baseline.of(on_cpu)
    own = SnapshotFile(tmp_path / "snapshots" / "nvidia-h100" / "m2a.json").read()
    assert own[on_gpu.key] == Baseline.of(on_gpu)
