"""The history of runs: one row for each cell of each run, in an SQLite database."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, get_type_hints

from core.cells import Cell
from drift.records.history_file import HistoryError, HistoryFile
from drift.records.results import CellResult
from drift.records.run_file import utc_now
from drift.records.snapshots import Baseline
from drift.statistics.outcomes import Outcome

__all__ = ["Entry", "History", "HistoryError", "Onset", "Run", "onset"]


@dataclass(frozen=True)
class Run:
    """One run of the suite.

    Attributes:
        started: When, as ISO 8601 in UTC.
        results: The folder of its results.
        revision: The git commit that it ran in, if any.
    """

    started: str
    results: str
    revision: str | None = None


@dataclass(frozen=True)
class Entry:
    """One cell of one run.

    Attributes:
        run: The number of its run.
        started, results, revision: As in `Run`.
        finished: When the cell ended, as ISO 8601 in UTC.
        zoo, model, task, length, depth: The cell.
        examples: How many it was asked.
        accuracy: In percent.
        before: Its snapshot's accuracy over the compared examples, in percent, where there is one.
        outcome: The verdict's.
        accepted: Whether the run was told to accept what it measured.
        baseline: Fingerprint of the snapshot, where there is one.
        environment: Fingerprint of the environment.
    """

    run: int
    started: str
    results: str
    revision: str | None
    finished: str
    zoo: str
    model: str
    task: str
    length: int
    depth: int | None
    examples: int
    accuracy: float
    before: float | None
    outcome: Outcome
    accepted: bool
    baseline: str | None
    environment: str

    @property
    def cell(self) -> Cell:
        return Cell(self.model, self.task, self.length, self.depth)

    @property
    def key(self) -> str:
        """The cell's name within its model."""
        return self.cell.key


@dataclass(frozen=True)
class Onset:
    """Since when a cell has regressed.

    Attributes:
        first: The first run in which it had.
        last_good: The run before that in which it had not, if there was one.
        runs: For how many runs in a row it has by now.
    """

    first: Run
    last_good: Entry | None
    runs: int


def onset(entries: Sequence[Entry], now: Run | None = None) -> Onset | None:
    """Since when a cell has regressed; None where its last verdict is another.

    Args:
        entries: Of one cell, in the order of time. Runs that could not judge it are passed over.
        now: A run after all of these in which it has regressed, whether or not the history has it.
    """
    first, last_good, count = now, None, 0 if now is None else 1
    for entry in reversed(entries):
        if entry.accepted or entry.outcome in (Outcome.PASSED, Outcome.IMPROVED):
            last_good = entry
            break
        if entry.outcome is Outcome.REGRESSED:
            first, count = Run(entry.started, entry.results, entry.revision), count + 1
    return None if first is None else Onset(first, last_good, count)


