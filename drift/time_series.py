"""Time series of cells: what a history says of each, its drift from the snapshot, and where its level changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from drift.records.history import Entry
from drift.statistics.change_points import ChangePoint, change_points

__all__ = ["CellTimeSeries", "DatedChangePoint", "MeanTimeSeries", "cell_time_series", "mean_time_series"]


@dataclass(frozen=True)
class DatedChangePoint:
    """A change point, and the first run on the new level.

    Attributes:
        change_point: Of the distance from the snapshot's accuracy, in percentage points.
        first: The run.
        last: The run before it, on the old level.
    """

    change_point: ChangePoint
    first: Entry
    last: Entry

    def __str__(self) -> str:
        return f"{self.first.started[:10]}: {self.change_point.before:+.1f} → {self.change_point.after:+.1f}"


@dataclass(frozen=True)
class CellTimeSeries:
    """One cell over the runs that watched it.

    Attributes:
        name: The cell within its model.
        entries: In the order of time; runs that accepted what they measured are among them.
        watched: Those that were compared with the snapshot that holds today.
        change_points: Of the distance from it.
    """

    name: str
    entries: tuple[Entry, ...]
    watched: tuple[Entry, ...]
    change_points: tuple[DatedChangePoint, ...]


@dataclass(frozen=True)
class MeanTimeSeries:
    """The mean distance from the snapshots over several cells, which shows what no cell alone does.

    Attributes:
        cells: How many cells.
        runs: An entry of each run that has them all.
        drift: The mean distance in each, in percentage points.
        change_points: Of that.
    """

    cells: int
    runs: tuple[Entry, ...]
    drift: tuple[float, ...]
    change_points: tuple[DatedChangePoint, ...]


def cell_time_series(entries: Sequence[Entry]) -> list[CellTimeSeries]:
    """What the history says of each cell.

    Change points are looked for among the runs that were compared with the present snapshot, which stays where it is:
    so a drift too slow to fail any night still shows.

    Args:
        entries: Of one model in one zoo, in the order of time.
    """
    by_cell: defaultdict[tuple[str, int, int], list[Entry]] = defaultdict(list)
    for entry in entries:
        by_cell[entry.task, -1 if entry.depth is None else entry.depth, entry.length].append(entry)
    return [_cell(own) for _, own in sorted(by_cell.items())]


def mean_time_series(cells: Sequence[CellTimeSeries]) -> MeanTimeSeries | None:
    """The mean over all cells of the last run, through the runs that have them all; None for a single cell."""
    watched = {(cell.name, entry.run): entry for cell in cells for entry in cell.watched}
    last = max((run for _, run in watched), default=None)
    names = [cell.name for cell in cells if (cell.name, last) in watched]
    if len(names) < 2:
        return None
    runs = sorted({run for _, run in watched})
    whole = [run for run in runs if all((name, run) in watched for name in names)]
    drift = [sum(_distance(watched[name, run]) for name in names) / len(names) for run in whole]
    firsts = [watched[names[0], run] for run in whole]
    resolution = sum(_resolution(watched[name, whole[-1]]) for name in names) / len(names) ** 2
    return MeanTimeSeries(len(names), tuple(firsts), tuple(drift), _dated(drift, resolution, firsts))


def _cell(entries: Sequence[Entry]) -> CellTimeSeries:
    baseline = next((entry.baseline for entry in reversed(entries) if _is_watched(entry)), None)
    watched = [entry for entry in entries if _is_watched(entry) and entry.baseline == baseline]
    found = _dated([_distance(entry) for entry in watched], _resolution(watched[-1]), watched) if watched else ()
    return CellTimeSeries(entries[-1].key, tuple(entries), tuple(watched), found)


def _is_watched(entry: Entry) -> bool:
    return entry.before is not None and not entry.accepted


def _distance(entry: Entry) -> float:
    return entry.accuracy - (entry.before or 0.0)


def _resolution(entry: Entry) -> float:
    return 100 / entry.examples


def _dated(values: Sequence[float], resolution: float, entries: Sequence[Entry]) -> tuple[DatedChangePoint, ...]:
    found = change_points(values, resolution)
    return tuple(DatedChangePoint(each, entries[each.at], entries[each.at - 1]) for each in found)
