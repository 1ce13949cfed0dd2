"""A history as a table for the terminal, as JSON and as a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from drift.changes import changes
from drift.statistics.outcomes import Outcome
from drift.time_series import CellTimeSeries, DatedChangePoint, MeanTimeSeries

__all__ = ["history_json", "plot_history", "print_history", "sparkline"]

SCHEMA: Final = 1

_BARS: Final = "▁▂▃▄▅▆▇█"
_LONGEST_SPARKLINE: Final = 30
_NIGHTS_LISTED: Final = 30
_NOTED: Final = (Outcome.REGRESSED, Outcome.IMPROVED)
_LINES_WITH_NAMES: Final = 20


def sparkline(values: Sequence[float], lowest: float, highest: float) -> str:
    """Values as a row of bars; the last 30 of them."""
    span = max(highest - lowest, 1e-9)
    shares = (min(max((value - lowest) / span, 0.0), 1.0) for value in values[-_LONGEST_SPARKLINE:])
    return "".join(_BARS[round(share * (len(_BARS) - 1))] for share in shares)


def print_history(
    model: str,
    cells: Sequence[CellTimeSeries],
    mean: MeanTimeSeries | None,
    environments: Mapping[str, Mapping[str, Any]],
    console: Console,
) -> None:
    """Prints a line for each cell; each night too, where there is but one cell.

    Args:
        model: Whose cells these are.
        cells: What to print.
        mean: Over the cells, where there are several.
        environments: By fingerprint, those around change points at least.
        console: Where to.
    """
    table = Table(box=box.SIMPLE)
    for name in ("cell", "runs", "accepted", "last", "drift"):
        table.add_column(name, justify="left" if name == "cell" else "right", no_wrap=True)
    for name in ("accuracy, 0 to 100", "changes of level, in points from the accepted"):
        table.add_column(name)
    for cell in cells:
        last = cell.entries[-1]
        accepted = None if last.before is None else last.before
        table.add_row(
            cell.name,
            str(len(cell.entries)),
            "-" if accepted is None else f"{accepted:.1f}",
            f"{last.accuracy:.1f}",
            "-" if accepted is None else f"{last.accuracy - accepted:+.1f}",
            sparkline([entry.accuracy for entry in cell.entries], 0, 100),
            _described(cell.change_points),
        )
    console.print(f"[bold]{model}[/]", highlight=False)
    console.print(table)
    if mean is not None and mean.drift:
        reach = max(map(abs, mean.drift)) or 1.0
        console.print(
            f"mean of {mean.cells} cells: {mean.drift[-1]:+.2f} points from the accepted, "
            f"{sparkline(mean.drift, -reach, reach)} over {len(mean.drift)} runs; "
            f"changes of level: {_described(mean.change_points)}",
            highlight=False,
            soft_wrap=True,
        )
    in_cells = tuple(each for cell in cells for each in cell.change_points)
    for each in in_cells if mean is None else mean.change_points:
        then, now = (environments.get(entry.environment, {}) for entry in (each.last, each.first))
        found = "; ".join(map(str, changes(then, now))) or "nothing that is recorded"
        console.print(f"changed at {each}: {found}", highlight=False, soft_wrap=True, markup=False)
    if len(cells) == 1:
        _print_nights(cells[0], console)


def _described(found: Sequence[DatedChangePoint]) -> str:
    return "; ".join(map(str, found)) or "none"


def _print_nights(cell: CellTimeSeries, console: Console) -> None:
    first_ones = {each.first.run for each in cell.change_points}
    table = Table(box=box.SIMPLE)
    for name in ("run", "commit", "examples", "accuracy", "accepted", "verdict", "environment"):
        table.add_column(
            name, justify="right" if name in ("examples", "accuracy", "accepted") else "left", no_wrap=True
        )
    for entry in cell.entries[-_NIGHTS_LISTED:]:
        verdict = "accepted" if entry.accepted else str(entry.outcome)
        table.add_row(
            entry.started,
            entry.revision or "-",
            str(entry.examples),
            f"{entry.accuracy:.2f}",
            "-" if entry.before is None else f"{entry.before:.2f}",
            f"{verdict}, level changed" if entry.run in first_ones else verdict,
            entry.environment,
            style="bold" if entry.outcome in _NOTED else None,
        )
    console.print(table)


def history_json(model: str, cells: Sequence[CellTimeSeries], mean: MeanTimeSeries | None) -> str:
    """Everything that `print_history` and `plot_history` show, and every night."""
    content = {
        "schema": SCHEMA,
        "model": model,
        "cells": [
            {
                "cell": cell.name,
                "steps": [_fields_of(each) for each in cell.change_points],
                "nights": [asdict(entry) for entry in cell.entries],
            }
            for cell in cells
        ],
        "mean": None
        if mean is None
        else {
            "cells": mean.cells,
            "runs": [entry.run for entry in mean.runs],
            "drift": mean.drift,
            "steps": [_fields_of(each) for each in mean.change_points],
        },
    }
    return json.dumps(content, indent=1) + "\n"


def _fields_of(each: DatedChangePoint) -> dict[str, object]:
    levels = {"before": each.change_point.before, "after": each.change_point.after}
    return {"run": each.first.run, "started": each.first.started, **levels}


def plot_history(model: str, cells: Sequence[CellTimeSeries], mean: MeanTimeSeries | None, path: Path) -> None:
    """Draws accuracy over time: a line for each cell, its snapshot dashed, its change points marked.

    Args:
        model: Whose cells these are.
        cells: What to draw.
        mean: Drawn below, where there is one.
        path: The picture; its ending says of which kind (.png, .svg, .pdf).

    Raises:
        ValueError: Pictures of that kind cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5 if mean is None else 8), layout="constrained")
    axes = figure.subplots(1 if mean is None else 2, 1, squeeze=False)[:, 0]
    for i, cell in enumerate(cells):
        colour = f"C{i % 10}"
        dates = [_date(entry.started) for entry in cell.entries]
        values = [entry.accuracy for entry in cell.entries]
        axes[0].plot(dates, values, marker=".", color=colour, label=cell.name)
        known = [
            (date, entry.before) for date, entry in zip(dates, cell.entries, strict=True) if entry.before is not None
        ]
        axes[0].plot(
            [date for date, _ in known], [value for _, value in known], linestyle="--", linewidth=0.8, color=colour
        )
        for each in cell.change_points:
            axes[0].axvline(_date(each.first.started), color=colour, linewidth=0.8, alpha=0.6)
    axes[0].set(title=f"{model}: accuracy, and what is accepted (dashed)", ylabel="percent", ylim=(-2, 102))
    if len(cells) <= _LINES_WITH_NAMES:
        axes[0].legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    if mean is not None:
        axes[1].plot([_date(entry.started) for entry in mean.runs], mean.drift, marker=".", color="black")
        for each in mean.change_points:
            axes[1].axvline(_date(each.first.started), color="black", linewidth=0.8, alpha=0.6)
        axes[1].set(title=f"mean distance from what is accepted, {mean.cells} cells", ylabel="points")
    figure.autofmt_xdate()
    figure.savefig(path)


def _date(text: str) -> datetime:
    return datetime.fromisoformat(text)
