"""The cell: one model asked one task at one length and, where it has one, at one depth.

Everything here is keyed by cells. What a cell is called, how that name is read, in which order cells stand and which
axes they have is known in this file alone. A new axis is a field of `Cell`, and what reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

__all__ = ["Cell", "NotACell"]

# Each number in one way, so that no two keys name one cell.
_KEY: Final = re.compile(r"(?P<task>.+)-(?P<length>0|[1-9][0-9]*)(?:-d(?P<depth>0|[1-9][0-9]*))?")


class NotACell(ValueError):
    """A text that names no cell; the message shows one that does."""


@dataclass(frozen=True)
class Cell:
    """One model asked one task at one length and, in the ablations, one position.

    Attributes:
        model: A card's name.
        task: A registered task's name.
        length: Prompt plus answer, in tokens.
        depth: Where the needle is, in percent; None leaves it to the task.
    """

    model: str
    task: str
    length: int
    depth: int | None = None

    @classmethod
    def of_key(cls, model: str, key: str) -> Cell:
        """The cell of a model that a key names.

        Args:
            model: The model.
            key: As in `key`.

        Raises:
            NotACell: It names none.
        """
        match = _KEY.fullmatch(key)
        if match is None:
            raise NotACell(f"{key!r} names no cell; one looks like niah_single_2-1024 or essay-word-uuid-512-d50")
        depth = match["depth"]
        return cls(model, match["task"], int(match["length"]), None if depth is None else int(depth))

    @classmethod
    def of_fields(cls, given: Mapping[str, Any]) -> Cell:
        """The cell of a mapping with its axes, as `axes` makes it; other entries are left aside."""
        return cls(**{name: given[name] for name in cls.axis_names()})

    @classmethod
    def axis_names(cls) -> tuple[str, ...]:
        """The names of the axes, the model's first."""
        return tuple(field.name for field in fields(cls))

    @property
    def key(self) -> str:
        """The cell's name within its model, as in test ids: `niah_single_1-1024`, `...-d50`."""
        suffix = "" if self.depth is None else f"-d{self.depth}"
        return f"{self.task}-{self.length}{suffix}"

    @property
    def axes(self) -> dict[str, Any]:
        """Its value on every axis, by the axis' name."""
        return {name: getattr(self, name) for name in self.axis_names()}

    @property
    def order(self) -> tuple[str, int, int]:
        """Where it stands among the cells of its model: by task, then depth, then length."""
        return self.task, -1 if self.depth is None else self.depth, self.length

    @property
    def prefix_group(self) -> str:
        """What it has in common with the cells whose prompts begin as its own do: all but the depth."""
        return Cell(self.model, self.task, self.length).key

    def within(self, wanted: Mapping[str, Iterable[Any] | None]) -> bool:
        """Whether its value on each named axis is a wanted one; None wants all."""
        return all(values is None or getattr(self, axis) in values for axis, values in wanted.items())

    def __str__(self) -> str:
        return f"{self.model}-{self.key}"
