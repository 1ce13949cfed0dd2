"""The database file of a history: made where it is missing, checked, and set aside where it cannot be used."""

from __future__ import annotations

import sqlite3
import time
from itertools import count
from pathlib import Path
from typing import Final

__all__ = ["SCHEMA", "HistoryError", "open_to_read", "open_to_write", "set_aside"]

SCHEMA: Final = 1

# Tells a history from other SQLite databases.
_APPLICATION: Final = int.from_bytes(b"lwhi", "big")
_PATIENCE_SECONDS: Final = 30
_UNUSABLE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_STATEMENTS: Final = (
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


class HistoryError(ValueError):
    """A history that cannot be used; the message names the file."""


def open_to_write(path: Path) -> sqlite3.Connection:
    """Opens a history, or makes an empty one where there is none.

    Raises:
        HistoryError: The file is damaged, of another version, or no history.
        OSError, sqlite3.Error: It can neither be opened nor made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=_PATIENCE_SECONDS)
    try:
        try:
            # Runs that begin a history at once wait here for each other: one makes the tables, the rest find them.
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                    for statement in _STATEMENTS:
                        connection.execute(statement)
        except sqlite3.DatabaseError as error:
            raise _unusable(path, error) from None
        _check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """Opens a history that is there.

    Raises:
        HistoryError: It is missing, damaged, of another version, or no history.
    """
    if not path.is_file():
        raise HistoryError(f"there is no history at {path}; every run of the suite adds to one")
    # Not as read-only: what a killed run left half done has to be undone first.
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_PATIENCE_SECONDS)
    try:
        _check(connection, path)
        connection.execute("PRAGMA query_only = ON")
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise HistoryError(f"the history {path} cannot be read: {error}") from None
        raise
    return connection


def set_aside(path: Path) -> Path:
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


def _check(connection: sqlite3.Connection, path: Path) -> None:
    try:
        ours = _pragma(connection, "application_id") == _APPLICATION
        version = _pragma(connection, "user_version")
        (problem,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        raise _unusable(path, error) from None
    if not ours:
        raise HistoryError(f"{path} is a database, but no history of longwatch")
    if version != SCHEMA:
        raise HistoryError(f"the history {path} has schema {version}, this version of longwatch reads {SCHEMA}")
    if problem != "ok":
        raise HistoryError(f"the history {path} is damaged: {str(problem).splitlines()[-1]}")


def _unusable(path: Path, error: sqlite3.DatabaseError) -> Exception:
    """Tells damage, which stays, from trouble that passes, such as a lock or a full disk."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNUSABLE:
        return HistoryError(f"the history {path} is damaged: {error}")
    return error


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
