"""Alerts in GitHub Actions: annotations, and the summary of the job."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from drift.reports.alerts import Alert

__all__ = ["add_to_summary", "annotation_lines"]

# GitHub shows no more errors of one step than this.
_MOST: Final = 10


def annotation_lines(alert: Alert) -> list[str]:
    """The workflow commands that mark a run's page: a line for each error, at most ten.

    Their form is GitHub's, "Workflow commands for GitHub Actions", setting an error message.
    """
    lines = [
        _error(
            f"{cell.model}-{cell.key} fell {-cell.shift.points:.1f} points",
            f"was {cell.before:.1f}, is {cell.accuracy:.1f} over {cell.shift.examples} examples, "
            f"p = {cell.shift.p_value:.2g}; since: {cell.since}",
        )
        for cell in alert.fallen
    ]
    lines += [_error(f"{each.pool} fell {-each.shift.points:.1f} points", each.message) for each in alert.pools]
    lines += [_error(each.name, each.reason) for each in alert.problems]
    if len(lines) <= _MOST:
        return lines
    rest = len(lines) - _MOST + 1
    return [*lines[: _MOST - 1], _error(alert.title, f"{rest} more, see the summary of the job")]


def add_to_summary(path: Path, markdown: str) -> None:
    """Adds a text to the summary of the job.

    Args:
        path: What `GITHUB_STEP_SUMMARY` names.
        markdown: What to add.

    Raises:
        OSError: The file cannot be written.
    """
    with path.open("a", encoding="utf-8") as file:
        file.write(markdown + "\n")


def _error(title: str, message: str) -> str:
    return f"::error title={_escaped(title).replace(':', '%3A').replace(',', '%2C')}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
