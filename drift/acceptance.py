"""Accepting: what updating the snapshot of a cell does, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from core.cells import Cell
from drift.changes import Change, Suspicion, changes
from drift.records.baselines import Accepted, accelerator_of
from drift.records.files import write_atomically
from drift.records.results import CellResult, ResultError
from drift.records.snapshots import Baseline
from drift.statistics.thresholds import Thresholds
from drift.verdicts import compare

__all__ = ["Acceptance", "AcceptanceFolder", "Decision", "acceptance"]

# A baseline of another model or other prompts does not tell what an accelerator changes.
_NOT_THE_ACCELERATORS = (Suspicion.MODEL, Suspicion.PROMPT)


class Decision(StrEnum):
    """What becomes of a cell's snapshot.

    Attributes:
        WRITTEN: It is new, or replaced.
        UNCHANGED: It says already what was measured.
        SHARED: It stays, since this accelerator differs from the one it was accepted on by no more than noise.
    """

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    SHARED = "shared"


@dataclass(frozen=True)
class Acceptance:
    """What updating a cell's snapshot does.

    Attributes:
        decision: What becomes of it.
        now: The measured accuracy, in percent.
        before: The accepted one, where there is one.
        reasons: Why it is written or left alone; empty where nothing changed.
        environment: What changed in what produces the scores, the most suspicious first.
        accelerator: Whose own file the snapshot belongs to; None for the shared one.
    """

    decision: Decision
    now: float
    before: float | None = None
    reasons: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    accelerator: str | None = None


class AcceptanceFolder:
    """What a run accepted, kept beside its results: `acceptances/<model>/<cell>.json`.

    Args:
        results: The folder of the run's results.
    """

    def __init__(self, results: Path) -> None:
        self._folder = results / "acceptances"

    def write(self, cell: Cell, decision: Acceptance) -> None:
        """Keeps what became of a cell's snapshot."""
        content = json.dumps({**cell.axes, **asdict(decision)})
        write_atomically(self._folder / cell.model / f"{cell.key}.json", content + "\n")

    def read(self) -> Mapping[Cell, Acceptance]:
        """What became of every cell's snapshot; empty where the run accepted nothing.

        Raises:
            ResultError: A file is damaged.
        """
        return dict(map(_read, sorted(self._folder.glob("*/*.json"))))


def _read(path: Path) -> tuple[Cell, Acceptance]:
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        cell = Cell.of_fields(given)
        fields = {name: value for name, value in given.items() if name not in cell.axes}
        lists = {name: tuple(fields[name]) for name in ("reasons", "environment")}
        return cell, Acceptance(**{**fields, **lists, "decision": Decision(fields["decision"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ResultError(f"{path} is not a readable acceptance: {error!r}") from None


def acceptance(result: CellResult, accepted: Accepted, thresholds: Thresholds) -> Acceptance:
    """Decides on the snapshot of a cell that a person asked to update.

    A cell that was accepted on another kind of accelerator is compared with that baseline, by the test that
    nights are judged by: where it has shifted, this kind gets a baseline of its own, else they share it.

    Args:
        result: What was measured.
        accepted: What is accepted so far.
        thresholds: When a shift is one.
    """
    baseline = accepted.baseline
    if baseline is None:
        return Acceptance(Decision.WRITTEN, result.accuracy, reasons=("new cell",))
    found = changes(baseline.environment, result.environment)
    here, there = accelerator_of(result.environment), accelerator_of(baseline.environment)
    own = None if accepted.own is None else here
    if own is None and None not in (here, there) and here != there and _same_question(baseline, result, found):
        return _on_another_accelerator(result, baseline, thresholds, found)
    reasons = _reasons(baseline, result, thresholds, found)
    decision = Decision.WRITTEN if reasons else Decision.UNCHANGED
    return Acceptance(decision, result.accuracy, baseline.accuracy, reasons, _shown(found) if reasons else (), own)


def _same_question(baseline: Baseline, result: CellResult, found: Sequence[Change]) -> bool:
    pairs = zip(baseline.prompts, result.prompts, strict=False)
    return all(old == new for old, new in pairs) and not any(
        change.suspicion in _NOT_THE_ACCELERATORS for change in found
    )


def _on_another_accelerator(
    result: CellResult, baseline: Baseline, thresholds: Thresholds, found: Sequence[Change]
) -> Acceptance:
    judgement = compare(result, baseline, thresholds).judgement
    assert judgement is not None, "prompts are the same, so there is a judgement"
    differs = "differs" if judgement.shifted else "differs by no more than noise"
    reason = (
        f"{result.environment['device']} {differs} from {baseline.environment['device']}: "
        f"{judgement.shift.points:+.2f} points, p = {judgement.shift.p_value:.2g}"
    )
    means = (result.accuracy, baseline.accuracy)
    if not judgement.shifted:
        return Acceptance(Decision.SHARED, *means, (reason,))
    return Acceptance(Decision.WRITTEN, *means, (reason,), _shown(found), accelerator_of(result.environment))


def _reasons(
    baseline: Baseline, result: CellResult, thresholds: Thresholds, found: Sequence[Change]
) -> tuple[str, ...]:
    """What of a cell is not as accepted; nothing where a shorter run agrees with the first examples of its snapshot."""
    held, count = len(baseline.scores), len(result.scores)
    common = min(held, count)
    other = [old != new for old, new in zip(baseline.prompts[:common], result.prompts[:common], strict=True)]
    pairs = zip(baseline.scores[:common], result.scores[:common], strict=True)
    moved = [old != new for old, new in pairs]
    reasons = []
    if any(other):
        reasons.append(f"{sum(other)} of {common} prompts changed")
    elif any(moved):
        reasons.append(f"{sum(moved)} of {common} scores changed")
    if count < held and not reasons:
        return ()
    if count != held:
        reasons.append(f"{count:,} examples, {held:,} before")
    if likelihoods := _likelihood_reason(baseline, result, thresholds):
        reasons.append(likelihoods)
    # How work is cut into pieces moves no score, and differs from machine to machine.
    if any(change.suspicion is not Suspicion.BATCHING for change in found):
        reasons.append("environment changed")
    return tuple(reasons)


def _likelihood_reason(baseline: Baseline, result: CellResult, thresholds: Thresholds) -> str:
    if not result.log_likelihoods:
        return ""
    if not baseline.log_likelihoods:
        return "log-likelihoods added"
    pairs = list(zip(baseline.log_likelihoods, result.log_likelihoods, strict=False))
    nats = sum(new - old for old, new in pairs) / len(pairs)
    # What would be warned of tonight is accepted too.
    return f"log-likelihoods changed by {nats:+.3f}" if abs(nats) >= thresholds.warning_smallest_effect else ""


def _shown(found: Sequence[Change]) -> tuple[str, ...]:
    return tuple(str(change) for change in found if change.suspicion is not Suspicion.BATCHING)
