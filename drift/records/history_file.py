"""The database file of a history: made where it is missing, read through, and set aside where it cannot be used."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

from filelock import FileLock

__all__ = ["SCHEMA", "STATEMENTS", "HistoryError", "HistoryFile", "connect"]

SCHEMA: Final = 1

# Tells a history from other SQLite databases.
_APPLICATION: Final = int.from_bytes(b"lwhi", "big")
_PATIENCE_SECONDS: Final = 30
# A history of a year of the paper's matrix is read through in about a third of it.
_READING_SECONDS: Final = 10
_INSTRUCTIONS_BETWEEN_LOOKS: Final = 10_000
# Of one run; a disk that damages each new file as well would otherwise be filled with them.
_MOST_SET_ASIDE: Final = 2

# These say nothing of the content of a file; whatever else goes wrong may be its fault.
_PASSING: Final = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
)

STATEMENTS: Final = (
    """
    CREATE TABLE runs (
        run INTEGER PRIMARY KEY,
        started TEXT NOT NULL,
        results TEXT NOT NULL,
        revision TEXT
    )""",
    "CREATE TABLE environments (environment TEXT PRIMARY KEY, content TEXT NOT NULL)",
    """
    CREATE TABLE cells (
        run INTEGER NOT NULL REFERENCES runs,
        finished TEXT NOT NULL,
        zoo TEXT NOT NULL,
        model TEXT NOT NULL,
        task TEXT NOT NULL,
        length INTEGER NOT NULL,
        depth INTEGER,
        examples INTEGER NOT NULL,
        accuracy REAL NOT NULL,
        before REAL,
        outcome TEXT NOT NULL,
        accepted INTEGER NOT NULL,
        baseline TEXT,
        environment TEXT NOT NULL REFERENCES environments
    )""",
    # A null differs from every other one, but a cell without a depth stands once in a run as well.
    "CREATE UNIQUE INDEX cell_of_run ON cells (run, zoo, model, task, length, ifnull(depth, -1))",
    "CREATE INDEX runs_of_cell ON cells (model, task, length)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {SCHEMA}",
)

_Result = TypeVar("_Result")
_Reading = Callable[[sqlite3.Connection], object]


class HistoryError(ValueError):
    """A history that cannot be used; the message is one line that names the file."""


class _DamageError(HistoryError):
    """Trouble that may be the file's own, and then does not pass.

    Attributes:
        reason: What went wrong, without the file.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class HistoryFile:
    """The only way to the database: nothing but `HistoryError` comes out of it.

    SQLite reports damage in many ways, among them errors of decoding its own messages, and damaged values bring
    their own. So what an error means is not told by its type: after any that is neither a lock nor a full disk, the
    file is read through. One that is found to be damaged is set aside, and the work is done in a new one.

    Attributes:
        path: The file.
        notices: One line for each file that was set aside: why, and which name it has now.
    """

    def __init__(self, path: Path, *, to_write: bool, read_all: _Reading = lambda connection: None) -> None:
        """Opens a file.

        Args:
            path: The file.
            to_write: Whether it may be made, written to and set aside; otherwise it is left as it is.
            read_all: Reads every row as it would be read later, and raises where one cannot be.

        Raises:
            HistoryError: It cannot be used.
        """
        self.path = path
        self.notices: list[str] = []
        self._to_write = to_write
        self._read_all = read_all
        self._connection = self._opened()

    def do(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Does some work in one transaction.

        Args:
            work: What to do, all rows fetched. Where the file is found to be damaged, it is done again in a new one.

        Raises:
            HistoryError: It cannot be done: the file is locked, the disk is full, the file is damaged and may not be
                set aside, or what is to be written is no value for a database.
        """
        # Left behind by the error, since the frames it holds keep cursors open, and these the lock.
        with suppress(_DamageError):
            return self._done(work)
        self.close()
        self._connection = self._opened()
        try:
            return self._done(work)
        except _DamageError as error:
            raise self._trouble(error.reason) from None

    def close(self) -> None:
        """Closes the file; `do` opens it again."""
        with suppress(Exception):
            self._connection.close()

    def _done(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        with self._boundary(), self._connection as connection:
            return work(connection)

    @contextmanager
    def _boundary(self) -> Iterator[None]:
        try:
            yield
        except HistoryError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            if self._passes(error):
                raise self._trouble(reason) from None
            raise _DamageError(f"the history {self.path} is damaged: {reason}", reason) from None

    def _trouble(self, reason: str) -> HistoryError:
        return HistoryError(f"the history {self.path} cannot be {'written' if self._to_write else 'read'}: {reason}")

    def _passes(self, error: Exception) -> bool:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
        if code == sqlite3.SQLITE_READONLY:
            # A damaged header, or another file of that name by now; unless the disk or its owner says so.
            return self.path.exists() and not all(os.access(each, os.W_OK) for each in (self.path, self.path.parent))
        return isinstance(error, OSError | MemoryError) or code in _PASSING

    def _opened(self) -> sqlite3.Connection:
        if not self._to_write or len(self.notices) >= _MOST_SET_ASIDE:
            return self._examined()
        with suppress(_DamageError):
            return self._examined()
        with self._boundary(), FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=_PATIENCE_SECONDS):
            try:
                # Another run may have set it aside by now.
                return self._examined()
            except _DamageError as error:
                kept = _set_aside(self.path)
                self.notices.append(f"{error}; it is kept as {kept.name}, and a new one begins")
            return self._examined()

    def _examined(self) -> sqlite3.Connection:
        """A connection to a file that has been found to be usable, made where there is none."""
        with self._boundary():
            if not self._to_write and not self.path.is_file():
                raise HistoryError(f"there is no history at {self.path}; every run of the suite adds to one")
            connection = connect(self.path, self._to_write)
            try:
                if self._to_write:
                    self._make(connection)
                self._check(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    def _make(self, connection: sqlite3.Connection) -> None:
        """Makes the tables in an empty file; leaves any other as it is."""
        # Asked of the file, since SQLite takes some damaged ones for empty; and it mends others' headers in an empty
        # transaction.
        if self.path.stat().st_size > 0:
            return
        # Runs that begin a history at once wait here for each other: one makes the tables, the rest find them.
        connection.execute("BEGIN IMMEDIATE")
        if self.path.stat().st_size == 0:
            for statement in STATEMENTS:
                connection.execute(statement)
            connection.commit()
        else:
            connection.rollback()

    def _check(self, connection: sqlite3.Connection) -> None:
        if _number(connection, "application_id") != _APPLICATION:
            reason = "it is no history of longwatch"
            raise _DamageError(f"{self.path} is a database, but no history of longwatch", reason)
        version = _number(connection, "user_version")
        if version != SCHEMA:
            reason = f"has schema {version}, this version of longwatch reads {SCHEMA}"
            raise _DamageError(f"the history {self.path} {reason}", reason)
        with _limited(connection):
            found = _definitions(connection)
            for name, definition in _expected_definitions().items():
                if found.get(name) != definition:
                    raise ValueError(f"{name} is missing, or not as it was made")
            (problem,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if problem != "ok":
                raise ValueError(str(problem).splitlines()[-1])
            if row := connection.execute("PRAGMA foreign_key_check").fetchone():
                raise ValueError(f"row {row[1]} of {row[0]} has lost what it refers to in {row[2]}")
            self._read_all(connection)
        if self._to_write:
            # A damaged header may forbid to write, which SQLite says only of a statement that would.
            connection.execute("DELETE FROM runs WHERE run < 0")
            connection.rollback()


def connect(path: Path, to_write: bool) -> sqlite3.Connection:
    """Opens a database without a look at it."""
    if to_write:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_PATIENCE_SECONDS)
    else:
        # Not as read-only: what a killed run left half done has to be undone first.
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_PATIENCE_SECONDS)
        connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    (value,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(value)


def _definitions(connection: sqlite3.Connection) -> dict[str, str]:
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {name: " ".join(definition.split()) for name, definition in rows}


@cache
def _expected_definitions() -> dict[str, str]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in STATEMENTS:
            connection.execute(statement)
        return _definitions(connection)


@contextmanager
def _limited(connection: sqlite3.Connection) -> Iterator[None]:
    """Ends what takes too long, without a word: what was read until then is good."""
    end = time.monotonic() + _READING_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > end, _INSTRUCTIONS_BETWEEN_LOOKS)
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
    finally:
        connection.set_progress_handler(None, 0)


def _set_aside(path: Path) -> Path:
    """Gives a file, and what SQLite keeps beside it, another name; returns that name."""
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
    names = (path.with_name(f"{path.stem}-set-aside-{stamp}{'' if i == 0 else f'-{i}'}{path.suffix}") for i in count())
    free = next(name for name in names if not name.exists())
    path.rename(free)
    for ending in ("-journal", "-wal", "-shm"):
        beside = path.with_name(path.name + ending)
        if beside.exists():
            beside.rename(free.with_name(free.name + ending))
    return free
