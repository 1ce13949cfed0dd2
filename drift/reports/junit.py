"""A night in JUnit files: properties of the whole run, and of the case of each cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from drift.judging import JudgedCell
from drift.night import Night
from drift.records.run_file import Purpose

__all__ = ["JUnitProperties", "cell_properties"]


@dataclass(frozen=True)
class JUnitProperties:
    """Adds properties to the whole run.

    Attributes:
        add: Takes a property's name and value; None where no such file is written.
    """

    add: Callable[[str, str], object] | None
    name: str = "JUnit file"

    def cell_judged(self, judged: JudgedCell) -> Sequence[str]:
        return ()

    def night_judged(self, night: Night) -> Sequence[str]:
        if self.add is not None and night.purpose is Purpose.JUDGE:
            self.add("longwatch_alert", night.title)
            self.add("longwatch_status", str(int(night.status)))
            for finding in night.fallen_pools:
                self.add("longwatch_pool", finding.message)
        return ()


def cell_properties(judged: JudgedCell) -> list[tuple[str, object]]:
    """The properties of a cell's case, one for each number."""
    properties: list[tuple[str, object]] = [
        ("longwatch_outcome", str(judged.outcome)),
        ("longwatch_accuracy", round(judged.result.accuracy, 2)),
        ("longwatch_examples", len(judged.result.scores)),
    ]
    if judged.verdict.before is not None:
        properties.append(("longwatch_accepted_accuracy", round(judged.verdict.before, 2)))
    return properties
