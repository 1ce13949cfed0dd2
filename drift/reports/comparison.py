"""A comparison as a table for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from drift.changes import change_fields
from drift.comparison import CellComparison, Comparison, ModelComparison
from drift.reports.rendering import examples, interval, probability, rendered
from drift.statistics.outcomes import Outcome

__all__ = ["as_json", "as_markdown", "print_comparison"]

SCHEMA: Final = 1

_STYLES: Final = {Outcome.REGRESSED: "bold red", Outcome.IMPROVED: "bold green", Outcome.NOT_COMPARABLE: "magenta"}


def print_comparison(comparison: Comparison, console: Console, *, every_cell: bool = False) -> None:
    """Prints a comparison for a person.

    Args:
        comparison: What to print.
        console: Where to.
        every_cell: Whether cells without a shift are listed too.
    """
    if comparison.caution:
        console.print(comparison.caution, style="yellow", highlight=False, soft_wrap=True)
    for model in comparison.models:
        alone = f", {model.alone} more on one side only" if model.alone else ""
        console.print(f"[bold]{model.name}[/]: {model.summary}{alone}", highlight=False, soft_wrap=True)
        rows = _listed(model, every_cell)
        if rows:
            console.print(_table(rows))
        for pool in model.shifted_pools:
            console.print(pool.message, style=_STYLES[pool.outcome], soft_wrap=True, highlight=False)
        if model.changes:
            console.print("What differs, most suspicious first:", highlight=False)
        for change in model.changes:
            console.print(f"  {change}", soft_wrap=True, highlight=False, markup=False)
    verdict = f"{_verdict(comparison)}, corrected for {comparison.declared} cells"
    console.print(verdict, style="bold", highlight=False, soft_wrap=True)


def as_markdown(comparison: Comparison, *, every_cell: bool = False) -> str:
    """The comparison as Markdown, with shifted and incomparable cells only unless asked for all."""
    return rendered(
        "comparison.md.jinja",
        comparison=comparison,
        verdict=_verdict(comparison),
        listed=lambda model: _listed(model, every_cell),
    )


def as_json(comparison: Comparison) -> str:
    """The whole comparison as JSON, with every cell and every flipped example."""
    content = {
        "schema": SCHEMA,
        "before": comparison.before,
        "now": comparison.now,
        "shifted": comparison.shifted,
        "caution": comparison.caution,
        "models": [
            {
                "before": model.before,
                "now": model.now,
                "alone": model.alone,
                "changes": [change_fields(change) for change in model.changes],
                "pools": [
                    {"pool": str(pool.pool), "outcome": pool.outcome, "adjusted": pool.adjusted, **asdict(pool.shift)}
                    for pool in model.pools
                ],
                "cells": [_cell_fields(cell) for cell in model.cells],
            }
            for model in comparison.models
        ],
    }
    return json.dumps(content, indent=1) + "\n"


def _cell_fields(comparison: CellComparison) -> dict[str, object]:
    content = asdict(comparison)
    place = {axis: value for axis, value in comparison.cell.axes.items() if axis != "model"}
    return {**content, "cell": comparison.cell.key, "place": place}


def _verdict(comparison: Comparison) -> str:
    counts = {outcome: comparison.counted(outcome) for outcome in _STYLES}
    pools = sum(len(model.shifted_pools) for model in comparison.models)
    said = [f"{count} cells {outcome}" for outcome, count in counts.items() if count]
    said += [f"{pools} pools shifted"] if pools else []
    return ", ".join(said) if said else "no shift"


def _listed(model: ModelComparison, every_cell: bool) -> list[CellComparison]:
    return [cell for cell in model.cells if every_cell or cell.outcome is not Outcome.PASSED]


def _table(cells: Sequence[CellComparison]) -> Table:
    table = Table(box=box.SIMPLE)
    for name in ("cell", "before", "now", "points", "95% interval", "p", "examples"):
        table.add_column(name, justify="left" if name == "cell" else "right", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    for cell in cells:
        table.add_row(
            cell.cell.key,
            f"{cell.before:.2f}",
            f"{cell.now:.2f}",
            f"{cell.points:+.2f}",
            interval(cell.interval),
            probability(cell.p_value),
            examples(cell),
            f"{cell.outcome}: {cell.note}" if cell.note else str(cell.outcome),
            style=_STYLES.get(cell.outcome),
        )
    return table
