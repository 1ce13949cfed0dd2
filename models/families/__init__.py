"""One family a folder; imports no torch."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from core.libraries import family_name
from core.names import unknown_name
from models.families.family import Family

__all__ = ["families", "family_named"]


@functools.cache
def families() -> Mapping[str, Family]:
    """All families by name: of every folder here, the record.

    Raises:
        TypeError: A folder has no record, or its record has another name than the folder.
    """
    found = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.ispkg:
            continue
        record = getattr(importlib.import_module(f"{__name__}.{module.name}"), "FAMILY", None)
        name = family_name(module.name)
        if not isinstance(record, Family) or record.name != name:
            raise TypeError(f"{__name__}.{module.name} must have a record FAMILY = Family({name!r}, ...)")
        found[name] = record
    return MappingProxyType(found)


def family_named(name: str) -> Family:
    """The family that a card names.

    Raises:
        ValueError: There is none; the message names the nearest.
    """
    if name not in families():
        raise ValueError(unknown_name("family", name, list(families())))
    return families()[name]
