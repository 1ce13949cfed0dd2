"""Flipped examples: those whose score changed, with what was answered then and now."""

from __future__ import annotations

from dataclasses import dataclass

from drift.records.sources import Examples

__all__ = ["Flip", "flips"]


@dataclass(frozen=True)
class Flip:
    """One example whose score changed.

    Attributes:
        index: Its number in the cell, which is its seed: example k is the same in every run.
        prompt: The digest of its prompt.
        score_before, score: Then and now, in [0, 1].
        prediction_before, prediction: The answers then and now, where they are known.
        references: What a right answer holds, where it is known.
    """

    index: int
    prompt: str
    score_before: float
    score: float
    prediction_before: str | None = None
    prediction: str | None = None
    references: tuple[str, ...] | None = None


def flips(before: Examples, now: Examples) -> list[Flip]:
    """The examples of one prompt whose score changed: those that fell first, each in the order of now.

    Args:
        before: The cell then.
        now: The cell now.
    """
    then = {prompt: i for i, prompt in enumerate(before.prompts)}
    found = []
    for row, (index, prompt, score) in enumerate(zip(now.indices, now.prompts, now.scores, strict=True)):
        old = then.get(prompt)
        if old is None or before.scores[old] == score:
            continue
        found.append(
            Flip(
                index=index,
                prompt=prompt,
                score_before=before.scores[old],
                score=score,
                prediction_before=None if before.predictions is None else before.predictions[old],
                prediction=None if now.predictions is None else now.predictions[row],
                references=None if now.references is None else now.references[row],
            )
        )
    return sorted(found, key=lambda flip: flip.score > flip.score_before)
