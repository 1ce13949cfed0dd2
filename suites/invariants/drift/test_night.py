"""One night: what it ends with, how much of it was judged, and that it is one from one folder or from many."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cells import Cell
from drift.exit_statuses import ExitStatus
from drift.judging import judge_cell
from drift.night import STATISTICS, Coverage, Night
from drift.records.run_file import Problem, Purpose
from drift.records.snapshots import Baseline
from drift.reports.alert_text import as_json, whole_json
from drift.statistics.findings import Finding, Findings, Severity
from drift.statistics.outcomes import Outcome
from drift.statistics.pools import Pool
from drift.statistics.thresholds import Thresholds, ThresholdTable
from suites.support.nights import THRESHOLDS, accept_results, judged_folders, judged_results, write_run
from suites.support.sample_results import sample_result

GOOD = sample_result([1.0] * 40)
FELL = sample_result([0.0] * 40)
OTHER = sample_result([1.0] * 40, prompt="f{:07x}")
STAGED = ThresholdTable(Thresholds(stages=(40, 80), gates=(0.99,), samples=40))

_RESULTS = {Outcome.PASSED: GOOD, Outcome.REGRESSED: FELL, Outcome.NOT_COMPARABLE: OTHER, Outcome.NO_SNAPSHOT: GOOD}
JUDGED = {
    outcome: judge_cell(result, None if outcome is Outcome.NO_SNAPSHOT else Baseline.of(GOOD), THRESHOLDS)
    for outcome, result in _RESULTS.items()
} | {
    Outcome.IMPROVED: judge_cell(GOOD, Baseline.of(FELL), THRESHOLDS),
    Outcome.INCOMPLETE: judge_cell(
        sample_result([0.0] + [1.0] * 39), Baseline.of(sample_result([1.0] * 37 + [0.0] * 43)), STAGED
    ),
}

EMPTY = Night(
    purpose=Purpose.JUDGE,
    zoo="pocket",
    started="",
    cells=(),
    findings=(),
    fallen=(),
    suspects=(),
    problems=(),
    acceptances={},
    coverage=Coverage(9, 9, 0),
    cautions=(),
    rerun="",
    past="",
    snapshots="",
    results=(),
)


def _found(severity: Severity | None) -> tuple[Findings, ...]:
    finding = () if severity is None else (Finding(severity, Pool("m2a"), "it moved", "it moved a lot", None),)
    return (Findings("a statistic", finding),)


def test_each_outcome_is_what_it_says():
    """The cells of the table below have come to the outcomes that they stand for."""
    assert {outcome: judged.outcome for outcome, judged in JUDGED.items()} == {each: each for each in Outcome}


def test_statuses_of_every_combination():
    """For any outcomes, findings, errors and gaps, a night ends with the first status of the documented order."""
    checked = 0
    sets = [[outcome for i, outcome in enumerate(Outcome) if number >> i & 1] for number in range(2 ** len(Outcome))]
    for outcomes, severity, problem, missing, cut, selected, purpose in product(
        sets, [None, *Severity], (False, True), (False, True), ("", "cut"), (0, 9), Purpose
    ):
        night = replace(
            EMPTY,
            purpose=purpose,
            cells=tuple(JUDGED[outcome] for outcome in outcomes),
            findings=_found(severity),
            problems=(Problem("m2a-vt-256", "no logits"),) * problem,
            coverage=Coverage(9, selected, len(outcomes), (GOOD.cell,) * missing, cut),
        )
        # What a run measures to accept it is not compared with what is accepted.
        seen = set() if purpose is Purpose.ACCEPT else set(outcomes)
        expected = (
            1
            if Outcome.REGRESSED in seen or severity is Severity.FAILURE
            else 2
            if Outcome.INCOMPLETE in seen or problem or missing or cut
            else 6
            if Outcome.NOT_COMPARABLE in seen
            else 7
            if Outcome.NO_SNAPSHOT in seen
            else 5
            if not selected
            else 0
        )
        assert night.status == expected
        assert night.failed == (expected in (1, 2, 6))
        assert (ExitStatus.NOTHING_SELECTED in night.statuses) == (not selected)
        checked += 1
    assert checked == 64 * 5 * 2 * 2 * 2 * 2 * 3


FATES = ("passed", "fell", "other prompts", "new", "error", "missing")
CELLS = tuple(Cell("m2a", "niah_single_1", 256 * i) for i in range(1, 5))


def _result(cell: Cell, fate: str):
    base = {"fell": FELL, "other prompts": OTHER}.get(fate, GOOD)
    return replace(base, length=cell.length, prompts=tuple(f"{i:04x}{base.prompts[i][:4]}" for i in range(40)))


def _shard(folder, name, fates):
    """A run of some cells, each of which ended in its own way."""
    return write_run(
        folder / name,
        [_result(cell, fate) for cell, fate in fates.items() if fate not in ("error", "missing")],
        declared=CELLS,
        selected=list(fates),
        problems=[Problem(str(cell), "no logits") for cell, fate in fates.items() if fate == "error"],
        samples=40,
        run=f"run-{name}",
    )


@given(st.lists(st.tuples(st.sampled_from(FATES), st.sampled_from("ABC")), min_size=1, max_size=4), st.data())
@settings(max_examples=30)
def test_a_night_is_the_same_from_any_shards(tmp_path_factory, dealt, data):
    """A night from one folder and from shards, however dealt out and in any order, says the same and ends alike."""
    folder = tmp_path_factory.mktemp("night")
    fates = {cell: fate for cell, (fate, _) in zip(CELLS, dealt, strict=False)}
    accept_results(folder / "snapshots", [_result(cell, "passed") for cell, fate in fates.items() if fate != "new"])
    whole = judged_folders(_shard(folder, "whole", fates))
    shards = [
        _shard(folder, name, {cell: fates[cell] for cell, (_, own) in zip(fates, dealt, strict=False) if own == name})
        for name in sorted({own for _, own in dealt})
    ]
    together = judged_folders(*data.draw(st.permutations(shards)))
    assert replace(together, results=(), runs=(), cells=()) == replace(whole, results=(), runs=(), cells=())
    assert [each.verdict for each in together.cells] == [each.verdict for each in whole.cells]
    alike = ('"results"', '"history"')
    for form in (as_json, whole_json):
        lines = [
            [line for line in form(night).splitlines() if not line.strip().startswith(alike)]
            for night in (whole, together)
        ]
        assert lines[0] == lines[1]

    named = set(fates.values())
    assert (ExitStatus.SHIFTED in whole.statuses) == ("fell" in named)
    assert (ExitStatus.INCOMPLETE in whole.statuses) == bool(named & {"error", "missing"})
    assert (ExitStatus.NOT_COMPARABLE in whole.statuses) == ("other prompts" in named)
    assert (ExitStatus.NO_BASELINE in whole.statuses) == ("new" in named)
    coverage = whole.coverage
    assert (coverage.declared, coverage.selected) == (len(CELLS), len(fates))
    assert coverage.missing == tuple(cell for cell, fate in fates.items() if fate == "missing")
    assert coverage.judged == sum(fate not in ("error", "missing") for fate in fates.values())
    assert {problem.name for problem in whole.problems} == {str(c) for c, fate in fates.items() if fate == "error"}


def test_a_part_of_the_matrix_is_whole_only_where_that_is_asked(tmp_path):
    """A filtered run is quiet by itself; where every declared cell is demanded, the others are missing."""
    good = _result(CELLS[0], "passed")
    accept_results(tmp_path / "snapshots", [good])
    folder = _shard(tmp_path, "part", {CELLS[0]: "passed"})
    assert (judged_folders(folder).status, judged_folders(folder).coverage.missing) == (ExitStatus.QUIET, ())
    whole = judged_folders(folder, whole=True)
    assert (whole.status, whole.coverage.missing) == (ExitStatus.INCOMPLETE, CELLS[1:])


def test_a_run_that_was_cut_is_never_quiet(tmp_path):
    """A night whose run was interrupted or killed is incomplete, whatever its cells say, and its title says so."""
    for name, fields, said in (
        ("cut", {"cause": "SIGTERM"}, "interrupted by SIGTERM after 1 of 4 cells"),
        ("killed", {"killed": True}, "killed, or not ended yet, after 1 of 4 cells"),
    ):
        night = judged_results(tmp_path / name, [GOOD], [GOOD], selected=CELLS, **fields)
        assert night.status is ExitStatus.INCOMPLETE
        assert night.coverage.cut == said
        assert night.title == f"longwatch: {said}; no shift in 1 cell"
        assert night.failed


def test_a_shift_is_corrected_for_the_declared_matrix(tmp_path):
    """A cell that fell is held to the standard of all declared cells, however few of them the run selected."""
    before, now = sample_result([1.0] * 8), sample_result([0.0] * 8)  # p = 2 / 2**8 = 0.0078
    many = [Cell("m2a", "niah_single_1", 256 * i) for i in range(1, 8)]
    for declared, status in ((many[:6], ExitStatus.SHIFTED), (many, ExitStatus.QUIET)):
        folder = tmp_path / str(len(declared))
        assert judged_results(folder, [now], [before], declared=declared, selected=many[:1]).status is status


def test_other_thresholds_judge_again(tmp_path):
    """A night that is judged by other thresholds than its run may come to something else."""
    accept_results(tmp_path / "snapshots", [GOOD])
    folder = write_run(tmp_path / "run", [replace(FELL, scores=(0.0,) * 10 + (1.0,) * 30)])
    assert judged_folders(folder).status is ExitStatus.SHIFTED
    lenient = ThresholdTable(Thresholds(smallest_effect=30.0, pooled_smallest_effect=30.0))
    assert judged_folders(folder, thresholds=lenient).status is ExitStatus.QUIET


@pytest.mark.parametrize("purpose", [Purpose.ACCEPT, Purpose.REPLAY])
def test_other_purposes_are_not_judged_as_a_night(tmp_path, purpose):
    """A run that accepts or replays has no pools, no fallen cells and no commands; one that accepts never shifts."""
    result = replace(FELL, chosen=tuple(range(40))) if purpose is Purpose.REPLAY else FELL
    night = judged_results(tmp_path, [result], [GOOD], purpose=purpose)
    assert (night.findings, night.fallen, night.suspects, night.rerun, night.past) == ((), (), (), "", "")
    assert night.status == (ExitStatus.QUIET if purpose is Purpose.ACCEPT else ExitStatus.SHIFTED)


def test_a_folder_without_a_run_file_is_judged(tmp_path):
    """Results of an earlier version are judged for what they are, with a word on what is not known."""
    night = judged_results(tmp_path, [FELL], [GOOD], run_file=False)
    assert night.status is ExitStatus.SHIFTED
    assert (night.coverage.declared, night.coverage.selected, night.coverage.judged) == (1, 1, 1)
    assert (night.rerun, night.past, night.started) == ("", "", "")
    (caution,) = night.cautions
    assert "has no run file" in caution


def test_what_has_no_verdict_is_named_once(tmp_path):
    """Incomparable cells and errors are told with their reasons, which name no cell a second time."""
    night = judged_results(
        tmp_path, [OTHER], [GOOD], problems=[Problem(str(CELLS[1]), "no logits")], selected=CELLS[:2]
    )
    one, other = night.without_verdict
    assert (one.name, other) == (str(GOOD.cell), Problem(str(CELLS[1]), "no logits"))
    assert one.reason.startswith("not comparable: prompts changed (40 of 40")


def test_each_statistic_speaks_once_in_its_order(tmp_path):
    """Every statistic of the list has its findings, under its own name, in the order of the list."""
    results = [replace(GOOD, log_likelihoods=(-0.5,) * 40)]
    night = judged_results(tmp_path, results, results)
    assert [each.statistic for each in night.findings] == [each.name for each in STATISTICS]
    assert len({each.name for each in STATISTICS}) == len(STATISTICS)
