"""`python -m drift judge` and `accept`: a night from its folders, as its own run told it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from drift.accepting import accept, decisions
from drift.exit_statuses import ExitStatus
from drift.night import judged_night
from drift.past import NoPast, RecordedPast
from drift.records.baselines import AcceptedSnapshots
from drift.records.evidence import Evidence, EvidenceError, read_evidence
from drift.records.run_file import Purpose
from drift.reports.alert_files import AlertFiles
from drift.reports.alert_text import as_markdown, whole_json
from drift.reports.console import command_console
from drift.reports.github import GitHubPages
from drift.reports.notifications import Notifications
from drift.reports.reporters import Reporter, told
from drift.reports.terminal import acceptance_lines, acceptance_markdown, print_night
from drift.statistics.thresholds import DEFAULT, ThresholdTable, load_thresholds

__all__ = ["CommandParser", "add_accept", "add_judge"]


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors end the process with the status that its command documents.

    Attributes:
        unusable: That status.
    """

    unusable = 2

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(self.unusable, f"{self.prog}: error: {message}\n")


def add_judge(commands: argparse._SubParsersAction[CommandParser]) -> None:
    """Adds the command that judges a night."""
    judge = commands.add_parser(
        "judge",
        help="judge a run again, or the shards of one, from their folders",
        description="Judges what is on disk of a run, or of the shards of one, as the run itself did. Exit status: 0 "
        "nothing to tell, 1 shifted, 2 incomplete or interrupted, 4 unusable, 6 not comparable, 7 no baseline yet.",
    )
    _add_common(judge)
    judge.add_argument("--whole", action="store_true", help="demand every cell that the zoo declares")
    judge.add_argument("--history", metavar="FILE", type=Path, help="the history (default: that of the run)")
    judge.add_argument("--alerts", metavar="DIR", type=Path, help="write alert.md and alert.json there, as a run does")
    judge.add_argument("--alert-url", metavar="URL", action="append", default=[], help="where to send the alert")
    judge.add_argument("--alert-always", action="store_true", help="alert also when nothing has shifted")
    shown = judge.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print JSON, with every cell")
    shown.add_argument("--markdown", action="store_true", help="print Markdown")
    judge.unusable = int(ExitStatus.UNUSABLE)
    judge.set_defaults(run=_judge, unusable=judge.unusable)


def add_accept(commands: argparse._SubParsersAction[CommandParser]) -> None:
    """Adds the command that accepts a night."""
    given = commands.add_parser(
        "accept",
        help="make a reviewed run the baseline, without asking the models again",
        description="Accepts what a run measured, cell by cell; cells that it did not measure stay as they are.",
    )
    _add_common(given)
    given.add_argument("--shorter", action="store_true", help="let snapshots come to hold fewer examples")
    given.add_argument("--markdown", action="store_true", help="print Markdown")
    given.unusable = int(ExitStatus.UNUSABLE)
    given.set_defaults(run=_accept, unusable=given.unusable)


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "results", metavar="RESULTS", nargs="+", type=Path, help="a run's folder; several are the shards of one night"
    )
    command.add_argument(
        "--against", metavar="SNAPSHOTS", type=Path, help="the folder of what is accepted (default: that of the run)"
    )
    command.add_argument("--thresholds", metavar="FILE", type=Path, help="when a shift is one (default: as in the run)")


def _judge(given: argparse.Namespace) -> int:
    evidence = read_evidence(given.results)
    accepted = AcceptedSnapshots(_snapshots(evidence, given.against))
    thresholds = _thresholds(evidence, given.thresholds)
    past = _past(evidence, given.history)
    # What a run accepted may have another baseline by now.
    purpose = Purpose.REPLAY if evidence.purpose is Purpose.REPLAY else Purpose.JUDGE
    try:
        night = judged_night(evidence, accepted, thresholds, past, purpose=purpose, whole=given.whole)
    finally:
        past.close()
    lines = [*told(_reporters(given), night), *([past.trouble] if past.trouble else [])]
    if given.json or given.markdown:
        # Not among what another program reads.
        for line in lines:
            print(line, file=sys.stderr)
        print(whole_json(night) if given.json else as_markdown(night), end="")
    else:
        console = command_console()
        for line in lines:
            console.print(line, soft_wrap=True, markup=False)
        print_night(night, console)
    return int(night.status)


def _reporters(given: argparse.Namespace) -> Sequence[Reporter]:
    found: list[Reporter] = [] if given.alerts is None else [AlertFiles(given.alerts, given.alert_always)]
    pages = GitHubPages.of_environment(os.environ, always=given.alert_always)
    return [*found, pages, Notifications(tuple(given.alert_url), given.alert_always)]


def _accept(given: argparse.Namespace) -> int:
    evidence = read_evidence(given.results)
    if not evidence.results:
        raise EvidenceError(f"{' '.join(map(str, given.results))}: there are no results to accept")
    accepted = AcceptedSnapshots(_snapshots(evidence, given.against, there=False))
    decided = decisions(evidence, accepted, _thresholds(evidence, given.thresholds), shorter=given.shorter)
    accept(evidence, accepted, decided)
    if given.markdown:
        print(acceptance_markdown(decided, str(accepted.folder)), end="")
        return int(ExitStatus.QUIET)
    console = command_console()
    for line in (*evidence.cautions, *acceptance_lines(decided, str(accepted.folder))):
        console.print(line, soft_wrap=True, markup=False)
    return int(ExitStatus.QUIET)


def _snapshots(evidence: Evidence, given: Path | None, *, there: bool = True) -> Path:
    """The folder of what is accepted.

    Args:
        evidence: The night.
        given: The folder that was named, if one was.
        there: Whether a named one has to exist.
    """
    if given is not None:
        if given.is_file() or (there and not given.is_dir()):
            raise EvidenceError(f"--against: there is no folder of snapshots at {given}; it holds MODEL.json files")
        return given
    folders = {Path(run.snapshots) for run in evidence.runs}
    if len(folders) != 1:
        raise EvidenceError(
            f"{' '.join(map(str, evidence.folders))}: it is not recorded what these were compared with; "
            "name the folder of snapshots with --against"
        )
    return folders.pop()


def _thresholds(evidence: Evidence, given: Path | None) -> ThresholdTable:
    recorded = [ThresholdTable.of_content(run.thresholds) for run in evidence.runs[:1]]
    if given is None and recorded:
        return recorded[0]
    # A zoo may have tasks that it declares no cell of; without a run file, it is not known what models it has.
    models = list(dict.fromkeys(cell.model for cell in evidence.declared)) if recorded else None
    table = load_thresholds(DEFAULT if given is None else given, models, None)
    usual = max((len(result.scores) for result in evidence.results.values()), default=1)
    samples = recorded[0].common.samples or usual if recorded else usual
    return table.asked(samples, len(evidence.declared))


def _past(evidence: Evidence, given: Path | None) -> NoPast | RecordedPast:
    if given is not None and not given.is_file():
        raise EvidenceError(f"--history: there is no history at {given}")
    if not evidence.runs or evidence.started is None:
        return NoPast()
    path = Path(evidence.runs[0].history) if given is None else given
    return RecordedPast(path, evidence.runs[0].zoo, evidence.started)
