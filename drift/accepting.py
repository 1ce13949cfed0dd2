"""Accepting what was reviewed: a folder of results becomes the baseline, and no model is asked again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from core.cells import Cell
from drift.acceptance import Acceptance, Decision, acceptance
from drift.records.baselines import AcceptedSnapshots, baseline_file
from drift.records.evidence import Evidence
from drift.records.files import write_atomically
from drift.records.snapshots import Baseline
from drift.rerun import rerun_command
from drift.statistics.thresholds import ThresholdTable

__all__ = ["AcceptanceRefused", "accept", "decisions"]

_NAMED_AT_MOST = 5


class AcceptanceRefused(ValueError):
    """Results that are not accepted as they are; the message says why, and what would be."""


def decisions(
    evidence: Evidence, accepted: AcceptedSnapshots, thresholds: ThresholdTable, *, shorter: bool = False
) -> Mapping[Cell, Acceptance]:
    """What accepting every result of a night does to its cell's snapshot.

    Args:
        evidence: The night.
        accepted: What is accepted so far.
        thresholds: When a shift is one.
        shorter: Whether a snapshot may come to hold fewer examples than it does.

    Raises:
        AcceptanceRefused: Results are of examples chosen one by one, or would shorten a snapshot.
        drift.records.snapshots.SnapshotError: A file of accepted accuracies is damaged.
    """
    found: dict[Cell, Acceptance] = {}
    shortened: dict[Cell, int] = {}
    for cell, result in evidence.results.items():
        if result.chosen:
            raise AcceptanceRefused(f"{cell} was asked chosen examples, which are no baseline; accept a whole run")
        known = accepted.of(cell, result.environment)
        found[cell] = acceptance(result, known, thresholds.of(cell.model, cell.task))
        held = 0 if known.baseline is None else len(known.baseline.scores)
        if found[cell].decision is Decision.WRITTEN and len(result.scores) < held:
            shortened[cell] = held
    if shortened and not shorter:
        raise AcceptanceRefused(_refusal(evidence, shortened))
    return found


def _refusal(evidence: Evidence, shortened: Mapping[Cell, int]) -> str:
    cells = list(shortened)
    counts = {cell: f"{held} → {len(evidence.results[cell].scores)}" for cell, held in shortened.items()}
    shown = ", ".join(f"{cell} ({counts[cell]})" for cell in cells[:_NAMED_AT_MOST])
    more = f" and {len(cells) - _NAMED_AT_MOST} more" if len(cells) > _NAMED_AT_MOST else ""
    repeat = [option for run in evidence.runs[:1] for option in run.repeat if not option.startswith("--samples=")]
    command = rerun_command(cells, evidence.declared, [*repeat, f"--samples={max(shortened.values())}"])
    return (
        f"accepting would leave these cells with fewer examples than are accepted: {shown}{more}. Ask all of them "
        f"with: {command}; then accept that run's results. Or give --shorter"
    )


def accept(evidence: Evidence, accepted: AcceptedSnapshots, decided: Mapping[Cell, Acceptance]) -> None:
    """Writes the snapshots that were decided to be written, all of them or none; every other cell stays as it is.

    Args:
        evidence: The night.
        accepted: Where to.
        decided: As `decisions` says.

    Raises:
        drift.records.snapshots.SnapshotError: A file is damaged, or cannot be written; all stay as they are.
    """
    # The lock of the runs that write snapshots; it imports pytest.
    from syrupy.utils import exclusive_file_lock

    files: defaultdict[tuple[str, str | None], dict[str, Baseline]] = defaultdict(dict)
    for cell, decision in decided.items():
        if decision.decision is Decision.WRITTEN:
            files[cell.model, decision.accelerator][cell.key] = Baseline.of(evidence.results[cell])
    with ExitStack() as undoing:
        for (model, accelerator), baselines in files.items():
            file = baseline_file(accepted.folder, model, accelerator)
            file.path.parent.mkdir(parents=True, exist_ok=True)
            with exclusive_file_lock(file.path):
                before = file.path.read_text(encoding="utf-8") if file.path.exists() else None
                file.update(baselines)
            undoing.callback(_restore, file.path, before)
        undoing.pop_all()


def _restore(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
    else:
        write_atomically(path, text)
