"""Suspects: what changed for a model that has fallen, drifts or was asked something else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from drift.changes import Change, changes
from drift.fallen import onset_of
from drift.judging import JudgedCell
from drift.past import Past
from drift.statistics.outcomes import Outcome
from drift.statistics.pools import Pool

__all__ = ["Suspects", "suspects"]

_TOLD = (Outcome.REGRESSED, Outcome.NOT_COMPARABLE)


@dataclass(frozen=True)
class Suspects:
    """What changed for one model.

    Attributes:
        model: The model.
        since_accepted: Since its snapshot was accepted, most suspicious first.
        since_good: Since the last good run; None where the history knows none.
    """

    model: str
    since_accepted: tuple[Change, ...]
    since_good: tuple[Change, ...] | None = None


def suspects(cells: Sequence[JudgedCell], pools: Sequence[Pool], past: Past, started: str) -> Iterator[Suspects]:
    """What changed for each model of which a night has something to tell, for any of those cells.

    Args:
        cells: Of the night.
        pools: Of cells in which something was found.
        past: The runs before.
        started: When the night began, as ISO 8601 in UTC.
    """
    told = [each for each in cells if each.outcome in _TOLD]
    for model in dict.fromkeys([each.cell.model for each in told] + [pool.model for pool in pools]):
        own = [each for each in told if each.cell.model == model]
        # What many cells share, any of them can tell.
        own = own or [each for each in cells if each.cell.model == model][:1]
        since_accepted: list[Change] = []
        since_good: list[Change] | None = None
        for each in own:
            now = each.result.environment
            since_accepted += changes({} if each.baseline is None else each.baseline.environment, now)
            since = onset_of(each, past.entries(each.cell), started)
            if since is not None and since.last_good is not None:
                since_good = (since_good or []) + changes(past.environment(since.last_good), now)
        yield Suspects(model, _each_once(since_accepted), None if since_good is None else _each_once(since_good))


def _each_once(found: Sequence[Change]) -> tuple[Change, ...]:
    different = {str(change): change for change in found}.values()
    return tuple(sorted(different, key=lambda change: change.suspicion))
