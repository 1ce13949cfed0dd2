"""What a finished training run leaves beside its checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["TrainingRecord", "read_record", "write_record"]

_FILE = "training.json"


@dataclass(frozen=True)
class TrainingRecord:
    """How a model was trained.

    Attributes:
        steps: Optimizer steps.
        tokens: Tokens read, padding included.
        seconds: Wall time of all its steps.
        threads: Processor threads; 0 for an accelerator.
        loss: On answers at the end, nats a token, smoothed.
        accuracy: Share of answer tokens predicted at the end, teacher-forced, smoothed, in percent.
        torch: The library's version.
    """

    steps: int
    tokens: int
    seconds: float
    threads: int
    loss: float
    accuracy: float
    torch: str


def write_record(directory: Path, record: TrainingRecord) -> None:
    """Writes the record of a checkpoint's directory."""
    (directory / _FILE).write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")


def read_record(directory: Path) -> TrainingRecord:
    """Reads the record of a checkpoint's directory.

    Raises:
        ValueError: There is none, or it is damaged.
    """
    path = directory / _FILE
    try:
        return TrainingRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: no record of a training run ({error})") from None
