"""Nights without a run: results, run files and snapshots written by hand, and judged as a run's own are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.cells import Cell
from drift.acceptance import AcceptanceFolder
from drift.night import Night, judged_night
from drift.past import RecordedPast
from drift.records.baselines import AcceptedSnapshots, baseline_file
from drift.records.evidence import read_evidence
from drift.records.results import CellResult, ResultFolder
from drift.records.run_file import Ending, Problem, Purpose, RunRecord
from drift.records.snapshots import Baseline
from drift.statistics.thresholds import Thresholds, ThresholdTable

__all__ = ["THRESHOLDS", "accept_results", "judged_folders", "judged_results", "run_record", "write_run"]

# Of one look at all the examples that there are.
THRESHOLDS = ThresholdTable(Thresholds(stages=(1000,)))


def run_record(
    folder: Path,
    results: Collection[CellResult] = (),
    *,
    run: str = "run-1",
    started: str = "2026-01-02T03:04:05Z",
    declared: Sequence[Cell] | None = None,
    selected: Sequence[Cell] | None = None,
    problems: Sequence[Problem] = (),
    cause: str = "",
    killed: bool = False,
    thresholds: ThresholdTable = THRESHOLDS,
    samples: int | None = None,
    **others: Any,
) -> RunRecord:
    """What the run file of a folder says; snapshots and history are beside the folder.

    Args:
        folder: Of the results.
        results: What the run measured.
        run: Its id.
        started: When, as ISO 8601 in UTC.
        declared: Every cell of the zoo; those selected by default.
        selected: The cells that it was to ask; those measured, or with a problem, by default.
        problems: Cells that ended in an error.
        cause: What cut it.
        killed: Whether it had no time to write how it ended.
        thresholds: By which it is judged.
        samples: Examples of the first look; as many as the largest result has, by default.
        others: Any other field of the run file.
    """
    done = [*dict.fromkeys(result.cell for result in results)]
    selected = done if selected is None else selected
    declared = selected if declared is None else declared
    named = {problem.name for problem in problems}
    finished = sum(cell in done or str(cell) in named for cell in selected)
    samples = max((len(result.scores) for result in results), default=1) if samples is None else samples
    fields: dict[str, Any] = {
        "command": "pytest -m gpu",
        "zoo": next((result.zoo for result in results), "pocket"),
        "purpose": Purpose.JUDGE,
        "snapshots": str(folder.parent / "snapshots"),
        "history": str(folder.parent / "history.sqlite"),
        "repeat": (),
    }
    return RunRecord(
        id=run,
        started=started,
        declared=tuple(declared),
        selected=tuple(selected),
        thresholds=thresholds.asked(samples, len(declared)).content(),
        problems=tuple(problems),
        ended=None if killed else Ending(started, finished, len(selected), cause),
        **{**fields, **others},
    )


def write_run(folder: Path, results: Sequence[CellResult], *, run_file: bool = True, **fields: Any) -> Path:
    """Writes a folder of results; returns it.

    Args:
        folder: Where to; results that are there stay.
        results: What the run measured.
        run_file: Whether it has a run file, as folders of earlier versions have not.
        fields: As of `run_record`.
    """
    record = run_record(folder, results, **fields)
    for result in results:
        ResultFolder(folder).write(replace(result, run=record.id) if run_file else result)
    folder.mkdir(parents=True, exist_ok=True)
    if run_file:
        record.write(folder)
    return folder


def accept_results(snapshots: Path, results: Iterable[CellResult]) -> Path:
    """Makes results the baseline of their cells; returns the folder of snapshots."""
    snapshots.mkdir(parents=True, exist_ok=True)
    for result in results:
        baseline_file(snapshots, result.model).update({result.key: Baseline.of(result)})
    return snapshots


def judged_folders(*folders: Path, whole: bool = False, thresholds: ThresholdTable | None = None) -> Night:
    """The night of folders that `write_run` wrote, with its snapshots, thresholds and history beside the first one.

    Args:
        folders: The shards of the night.
        whole: As of `judged_night`.
        thresholds: When a shift is one; by default what the first run file says, or the usual ones.
    """
    evidence = read_evidence(folders)
    if thresholds is None:
        runs = evidence.runs
        thresholds = ThresholdTable.of_content(runs[0].thresholds) if runs else THRESHOLDS
    beside = folders[0].parent
    past = RecordedPast(beside / "history.sqlite", "pocket", evidence.started or "9")
    try:
        return judged_night(
            evidence,
            AcceptedSnapshots(beside / "snapshots"),
            thresholds,
            past,
            AcceptanceFolder(folders[0]).read(),
            whole=whole,
        )
    finally:
        past.close()


def judged_results(
    folder: Path,
    results: Sequence[CellResult],
    accepted: Iterable[CellResult] = (),
    *,
    whole: bool = False,
    **fields: Any,
) -> Night:
    """The night of one run.

    Args:
        folder: An empty one, in which the run gets its own.
        results: What the run measured.
        accepted: What is accepted.
        whole: As of `judged_night`.
        fields: As of `run_record`, and `run_file`.
    """
    accept_results(folder / "snapshots", accepted)
    return judged_folders(write_run(folder / "night", results, **fields), whole=whole)
