"""Alerts: what a run has to tell people, short enough to be read on a phone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from drift.changes import Change, change_fields
from drift.flips import Flip
from drift.records.history import Onset
from drift.reports.rendering import rendered
from drift.statistics.likelihoods import EarlyWarning
from drift.statistics.numeric_drift import ScatterWarning
from drift.statistics.paired import Shift
from drift.statistics.pooled import PooledVerdict

__all__ = ["Alert", "FallenCell", "Problem", "Suspects", "as_json", "as_markdown"]

SCHEMA: Final = 1

# What the message shows of each; the file alert.json has everything.
_CELLS_SHOWN: Final = 10
_FLIPS_SHOWN: Final = 5
_PROBLEMS_SHOWN: Final = 5


@dataclass(frozen=True)
class FallenCell:
    """A cell that has regressed.

    Attributes:
        model, task, length, depth: The cell.
        before, accuracy: Over the compared examples, then and now, in percent.
        shift: Between the two.
        onset: Since when, as far as the history knows.
        flips: The examples whose score changed.
    """

    model: str
    task: str
    length: int
    depth: int | None
    before: float
    accuracy: float
    shift: Shift
    onset: Onset | None = None
    flips: tuple[Flip, ...] = ()

    @property
    def key(self) -> str:
        """The cell's name within its model."""
        return f"{self.task}-{self.length}" + ("" if self.depth is None else f"-d{self.depth}")

    @property
    def since(self) -> str:
        """Since when, in words."""
        if self.onset is None:
            return "not known"
        first, good = self.onset.first, self.onset.last_good
        runs = "this run" if self.onset.runs == 1 else f"{first.started[:10]}, {self.onset.runs} runs"
        return f"{runs}; last good {good.started[:10]}" if good is not None else runs


@dataclass(frozen=True)
class Problem:
    """A case that failed without a verdict on the model: it could not be compared, or not be run.

    Attributes:
        name: The cell or the case.
        reason: Why, in one line.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Suspects:
    """What changed for a model that has fallen, drifts or was asked something else.

    Attributes:
        model: The model.
        since_accepted: Since its snapshot was accepted, most suspicious first.
        since_good: Since the last good run; None where the history knows none.
    """

    model: str
    since_accepted: tuple[Change, ...]
    since_good: tuple[Change, ...] | None = None


@dataclass(frozen=True)
class Alert:
    """What a run came to.

    Attributes:
        judged: How many cells it compared.
        fallen: Those that regressed, the largest fall first.
        pools: Pools that regressed, the surest first.
        improved: Cells and pools that improved.
        warnings: Pools whose expected answers became more or less likely, the surest first; then models whose
            log-likelihoods scattered.
        problems: Cases that failed otherwise.
        suspects: What changed, for each model that the alert tells of.
        rerun: The command that asks just what failed again: the flipped examples of fallen cells, or whole cells.
        history: The command that shows the past of the worst cell.
        results: The folder of the run's results.
    """

    judged: int
    fallen: tuple[FallenCell, ...]
    pools: tuple[PooledVerdict, ...]
    improved: tuple[str, ...]
    warnings: tuple[EarlyWarning | ScatterWarning, ...]
    problems: tuple[Problem, ...]
    suspects: tuple[Suspects, ...]
    rerun: str
    history: str
    results: str

    @property
    def failed(self) -> bool:
        """Whether there is anything to be alarmed about."""
        return bool(self.fallen or self.pools or self.problems)

    @property
    def title(self) -> str:
        """The whole alert in one line."""
        models = list(dict.fromkeys([cell.model for cell in self.fallen] + [each.pool.model for each in self.pools]))
        if len(models) > 1:
            return f"longwatch: {len(models)} models fell: {', '.join(models)}"
        if self.fallen:
            worst, others = self.fallen[0], len(self.fallen) - 1
            more = f" and on {others} more cell{'s' if others > 1 else ''}" if others else ""
            return f"longwatch: {worst.model} fell {-worst.shift.points:.1f} points on {worst.key}{more}"
        if self.pools:
            first = self.pools[0]
            return f"longwatch: {first.pool} fell {-first.shift.points:.1f} points, over {first.cells} cells"
        if self.problems:
            return f"longwatch: {len(self.problems)} case{'s' if len(self.problems) > 1 else ''} failed, no shift found"
        return f"longwatch: no shift in {self.judged} cells"


def as_markdown(alert: Alert) -> str:
    """The alert as a short Markdown text, title included."""
    flips = [(cell, flip) for cell in alert.fallen for flip in cell.flips if flip.score < flip.score_before]
    return rendered(
        "alert.md.jinja",
        alert=alert,
        cells=alert.fallen[:_CELLS_SHOWN],
        flips=flips[:_FLIPS_SHOWN],
        more_flips=len(flips[_FLIPS_SHOWN:]),
        problems=alert.problems[:_PROBLEMS_SHOWN],
        several_models=len({cell.model for cell in alert.fallen}) > 1,
    )


def as_json(alert: Alert) -> str:
    """The whole alert as JSON."""
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "title": alert.title,
        "failed": alert.failed,
        "judged": alert.judged,
        "fallen": [{**asdict(cell), "key": cell.key, "since": cell.since} for cell in alert.fallen],
        "pools": [
            {**asdict(each.pool), **asdict(each.shift), "adjusted": each.adjusted, "cells": each.cells}
            for each in alert.pools
        ],
        "improved": alert.improved,
        "early_warnings": [{"kind": each.kind, **asdict(each)} for each in alert.warnings],
        "problems": [asdict(each) for each in alert.problems],
        "suspects": [
            {
                "model": each.model,
                "since_accepted": [change_fields(change) for change in each.since_accepted],
                "since_good": None
                if each.since_good is None
                else [change_fields(change) for change in each.since_good],
            }
            for each in alert.suspects
        ],
        "rerun": alert.rerun,
        "history": alert.history,
        "results": alert.results,
    }
    return json.dumps(content, indent=1) + "\n"
