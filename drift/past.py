"""What came before a night, as the history knows it; a history in trouble knows nothing, and says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from core.cells import Cell
from drift.records.history import Entry, History, HistoryError

__all__ = ["NoPast", "Past", "RecordedPast"]


class Past(Protocol):
    """The runs before a night."""

    def entries(self, cell: Cell) -> Sequence[Entry]:
        """A cell in the runs before, in the order of time."""

    def environment(self, entry: Entry) -> Mapping[str, Any]:
        """What produced an entry; empty where that is not known."""


class NoPast:
    """The past of a night that has no history."""

    trouble = ""

    def entries(self, cell: Cell) -> Sequence[Entry]:
        return ()

    def environment(self, entry: Entry) -> Mapping[str, Any]:
        return {}

    def close(self) -> None:
        pass


class RecordedPast:
    """The runs in a history that began before a night did, so that it can be judged again later as it was.

    Args:
        path: The history's file; it need not be there.
        zoo: The zoo of the night.
        before: When the night began, as ISO 8601 in UTC.
    """

    def __init__(self, path: Path, zoo: str, before: str) -> None:
        self.trouble = ""
        self._zoo, self._before = zoo, before
        self._history: History | None = None
        if not path.is_file():
            return
        try:
            self._history = History.read_from(path)
        except HistoryError as error:
            self._failed(error)

    def entries(self, cell: Cell) -> Sequence[Entry]:
        if self._history is None:
            return ()
        try:
            found = self._history.entries(
                cell.model, cell.task, cell.length, cell.depth, zoo=self._zoo, before=self._before
            )
        except HistoryError as error:
            self._failed(error)
            return ()
        return [entry for entry in found if entry.cell == cell]

    def environment(self, entry: Entry) -> Mapping[str, Any]:
        if self._history is None:
            return {}
        try:
            return dict(self._history.environment(entry.environment))
        except HistoryError as error:
            self._failed(error)
            return {}

    def close(self) -> None:
        if self._history is not None:
            self._history.close()

    def _failed(self, error: HistoryError) -> None:
        self._history = None
        self.trouble = f"the history tells nothing of earlier runs: {error}"
