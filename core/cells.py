"""The cell, the unit of everything here."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cell"]


@dataclass(frozen=True, order=True)
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

    @property
    def key(self) -> str:
        """The cell's name within its model, as in test ids: `niah_single_1-1024`, `...-d50`."""
        suffix = "" if self.depth is None else f"-d{self.depth}"
        return f"{self.task}-{self.length}{suffix}"

    def __str__(self) -> str:
        return f"{self.model}-{self.key}"
