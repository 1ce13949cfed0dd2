"""The history of runs: one row for each cell of each run, in an SQLite database."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from drift.records.history_file import HistoryError, open_to_read, open_to_write, set_aside
from drift.records.results import CellResult
from drift.records.snapshots import Baseline
from drift.statistics.outcomes import Outcome

__all__ = ["Entry", "History", "HistoryError", "Onset", "Run", "onset", "utc_now"]


def utc_now() -> str:
    """Now, as ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


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
    def key(self) -> str:
        """The cell's name within its model."""
        return f"{self.task}-{self.length}" + ("" if self.depth is None else f"-d{self.depth}")


@dataclass(frozen=True)
class Onset:
    """Since when a cell has regressed.

    Attributes:
        first: The first run in which it had.
        last_good: The run before that in which it had not, if there was one.
        runs: For how many runs in a row it has by now.
    """

    first: Entry
    last_good: Entry | None
    runs: int


def onset(entries: Sequence[Entry]) -> Onset | None:
    """Since when a cell has regressed; None where its last verdict is another.

    Args:
        entries: Of one cell, in the order of time. Runs that could not judge it are passed over.
    """
    first, last_good, count = None, None, 0
    for entry in reversed(entries):
        if entry.accepted or entry.outcome in (Outcome.PASSED, Outcome.IMPROVED):
            last_good = entry
            break
        if entry.outcome is Outcome.REGRESSED:
            first, count = entry, count + 1
    return None if first is None else Onset(first, last_good, count)


class History:
    """The database. Each cell is written in a transaction of its own, so that a killed run keeps what it had.

    Several runs may write at once; an instance is used from one thread.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def append_to(cls, path: Path) -> tuple[History, str | None]:
        """Opens a history to write to, or begins one.

        Returns:
            The history; and, where there was a file that cannot be used, one line that says why, and which
            name the file has now. Its content is never touched.

        Raises:
            HistoryError: The file can neither be opened nor made.
        """
        notice = None
        try:
            try:
                connection = open_to_write(path)
            except HistoryError as error:
                notice = f"{error}; it is kept as {set_aside(path).name}, and a new one begins"
                connection = open_to_write(path)
        except (OSError, sqlite3.Error) as error:
            raise HistoryError(f"the history {path} cannot be written: {error}") from None
        return cls(connection), notice

    @classmethod
    def read_from(cls, path: Path) -> History:
        """Opens a history that is there already, and never changes it.

        Raises:
            HistoryError: It is missing, damaged or of another version.
        """
        return cls(open_to_read(path))

    def close(self) -> None:
        self._connection.close()

    def begin(self, run: Run) -> int:
        """Adds a run; returns its number."""
        with self._connection as connection:
            values = (run.started, run.results, run.revision)
            cursor = connection.execute("INSERT INTO runs (started, results, revision) VALUES (?, ?, ?)", values)
        return int(cursor.lastrowid or 0)

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
        """
        environment = json.dumps(result.environment, sort_keys=True)
        values = {
            "run": run,
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
        with self._connection as connection:
            known = (values["environment"], environment)
            connection.execute("INSERT OR IGNORE INTO environments VALUES (?, ?)", known)
            connection.execute(f"INSERT OR REPLACE INTO cells ({names}) VALUES ({marks})", values)

    def entries(
        self,
        model: str,
        task: str | None = None,
        length: int | None = None,
        depth: int | None = None,
        *,
        zoo: str | None = None,
    ) -> list[Entry]:
        """The cells of a model in all runs, in the order of time.

        Args:
            model: The model.
            task, length, depth, zoo: What else to select by; None selects all.
        """
        wanted = {"model": model, "task": task, "length": length, "depth": depth, "zoo": zoo}
        given = {name: value for name, value in wanted.items() if value is not None}
        rows = self._connection.execute(
            f"SELECT {', '.join(each.name for each in fields(Entry))} FROM cells JOIN runs USING (run) "
            f"WHERE {' AND '.join(f'{name} = :{name}' for name in given)} ORDER BY run, cells.rowid",
            given,
        )
        return [_entry(row) for row in rows]

    def names(self, column: Literal["zoo", "model", "task"]) -> list[str]:
        """Every zoo, model or task that there are entries of."""
        return [str(name) for (name,) in self._connection.execute(f"SELECT DISTINCT {column} FROM cells ORDER BY 1")]

    def environment(self, fingerprint: str) -> Mapping[str, Any]:
        """The environment with a fingerprint; empty where it is not known."""
        query = "SELECT content FROM environments WHERE environment = ?"
        row = self._connection.execute(query, (fingerprint,)).fetchone()
        found: Mapping[str, Any] = {} if row is None else json.loads(row[0])
        return found


def _entry(row: Sequence[Any]) -> Entry:
    values = dict(zip((each.name for each in fields(Entry)), row, strict=True))
    return Entry(**{**values, "outcome": Outcome(values["outcome"]), "accepted": bool(values["accepted"])})


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
