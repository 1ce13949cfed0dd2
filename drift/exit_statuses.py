"""How a run, and `python -m drift judge`, end."""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum
from typing import Final

__all__ = ["ExitStatus", "first_of"]


class ExitStatus(IntEnum):
    """What an exit status means; the first six are pytest's own.

    Attributes:
        QUIET: There is nothing to tell, or warnings alone.
        SHIFTED: Something has shifted: a cell, or many together; or another test has failed.
        INCOMPLETE: Cells are missing or ended in an error, or the run was interrupted.
        INTERNAL_ERROR: longwatch or pytest broke.
        UNUSABLE: It was used wrongly, or what it was to read cannot be read.
        NOTHING_SELECTED: No cell was selected.
        NOT_COMPARABLE: Cells were asked other prompts than those that are accepted.
        NO_BASELINE: Cells have nothing accepted yet.
    """

    QUIET = 0
    SHIFTED = 1
    INCOMPLETE = 2
    INTERNAL_ERROR = 3
    UNUSABLE = 4
    NOTHING_SELECTED = 5
    NOT_COMPARABLE = 6
    NO_BASELINE = 7


_WORST_FIRST: Final = (
    ExitStatus.UNUSABLE,
    ExitStatus.INTERNAL_ERROR,
    ExitStatus.SHIFTED,
    ExitStatus.INCOMPLETE,
    ExitStatus.NOT_COMPARABLE,
    ExitStatus.NO_BASELINE,
    ExitStatus.NOTHING_SELECTED,
)


def first_of(statuses: Collection[ExitStatus]) -> ExitStatus:
    """The one to end with where several hold; quiet where none does."""
    return next((status for status in _WORST_FIRST if status in statuses), ExitStatus.QUIET)
