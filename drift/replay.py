"""Replayed examples: each beside its accepted score. No test, since chosen ones are no sample."""

from __future__ import annotations

from dataclasses import dataclass

from drift.records.results import CellResult
from drift.records.snapshots import Baseline
from drift.statistics.outcomes import Outcome
from drift.verdicts import Verdict

__all__ = ["ReplayedExample", "replayed", "replayed_examples"]


@dataclass(frozen=True)
class ReplayedExample:
    """One example, accepted and now.

    Attributes:
        index: Its number in the cell.
        prompt: The digest of its prompt.
        score: In [0, 1].
        prediction: The answer.
        references: What a right answer holds.
        accepted: The accepted score; None where the snapshot does not hold the example.
        same_prompt: Whether the accepted score is of the same prompt.
    """

    index: int
    prompt: str
    score: float
    prediction: str
    references: tuple[str, ...]
    accepted: float | None = None
    same_prompt: bool = True

    @property
    def outcome(self) -> Outcome:
        """How it stands beside its accepted score."""
        if self.accepted is None:
            return Outcome.NO_SNAPSHOT
        if not self.same_prompt:
            return Outcome.NOT_COMPARABLE
        if self.score == self.accepted:
            return Outcome.PASSED
        return Outcome.REGRESSED if self.score < self.accepted else Outcome.IMPROVED

    def __str__(self) -> str:
        was = "not accepted yet" if self.accepted is None else f"{self.accepted:g} → {self.score:g}"
        changed = "" if self.same_prompt else ", of another prompt"
        return (
            f"example {self.index}, prompt {self.prompt}: {was}{changed}; "
            f"expected {list(self.references)}, answered {self.prediction!r}"
        )


def replayed_examples(result: CellResult, baseline: Baseline | None) -> list[ReplayedExample]:
    """The examples of a result beside what was accepted of them."""
    accepted = {} if baseline is None else dict(enumerate(zip(baseline.scores, baseline.prompts, strict=True)))
    found = []
    rows = zip(result.indices, result.prompts, result.scores, result.predictions, result.references, strict=True)
    for index, prompt, score, prediction, references in rows:
        before, its_prompt = accepted.get(index, (None, prompt))
        found.append(ReplayedExample(index, prompt, score, prediction, references, before, its_prompt == prompt))
    return found


def replayed(result: CellResult, baseline: Baseline | None) -> Verdict:
    """What chosen examples come to: the worst of them, which the message tells of.

    Args:
        result: Of the chosen examples.
        baseline: What is accepted of their cell; None where nothing is.
    """
    examples = replayed_examples(result, baseline)
    worst_first = (
        Outcome.REGRESSED,
        Outcome.NOT_COMPARABLE,
        Outcome.NO_SNAPSHOT,
        Outcome.IMPROVED,
        Outcome.PASSED,
    )
    outcome = min((each.outcome for each in examples), key=worst_first.index)
    told = [each for each in examples if each.outcome is outcome]
    shown = "; ".join(map(str, told))
    message = f"{result.model}-{result.key}: {len(told)} of {len(examples)} chosen examples {outcome}: {shown}"
    return Verdict(outcome, message)
