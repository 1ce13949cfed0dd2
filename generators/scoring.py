"""RULER's scoring: case-insensitive containment of the references in a prediction."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["all_references", "best_reference", "cleaned"]

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f]")


def cleaned(prediction: str) -> str:
    """A prediction as RULER scores it: control characters become line ends, the rims are stripped."""
    return _CONTROL_CHARACTERS.sub("\n", prediction.strip()).strip()


def all_references(prediction: str, references: Sequence[str]) -> float:
    """The share of `references` found in `prediction`, in [0, 1] (RULER's string_match_all)."""
    text = cleaned(prediction).lower()
    return sum(reference.lower() in text for reference in references) / len(references)


def best_reference(prediction: str, references: Sequence[str]) -> float:
    """1 where any of `references` is found in `prediction`, else 0 (RULER's string_match_part)."""
    text = cleaned(prediction).lower()
    return float(any(reference.lower() in text for reference in references))