class History:
    """The database. Each cell is written in a transaction of its own, so that a killed run keeps what it had.

    Several runs may write at once; an instance is used from one thread. A file that is found to be damaged, at any
    time, is set aside, and a new one takes its place; readers leave it as it is. No method raises anything but
    `HistoryError`, whose message names the file.
    """

    def __init__(self, file: HistoryFile) -> None:
        self._file = file
        self._runs: dict[int, Run] = {}
        # The numbers that runs have in a file which took the place of the one they began in.
        self._numbers: dict[int, int] = {}

    @classmethod
    def append_to(cls, path: Path) -> tuple[History, str | None]:
        """Opens a history to write to, or begins one.

        Returns:
            The history; and, where there was a file that cannot be used, one line that says why, and which
            name the file has now. Its content is never touched.

        Raises:
            HistoryError: The file can neither be opened nor made.
        """
        history = cls(HistoryFile(path, to_write=True, read_all=_read_all))
        return history, next(iter(history.notices), None)

    @classmethod
    def read_from(cls, path: Path) -> History:
        """Opens a history that is there already, and never changes it.

        Raises:
            HistoryError: It is missing, damaged or of another version.
        """
        return cls(HistoryFile(path, to_write=False))

    @property
    def notices(self) -> tuple[str, ...]:
        """One line for each file that was set aside, at the opening or later."""
        return tuple(self._file.notices)

    def close(self) -> None:
        self._file.close()

    def begin(self, run: Run) -> int:
        """Adds a run; returns its number.

        Raises:
            HistoryError: It cannot be added.
        """

        def begun(connection: sqlite3.Connection) -> int:
            connection.execute("BEGIN IMMEDIATE")
            return self._begun(connection, run)

        number = self._file.do(begun)
        self._runs[number] = run
        return number

    def _begun(self, connection: sqlite3.Connection, run: Run) -> int:
        (last,) = connection.execute("SELECT ifnull(max(run), 0) FROM runs").fetchone()
        number = 1 + max([int(last), *self._runs])
        _check_run(number, run.started)
        connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", (number, run.started, run.results, run.revision))
        return number

    def _number(self, connection: sqlite3.Connection, given: int) -> int:
        """The number of a run in the present file, to which it is added where it is not there."""
        number, run = self._numbers.get(given, given), self._runs.get(given)
        query = "SELECT started, results FROM runs WHERE run = ?"
        if run is None or connection.execute(query, (number,)).fetchone() == (run.started, run.results):
            return number
        self._numbers[given] = self._begun(connection, run)
        return self._numbers[given]

    def add(
        self,
        run: int,
        result: CellResult,
        outcome: Outcome,
        *,
        before: float | None,
        baseline: Baseline | None,
        accepted: bool = False,
    ) -> None:
        """Adds a cell to a run; one that is there already is replaced.

        Args:
            run: The number of the run.
            result: The cell's result.
            outcome: The verdict's.
            before: The snapshot's accuracy over the compared examples, in percent.
            baseline: The snapshot.
            accepted: Whether the run was told to accept what it measured.

        Raises:
            HistoryError: It cannot be added.
        """

        def added(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            environment = json.dumps(result.environment, sort_keys=True)
            values = {
                "run": self._number(connection, run),
                "finished": utc_now(),
                "zoo": result.zoo,
                "model": result.model,
                "task": result.task,
                "length": result.length,
                "depth": result.depth,
                "examples": len(result.scores),
                "accuracy": result.accuracy,
                "before": before,
                "outcome": str(outcome),
                "accepted": int(accepted),
                "baseline": None if baseline is None else _fingerprint(json.dumps([baseline.scores, baseline.prompts])),
                "environment": _fingerprint(environment),
            }
            names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
            known = (_fingerprint(environment), environment)
            connection.execute("INSERT OR IGNORE INTO environments VALUES (?, ?)", known)
            row = connection.execute(f"INSERT OR REPLACE INTO cells ({names}) VALUES ({marks})", values).lastrowid
            # What could not be read again would be taken for damage by the next run.
            _environment(known)
            _entry(connection.execute(f"{_ENTRIES} WHERE cells.rowid = ?", (row,)).fetchone())

        self._file.do(added)

    def entries(
        self,
        model: str,
        task: str | None = None,
        length: int | None = None,
        depth: int | None = None,
        *,
        zoo: str | None = None,
        before: str | None = None,
    ) -> list[Entry]:
        """The cells of a model in all runs, in the order of time.

        Args:
            model: The model.
            task, length, depth, zoo: What else to select by; None selects all.
            before: Only runs that started before this time (ISO 8601 in UTC), and not at it.

        Raises:
            HistoryError: They cannot be read.
        """
        wanted = {"model": model, "task": task, "length": length, "depth": depth, "zoo": zoo}
        given: dict[str, object] = {name: value for name, value in wanted.items() if value is not None}
        conditions = [f"{name} = :{name}" for name in given]
        if before is not None:
            given["earlier_than"] = before
            conditions.append("started < :earlier_than")
        query = f"{_ENTRIES} WHERE {' AND '.join(conditions)} ORDER BY run, cells.rowid"
        return self._file.do(lambda connection: [_entry(row) for row in connection.execute(query, given).fetchall()])

    def names(self, column: Literal["zoo", "model", "task"]) -> list[str]:
        """Every zoo, model or task that there are entries of.

        Raises:
            HistoryError: They cannot be read.
        """
        query = f"SELECT DISTINCT {column} FROM cells ORDER BY 1"
        return self._file.do(lambda connection: [str(name) for (name,) in connection.execute(query)])

    def environment(self, fingerprint: str) -> Mapping[str, Any]:
        """The environment with a fingerprint; empty where it is not known.

        Raises:
            HistoryError: It cannot be read.
        """
        query = "SELECT environment, content FROM environments WHERE environment = ?"

        def found(connection: sqlite3.Connection) -> Mapping[str, Any]:
            row = connection.execute(query, (fingerprint,)).fetchone()
            return {} if row is None else _environment(row)

        return self._file.do(found)


_ENTRIES: Final = f"SELECT {', '.join(each.name for each in fields(Entry))} FROM cells JOIN runs USING (run)"
_TYPES: Final = get_type_hints(Entry)
# Below what SQLite can count to, so that there is always a next one.
_LARGEST_NUMBER: Final = 2**53
# A mean of many shares, in percent, is 100 or 0 up to rounding.
_ROUNDING: Final = 1e-6


def _read_all(connection: sqlite3.Connection) -> None:
    """Reads every row, the newest first.

    Raises:
        ValueError: One is not as it was written.
    """
    for row in connection.execute(f"{_ENTRIES} ORDER BY cells.rowid DESC"):
        _entry(row)
    for row in connection.execute("SELECT environment, content FROM environments"):
        _environment(row)
    for run, started in connection.execute("SELECT run, started FROM runs"):
        _check_run(run, started)


def _entry(row: Sequence[Any]) -> Entry:
    values = dict(zip(_TYPES, row, strict=True))
    values["outcome"] = Outcome(values["outcome"])
    values["accepted"] = bool(values["accepted"])
    for name, value in values.items():
        if not isinstance(value, _TYPES[name]):
            raise ValueError(f"{name} is {value!r:.40}")
    entry = Entry(**values)
    _check_run(entry.run, entry.started)
    datetime.fromisoformat(entry.finished)
    if entry.examples < 1:
        raise ValueError(f"examples is {entry.examples}")
    for value in (entry.accuracy, entry.before or 0.0):
        if not -_ROUNDING <= value <= 100 + _ROUNDING:
            raise ValueError(f"{value!r} is no accuracy")
    return entry


def _check_run(number: int, started: str) -> None:
    datetime.fromisoformat(started)
    if not 0 < number < _LARGEST_NUMBER:
        raise ValueError(f"{number!r} is no number of a run")


def _environment(row: tuple[str, str]) -> Mapping[str, Any]:
    fingerprint, text = row
    content = json.loads(text)
    if not isinstance(content, dict) or _fingerprint(text) != fingerprint:
        raise ValueError(f"environment {fingerprint} is not as it was written")
    return content


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
