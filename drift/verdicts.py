"""Verdicts: whether a cell still scores what its snapshot says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from drift.paired import sign_flip_p_value
from drift.results import CellResult
from drift.snapshots import Baseline

__all__ = ["Outcome", "Thresholds", "Verdict", "compare"]

_NAMED_AT_MOST = 10


class Outcome(StrEnum):
    """What a comparison came to."""

    PASSED = "passed"
    IMPROVED = "improved"
    REGRESSED = "regressed"
    NOT_COMPARABLE = "not comparable"
    NO_SNAPSHOT = "no snapshot"


@dataclass(frozen=True)
class Thresholds:
    """When a shift is one.

    Attributes:
        error_rate: The chance of any false alarm over the whole matrix.
        comparisons: Cells of the whole declared matrix, however few of them a run selects.
        smallest_effect: The smallest change worth waking someone for, in percentage points.
    """

    error_rate: float = 0.05
    comparisons: int = 1
    smallest_effect: float = 2.0

    @property
    def significant(self) -> float:
        """The p-value a cell must reach (Bonferroni)."""
        return self.error_rate / self.comparisons


@dataclass(frozen=True)
class Verdict:
    """The comparison of one cell with its snapshot.

    Attributes:
        outcome: What it came to.
        message: What was, what is, and what to do; for a person.
        before: Accuracy of the snapshot over the compared examples, in percent.
        p_value: Of the sign-flip test.
    """

    outcome: Outcome
    message: str
    before: float | None = None
    p_value: float | None = None

    @property
    def accepted(self) -> bool:
        return self.outcome in (Outcome.PASSED, Outcome.IMPROVED)


def compare(result: CellResult, baseline: Baseline | None, thresholds: Thresholds) -> Verdict:
    """Compares a result with its snapshot, example by example.

    Where one of the two has fewer examples, the common first ones are compared: example k is the
    same however many there are.
    """
    name = f"{result.model}-{result.key}"
    if baseline is None:
        advice = f"run with --snapshot-update to accept {result.accuracy:.2f}"
        return Verdict(Outcome.NO_SNAPSHOT, f"{name}: no snapshot yet: {advice}")
    count = min(len(result.scores), len(baseline.scores))
    changed = [i for i in range(count) if result.prompts[i] != baseline.prompts[i]]
    if changed:
        i = changed[0]
        return Verdict(
            Outcome.NOT_COMPARABLE,
            f"{name}: not comparable: prompts changed ({len(changed)} of {count}; example {i}: hash "
            f"{baseline.prompts[i]} → {result.prompts[i]}). Accuracy was {baseline.accuracy:.2f}, is "
            f"{result.accuracy:.2f}. {_differences(baseline.environment, result.environment)}"
            "If the change is wanted, accept it with --snapshot-update.",
        )
    old, new = baseline.scores[:count], result.scores[:count]
    differences = [after - before for before, after in zip(old, new, strict=True)]
    before, after = 100 * sum(old) / count, 100 * sum(new) / count
    p = sign_flip_p_value(differences)
    # Rounded, since 82 - 77 percent is a little less than five in binary.
    effect = round(abs(after - before), 9)
    shifted = p <= thresholds.significant and effect >= thresholds.smallest_effect
    outcome = Outcome.PASSED
    if shifted:
        outcome = Outcome.REGRESSED if after < before else Outcome.IMPROVED
    fell = [i for i, each in enumerate(differences) if each < 0]
    rose = [i for i, each in enumerate(differences) if each > 0]
    message = (
        f"{name}: {outcome}: accuracy was {before:.2f}, is {after:.2f} ({after - before:+.2f} points over "
        f"{count} examples; {len(fell)} fell, {len(rose)} rose; p = {p:.2g}, threshold {thresholds.significant:.2g}). "
        f"Fell: {_listed(fell)}. Rose: {_listed(rose)}. {_differences(baseline.environment, result.environment)}"
    ).rstrip()
    return Verdict(outcome, message, before, p)


def _listed(examples: Sequence[int]) -> str:
    if not examples:
        return "none"
    rest = len(examples) - _NAMED_AT_MOST
    return "examples " + ", ".join(map(str, examples[:_NAMED_AT_MOST])) + (f" and {rest} more" if rest > 0 else "")


def _differences(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    changed = [
        f"{name} {before.get(name, 'unknown')} → {now.get(name, 'unknown')}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    return f"Changed since the snapshot: {'; '.join(changed)}. " if changed else "Nothing recorded has changed since. "
