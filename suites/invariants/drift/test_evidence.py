"""What is on disk of a night: the same from one folder and from shards, and refused where it is no one night's."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cells import Cell
from drift.records.evidence import EvidenceError, read_evidence
from drift.records.results import ResultError
from drift.records.run_file import RUN_FILE, Problem, Purpose, RunFileError
from drift.statistics.thresholds import Thresholds, ThresholdTable
from suites.support.nights import write_run
from suites.support.sample_results import sample_result

DECLARED = tuple(Cell("m2a", "niah_single_1", length) for length in (1024, 256, 768, 512, 1280, 1536))
RESULTS = {cell: sample_result([1.0, 0.0], length=cell.length) for cell in DECLARED}


def _write(folder, cells, *, failed=(), **fields):
    """A run that was to ask some cells, of which some ended in an error."""
    problems = [Problem(str(cell), "no logits") for cell in failed]
    results = [RESULTS[cell] for cell in cells if cell not in failed]
    return write_run(
        folder, results, **{"selected": cells, "declared": DECLARED, "problems": problems, "samples": 2, **fields}
    )


fates = st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from(["asked", "failed", "missing"])), max_size=6)


@given(fates, st.data())
@settings(max_examples=25)
def test_shards_in_any_order_are_the_run(tmp_path_factory, dealt, data):
    """However cells are dealt out to shards, and in whatever order these are given, what is there is the same."""
    folder = tmp_path_factory.mktemp("shards")
    fate_of = dict(zip(DECLARED, dealt, strict=False))
    failed = [cell for cell, (_, fate) in fate_of.items() if fate == "failed"]
    present = [cell for cell, (_, fate) in fate_of.items() if fate != "missing"]
    whole = read_evidence([_write(folder / "whole", present, failed=failed, selected=list(fate_of))])
    shards = []
    for name in sorted({shard for shard, _ in fate_of.values()}):
        own = [cell for cell, (shard, _) in fate_of.items() if shard == name]
        shards.append(
            _write(
                folder / name,
                [cell for cell in own if cell in present],
                failed=[cell for cell in own if cell in failed],
                selected=own,
                run=f"run-{name}",
            )
        )
    if not shards:
        return
    together = read_evidence(data.draw(st.permutations(shards)))
    for name in ("declared", "selected", "problems", "cautions", "purpose", "started", "cut"):
        assert getattr(together, name) == getattr(whole, name), name
    assert list(together.results) == list(whole.results)
    assert all(whole.results[cell].measured_alike(result) for cell, result in together.results.items())


def test_cells_stand_as_the_zoo_declares_them(tmp_path):
    """Results, and the cells to be asked, are in the order of the zoo, not of files or of the command line."""
    evidence = read_evidence([_write(tmp_path / "run", DECLARED[::-1])])
    assert tuple(evidence.results) == evidence.selected == evidence.declared == DECLARED


def test_identical_results_are_taken_once(tmp_path):
    """A cell that several folders hold alike counts once, though it was measured at another time and speed."""
    again = replace(RESULTS[DECLARED[0]], seconds={"generate": 9.0, "decode": 9.0})
    one = _write(tmp_path / "one", DECLARED[:2])
    other = write_run(tmp_path / "other", [again], declared=DECLARED, run="run-2")
    evidence = read_evidence([one, other, one])
    assert set(evidence.results) == {*DECLARED[:2]}
    assert evidence.cautions == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": (1.0, 1.0)},
        {"prompts": ("feedbeef", "feedbeef")},
        {"predictions": ("Another answer.",) * 2},
        {"environment": {"torch": "2.9.0", "device": "cpu"}},
        {"log_likelihoods": (-0.5, -0.25)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_differing_results_are_refused(tmp_path, changes):
    """A cell of which two folders say different things is refused, with both and the cell named."""
    cell = DECLARED[0]
    one = _write(tmp_path / "one", [cell])
    other = write_run(tmp_path / "other", [replace(RESULTS[cell], **changes)], declared=DECLARED, run="run-2")
    with pytest.raises(EvidenceError) as refusal:
        read_evidence([one, other])
    assert str(refusal.value) == (
        f"{one} and {other} hold different results of {cell}; give the shards of one run, each once"
    )


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"zoo": "paper"}, "zoos"),
        ({"declared": DECLARED[:2]}, "declared cells"),
        ({"declared": DECLARED[::-1]}, "declared cells"),
        ({"thresholds": ThresholdTable(Thresholds(smallest_effect=3.0, stages=(1000,)))}, "thresholds"),
        ({"purpose": Purpose.ACCEPT}, "purposes"),
    ],
)
def test_runs_that_are_no_one_night_are_refused(tmp_path, fields, what):
    """Folders of other zoos, matrices, thresholds or purposes are refused, with both and the difference named."""
    one = _write(tmp_path / "one", DECLARED[:1])
    other = _write(tmp_path / "other", DECLARED[1:2], **fields)
    for first, second in ((one, other), (other, one)):
        with pytest.raises(EvidenceError) as refusal:
            read_evidence([first, second])
        assert str(refusal.value) == f"{first} and {second} have different {what}; give the shards of one run"


@pytest.mark.parametrize("field", ["tokenizer", "frame", "corpus", "tokens_to_generate"])
def test_shards_with_other_prompts_are_refused(tmp_path, field):
    """Shards whose cells were asked otherwise are refused by what differs, also where no cell is in both."""
    one, other = DECLARED[:2]
    folders = [
        write_run(
            tmp_path / name,
            [replace(RESULTS[cell], environment={field: name})],
            declared=DECLARED,
            run=name,
        )
        for name, cell in (("one", one), ("other", other))
    ]
    with pytest.raises(EvidenceError, match=rf"asked m2a different prompts: {field} is one for .*, other for .*"):
        read_evidence(folders)


def test_tasks_and_models_may_be_asked_in_their_own_ways(tmp_path):
    """Another model may have another tokenizer, and another task another corpus."""
    base = RESULTS[DECLARED[0]]
    results = [
        replace(base, environment={"tokenizer": "a", "corpus": "x"}),
        replace(base, model="tpp", environment={"tokenizer": "b", "corpus": "x"}),
        replace(base, task="vt", environment={"tokenizer": "a", "corpus": "y"}),
    ]
    declared = [result.cell for result in results]
    folders = [
        write_run(tmp_path / str(i), [result], declared=declared, run=str(i)) for i, result in enumerate(results)
    ]
    assert len(read_evidence(folders).results) == 3


def test_what_cut_a_run_is_said(tmp_path):
    """A run that was interrupted says by what and when; one that was killed, how far it had come; the rest, nothing."""
    selected = DECLARED[:4]
    whole = _write(tmp_path / "whole", selected)
    cut = _write(tmp_path / "cut", selected[:2], selected=selected, cause="SIGTERM", run="run-2")
    killed = _write(tmp_path / "killed", selected[:2], failed=selected[1:2], selected=selected, killed=True)
    assert read_evidence([whole]).cut == ""
    assert read_evidence([cut]).cut == "interrupted by SIGTERM after 2 of 4 cells"
    assert read_evidence([killed]).cut == "killed, or not ended yet, after 2 of 4 cells"


def test_what_was_asked_elsewhere_was_not_cut(tmp_path):
    """A run that was interrupted has cut nothing where another one asked the rest; one cell less, and it has."""
    selected = DECLARED[:4]
    cut = _write(tmp_path / "cut", selected[:2], selected=selected, cause="SIGTERM", run="run-2")
    rest = _write(tmp_path / "rest", selected[2:], selected=selected[2:], run="run-3")
    less = _write(tmp_path / "less", selected[3:], selected=selected[3:], run="run-4")
    for order in ([cut, rest], [rest, cut]):
        evidence = read_evidence(order)
        assert evidence.cut == ""
        assert evidence.missing(evidence.selected) == ()
    assert read_evidence([less, cut]).cut == "interrupted by SIGTERM after 2 of 4 cells"


def test_a_mixed_folder_is_said(tmp_path):
    """Results of another run, or of cells that the run did not select, are named, the first few of them."""
    folder = _write(tmp_path / "run", DECLARED[:1])
    write_run(folder, [RESULTS[cell] for cell in DECLARED[1:2]], run="run-2", run_file=False)
    (caution,) = read_evidence([folder]).cautions
    assert caution == f"{folder} is mixed: {DECLARED[1]} is not of the run run-1"
    write_run(folder, [RESULTS[cell] for cell in DECLARED[1:]], run_file=False)
    (caution,) = read_evidence([folder]).cautions
    assert caution.endswith(" and 2 more are not of the run run-1")
    assert caution.count("m2a-") == 3


def test_folders_of_earlier_versions_are_read(tmp_path):
    """Without a run file, the cells that are there count as all there are, in one order, and a reader is told."""
    folder = write_run(tmp_path / "run", [RESULTS[cell] for cell in DECLARED], run_file=False)
    evidence = read_evidence([folder])
    assert (evidence.runs, evidence.purpose, evidence.started, evidence.cut) == ((), Purpose.JUDGE, None, "")
    assert evidence.declared == evidence.selected == tuple(sorted(DECLARED, key=lambda cell: cell.order))
    (caution,) = evidence.cautions
    assert caution.startswith(f"{folder} has no run file, as of an earlier version")
    beside = _write(tmp_path / "beside", DECLARED[:2])
    mixed = read_evidence([folder, beside])
    assert mixed.declared == mixed.selected == DECLARED


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_without_results_is_refused(tmp_path, there):
    """A folder that holds no run, or is not there, is refused in one line that says what a run's folder holds."""
    if there:
        (tmp_path / "empty").mkdir()
    with pytest.raises(EvidenceError, match=r"empty holds no results: a run's folder has a run file, and results"):
        read_evidence([_write(tmp_path / "run", DECLARED), tmp_path / "empty"])


def test_a_run_that_measured_nothing_is_read(tmp_path):
    """A run that was killed before its first cell is no empty folder: what it was to ask is missing."""
    evidence = read_evidence([_write(tmp_path / "run", [], selected=DECLARED, killed=True)])
    assert (evidence.results, evidence.selected) == ({}, DECLARED)
    assert evidence.cut == "killed, or not ended yet, after 0 of 6 cells"


def test_damage_is_named(tmp_path):
    """A damaged result, and a damaged run file, are refused by their names."""
    folder = _write(tmp_path / "run", DECLARED)
    path = folder / "cells" / "m2a" / "niah_single_1-256.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    with pytest.raises(ResultError, match=r"niah_single_1-256\.json"):
        read_evidence([folder])
    path.write_bytes(whole)
    content = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    (folder / RUN_FILE).write_text(json.dumps({**content, "schema": 7}), encoding="utf-8")
    with pytest.raises(RunFileError, match=r"run\.json has another schema than 1"):
        read_evidence([folder])
