"""A night in GitHub Actions: annotations, and the summary of the job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drift.judging import JudgedCell
from drift.night import Night
from drift.reports.alert_text import as_markdown
from drift.reports.audience import alarming

__all__ = ["GitHubPages", "annotation_lines"]

# GitHub shows no more errors of one step than this.
_MOST: Final = 10


@dataclass(frozen=True)
class GitHubPages:
    """Writes into the page of the job, where the process is part of one.

    Attributes:
        annotations: Whether workflow commands are read from what the process prints.
        summary: The file of the job's summary; None where there is none.
        always: Whether a night without anything to be alarmed about is told too.
    """

    annotations: bool
    summary: Path | None
    always: bool = False
    name: str = "GitHub"

    @classmethod
    def of_environment(cls, variables: Mapping[str, str], *, always: bool = False) -> GitHubPages:
        """The pages that environment variables tell of.

        Args:
            variables: Of the process.
            always: As above.
        """
        summary = variables.get("GITHUB_STEP_SUMMARY")
        return cls(variables.get("GITHUB_ACTIONS") == "true", Path(summary) if summary else None, always)

    def cell_judged(self, judged: JudgedCell) -> Sequence[str]:
        return ()

    def night_judged(self, night: Night) -> Sequence[str]:
        if not alarming(night, always=self.always):
            return ()
        lines = annotation_lines(night) if self.annotations else []
        if self.summary is not None:
            try:
                with self.summary.open("a", encoding="utf-8") as file:
                    file.write(as_markdown(night) + "\n")
            except OSError as error:
                lines.append(f"alert not added to the summary of the job: {error}")
        return lines


def annotation_lines(night: Night) -> list[str]:
    """The workflow commands that mark a run's page: a line for each error, at most ten.

    Their form is GitHub's, "Workflow commands for GitHub Actions", setting an error message.
    """
    lines = [
        _error(
            f"{each.cell} fell {-each.shift.points:.1f} points",
            f"was {each.before:.1f}, is {each.accuracy:.1f} over {each.shift.examples} examples, "
            f"p = {each.shift.p_value:.2g}; since: {each.since}",
        )
        for each in night.fallen
    ]
    lines += [_error(each.headline, each.message) for each in night.fallen_pools]
    lines += [_error(each.name, each.reason) for each in night.without_verdict]
    lines += [_error("incomplete", night.coverage.cut)] if night.coverage.cut else []
    if len(lines) <= _MOST:
        return lines
    rest = len(lines) - _MOST + 1
    return [*lines[: _MOST - 1], _error(night.title, f"{rest} more, see the summary of the job")]


def _error(title: str, message: str) -> str:
    return f"::error title={_escaped(title).replace(':', '%3A').replace(',', '%2C')}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
