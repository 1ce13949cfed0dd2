"""The night in the history: every cell is added as soon as it is judged, so that a killed run keeps what it had."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drift.judging import JudgedCell
from drift.night import Night
from drift.records.history import History, Run
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
        self._stopped = run.purpose is Purpose.REPLAY

    def cell_judged(self, judged: JudgedCell) -> Sequence[str]:
        if self._stopped:
            return ()
        try:
            notices = self._begun()
            self._add(judged)
        except Exception as error:  # whatever is wrong with the history, the run goes on
            self._stopped = True
            return [f"history: nothing more of this run is recorded: {error}"]
        return notices

    def night_judged(self, night: Night) -> Sequence[str]:
        if self._history is not None:
            self._history.close()
        return ()

    def _begun(self) -> list[str]:
        if self._history is not None:
            return []
        self._history, notice = History.append_to(Path(self._run.history))
        run = Run(self._run.started, str(self._results), self._run.revision)
        self._number = self._history.begin(run)
        return [] if notice is None else [f"history: {notice}"]

    def _add(self, judged: JudgedCell) -> None:
        assert self._history is not None, "begun before"
        accepting = self._run.purpose is Purpose.ACCEPT
        self._history.add(
            self._number,
            judged.result,
            judged.outcome,
            before=judged.verdict.before,
            # What is accepted right now is in the file already, or not yet.
            baseline=None if accepting else judged.baseline,
            accepted=accepting,
        )
