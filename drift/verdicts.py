"""Verdicts: whether a cell still scores what its snapshot says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drift.changes import changes
from drift.records.results import CellResult
from drift.records.snapshots import Baseline
from drift.statistics.outcomes import Outcome
from drift.statistics.stages import Judgement, judged
from drift.statistics.thresholds import Thresholds

__all__ = ["Verdict", "compare"]

_NAMED_AT_MOST = 10


@dataclass(frozen=True)
class Verdict:
    """The comparison of one cell with its snapshot.

    Attributes:
        outcome: What it came to.
        message: What was, what is, and what to do; for a person.
        before: Accuracy of the snapshot over the compared examples, in percent.
        judgement: What the looks at the cell came to, where it could be compared.
        differences: Score now minus score before of the examples of the first look.
        likelihood_differences: Of the same examples, the log-likelihood of the expected answer now minus
            before, in nats; None where either is unknown.
    """

    outcome: Outcome
    message: str
    before: float | None = None
    judgement: Judgement | None = None
    differences: tuple[float, ...] | None = None
    likelihood_differences: tuple[float, ...] | None = None

    @property
    def accepted(self) -> bool:
        return self.outcome in (Outcome.PASSED, Outcome.IMPROVED)

    @property
    def p_value(self) -> float | None:
        """Of the sign-flip test in the last look."""
        return None if self.judgement is None else self.judgement.shift.p_value

    @property
    def wanted(self) -> int | None:
        """How many examples the next look needs, where the cell is to be looked at again."""
        return None if self.judgement is None else self.judgement.wanted


def compare(result: CellResult, baseline: Baseline | None, thresholds: Thresholds) -> Verdict:
    """Compares a result with its snapshot, example by example, in as many looks as it takes.

    Where one of the two has fewer examples, the common first ones are compared: example k is the
    same however many there are. Where a look asks for more than the result has, the verdict is
    incomplete; a snapshot that has no more is judged by what there is.
    """
    name = f"{result.model}-{result.key}"
    if baseline is None:
        advice = f"run with --snapshot-update to accept {result.accuracy:.2f}"
        return Verdict(Outcome.NO_SNAPSHOT, f"{name}: no snapshot yet: {advice}")
    common = min(len(result.scores), len(baseline.scores))
    changed = [i for i in range(common) if result.prompts[i] != baseline.prompts[i]]
    if changed:
        i = changed[0]
        return Verdict(
            Outcome.NOT_COMPARABLE,
            f"{name}: not comparable: prompts changed ({len(changed)} of {common}; example {i}: hash "
            f"{baseline.prompts[i]} → {result.prompts[i]}). Accuracy was {baseline.accuracy:.2f}, is "
            f"{result.accuracy:.2f}. {_differences(baseline.environment, result.environment)}"
            "If the change is wanted, accept it with --snapshot-update.",
        )
    pairs = zip(baseline.scores[:common], result.scores[:common], strict=True)
    differences = tuple(after - before for before, after in pairs)
    plan = thresholds.plan(len(baseline.scores), len(result.scores))
    judgement = judged(differences, plan, thresholds.smallest_effect)
    count = judgement.shift.examples
    before, after = (100 * sum(each.scores[:count]) / count for each in (baseline, result))
    outcome = _outcome(judgement)
    message = (
        f"{name}: {outcome}: accuracy was {before:.2f}, is {after:.2f} ({_shift(judgement)}). "
        f"{_flips(differences[:count])} {_looks(judgement, len(baseline.scores), thresholds)}"
        f"{_differences(baseline.environment, result.environment)}"
    ).rstrip()
    first = plan[0].examples
    likelihoods = _likelihood_differences(baseline.log_likelihoods[:first], result.log_likelihoods[:first])
    return Verdict(outcome, message, before, judgement, differences[:first], likelihoods)


def _likelihood_differences(before: Sequence[float], now: Sequence[float]) -> tuple[float, ...] | None:
    if not before or not now:
        return None
    # As they are kept, to a thousandth; their difference has no more digits.
    return tuple(round(b - a, 3) for a, b in zip(before, now, strict=True))


def _outcome(judgement: Judgement) -> Outcome:
    if judgement.wanted is not None:
        return Outcome.INCOMPLETE
    if not judgement.shifted:
        return Outcome.PASSED
    return Outcome.REGRESSED if judgement.shift.points < 0 else Outcome.IMPROVED


def _shift(judgement: Judgement) -> str:
    shift = judgement.shift
    low, high = shift.interval
    return (
        f"{shift.points:+.2f} points over {shift.examples} examples, 95% interval {low:+.2f} to {high:+.2f}; "
        f"{shift.fell} fell, {shift.rose} rose; p = {shift.p_value:.2g}, threshold {judgement.stage.significant:.2g}"
    )


def _flips(differences: Sequence[float]) -> str:
    fell = [i for i, each in enumerate(differences) if each < 0]
    rose = [i for i, each in enumerate(differences) if each > 0]
    return f"Fell: {_listed(fell)}. Rose: {_listed(rose)}."


def _looks(judgement: Judgement, held: int, thresholds: Thresholds) -> str:
    """What a suspicious cell still needs."""
    if judgement.shifted or not judgement.suspicious:
        return ""
    if judgement.wanted is not None:
        return f"Too suspicious to pass, and the next look needs {judgement.wanted} examples. "
    missing = [count for count in thresholds.stages if count > held]
    if not missing:
        return ""
    return (
        f"Suspicious, but judged by what there is: the next look needs {missing[0]} examples, the snapshot has {held}. "
    )


def _listed(examples: Sequence[int]) -> str:
    if not examples:
        return "none"
    rest = len(examples) - _NAMED_AT_MOST
    return "examples " + ", ".join(map(str, examples[:_NAMED_AT_MOST])) + (f" and {rest} more" if rest > 0 else "")


def _differences(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    changed = "; ".join(map(str, changes(before, now)))
    return f"Changed since the snapshot: {changed}. " if changed else "Nothing recorded has changed since. "
