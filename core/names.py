"""Names that do not exist, and those that do."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

__all__ = ["unknown_name"]


def unknown_name(kind: str, given: object, valid: Sequence[object]) -> str:
    """One sentence for a name that does not exist: the nearest one, and all that do."""
    names = [str(each) for each in valid]
    near = difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    if not near and names and all(map(str.isdigit, [str(given), *names])):
        near = [min(names, key=lambda name: abs(int(name) - int(str(given))))]
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"unknown {kind} {given}{hint}; there are {', '.join(names)}"
