"""Names: those that do not exist, and those that may be given to models, tasks, sweeps and zoos."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from core.display import shown

__all__ = ["LONGEST_NAME", "InvalidName", "check_name", "check_names", "unknown_name"]

LONGEST_NAME = 64

_FORM = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?")
# Windows opens a device in place of any file of such a name, whatever follows its first dot.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


class InvalidName(ValueError):
    """A name that cannot be a path and a test's id; the message says what can."""


def check_name(kind: str, given: object) -> None:
    """Refuses a name that could not be a file's, a folder's and a part of a test's id on every system.

    Args:
        kind: What bears the name, as `model`.
        given: The name.

    Raises:
        InvalidName: It is of another form, too long, or that of a device.
    """
    if not isinstance(given, str) or len(given) > LONGEST_NAME or not _FORM.fullmatch(given):
        raise InvalidName(
            f"the name of a {kind} must be 1 to {LONGEST_NAME} letters (a-z), digits, '.', '_' and '-', "
            f"with a letter or digit first and no '.' at its end, not {shown(given)}"
        )
    if _DEVICE.fullmatch(given):
        raise InvalidName(f"the name of a {kind} cannot be {given!r}, which is a device on Windows")


def check_names(kind: str, given: Iterable[object]) -> None:
    """Refuses names that cannot be paths and ids, and two that some file systems take for one.

    Args:
        kind: What bears the names, as `model`.
        given: The names.

    Raises:
        InvalidName: One cannot be a name, or two differ in capital letters alone.
    """
    seen: dict[str, str] = {}
    for name in given:
        check_name(kind, name)
        other = seen.setdefault(str(name).casefold(), str(name))
        if other != name:
            raise InvalidName(f"the {kind}s {other} and {name} differ in capital letters alone; rename one")


def unknown_name(kind: str, given: object, valid: Sequence[object]) -> str:
    """One sentence for a name that does not exist: the nearest one, and all that do."""
    names = [str(each) for each in valid]
    near = nearest_name(given, names)
    hint = f" (did you mean {near}?)" if near else ""
    return f"unknown {kind} {given}{hint}; there are {', '.join(names)}"


def nearest_name(given: object, valid: Sequence[str]) -> str | None:
    """The name that was probably meant, by spelling or, among numbers, by value; None where none is near."""
    near = difflib.get_close_matches(str(given), valid, n=1, cutoff=0.5)
    if not near and valid and all(map(str.isdigit, [str(given), *valid])):
        return min(valid, key=lambda name: abs(int(name) - int(str(given))))
    return near[0] if near else None
