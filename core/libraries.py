"""The libraries that each family of models runs on: the lines of `libraries.txt` in the family's folder.

They are data, so that whoever judges results can weigh a changed library without importing any model.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["all_libraries", "family_name", "libraries_by_family"]

# The folders of families' folders.
FOLDERS: Final = [Path(__file__).resolve().parents[1] / "models" / "families"]
_FILE: Final = "libraries.txt"


def family_name(folder: str) -> str:
    """The name that cards give the family of a folder: a folder is a Python package, whose name has no hyphen."""
    return folder.replace("_", "-")


@functools.cache
def libraries_by_family() -> Mapping[str, tuple[str, ...]]:
    """The distributions that each family computes with, by the family's name; the strongest suspect first."""
    files = sorted(file for folder in FOLDERS for file in folder.glob(f"*/{_FILE}"))
    return {family_name(file.parent.name): tuple(file.read_text(encoding="utf-8").split()) for file in files}


@functools.cache
def all_libraries() -> tuple[str, ...]:
    """The libraries of all families, each once: kernels, which only some families have, before what most run on."""
    lists = sorted(((len(names), family, names) for family, names in libraries_by_family().items()), reverse=True)
    return tuple(dict.fromkeys(name for _, _, names in lists for name in names))
