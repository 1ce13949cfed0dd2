"""Comparing anything with anything: what is found, how it is shown, and what the exit status says."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from core.cells import Cell
from drift.__main__ import main
from drift.comparison import compared
from drift.records.paper_accuracies import paper_accuracies
from drift.records.results import ResultFolder
from drift.records.snapshots import Baseline, SnapshotFile
from drift.records.sources import Examples, Source, SourceError, merged, read_source
from drift.statistics.outcomes import Outcome
from drift.statistics.paired import confidence_interval, sign_flip_p_value
from drift.statistics.thresholds import Thresholds, ThresholdTable
from drift.statistics.unpaired import Proportion, unpaired_shift
from suites.support.nights import write_run
from suites.support.sample_results import sample_result, shares
from zoo.cards import load_zoo

TABLE = ThresholdTable(Thresholds(error_rate=0.05, smallest_effect=2.0))
KEY = Cell("m2a", "vt", 512).key
CELLS = tuple(Cell("m2a", "niah_single_1", length) for length in (256, 512))

scores = st.lists(shares, min_size=1, max_size=30).map(tuple)


def _examples(scores, first=0, environment=None):
    prompts = tuple(f"{first + i:08x}" for i in range(len(scores)))
    return Examples(tuple(scores), prompts, environment or {}, range(len(scores)))


def _source(cell, name="run", model="m2a", asked=None):
    return Source(name, asked, {model: {KEY: cell}})


def _cell(before, now, **options):
    ((cell,),) = (model.cells for model in compared(_source(before), _source(now), TABLE, **options).models)
    return cell


def _write(folder, *results):
    for result in results:
        ResultFolder(folder).write(result)
    return str(folder)


# Newcombe (1998), Table II, method 10.
@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        ((56, 70), (48, 80), 5.24, 33.39),
        ((9, 10), (3, 10), 17.05, 80.90),
        ((6, 7), (2, 7), 5.82, 80.62),
        ((5, 56), (0, 29), -3.81, 19.26),
        ((0, 10), (0, 20), -16.11, 27.75),
        ((0, 10), (0, 10), -27.75, 27.75),
        ((10, 10), (0, 20), 67.91, 100.0),
        ((10, 10), (0, 10), 60.75, 100.0),
    ],
)
def test_published_intervals(one, other, low, high):
    """The interval from counts alone is the one that Newcombe printed for his examples."""
    now, before = (Proportion(100 * right / all_of_them, all_of_them) for right, all_of_them in (one, other))
    assert unpaired_shift(before, now).interval == pytest.approx((low, high), abs=0.01)


@given(*[st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))] * 2)
def test_counts_are_symmetric(one, other):
    """Swapping the sides swaps the signs, the interval holds the difference, and p is as small either way."""
    before, now = (Proportion(100 * right / count, count) for right, count in (one, other))
    there, back = unpaired_shift(before, now), unpaired_shift(now, before)
    assert there.points == pytest.approx(-back.points)
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))
    assert there.interval[0] - 1e-9 <= there.points <= there.interval[1] + 1e-9
    assert there.p_value == pytest.approx(back.p_value)
    assert 0 < there.p_value <= 1


def test_many_examples_leave_one_wilson_interval():
    """Against an accuracy that is all but certain, the interval is Wilson's of the other one."""
    shift = unpaired_shift(Proportion(50.0, 10**9), Proportion(70.0, 40))
    wilson = binomtest(28, 40).proportion_ci(method="wilson")
    assert shift.interval == pytest.approx((100 * wilson.low - 50, 100 * wilson.high - 50), abs=0.01)


def test_the_paper_holds_its_matrix():
    """The printed accuracies are of the paper zoo's models and cells, in steps of one in 250 where scores are whole."""
    zoo, printed = load_zoo("paper"), paper_accuracies()
    keys = {cell.key for cell in zoo.matrix()}
    ruler = {cell.key for cell in zoo.cells("ruler")}
    assert set(printed) == set(zoo.models) - {"m2a-upstream"}
    for cells in printed.values():
        assert ruler <= set(cells) <= keys
        assert all(each.examples == 250 and 0 <= each.accuracy <= 100 for each in cells.values())
        assert all(cells[key].accuracy * 2.5 % 1 == pytest.approx(0, abs=1e-9) for key in cells if "niah_single" in key)
    assert printed["mamba2"]["niah_single_1-1024"].accuracy == 66.8
    assert printed["m2a"]["essay-word-uuid-1024-d50"].accuracy == 26.8


