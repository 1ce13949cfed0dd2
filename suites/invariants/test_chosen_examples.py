"""Chosen examples: each beside its own accepted score, without a verdict on its cell."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.flips import flips
from drift.reasked import reasked, reasked_examples
from drift.results import CellResult, ResultFolder
from drift.snapshots import Baseline
from drift.sources import Examples
from drift.verdicts import Outcome
from suites.invariants.runs import run
from suites.invariants.sample_results import sample_result

quick = settings(deadline=None, derandomize=True, max_examples=100)

_COUNT = 6
_scores = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=_COUNT, max_size=_COUNT)
_chosen = st.sets(st.integers(0, _COUNT - 1), min_size=1).map(sorted)


def _only(result: CellResult, indices: list[int]) -> CellResult:
    """What asking these examples alone would have given."""
    lists = {
        name: tuple(value[i] for i in indices)
        for name, value in vars(result).items()
        if isinstance(value, tuple) and value
    }
    return replace(result, **lists, chosen=tuple(indices))


@quick
@given(_scores, _scores, _chosen)
def test_each_example_stands_beside_its_own_score(before, now, indices):
    """Chosen examples come to the worst of them, each compared with what was accepted of its own number."""
    verdict = reasked(_only(sample_result(now), indices), Baseline.of(sample_result(before)))
    moves = [now[i] - before[i] for i in indices]
    worst, best = min(moves), max(moves)
    expected = Outcome.REGRESSED if worst < 0 else Outcome.IMPROVED if best > 0 else Outcome.PASSED
    assert verdict.outcome is expected
    assert verdict.accepted == (worst >= 0)
    for i, move in zip(indices, moves, strict=True):
        told = f"example {i}, prompt {i:08x}: {before[i]:g} → {now[i]:g};" in verdict.message
        assert told == ((move > 0) - (move < 0) == {"regressed": -1, "improved": 1, "passed": 0}[expected])


@quick
@given(_scores, _scores, _chosen)
def test_flips_keep_their_numbers(before, now, indices):
    """The flips of chosen examples are those of the whole cell that were chosen, under the same numbers."""
    accepted, whole = Examples.of_baseline(Baseline.of(sample_result(before))), sample_result(now)
    of_whole = flips(accepted, Examples.of_result(whole))
    of_chosen = flips(accepted, Examples.of_result(_only(whole, indices)))
    assert of_chosen == [flip for flip in of_whole if flip.index in indices]


def test_what_is_not_accepted_is_said():
    """An example beyond the snapshot's, of another prompt, or of a cell without a snapshot is named and fails."""
    result = _only(sample_result([1.0] * _COUNT), [1, 5])
    short = Baseline.of(sample_result([1.0] * 3))
    other = Baseline.of(sample_result([1.0] * _COUNT, prompt="{:07x}f"))
    for baseline, outcome, said in (
        (
            None,
            Outcome.NO_SNAPSHOT,
            "2 of 2 chosen examples no snapshot: example 1, prompt 00000001: not accepted yet;",
        ),
        (
            short,
            Outcome.NO_SNAPSHOT,
            "1 of 2 chosen examples no snapshot: example 5, prompt 00000005: not accepted yet;",
        ),
        (other, Outcome.NOT_COMPARABLE, "example 1, prompt 00000001: 1 → 1, of another prompt;"),
    ):
        verdict = reasked(result, baseline)
        assert verdict.outcome is outcome
        assert not verdict.accepted
        assert said in verdict.message
    assert [each.index for each in reasked_examples(result, short)] == [1, 5]


def test_a_result_of_chosen_examples_is_kept_with_their_numbers(tmp_path):
    """A result file of chosen examples says which they are; one without that holds the first ones."""
    whole = sample_result([1.0, 0.0, 1.0, 0.0])
    for result, indices in ((whole, [0, 1, 2, 3]), (_only(whole, [1, 3]), [1, 3])):
        read = CellResult.read(ResultFolder(tmp_path).write(result))
        assert read == result
        assert list(read.indices) == indices


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--examples=3,x"], "--examples: 'x' is no example's number; give some, as in --examples=0,17"),
        (["--examples=-1"], "--examples: '-1' is no example's number"),
        (["--examples=,"], "--examples: no example is named"),
        (["--examples=oracle-niah_single_1:1"], "--examples: unknown cell oracle-niah_single_1"),
        (["--examples=1", "--examples=oracle-niah_single_1-1024:1"], "--examples: give either numbers for every cell"),
        (["--examples=3", "--samples=4"], "leave --samples out"),
        (["--examples=3", "--snapshot-update"], "leave --snapshot-update out"),
        (["--examples=3", "--snapshot-update-new-only"], "leave --snapshot-update-new-only out"),
    ],
)
def test_bad_numbers_are_refused(options, said):
    """What is no list of numbers, or would accept or judge a cell by chosen examples, ends the run in one line."""
    done = run("suites/evaluation", "--zoo=sanity", "--collect-only", "-q", *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    assert said in line
