"""The commands that look again: at just some cells, at just some examples, at the past of a cell."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence

from core.cells import Cell

__all__ = ["history_command", "rerun_command"]

_OF_WHOLE_CELLS = "--samples="


def rerun_command(
    cells: Sequence[Cell],
    declared: Collection[Cell],
    repeat: Sequence[str],
    examples: Mapping[Cell, Collection[int]] | None = None,
) -> str:
    """The pytest command for exactly these cells.

    Args:
        cells: At least one.
        declared: All cells there are.
        repeat: The options of the run that say what is measured.
        examples: The only ones to ask, of each of the cells; None asks what the run asked.
    """
    if examples is None:
        return shlex.join(["pytest", *_selection(cells, declared), *repeat])
    numbered = {cell: ",".join(map(str, sorted(numbers))) for cell, numbers in examples.items()}
    named = [f"--examples={cell}:{numbers}" for cell, numbers in numbered.items()]
    kept = [option for option in repeat if not option.startswith(_OF_WHOLE_CELLS)]
    return shlex.join(["pytest", "-m", "gpu", *named, *kept])


def _selection(cells: Sequence[Cell], declared: Collection[Cell]) -> list[str]:
    """Exact filters where they select these cells and no others, else an expression that names each."""
    wanted = {
        axis: sorted({getattr(cell, axis) for cell in cells}, key=lambda value: (value is None, value))
        for axis in Cell.axis_names()
    }
    filters = {axis: values for axis, values in wanted.items() if values != [None]}
    if {cell for cell in declared if cell.within(filters)} == set(cells):
        return ["-m", "gpu", *(f"--{axis}s={','.join(map(str, values))}" for axis, values in filters.items())]
    named = " or ".join(
        f"cell({', '.join(f'{axis}={value!r}' for axis, value in cell.axes.items())})" for cell in cells
    )
    return ["-m", f"gpu and ({named})"]


def history_command(cell: Cell, database: str, *, alone: bool) -> str:
    """The command that shows the past of a cell.

    Args:
        cell: The cell.
        database: The history's file.
        alone: Whether of this cell alone, or of all cells of its model.
    """
    shown = {axis: value for axis, value in cell.axes.items() if value is not None and (alone or axis == "model")}
    options = [f"--{axis}={value}" for axis, value in shown.items()]
    return shlex.join(["python", "-m", "drift", "history", *options, f"--database={database}"])
