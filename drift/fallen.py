"""Cells that have regressed: by how much, since when, and by which examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from core.cells import Cell
from drift.flips import Flip, flips
from drift.judging import JudgedCell
from drift.past import Past
from drift.records.history import Entry, Onset, Run, onset
from drift.records.results import CellResult, ResultError, ResultFolder
from drift.records.snapshots import Baseline
from drift.records.sources import Examples
from drift.statistics.outcomes import Outcome
from drift.statistics.paired import Shift

__all__ = ["FallenCell", "fallen_cell", "onset_of"]

# How many earlier runs are looked through for the answers behind a snapshot's scores.
_ASKED_FOR_ANSWERS: Final = 20


@dataclass(frozen=True)
class FallenCell:
    """A cell that has regressed.

    Attributes:
        cell: The cell.
        before, accuracy: Over the compared examples, then and now, in percent.
        shift: Between the two.
        onset: Since when, as far as the history knows.
        flips: The examples whose score changed.
    """

    cell: Cell
    before: float
    accuracy: float
    shift: Shift
    onset: Onset | None = None
    flips: tuple[Flip, ...] = ()

    @property
    def since(self) -> str:
        """Since when, in words."""
        if self.onset is None:
            return "not known"
        first, good = self.onset.first, self.onset.last_good
        runs = "this run" if self.onset.runs == 1 else f"{first.started[:10]}, {self.onset.runs} runs"
        return f"{runs}; last good {good.started[:10]}" if good is not None else runs


def fallen_cell(judged: JudgedCell, past: Past, started: str) -> FallenCell | None:
    """The details of a cell that has regressed; None for any other.

    Args:
        judged: The cell.
        past: The runs before.
        started: When the night began, as ISO 8601 in UTC.
    """
    verdict, baseline = judged.verdict, judged.baseline
    if judged.outcome is not Outcome.REGRESSED or baseline is None or verdict.before is None:
        return None
    if verdict.judgement is None:
        return None
    earlier = past.entries(judged.cell)
    since = onset_of(judged, earlier, started)
    good = [] if since is None or since.last_good is None else [since.last_good]
    answered = _with_predictions(baseline, [*good, *reversed(earlier)])
    return FallenCell(
        cell=judged.cell,
        before=verdict.before,
        accuracy=verdict.before + verdict.judgement.shift.points,
        shift=verdict.judgement.shift,
        onset=since,
        flips=tuple(flips(answered, Examples.of_result(judged.result))),
    )


def onset_of(judged: JudgedCell, earlier: Sequence[Entry], started: str) -> Onset | None:
    """Since when a cell has regressed; None where it has not.

    Args:
        judged: The cell in the night at hand.
        earlier: The same cell in the runs before, in the order of time.
        started: When the night began, as ISO 8601 in UTC.
    """
    tonight = Run(started, "") if judged.outcome is Outcome.REGRESSED else None
    return None if tonight is None else onset(earlier, tonight)


def _earlier(entry: Entry) -> CellResult | None:
    """The result of an earlier run, where it is still there."""
    try:
        return ResultFolder(Path(entry.results)).of(entry.cell)
    except ResultError:
        return None


def _with_predictions(baseline: Baseline, earlier: Sequence[Entry]) -> Examples:
    """A snapshot, which has scores alone, with the answers of earlier runs that earned the same ones.

    Args:
        baseline: The snapshot.
        earlier: Of the same cell; the first ones are asked first, as far as their results are still there.
    """
    pairs = list(zip(baseline.prompts, baseline.scores, strict=True))
    known: dict[tuple[str, float], str] = {}
    for entry in earlier[:_ASKED_FOR_ANSWERS]:
        result = _earlier(entry)
        if result is not None:
            for prompt, score, answer in zip(result.prompts, result.scores, result.predictions, strict=True):
                known.setdefault((prompt, score), answer)
        if known.keys() >= set(pairs):
            break
    return replace(Examples.of_baseline(baseline), predictions=tuple(known.get(pair) for pair in pairs))
