"""What users wrote, as an error of one line repeats it."""

from __future__ import annotations

__all__ = ["shown"]

_LONGEST = 80


def shown(value: object) -> str:
    """A value as Python writes it, on one line and cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
