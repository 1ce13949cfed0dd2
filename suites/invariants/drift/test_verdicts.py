"""What a comparison with a snapshot comes to, and what its message says."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.records.snapshots import Baseline, SnapshotFile
from drift.statistics.outcomes import Outcome
from drift.statistics.paired import sign_flip_p_value
from drift.statistics.thresholds import Thresholds
from drift.verdicts import compare
from suites.support.sample_results import sample_result, shares

THRESHOLDS = Thresholds(error_rate=0.05, comparisons=100, smallest_effect=2.0)


def _baseline(scores, **others):
    return Baseline.of(sample_result(scores, **others))


def test_no_snapshot():
    """A cell without a snapshot is not accepted, and the message says how to accept it."""
    verdict = compare(sample_result([1.0, 0.5]), None, THRESHOLDS)
    assert verdict.outcome is Outcome.NO_SNAPSHOT
    assert not verdict.accepted
    assert "m2a-niah_single_1-256" in verdict.message
    assert "75.00" in verdict.message
    assert "--snapshot-update" in verdict.message


@given(st.lists(shares, min_size=1, max_size=40))
def test_the_same_scores_pass(scores):
    """A cell that scores what its snapshot says passes with p = 1 and nothing fallen or risen."""
    verdict = compare(sample_result(scores), _baseline(scores), THRESHOLDS)
    assert verdict.outcome is Outcome.PASSED
    assert verdict.accepted
    assert verdict.p_value == 1
    assert verdict.before == pytest.approx(100 * sum(scores) / len(scores))
    assert "0 fell, 0 rose" in verdict.message


def test_the_snapshot_files_rounding_is_no_change(tmp_path):
    """Scores that were rounded by the snapshot file count neither as fallen nor as risen."""
    result = sample_result([1 / 3, 2 / 3, 1 / 7, 1.0] * 10)
    file = SnapshotFile(tmp_path / "m2a.json")
    file.update({result.key: Baseline.of(result)})
    verdict = compare(result, file.read()[result.key], THRESHOLDS)
    assert verdict.p_value == 1
    assert "0 fell, 0 rose" in verdict.message


def test_a_planted_drop_regresses():
    """A drop that is significant and large fails, and the message tells a person what happened."""
    before = [1.0] * 100 + [0.0] * 100
    after = [0.0] * 30 + [1.0] * 70 + [1.0] * 2 + [0.0] * 98
    verdict = compare(sample_result(after, depth=50), _baseline(before), THRESHOLDS)
    p = sign_flip_p_value([-1.0] * 30 + [1.0] * 2)
    assert verdict.outcome is Outcome.REGRESSED
    assert not verdict.accepted
    assert verdict.before == 50
    assert verdict.p_value == p
    for part in (
        "m2a-niah_single_1-256-d50",
        "regressed",
        "was 50.00",
        "is 36.00",
        "-14.00 points over 200 examples",
        "30 fell, 2 rose",
        f"p = {p:.2g}",
        "threshold 0.0005",
        "Fell: examples 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 20 more",
        "Rose: examples 100, 101.",
    ):
        assert part in verdict.message


@given(st.lists(st.sampled_from([(0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.25, 0.5)]), min_size=1, max_size=9))
def test_the_message_names_every_changed_example(pairs):
    """Where few examples changed, the message lists exactly those that fell and those that rose."""
    before, after = zip(*pairs, strict=True)
    message = compare(sample_result(after), _baseline(before), THRESHOLDS).message
    listed = re.search(r"Fell: (.*?)\. Rose: (.*?)\. ", message)
    fell, rose = ([int(number) for number in re.findall(r"\d+", part)] for part in listed.groups())
    assert fell == [i for i, (old, new) in enumerate(pairs) if new < old]
    assert rose == [i for i, (old, new) in enumerate(pairs) if new > old]


def test_a_rise_is_accepted():
    """A rise that is significant and large is reported as an improvement, and is accepted."""
    verdict = compare(sample_result([1.0] * 60 + [0.0] * 40), _baseline([1.0] * 20 + [0.0] * 80), THRESHOLDS)
    assert verdict.outcome is Outcome.IMPROVED
    assert verdict.accepted
    assert "was 20.00, is 60.00 (+40.00 points" in verdict.message


@pytest.mark.parametrize("fallen", [0.0, 1.0])
def test_a_small_change_passes(fallen):
    """A change below the smallest effect passes, however significant it is."""
    before, after = [1 - fallen] * 2000, [fallen] * 30 + [1 - fallen] * 1970
    verdict = compare(sample_result(after), _baseline(before), THRESHOLDS)
    assert verdict.p_value < THRESHOLDS.significant
    assert verdict.outcome is Outcome.PASSED


def test_a_change_that_may_be_chance_passes():
    """A large change that is not significant passes."""
    verdict = compare(sample_result([0.0] * 4 + [1.0] * 16), _baseline([1.0] * 20), THRESHOLDS)
    assert verdict.p_value > THRESHOLDS.significant
    assert verdict.outcome is Outcome.PASSED


@pytest.mark.parametrize("examples", [250, 500])
def test_a_drop_of_just_the_smallest_effect_regresses(examples):
    """A significant drop of exactly the smallest effect fails, whatever the accuracy it starts from."""
    drop = examples * 2 // 100
    thresholds = Thresholds(error_rate=0.1, smallest_effect=2.0)
    spared = [
        right
        for right in range(drop, examples + 1)
        if compare(
            sample_result([0.0] * drop + [1.0] * (right - drop) + [0.0] * (examples - right)),
            _baseline([1.0] * right + [0.0] * (examples - right)),
            thresholds,
        ).outcome
        is not Outcome.REGRESSED
    ]
    assert spared == []


def test_changed_prompts_are_not_comparable():
    """Where a prompt changed, no verdict is given but both hashes are, of the first example that differs."""
    result = sample_result([0.0] * 10)
    changed = replace(result, prompts=(*result.prompts[:7], "feedbeef", "deadbeef", result.prompts[9]))
    verdict = compare(changed, _baseline([1.0] * 10), THRESHOLDS)
    assert verdict.outcome is Outcome.NOT_COMPARABLE
    assert not verdict.accepted
    assert verdict.p_value is None
    for part in (
        "m2a-niah_single_1-256",
        "2 of 10",
        "example 7",
        "00000007",
        "feedbeef",
        "100.00",
        "--snapshot-update",
    ):
        assert part in verdict.message


@given(st.lists(st.tuples(shares, shares), min_size=1, max_size=30), st.data())
def test_the_common_examples_are_compared(pairs, data):
    """Where one of the two has more examples, only the first ones that both have count."""
    before, after = zip(*pairs, strict=True)
    common = data.draw(st.integers(1, len(pairs)))
    whole = compare(sample_result(after[:common]), _baseline(before[:common]), THRESHOLDS)
    assert compare(sample_result(after[:common]), _baseline(before), THRESHOLDS) == whole
    assert compare(sample_result(after), _baseline(before[:common]), THRESHOLDS) == whole


STAGED = Thresholds(comparisons=10, stages=(10, 40, 80), gates=(0.1, 0.05))


def test_a_suspicious_cell_is_incomplete_until_it_has_its_examples():
    """A suspicious cell is neither accepted nor failed for good: it asks for the examples of the next look."""
    verdict = compare(sample_result([0.0] * 5 + [1.0] * 5), _baseline([1.0] * 80), STAGED)
    assert verdict.outcome is Outcome.INCOMPLETE
    assert not verdict.accepted
    assert verdict.wanted == 40
    assert "incomplete" in verdict.message
    assert "the next look needs 40 examples" in verdict.message


def test_a_snapshot_that_is_too_small_is_said_to_be():
    """Where the snapshot has no more examples, a suspicious cell is judged by what there is, and told to be."""
    verdict = compare(sample_result([0.0] * 5 + [1.0] * 5), _baseline([1.0] * 10), STAGED)
    assert verdict.outcome is Outcome.PASSED
    assert verdict.wanted is None
    assert "judged by what there is: the next look needs 40 examples, the snapshot has 10" in verdict.message
    calm = compare(sample_result([1.0] * 10), _baseline([1.0] * 10), STAGED)
    assert "judged by what there is" not in calm.message


@pytest.mark.parametrize(("later", "outcome"), [(0.0, Outcome.REGRESSED), (1.0, Outcome.PASSED)])
def test_a_later_look_decides(later, outcome):
    """A suspicious cell regresses where its further examples fell too, and passes where they did not."""
    verdict = compare(sample_result([0.0] * 5 + [1.0] * 5 + [later] * 30), _baseline([1.0] * 40), STAGED)
    assert verdict.outcome is outcome
    assert "over 40 examples" in verdict.message
    # Pools take the first look alone: the second was taken because of it.
    assert verdict.differences == (-1.0,) * 5 + (0.0,) * 5


def test_the_message_holds_the_interval():
    """The message says how far the shift may be from what was measured."""
    verdict = compare(sample_result([0.0] * 30 + [1.0] * 170), _baseline([1.0] * 200), THRESHOLDS)
    low, high = verdict.judgement.shift.interval
    assert low < -15 < high < 0
    assert f"95% interval {low:+.2f} to {high:+.2f}" in verdict.message


def test_changed_prompts_beyond_the_common_examples_do_not_matter():
    """A prompt that only one of the two has cannot make them incomparable."""
    result, baseline = sample_result([1.0] * 5), _baseline([1.0] * 8)
    baseline = replace(baseline, prompts=(*baseline.prompts[:5], "feedbeef", "feedbeef", "feedbeef"))
    assert compare(result, baseline, THRESHOLDS).outcome is Outcome.PASSED


@pytest.mark.parametrize("prompt", ["{:08x}", "f{:07x}"])
def test_differences_of_environment_are_listed(prompt):
    """The message lists what of the environment changed, came or went, and nothing else."""
    before = {"torch": "2.8.0", "device": "cpu", "kernel": "scan"}
    now = {"torch": "2.9.1", "device": "cpu", "driver": "570"}
    baseline = _baseline([1.0] * 4, environment=before)
    message = compare(sample_result([1.0] * 4, environment=now, prompt=prompt), baseline, THRESHOLDS).message
    for part in ("torch: 2.8.0 → 2.9.1", "kernel: recorded on one side only, scan then", "one side only, 570 now"):
        assert part in message
    assert "device" not in message


def test_the_same_environment_is_said_to_be_the_same():
    """Where nothing of the environment changed, the message says so."""
    message = compare(sample_result([1.0]), _baseline([1.0]), THRESHOLDS).message
    assert "Nothing recorded has changed since" in message


@pytest.mark.parametrize(
    ("comparisons", "outcome"), [(1, Outcome.REGRESSED), (6, Outcome.REGRESSED), (7, Outcome.PASSED)]
)
def test_the_error_rate_is_shared_by_the_whole_matrix(comparisons, outcome):
    """A cell must reach the error rate divided by the number of comparisons, and no less."""
    thresholds = Thresholds(error_rate=0.05, comparisons=comparisons)
    verdict = compare(sample_result([0.0] * 8), _baseline([1.0] * 8), thresholds)
    assert verdict.p_value == 2 / 2**8
    assert thresholds.significant == pytest.approx(0.05 / comparisons)
    assert verdict.outcome == outcome
