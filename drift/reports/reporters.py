"""Reporters: everything that tells somebody of a night.

Each is one file in this folder. It is handed the night and nothing else, cannot change it, and may fail in any way:
`told` says so in one line with its name, and lets nobody else's report be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from drift.judging import JudgedCell
from drift.night import Night

__all__ = ["Reporter", "heard", "told"]

_LONGEST_REASON = 300

Given = TypeVar("Given")


class Reporter(Protocol):
    """Somebody who tells of a night.

    Attributes:
        name: What it is called where it fails.
    """

    @property
    def name(self) -> str: ...

    def cell_judged(self, judged: JudgedCell) -> Sequence[str]:
        """Hears of each cell as soon as it has ended; returns lines for the end of the run."""

    def night_judged(self, night: Night) -> Sequence[str]:
        """Tells of the night; returns lines for the end of the run."""


def heard(reporters: Sequence[Reporter], judged: JudgedCell) -> list[str]:
    """Lets every reporter hear of a cell; returns what they, and those that failed, have to say.

    Ctrl-C is meant for the run, not for who hears of a cell.

    Raises:
        KeyboardInterrupt: The run is to end.
    """
    return [line for each in reporters for line in _guarded(each.name, each.cell_judged, judged, KeyboardInterrupt)]


def told(reporters: Sequence[Reporter], night: Night) -> list[str]:
    """Lets every reporter tell of a night; returns what they, and those that failed, have to say."""
    return [line for each in reporters for line in _guarded(each.name, each.night_judged, night)]


def _guarded(
    name: str, tell: Callable[[Given], Sequence[str]], given: Given, *passed_on: type[BaseException]
) -> list[str]:
    try:
        return list(tell(given))
    except passed_on:
        raise
    except BaseException as error:  # whatever it is, an exit or a second Ctrl-C too, the verdict stands
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_REASON]
        return [f"{name} failed: {reason}"]
