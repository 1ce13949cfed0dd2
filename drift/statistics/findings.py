"""What a statistic looks at, and what it finds: shifts that no cell shows alone.

A statistic is a file in this folder with a `STATISTIC`, and one line in `drift.night.STATISTICS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from core.cells import Cell
from drift.statistics.pools import Pool
from drift.statistics.thresholds import ThresholdTable

__all__ = ["Finding", "Findings", "PairedCell", "PairedNight", "Severity", "Statistic"]


class Severity(IntEnum):
    """What a finding does to a night; the smaller number is the worse.

    Attributes:
        FAILURE: It fails the night.
        WARNING: People are to know of it.
        IMPROVEMENT: Something is better than what is accepted.
        NOTE: It is shown where all is shown.
    """

    FAILURE = 1
    WARNING = 2
    IMPROVEMENT = 3
    NOTE = 4


@dataclass(frozen=True)
class PairedCell:
    """The examples of one cell beside the accepted ones; of the first look alone.

    Later looks are taken because of what the first one showed, so their examples would bias a pool.

    Attributes:
        cell: The cell.
        scores: Score now minus score before, per example.
        log_likelihoods: Of the expected answers, now minus before, in nats; None where either is unknown.
        dtype: What the model computes in, as torch names it; empty where that is not recorded.
    """

    cell: Cell
    scores: tuple[float, ...]
    log_likelihoods: tuple[float, ...] | None = None
    dtype: str = ""


@dataclass(frozen=True)
class PairedNight:
    """Everything that a statistic may look at.

    Attributes:
        cells: Those that could be compared with their snapshots.
        declared: Every cell of the whole matrix; corrections are for all pools that it has.
        thresholds: When a shift is one.
    """

    cells: tuple[PairedCell, ...]
    declared: tuple[Cell, ...]
    thresholds: ThresholdTable


@dataclass(frozen=True)
class Finding:
    """Something that a statistic found.

    Attributes:
        severity: What it does to the night.
        pool: The cells it was found in.
        headline: What it is, in a few words.
        message: What it is, in one line with its numbers, for a person.
        details: Its numbers, a dataclass of the statistic's own.
    """

    severity: Severity
    pool: Pool
    headline: str
    message: str
    details: Any


@dataclass(frozen=True)
class Findings:
    """What one statistic came to.

    Attributes:
        statistic: Its name.
        found: The worst first.
        closing: Lines that are shown below them.
    """

    statistic: str
    found: tuple[Finding, ...]
    closing: tuple[str, ...] = ()

    def of(self, *severities: Severity) -> list[Finding]:
        """Those of some severities."""
        return [each for each in self.found if each.severity in severities]


@dataclass(frozen=True)
class Statistic:
    """A test over many cells.

    Attributes:
        name: The title of what it has to tell.
        find: A night, and what the statistics before it found, to what it finds.
    """

    name: str
    find: Callable[[PairedNight, Sequence[Findings]], Findings]
