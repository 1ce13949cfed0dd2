"""The night in the history: every cell is added as soon as it is judged, so that a killed run keeps what it had."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drift.judging import JudgedCell
from drift.night import Night
from drift.records.history import History, HistoryError, Run
from drift.records.run_file import Purpose, RunRecord

__all__ = ["HistoryDatabase"]


class HistoryDatabase:
    """Adds cells to a history; after the first trouble it adds nothing more of the run.

    Args:
        run: The run; one that replays examples is not recorded.
        results: The folder of its results.
    """

    name = "history"

    def __init__(self, run: RunRecord, results: Path) -> None:
        self._run, self._results = run, results
        self._history: History | None = None
        self._number = 0
        self._noticed = 0
        self._stopped = run.purpose is Purpose.REPLAY

    def cell_judged(self, judged: JudgedCell) -> Sequence[str]:
        if self._stopped:
            return ()
        try:
            history = self._begun()
            self._add(history, judged)
        except HistoryError as error:
            self._stopped = True
            return [f"history: nothing more of this run is recorded: {error}"]
        new, self._noticed = history.notices[self._noticed :], len(history.notices)
        return [f"history: {notice}" for notice in new]

    def night_judged(self, night: Night) -> Sequence[str]:
        if self._history is not None:
            self._history.close()
        return ()

    def _begun(self) -> History:
        if self._history is None:
            self._history, _ = History.append_to(Path(self._run.history))
            self._number = self._history.begin(Run(self._run.started, str(self._results), self._run.revision))
        return self._history

    def _add(self, history: History, judged: JudgedCell) -> None:
        accepting = self._run.purpose is Purpose.ACCEPT
        history.add(
            self._number,
            judged.result,
            judged.outcome,
            before=judged.verdict.before,
            # What is accepted right now is in the file already, or not yet.
            baseline=None if accepting else judged.baseline,
            accepted=accepting,
        )
