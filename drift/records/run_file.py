"""The run file, `run.json` in every folder of results: what a run was to do, and how it ended.

It is written before any model is loaded and kept current, each time whole. Whoever reads a folder of results later
learns from it which cells the zoo declares, which of them the run selected, which of these ended in an error, by which
thresholds they were judged, and whether the run was cut.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from core.cells import Cell
from drift.records.files import write_atomically, write_new
from drift.statistics.thresholds import ThresholdTable

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["RUN_FILE", "Ending", "Problem", "Purpose", "RunFileError", "RunRecord", "new_run_id", "utc_now"]

RUN_FILE: Final = "run.json"
SCHEMA: Final = 1


class RunFileError(ValueError):
    """A run file that cannot be used; the message names it."""


class Purpose(StrEnum):
    """What a run is for.

    Attributes:
        JUDGE: To compare cells with what is accepted.
        ACCEPT: To accept what it measures.
        REPLAY: To ask some examples again, without a verdict on their cells.
    """

    JUDGE = "judge"
    ACCEPT = "accept"
    REPLAY = "replay"


@dataclass(frozen=True)
class Problem:
    """A cell that ended in an error, so that nothing can be said of its model.

    Attributes:
        name: The cell.
        reason: Why, in one line.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        at: When, as ISO 8601 in UTC.
        finished: How many of the selected cells have a result or ended in an error.
        selected: How many were selected.
        cause: What cut it; empty where it ended by itself.
    """

    at: str
    finished: int
    selected: int
    cause: str = ""

    @property
    def whole(self) -> bool:
        return not self.cause

    def __str__(self) -> str:
        if self.whole:
            return f"whole, {self.finished} of {self.selected} cells"
        return f"interrupted by {self.cause} after {self.finished} of {self.selected} cells"


@dataclass(frozen=True)
class RunRecord:
    """What a run file says.

    Attributes:
        id: Of the run; every result names it.
        started: When, as ISO 8601 in UTC.
        command: The command line.
        zoo: The zoo's name.
        purpose: What the run is for.
        snapshots: The folder of what is accepted.
        history: The file of the history.
        thresholds: By which cells are judged, see `drift.statistics.thresholds.ThresholdTable.content`.
        repeat: The options of the command line that say what is measured; a rerun repeats them.
        declared: Every cell of the zoo, in its order.
        selected: Those that the run was to ask.
        revision: The git commit that it ran in, if any.
        problems: Cells that ended in an error.
        ended: How it ended; None while it runs, and for ever if it was killed.
    """

    id: str
    started: str
    command: str
    zoo: str
    purpose: Purpose
    snapshots: str
    history: str
    thresholds: Mapping[str, Any]
    repeat: tuple[str, ...]
    declared: tuple[Cell, ...]
    selected: tuple[Cell, ...]
    revision: str | None = None
    problems: tuple[Problem, ...] = field(default=())
    ended: Ending | None = None

    def with_problem(self, problem: Problem) -> RunRecord:
        """The same with one more problem; the first of a cell stays."""
        if any(known.name == problem.name for known in self.problems):
            return self
        return replace(self, problems=(*self.problems, problem))

    def begin(self, folder: Path) -> None:
        """Writes the file of a run that begins.

        Raises:
            RunFileError: The folder holds a run already.
            OSError: The file cannot be written.
        """
        refuse_other_run(folder)
        try:
            write_new(folder / RUN_FILE, self._text())
        except FileExistsError:
            raise RunFileError(_other_run(folder)) from None

    def write(self, folder: Path) -> None:
        """Brings the file up to date.

        Raises:
            OSError: It cannot be written.
        """
        write_atomically(folder / RUN_FILE, self._text())

    def _text(self) -> str:
        content = {
            "schema": SCHEMA,
            **asdict(self),
            "declared": [list(cell.axes.values()) for cell in self.declared],
            "selected": [list(cell.axes.values()) for cell in self.selected],
            "axes": Cell.axis_names(),
        }
        # One line a field: the lists of cells are long, and nobody reads them.
        lines = (f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in content.items())
        # A path, or what a server said, may be no Unicode, which no reader would take.
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode(errors="replace").decode()

    @classmethod
    def read(cls, folder: Path) -> RunRecord | None:
        """Reads the run file of a folder; None where it has none, as folders of earlier versions have.

        Raises:
            RunFileError: The file is damaged, or of another schema.
        """
        import pydantic
        import pydantic_core

        path = folder / RUN_FILE
        try:
            given = pydantic_core.from_json(path.read_bytes())
            if not isinstance(given, dict) or given.pop("schema", None) != SCHEMA:
                raise RunFileError(f"{path} has another schema than {SCHEMA}")
            axes = given.pop("axes")
            if unknown := set(axes) - set(Cell.axis_names()):
                raise RunFileError(f"{path} is of a later version, whose cells have {', '.join(sorted(unknown))} too")
            for name in ("declared", "selected"):
                given[name] = [dict(zip(axes, values, strict=True)) for values in given[name]]
            record = _adapter().validate_json(json.dumps(given), strict=True)
            ThresholdTable.of_content(record.thresholds)
            return record
        except FileNotFoundError:
            return None
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise RunFileError(f"{path} is not a readable run file: {field}: {first['msg']}") from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            if isinstance(error, RunFileError):
                raise
            raise RunFileError(f"{path} is not a readable run file: {error}") from None


@cache
def _adapter() -> TypeAdapter[RunRecord]:
    from pydantic import TypeAdapter

    return TypeAdapter(RunRecord)


def refuse_other_run(folder: Path) -> None:
    """Sees to it that a folder holds no run yet.

    Raises:
        RunFileError: It does; the message names both ways out.
    """
    if (folder / RUN_FILE).exists() or (folder / "cells").exists():
        raise RunFileError(_other_run(folder))


def _other_run(folder: Path) -> str:
    try:
        record = RunRecord.read(folder)
        which = "a run of an earlier version" if record is None else f"the run {record.id}"
    except RunFileError:
        which = "another run"
    return f"{folder} holds {which} already; name another folder, or remove this one"


def new_run_id(now: float | None = None) -> str:
    """An id that sorts by time and that no other run has, fit for the name of a folder.

    Args:
        now: Seconds since the epoch; None for the present.
    """
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S", time.localtime(now))
    return f"{stamp}-{secrets.token_hex(3)}"


def utc_now() -> str:
    """Now, as ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def merged_problems(records: Sequence[RunRecord]) -> tuple[Problem, ...]:
    """The problems of several runs, those of one cell once."""
    by_name: dict[str, Problem] = {}
    for record in records:
        for problem in record.problems:
            by_name.setdefault(problem.name, problem)
    return tuple(by_name.values())
