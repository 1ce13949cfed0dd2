"""Accepted accuracies as Markdown tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from drift.records.snapshots import Baseline

__all__ = ["length_by_depth", "task_by_length"]

_KEY = re.compile(r"(?P<task>.+)-(?P<length>\d+)(?:-d(?P<depth>\d+))?")


def task_by_length(baselines: Mapping[str, Baseline]) -> str:
    """Accuracy in percent of every cell without a depth: a row a task, a column a length."""
    cells = {(m["task"], int(m["length"])): key for key, m in _parsed(baselines) if m["depth"] is None}
    tasks = list(dict.fromkeys(task for task, _ in cells))
    lengths = sorted({length for _, length in cells})
    return _table("task", tasks, lengths, str, lambda task, length: baselines.get(cells.get((task, length), "")))


def length_by_depth(baselines: Mapping[str, Baseline], task: str) -> str:
    """Accuracy in percent of one task: a row a length, a column a depth of the needle."""
    cells = {
        (int(m["length"]), int(m["depth"])): key
        for key, m in _parsed(baselines)
        if m["task"] == task and m["depth"] is not None
    }
    lengths, depths = (sorted(set(each)) for each in zip(*cells, strict=True))
    return _table("length", lengths, depths, "{}%".format, lambda *place: baselines.get(cells.get(place, "")))


def _parsed(baselines: Mapping[str, Baseline]) -> list[tuple[str, re.Match[str]]]:
    found = ((key, _KEY.fullmatch(key)) for key in baselines)
    return [(key, match) for key, match in found if match]


def _table(
    corner: str,
    rows: Sequence[str] | Sequence[int],
    columns: Sequence[int],
    heading: Callable[[int], str],
    entry: Callable[..., Baseline | None],
) -> str:
    lines = [f"| {corner} | " + " | ".join(map(heading, columns)) + " |", "|---|" + "---:|" * len(columns)]
    for row in rows:
        found = (entry(row, column) for column in columns)
        lines.append(
            f"| {row} | " + " | ".join("" if each is None else f"{each.accuracy:.1f}" for each in found) + " |"
        )
    return "\n".join(lines)
