"""What is on disk of a night: the results and run files of one folder, or of the many that its shards wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from core.cells import Cell
from drift.records.results import CellResult, ResultFolder
from drift.records.run_file import Problem, Purpose, RunRecord, merged_problems

__all__ = ["Evidence", "EvidenceError", "read_evidence"]

_NAMED_AT_MOST: Final = 3

# What all results of a model must share, and what all of a model's results of one task must, to be one night's.
_OF_A_MODEL: Final = ("tokenizer", "frame")
_OF_A_TASK: Final = ("corpus", "tokens_to_generate")


class EvidenceError(ValueError):
    """Folders that are no night together; the message names them."""


@dataclass(frozen=True)
class Evidence:
    """What is on disk of a night.

    Attributes:
        folders: Where it is.
        runs: The run files; none where folders of earlier versions have none.
        results: By cell, in the order that the zoo declares.
        declared: Every cell of the zoo, in its order; those with results where no run file says it.
        selected: The cells that the runs were to ask, in the same order.
        problems: Cells that ended in an error.
        cautions: What a reader must know before any number, a line each.
    """

    folders: tuple[Path, ...]
    runs: tuple[RunRecord, ...]
    results: Mapping[Cell, CellResult]
    declared: tuple[Cell, ...]
    selected: tuple[Cell, ...]
    problems: tuple[Problem, ...]
    cautions: tuple[str, ...]

    @property
    def purpose(self) -> Purpose:
        """What the runs were for; folders that do not say it are judged."""
        return self.runs[0].purpose if self.runs else Purpose.JUDGE

    @property
    def started(self) -> str | None:
        """When the first of the runs began, as ISO 8601 in UTC; None where that is not recorded."""
        return min((run.started for run in self.runs), default=None)

    @property
    def cut(self) -> str:
        """What cut the runs, and after how many cells; empty where all of them ended by themselves.

        A run that was cut, and whose other cells were asked elsewhere, has cut nothing.
        """
        cut = [run for run in self.runs if run.ended is None or not run.ended.whole]
        return "; ".join(self._cut(run) for run in cut if self.missing(run.selected))

    def missing(self, wanted: Iterable[Cell]) -> tuple[Cell, ...]:
        """The wanted cells that have no result and did not end in an error either."""
        failed = {problem.name for problem in self.problems}
        return tuple(cell for cell in wanted if cell not in self.results and str(cell) not in failed)

    def _cut(self, run: RunRecord) -> str:
        if run.ended is not None:
            return str(run.ended)
        # Every result and every problem of a run that was killed is there all the same.
        done = len(run.selected) - len(self.missing(run.selected))
        return f"killed, or not ended yet, after {done} of {len(run.selected)} cells"


def read_evidence(folders: Sequence[Path]) -> Evidence:
    """Reads the folders of results of one night.

    Results of one cell that say the same are taken once.

    Args:
        folders: At least one; several are the shards of one night.

    Raises:
        EvidenceError: A folder holds no results, or the folders are not of one night.
        drift.records.results.ResultError: A result is damaged.
        drift.records.run_file.RunFileError: A run file is.
    """
    records = {folder: RunRecord.read(folder) for folder in folders}
    # In an order of their own: a night is the same in whatever order its shards are named.
    known_runs = [record for record in records.values() if record is not None]
    runs = tuple(sorted(known_runs, key=lambda record: (record.started, record.id)))
    _check_runs([(folder, record) for folder, record in records.items() if record is not None])
    results: dict[Cell, CellResult] = {}
    holders: dict[Cell, Path] = {}
    cautions = []
    for folder, record in records.items():
        own = ResultFolder(folder).read()
        if record is None and not own:
            raise EvidenceError(f"{folder} holds no results: a run's folder has a run file, and results under cells/")
        cautions += _cautions(folder, record, own)
        for result in own:
            known = results.get(result.cell)
            if known is not None and not known.measured_alike(result):
                raise EvidenceError(
                    f"{holders[result.cell]} and {folder} hold different results of {result.cell}; "
                    "give the shards of one run, each once"
                )
            if known is None:
                results[result.cell], holders[result.cell] = result, folder
    _check_prompts(results, holders)
    declared = runs[0].declared if runs else ()
    order = {cell: i for i, cell in enumerate(declared)}
    measured = sorted(results, key=lambda cell: (order.get(cell, len(order)), cell.model, cell.order))
    if len(runs) < len(records):
        # What a folder without a run file holds was declared once.
        declared = (*declared, *(cell for cell in measured if cell not in order))
    chosen = {cell for run in runs for cell in run.selected}
    if len(runs) < len(records):
        chosen |= set(measured)
    return Evidence(
        folders=tuple(folders),
        runs=runs,
        results={cell: results[cell] for cell in measured},
        declared=declared,
        selected=tuple(cell for cell in declared if cell in chosen),
        problems=_in_order(merged_problems(runs), declared),
        cautions=tuple(cautions),
    )


def _in_order(problems: Sequence[Problem], declared: Sequence[Cell]) -> tuple[Problem, ...]:
    order = {str(cell): i for i, cell in enumerate(declared)}
    return tuple(sorted(problems, key=lambda problem: order.get(problem.name, len(order))))


def _check_runs(records: Sequence[tuple[Path, RunRecord]]) -> None:
    """Refuses run files that are not of one night."""
    for folder, record in records[1:]:
        first_folder, first = records[0]
        for field, what in (
            ("zoo", "zoos"),
            ("declared", "declared cells"),
            ("thresholds", "thresholds"),
            ("purpose", "purposes"),
        ):
            if getattr(first, field) != getattr(record, field):
                raise EvidenceError(f"{first_folder} and {folder} have different {what}; give the shards of one run")


def _check_prompts(results: Mapping[Cell, CellResult], holders: Mapping[Cell, Path]) -> None:
    """Refuses shards that asked one model in two ways."""
    seen: dict[tuple[str, str, str], tuple[Any, Cell]] = {}
    for cell, result in results.items():
        for field in (*_OF_A_MODEL, *_OF_A_TASK):
            place = cell.model, cell.task if field in _OF_A_TASK else "", field
            value, other = seen.setdefault(place, (result.environment.get(field), cell))
            if value != result.environment.get(field) and holders[other] != holders[cell]:
                raise EvidenceError(
                    f"{holders[other]} and {holders[cell]} asked {cell.model} different prompts: {field} is {value} "
                    f"for {other}, {result.environment.get(field)} for {cell}; give the shards of one run"
                )


def _cautions(folder: Path, record: RunRecord | None, results: Sequence[CellResult]) -> list[str]:
    """What is not as it should be with a folder: mixed, or of an earlier version."""
    if record is None:
        return [f"{folder} has no run file, as of an earlier version: the cells that it holds count as all there are"]
    found = []
    selected = set(record.selected)
    strangers = [str(each.cell) for each in results if each.run != record.id or each.cell not in selected]
    if strangers:
        shown = ", ".join(strangers[:_NAMED_AT_MOST]) + (
            f" and {len(strangers) - _NAMED_AT_MOST} more" if len(strangers) > _NAMED_AT_MOST else ""
        )
        found.append(f"{folder} is mixed: {shown} {'is' if len(strangers) == 1 else 'are'} not of the run {record.id}")
    return found
