"""The night: everything that can be said of what is on disk of one run, or of the shards of one.

`judged_night` is a pure function of results, accepted baselines, thresholds and history. pytest is one caller,
`python -m drift judge` another. Whoever tells somebody is handed the night, and cannot change it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from core.cells import Cell
from drift.acceptance import Acceptance
from drift.exit_statuses import ExitStatus, first_of
from drift.fallen import FallenCell, fallen_cell
from drift.judging import JudgedCell, judge_cell
from drift.past import NoPast, Past
from drift.records.baselines import AcceptedSnapshots
from drift.records.evidence import Evidence
from drift.records.run_file import Problem, Purpose, RunRecord
from drift.rerun import history_command, rerun_command
from drift.statistics import likelihoods, numeric_drift, pooled_scores
from drift.statistics.findings import Finding, Findings, PairedNight, Severity, Statistic
from drift.statistics.outcomes import Outcome
from drift.statistics.thresholds import ThresholdTable
from drift.suspects import Suspects, suspects

__all__ = ["STATISTICS", "Coverage", "Night", "judged_night"]

# Each sees what those before it found.
STATISTICS: Final[tuple[Statistic, ...]] = (
    pooled_scores.STATISTIC,
    likelihoods.STATISTIC,
    numeric_drift.STATISTIC,
)

_STATUS_OF: Final = {
    Outcome.REGRESSED: ExitStatus.SHIFTED,
    Outcome.INCOMPLETE: ExitStatus.INCOMPLETE,
    Outcome.NOT_COMPARABLE: ExitStatus.NOT_COMPARABLE,
    Outcome.NO_SNAPSHOT: ExitStatus.NO_BASELINE,
}


@dataclass(frozen=True)
class Coverage:
    """How much of what there is to judge was judged.

    Attributes:
        declared: How many cells the zoo declares.
        selected: How many the runs were to ask.
        judged: How many have a result.
        missing: The cells that should be there and are not; those that ended in an error are not among them.
        cut: What cut the runs and when; empty where nothing did.
    """

    declared: int
    selected: int
    judged: int
    missing: tuple[Cell, ...] = ()
    cut: str = ""


@dataclass(frozen=True)
class Night:
    """What a night came to.

    Attributes:
        purpose: What its runs were for.
        zoo: The zoo's name.
        started: When its first run began, as ISO 8601 in UTC; empty where that is not recorded.
        cells: Every cell that has a result, in the order that the zoo declares.
        findings: What each statistic over many cells came to.
        fallen: Cells that regressed, the largest fall first.
        suspects: What changed, for each model of which there is something to tell.
        problems: Cells that ended in an error.
        acceptances: What became of snapshots, where the runs were to accept what they measured.
        coverage: How much was judged.
        cautions: What a reader must know before any number, a line each.
        rerun: The command that asks just what failed again: the flipped examples of fallen cells, or whole cells.
        past: The command that shows the past of the worst cell.
        snapshots: The folder of what is accepted.
        results: The folders of its results.
        runs: The run files.
    """

    purpose: Purpose
    zoo: str
    started: str
    cells: tuple[JudgedCell, ...]
    findings: tuple[Findings, ...]
    fallen: tuple[FallenCell, ...]
    suspects: tuple[Suspects, ...]
    problems: tuple[Problem, ...]
    acceptances: Mapping[Cell, Acceptance]
    coverage: Coverage
    cautions: tuple[str, ...]
    rerun: str
    past: str
    snapshots: str
    results: tuple[str, ...]
    runs: tuple[RunRecord, ...] = field(default=(), repr=False)

    def of_outcome(self, outcome: Outcome) -> list[JudgedCell]:
        """The cells that came to an outcome."""
        return [each for each in self.cells if each.outcome is outcome]

    def found(self, *severities: Severity) -> list[Finding]:
        """What statistics found of some severities."""
        return [finding for findings in self.findings for finding in findings.of(*severities)]

    @property
    def fallen_pools(self) -> list[Finding]:
        """What fails the night beside its cells, the surest first."""
        return self.found(Severity.FAILURE)

    @property
    def improved(self) -> list[str]:
        """The cells and pools that are better than what is accepted."""
        cells = [str(each.cell) for each in self.of_outcome(Outcome.IMPROVED)]
        return cells + [str(each.pool) for each in self.found(Severity.IMPROVEMENT)]

    @property
    def without_verdict(self) -> list[Problem]:
        """What could not be judged, and why: other prompts, missing examples, errors."""
        unjudged = [
            Problem(str(each.cell), each.verdict.message.removeprefix(f"{each.cell}: "))
            for each in self.cells
            if each.outcome in (Outcome.NOT_COMPARABLE, Outcome.INCOMPLETE)
        ]
        return [*unjudged, *self.problems]

    @property
    def without_baseline(self) -> list[JudgedCell]:
        """The cells that have nothing accepted yet, and of which nothing is accepted right now."""
        return [each for each in self.of_outcome(Outcome.NO_SNAPSHOT) if each.cell not in self.acceptances]

    @property
    def statuses(self) -> frozenset[ExitStatus]:
        """Every exit status that holds."""
        if self.purpose is Purpose.ACCEPT:
            found = set()
        else:
            # What is accepted right now is a baseline from now on.
            open_cells = [each for each in self.cells if each.cell not in self.acceptances]
            found = {_STATUS_OF[each.outcome] for each in open_cells if each.outcome in _STATUS_OF}
        if self.found(Severity.FAILURE):
            found.add(ExitStatus.SHIFTED)
        if self.problems or self.coverage.missing or self.coverage.cut:
            found.add(ExitStatus.INCOMPLETE)
        if not self.coverage.selected:
            found.add(ExitStatus.NOTHING_SELECTED)
        return frozenset(found)

    @property
    def status(self) -> ExitStatus:
        """How a process that was asked for the night ends."""
        return first_of(self.statuses)

    @property
    def failed(self) -> bool:
        """Whether there is anything to be alarmed about."""
        return self.status not in (ExitStatus.QUIET, ExitStatus.NO_BASELINE, ExitStatus.NOTHING_SELECTED)

    @property
    def title(self) -> str:
        """The whole night in one line."""
        parts = [self._shifts(), self._gaps()]
        return f"longwatch: {'; '.join(filter(None, parts)) or self._quiet()}"

    def _shifts(self) -> str:
        pools = self.fallen_pools
        models = list(dict.fromkeys([each.cell.model for each in self.fallen] + [each.pool.model for each in pools]))
        if len(models) > 1:
            return f"{len(models)} models fell: {', '.join(models)}"
        if self.fallen:
            worst, others = self.fallen[0], len(self.fallen) - 1
            more = f" and on {others} more cell{'s' if others > 1 else ''}" if others else ""
            return f"{worst.cell.model} fell {-worst.shift.points:.1f} points on {worst.cell.key}{more}"
        return pools[0].headline if pools else ""

    def _gaps(self) -> str:
        cut, missing, failed = self.coverage.cut, len(self.coverage.missing), len(self.problems)
        other, fewer = (len(self.of_outcome(each)) for each in (Outcome.NOT_COMPARABLE, Outcome.INCOMPLETE))
        parts = [cut] if cut else []
        parts += [f"{_cells(failed)} ended in an error"] if failed else []
        parts += [f"{_cells(missing)} missing"] if missing and not cut else []
        parts += [f"{_cells(fewer)} incomplete"] if fewer else []
        parts += [f"{_cells(other)} not comparable"] if other else []
        shift = [] if self._shifts() or not parts else [f"no shift in {_cells(self._compared)}"]
        return "; ".join(parts + shift)

    def _quiet(self) -> str:
        new = len(self.without_baseline)
        without = f"; {_cells(new)} without a baseline yet" if new else ""
        return f"no shift in {_cells(self._compared)}{without}"

    @property
    def _compared(self) -> int:
        return sum(each.outcome in (Outcome.PASSED, Outcome.IMPROVED) for each in self.cells)


def _cells(count: int) -> str:
    return f"{count} cell{'' if count == 1 else 's'}"


def judged_night(
    evidence: Evidence,
    accepted: AcceptedSnapshots,
    thresholds: ThresholdTable,
    past: Past | None = None,
    acceptances: Mapping[Cell, Acceptance] = MappingProxyType({}),
    *,
    purpose: Purpose | None = None,
    whole: bool = False,
) -> Night:
    """Judges what is on disk.

    Args:
        evidence: Results and run files.
        accepted: What is accepted of the zoo.
        thresholds: When a shift is one; corrected for every declared cell.
        past: The runs before; None where no history is to be asked.
        acceptances: What became of snapshots, where the runs accepted what they measured.
        purpose: What the night is judged for; None for what its runs were for.
        whole: Whether every declared cell must be there, not only those that the runs selected.

    Raises:
        drift.records.snapshots.SnapshotError: A file of accepted accuracies is damaged.
    """
    past = NoPast() if past is None else past
    started = evidence.started or ""
    cells = tuple(
        judge_cell(result, accepted.of(cell, result.environment).baseline, thresholds)
        for cell, result in evidence.results.items()
    )
    purpose = evidence.purpose if purpose is None else purpose
    judged = purpose is Purpose.JUDGE
    findings = _findings(cells, evidence.declared, thresholds) if judged else ()
    details = [fallen_cell(each, past, started) for each in cells] if judged else []
    fallen = sorted((each for each in details if each is not None), key=lambda each: each.shift.points)
    told = [finding for each in findings for finding in each.of(Severity.FAILURE, Severity.WARNING)]
    coverage = _coverage(evidence, whole=whole)
    rerun, history = _commands(evidence, fallen, told, cells) if judged else ("", "")
    return Night(
        purpose=purpose,
        zoo=next((run.zoo for run in evidence.runs), next((each.result.zoo for each in cells), "")),
        started=started,
        cells=cells,
        findings=findings,
        fallen=tuple(fallen),
        suspects=tuple(suspects(cells, [each.pool for each in told], past, started)) if judged else (),
        problems=evidence.problems,
        acceptances={cell: acceptances[cell] for cell in evidence.declared if cell in acceptances},
        coverage=coverage,
        cautions=(*evidence.cautions, *_nothing_accepted(accepted)),
        rerun=rerun,
        past=history,
        snapshots=str(accepted.folder),
        results=tuple(map(str, evidence.folders)),
        runs=evidence.runs,
    )


def _nothing_accepted(accepted: AcceptedSnapshots) -> list[str]:
    """Says where baselines were looked for, if there are none at all: on another machine they are elsewhere."""
    return [] if accepted.folder.is_dir() else [f"nothing is accepted in {accepted.folder}"]


def _findings(
    cells: Sequence[JudgedCell], declared: Sequence[Cell], thresholds: ThresholdTable
) -> tuple[Findings, ...]:
    paired = tuple(each.paired for each in cells if each.paired is not None)
    if not paired:
        return ()
    night = PairedNight(paired, tuple(declared), thresholds)
    found: list[Findings] = []
    for statistic in STATISTICS:
        found.append(statistic.find(night, tuple(found)))
    return tuple(found)


def _coverage(evidence: Evidence, *, whole: bool) -> Coverage:
    missing = evidence.missing(evidence.declared if whole else evidence.selected)
    return Coverage(
        declared=len(evidence.declared),
        selected=len(evidence.selected),
        judged=sum(cell in evidence.results for cell in evidence.selected),
        missing=missing,
        cut=evidence.cut,
    )


def _commands(
    evidence: Evidence, fallen: Sequence[FallenCell], told: Sequence[Finding], cells: Sequence[JudgedCell]
) -> tuple[str, str]:
    """The commands that ask again what failed, and that show its past; empty where nothing did."""
    again = [each.cell for each in fallen]
    models = {cell.model for cell in again}
    shared = [each.pool for each in told if each.severity is Severity.FAILURE and each.pool.model not in models]
    failed = {problem.name for problem in evidence.problems}
    failed |= {str(each.cell) for each in cells if each.outcome in (Outcome.NOT_COMPARABLE, Outcome.INCOMPLETE)}
    again += [cell for cell in evidence.declared if str(cell) in failed or any(pool.holds(cell) for pool in shared)]
    again = list(dict.fromkeys(again))
    if not again or not evidence.runs:
        return "", ""
    # Where cells fell, and nothing else failed, it is known by which examples.
    flipped = {each.cell: [flip.index for flip in each.flips] for each in fallen}
    examples = flipped if set(again) == set(flipped) else None
    run = evidence.runs[0]
    return (
        rerun_command(again, evidence.declared, run.repeat, examples),
        history_command(again[0], str(Path(run.history)), alone=bool(fallen)),
    )