@given(scores)
def test_the_same_examples_have_not_shifted(values):
    """A run compared with itself has no shift, no flip and p = 1."""
    cell = _cell(_examples(values), _examples(values))
    assert (cell.outcome, cell.p_value, cell.points, cell.flips) == (Outcome.PASSED, 1.0, 0.0, ())


@given(st.lists(st.tuples(shares, shares), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_pairs_are_found_by_prompt(pairs, random):
    """Examples are paired by their prompts, in whatever order either side has them, and tested exactly."""
    before, now = zip(*pairs, strict=True)
    mixed = list(range(len(pairs)))
    random.shuffle(mixed)
    then, there = _examples(before), _examples(now)
    shuffled = replace(there, scores=tuple(now[i] for i in mixed), prompts=tuple(there.prompts[i] for i in mixed))
    cell = _cell(then, shuffled)
    differences = [new - old for old, new in pairs]
    assert cell.p_value == sign_flip_p_value(differences)
    assert cell.points == pytest.approx(100 * sum(differences) / len(differences))
    assert cell.interval == pytest.approx(confidence_interval(np.array(differences)))
    assert {(each.prompt, each.score_before, each.score) for each in cell.flips} == {
        (f"{i:08x}", old, new) for i, (old, new) in enumerate(pairs) if old != new
    }
    fallen = [each.score < each.score_before for each in cell.flips]
    assert fallen == sorted(fallen, reverse=True)


@given(scores, scores)
def test_different_prompts_are_not_comparable(before, now):
    """Where no prompt is the same there is no verdict, unless accuracies alone are asked for."""
    then, there = _examples(before), _examples(now, first=1000)
    cell = _cell(then, there)
    assert (cell.outcome, cell.p_value, cell.note) == (Outcome.NOT_COMPARABLE, None, "other prompts")
    assert not compared(_source(then), _source(there), TABLE).comparable
    alone = _cell(then, there, unpaired=True)
    assert not alone.paired
    assert alone.p_value == unpaired_shift(then.proportion, there.proportion).p_value


def test_prompts_that_differ_in_part_are_left_out():
    """Where some prompts are the same, those are compared, and the cell says how many are not."""
    cell = _cell(_examples([1.0] * 30), _examples([0.0] * 30, first=10))
    assert cell.outcome is Outcome.REGRESSED
    assert cell.examples == (20, 20)
    assert cell.note == "without 10 of 30 examples, whose prompts differ"


def test_fewer_samples_are_no_difference():
    """A run of fewer samples is compared in those it has, without a word."""
    cell = _cell(_examples([1.0] * 30), _examples([1.0] * 10))
    assert (cell.outcome, cell.examples, cell.note) == (Outcome.PASSED, (10, 10), "")


def test_corrections_count_the_compared_cells():
    """Where nobody says what is declared, the more cells are compared, the smaller a p-value has to be."""
    before, now = _examples([1.0] * 8), _examples([0.0] * 8)  # p = 2 / 2**8 = 0.0078
    few, many = (
        compared(
            *(Source("run", None, {"m2a": {f"vt-{i}": side for i in range(count)}}) for side in (before, now)),
            TABLE,
        )
        for count in (6, 7)
    )
    assert (few.declared, many.declared) == (6, 7)
    assert few.counted(Outcome.REGRESSED) == 6
    assert many.counted(Outcome.REGRESSED) == 0
    # What all of them share is still found.
    assert many.shifted


@pytest.mark.parametrize(("declared", "regressed"), [(6, 6), (7, 0)])
def test_a_run_is_corrected_for_what_its_zoo_declares(declared, regressed):
    """However few cells a run selected, they are held to the standard of the whole declared matrix, on either side."""
    before, now = _examples([1.0] * 8), _examples([0.0] * 8)  # p = 2 / 2**8 = 0.0078
    cells = tuple(Cell("m2a", "vt", length) for length in range(declared))
    then, there = (Source("run", None, {"m2a": {f"vt-{i}": side for i in range(6)}}) for side in (before, now))
    for sides in ((then, replace(there, declared=cells)), (replace(then, declared=cells), there)):
        found = compared(*sides, TABLE)
        assert (found.declared, found.counted(Outcome.REGRESSED)) == (declared, regressed)


def test_a_shard_of_a_run_is_corrected_as_the_run_is(tmp_path):
    """One cell of a run, read from its folder with its run file, is corrected for all declared cells."""
    cells = tuple(Cell("m2a", "niah_single_1", length) for length in (256, 512, 1024))
    folder = write_run(tmp_path / "run", [sample_result([1.0] * 8)], declared=cells, selected=cells[:1])
    source = read_source(str(folder))
    assert (source.declared, source.cautions) == (cells, ())
    assert compared(source, source, TABLE).declared == 3
    assert compared(source, merged([source, replace(source, declared=())]), TABLE).declared == 3


def test_a_run_that_was_cut_is_compared_with_a_word(tmp_path, capsys):
    """What is compared of a run that was cut is no less true, but the reader is told."""
    whole, cut = (
        write_run(tmp_path / name, [sample_result([1.0] * 8)], selected=CELLS, cause=cause)
        for name, cause in (("whole", ""), ("cut", "SIGTERM"))
    )
    assert main(["compare", str(whole), str(cut)]) == 0
    assert f"{cut}: interrupted by SIGTERM after 1 of 2 cells" in capsys.readouterr().out


@given(st.lists(st.tuples(scores, st.integers(0, 3)), min_size=1, max_size=8), st.integers(0, 10**6))
def test_shards_together_are_the_run(cells, seed):
    """The shards of a run, however its cells are dealt out, compare as the whole run does, pools included."""
    noise = np.random.default_rng(seed)
    keys = [Cell("m2a", "vt", 512, depth).key for depth in range(len(cells))]
    now = {key: _examples(values) for key, (values, _) in zip(keys, cells, strict=True)}
    before = {key: _examples(noise.permutation(values).tolist()) for key, (values, _) in zip(keys, cells, strict=True)}
    shards: dict[int, dict[str, Examples]] = {}
    for key, (_, shard) in zip(keys, cells, strict=True):
        shards.setdefault(shard, {})[key] = now[key]
    accepted = Source("accepted", None, {"m2a": before})
    whole = compared(accepted, Source("run", None, {"m2a": now}), TABLE)
    together = compared(accepted, merged([Source(f"{i}", None, {"m2a": each}) for i, each in shards.items()]), TABLE)
    assert together.models == whole.models


def test_identical_results_in_two_shards_are_taken_once(tmp_path, capsys):
    """A cell that two shards hold alike is compared once, whenever and however fast it was measured."""
    result = sample_result([1.0, 0.0])
    one, again = _write(tmp_path / "one", result), _write(tmp_path / "again", replace(result, run="b", seconds={}))
    assert main(["compare", one, one, again, one]) == 0
    assert "m2a: 1 cells" in capsys.readouterr().out


def test_differing_results_in_two_shards_are_refused(tmp_path, capsys):
    """A cell of which two shards say different things is named with both, since nobody knows which of them counts."""
    one = _write(tmp_path / "one", sample_result([1.0, 0.0]))
    other = _write(tmp_path / "other", sample_result([1.0, 1.0]))
    assert main(["compare", one, one, other]) == 2
    assert (
        f"error: {one} and {other} hold different results of m2a-niah_single_1-256; give the shards of one run"
    ) in capsys.readouterr().err


def test_two_models_are_compared_where_both_are_named():
    """Two models of one run are compared by name, and what differs between them is listed."""
    before = _source(_examples([1.0] * 20, environment={"weights": "a"}), model="m2a", asked="m2a")
    now = _source(_examples([0.0] * 20, environment={"weights": "b"}), model="tpp", asked="tpp")
    (model,) = compared(before, now, TABLE).models
    assert model.name == "m2a → tpp"
    assert [cell.outcome for cell in model.cells] == [Outcome.REGRESSED]
    assert list(map(str, model.changes)) == ["the checkpoint's weights: a → b"]
    with pytest.raises(SourceError, match=r"have no model in common; name one on each side, as in RUN:MODEL"):
        compared(replace(before, model=None), replace(now, model=None), TABLE)


@pytest.fixture
def runs(tmp_path):
    """A good run, one that fell, and one that was asked something else."""
    good = [1.0] * 40
    fell = [0.0] * 20 + good[20:]
    _write(tmp_path / "good", *(sample_result(good, length=length, prediction="Right.") for length in (256, 512)))
    _write(
        tmp_path / "fell",
        sample_result(fell, length=256, prediction="Wrong.", environment={"torch": "2.9.0", "device": "cpu"}),
        sample_result(good, length=512),
    )
    _write(tmp_path / "other", sample_result(good, length=256, prompt="{:04x}ffff"))
    SnapshotFile(tmp_path / "m2a.json").update(
        {f"niah_single_1-{length}": Baseline.of(sample_result(good, length=length)) for length in (256, 512)}
    )
    return tmp_path


@pytest.mark.parametrize(
    ("before", "now", "status"),
    [
        ("good", "good", 0),
        ("good", "fell", 1),
        ("fell", "good", 1),
        ("m2a.json", "good", 0),
        ("m2a.json", "fell", 1),
        ("good:m2a", "fell:m2a", 1),
        ("good", "other", 2),
        ("good", "missing", 2),
        ("good", "good/cells", 2),
    ],
)
def test_the_exit_status_tells(runs, capsys, before, now, status):
    """The status is 0 without a shift, 1 with one in either direction, and 2 where nothing can be compared."""
    assert main(["compare", str(runs / before), str(runs / now)]) == status
    assert ("error: " in capsys.readouterr().err) == (status == 2)


def test_a_comparison_in_three_forms(runs, capsys):
    """Table, Markdown and JSON show the same shift, with its interval and what changed; JSON every flip."""
    sides = [str(runs / "good"), str(runs / "fell")]
    shown = {}
    for form in ([], ["--markdown"], ["--json"]):
        assert main(["compare", *sides, *form]) == 1
        shown["".join(form)] = capsys.readouterr().out
    for form in ("", "--markdown"):
        for part in ("niah_single_1-256", "-50.00", "torch: 2.8.0 → 2.9.0", "1 cells regressed"):
            assert part in shown[form]
        assert "niah_single_1-512" not in shown[form]
    table = [line for line in shown["--markdown"].splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    content = json.loads(shown["--json"])
    (model,) = content["models"]
    cell = next(cell for cell in model["cells"] if cell["cell"] == "niah_single_1-256")
    assert (content["shifted"], cell["outcome"], cell["points"], len(cell["flips"])) == (True, "regressed", -50.0, 20)
    assert (cell["flips"][0]["prediction_before"], cell["flips"][0]["prediction"]) == ("Right.", "Wrong.")
    assert main(["compare", *sides, "--all"]) == 1
    assert "niah_single_1-512" in capsys.readouterr().out


def test_a_run_beside_the_paper(tmp_path, capsys):
    """A run is compared with the paper's accuracies by counts, and warned of where it is of another zoo."""
    accuracy = paper_accuracies()["m2a"]["niah_single_1-1024"].accuracy
    right = round(2.5 * accuracy)
    near = sample_result([1.0] * right + [0.0] * (250 - right), length=1024)
    run = _write(tmp_path / "near", near)
    assert main(["compare", "paper", run]) == 0
    assert (
        "the paper measured the models of the zoo paper; these results are of the zoo pocket" in capsys.readouterr().out
    )
    run = _write(tmp_path / "far", replace(near, zoo="paper", scores=(0.0,) * 250))
    assert main(["compare", "paper:m2a", run, "--markdown"]) == 1
    out = capsys.readouterr().out
    assert f"| niah_single_1-1024 | {accuracy:.2f} | 0.00 | {-accuracy:+.2f} |" in out
    assert "250 and 250" in out
    assert "the paper measured" not in out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere", "there is no nowhere; give a folder of results, a snapshot file or folder, or paper"),
        ("paper:m3", "paper has no model m3; there are mamba2, m2a, tpp"),
        ("empty", "empty holds no results: a run's folder has them under cells/"),
    ],
)
def test_a_source_that_is_none_is_refused(tmp_path, monkeypatch, given, message):
    """What cannot be read is refused by its name, with what would be right."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError) as refusal:
        read_source(given)
    assert message in str(refusal.value)


def test_damaged_results_are_refused(runs, capsys):
    """A damaged result ends the comparison with its file's name and status 2."""
    path = runs / "fell" / "cells" / "m2a" / "niah_single_1-256.json"
    path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
    assert main(["compare", str(runs / "good"), str(runs / "fell")]) == 2
    assert str(path) in capsys.readouterr().err


def test_thresholds_of_ones_own(runs, capsys):
    """A file of thresholds decides what is a shift, and one out of range is refused by its field."""
    path = runs / "thresholds.toml"
    path.write_text("smallest_effect = 60\npooled_smallest_effect = 60\n[models.unheard-of]\nerror_rate = 0.1\n")
    assert main(["compare", str(runs / "good"), str(runs / "fell"), f"--thresholds={path}"]) == 0
    path.write_text("error_rate = 7\n")
    assert main(["compare", str(runs / "good"), str(runs / "fell"), f"--thresholds={path}"]) == 2
    assert "error_rate must be" in capsys.readouterr().err
