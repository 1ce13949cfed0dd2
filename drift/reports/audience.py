"""Which nights people are told of."""

from __future__ import annotations

from drift.night import Night
from drift.records.run_file import Purpose

__all__ = ["alarming"]


def alarming(night: Night, *, always: bool) -> bool:
    """Whether an alert goes out.

    Somebody looks at a run that accepts or replays, so such a run alerts nobody.

    Args:
        night: The night.
        always: Whether people want to hear of quiet nights too.
    """
    return night.purpose is Purpose.JUDGE and (night.failed or (always and bool(night.coverage.selected)))
