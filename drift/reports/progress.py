"""How far a run is: a line for each cell that has ended, and how long the rest will take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Final

import numpy as np

from core.cells import Cell
from drift.judging import JudgedCell
from drift.statistics.outcomes import Outcome

__all__ = ["Pace", "duration", "progress_line", "progress_style"]

_STYLES: Final = {Outcome.PASSED: "green", Outcome.IMPROVED: "green", Outcome.REGRESSED: "red"}
# Points that the line shows.
_VISIBLE: Final = 0.005


class Pace:
    """Foretells how long cells take from those that have ended.

    A cell costs something by itself and something a token. Both are measured for each model; a model that has not
    been asked yet is taken to be as fast as the mean of the others, or as it was in an earlier run.

    Args:
        earlier: Seconds of cells in an earlier run on the same device, by the cell's name.
    """

    def __init__(self, earlier: Mapping[str, float] | None = None) -> None:
        self._earlier = dict(earlier or {})
        self._seconds: defaultdict[str, dict[Cell, float]] = defaultdict(dict)

    def ended(self, cell: Cell, seconds: float) -> None:
        """Takes note of a cell's time."""
        self._seconds[cell.model][cell] = seconds

    @property
    def seconds(self) -> dict[str, float]:
        """What is known of every cell, for the next run."""
        measured = {str(cell): each for cells in self._seconds.values() for cell, each in cells.items()}
        return {**self._earlier, **{name: round(each, 3) for name, each in measured.items()}}

    def left(self, cells: Collection[Cell], workers: int) -> float:
        """How many seconds some cells will take.

        Args:
            cells: Those that have not ended.
            workers: How many run at once.
        """
        known = {model: _costs(measured) for model, measured in self._seconds.items()}
        usual = tuple(np.mean(list(known.values()), axis=0)) if known else (0.0, 0.0)
        scale = self._scale()
        total = 0.0
        for cell in cells:
            before = self._earlier.get(str(cell))
            own, per_token = known.get(cell.model, usual)
            total += own + per_token * cell.length if before is None else scale * before
        return total / max(min(workers, len(cells)), 1)

    def _scale(self) -> float:
        """How much slower this run is than the earlier one."""
        both = [
            (seconds, self._earlier[str(cell)])
            for cells in self._seconds.values()
            for cell, seconds in cells.items()
            if str(cell) in self._earlier
        ]
        before = sum(then for _, then in both)
        return sum(now for now, _ in both) / before if before else 1.0


def _costs(measured: Mapping[Cell, float]) -> tuple[float, float]:
    """Seconds of a cell, and of each token of its length, by least squares; neither is below zero."""
    lengths = np.array([cell.length for cell in measured], dtype=float)
    seconds = np.array(list(measured.values()))
    if np.unique(lengths).size > 1:
        per_token, own = np.polyfit(lengths, seconds, 1)
        if per_token > 0 and own > 0:
            return float(own), float(per_token)
    return 0.0, float(seconds.sum() / lengths.sum())


def progress_line(judged: JudgedCell, left: int, seconds_left: float, width: int) -> str:
    """What is said of a cell that has ended, in one line.

    Args:
        judged: The cell.
        left: How many cells have not ended.
        seconds_left: How long these will take.
        width: The columns there are; what matters least is left out where they do not do.
    """
    result, before = judged.result, judged.verdict.before
    seconds = max(result.seconds.get("decode", 0.0), 1e-9)
    was = "no baseline yet" if before is None else f"was {before:.2f}"
    counted = f"{len(result.scores)} examples"
    speed = f"{sum(result.prompt_tokens) / seconds:,.0f} tokens/s"
    remaining = f"{left} cell{'' if left == 1 else 's'} and {duration(seconds_left)} left"
    head = f"{judged.cell!s:<34} accuracy {result.accuracy:6.2f} ({was}) {_outcome(judged)}"
    for parts in ([counted, speed, remaining], [counted, remaining], [remaining]):
        line = ", ".join([head, *parts])
        if len(line) <= width:
            return line
    return f"{judged.cell} {result.accuracy:.2f} {judged.outcome}, {remaining}"[:width]


def progress_style(judged: JudgedCell) -> str:
    """The colour of a cell's line."""
    if judged.outcome is Outcome.PASSED and judged.moved < -_VISIBLE:
        return "yellow"
    return _STYLES.get(judged.outcome, "yellow")


def _outcome(judged: JudgedCell) -> str:
    if judged.outcome is Outcome.PASSED and abs(judged.moved) > _VISIBLE:
        p_value = judged.verdict.p_value
        return "passed, within noise" + ("" if p_value is None else f" (p = {p_value:.2g})")
    return "not judged" if judged.outcome is Outcome.NO_SNAPSHOT else str(judged.outcome)


def duration(seconds: float) -> str:
    """A time to come, as minutes and seconds, or hours and minutes."""
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
