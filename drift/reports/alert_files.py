"""The alert of a night as files beside its results: `alert.md` and `alert.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drift.judging import JudgedCell
from drift.night import Night
from drift.records.files import write_atomically
from drift.reports.alert_text import as_json, as_markdown
from drift.reports.audience import alarming

__all__ = ["AlertFiles"]

_MARKDOWN: Final = "alert.md"
_JSON: Final = "alert.json"


@dataclass(frozen=True)
class AlertFiles:
    """Writes the files, where there is something to tell; else removes those of an earlier judgement.

    Attributes:
        folder: Where they go.
        always: Whether a night without anything to be alarmed about is told too.
    """

    folder: Path
    always: bool = False
    name: str = "alert files"

    def cell_judged(self, judged: JudgedCell) -> Sequence[str]:
        return ()

    def night_judged(self, night: Night) -> Sequence[str]:
        try:
            if not alarming(night, always=self.always):
                for name in (_MARKDOWN, _JSON):
                    (self.folder / name).unlink(missing_ok=True)
                return ()
            write_atomically(self.folder / _MARKDOWN, as_markdown(night))
            write_atomically(self.folder / _JSON, as_json(night))
        except OSError as error:
            return [f"alert not written to {self.folder}: {error}"]
        return [f"alert: {night.title.removeprefix('longwatch: ')}; see {self.folder / _MARKDOWN}"]
