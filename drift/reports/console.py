"""The console of a command line."""

from __future__ import annotations

import shutil
import sys

from rich.console import Console

from drift.reports.terminal import night_console

__all__ = ["command_console"]


def command_console() -> Console:
    """Where a command prints a night, as wide as pytest takes the same terminal to be."""
    return night_console(sys.stdout, colours=sys.stdout.isatty(), width=shutil.get_terminal_size((80, 24)).columns)
