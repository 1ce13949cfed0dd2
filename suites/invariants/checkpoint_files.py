"""Checkpoints on disk, changed for the worse, and what loading says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.checkpoints import CheckpointError

__all__ = ["change", "refused"]


def change(directory: Path, **fields: Any) -> None:
    """Replaces fields of `config.json`."""
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def refused(load: Callable[[Path], object], directory: Path) -> str:
    """The message of the error that loading must raise: one paragraph that names the checkpoint."""
    with pytest.raises(CheckpointError) as caught:
        load(directory)
    message = str(caught.value)
    assert "\n" not in message
    assert str(directory) in message
    return message
