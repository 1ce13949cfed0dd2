"""What a comparison can come to."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Outcome"]


class Outcome(StrEnum):
    """What a comparison came to.

    Attributes:
        PASSED: Nothing has shifted, as far as the examples tell.
        IMPROVED: The accuracy is higher.
        REGRESSED: The accuracy is lower.
        NOT_COMPARABLE: The prompts are not the snapshot's.
        INCOMPLETE: No shift was found, but examples or cells that the verdict needs are missing.
        NO_SNAPSHOT: Nothing is accepted yet.
    """

    PASSED = "passed"
    IMPROVED = "improved"
    REGRESSED = "regressed"
    NOT_COMPARABLE = "not comparable"
    INCOMPLETE = "incomplete"
    NO_SNAPSHOT = "no snapshot"
