"""Where baselines are: `<model>.json` in the folder of the zoo's snapshots, shared by all accelerators.

The cells that one kind of accelerator scores otherwise are in `<accelerator>/<model>.json` beside it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.cells import Cell
from drift.records.snapshots import Baseline, SnapshotFile

__all__ = [
    "Accepted",
    "AcceptedSnapshots",
    "Orphans",
    "accelerator_of",
    "baseline_file",
    "model_files",
    "orphans",
]


@dataclass(frozen=True)
class Accepted:
    """What is accepted of one cell.

    Attributes:
        shared: For all accelerators.
        own: For the accelerator at hand alone.
    """

    shared: Baseline | None = None
    own: Baseline | None = None

    @property
    def baseline(self) -> Baseline | None:
        """What the cell is compared with."""
        return self.shared if self.own is None else self.own


@dataclass(frozen=True)
class Orphans:
    """What a snapshot file holds that the zoo does not ask for any more.

    Attributes:
        path: The file.
        keys: Its cells that the declared matrix does not have; None where no card has the file's model.
    """

    path: Path
    keys: tuple[str, ...] | None

    def __str__(self) -> str:
        return f"{self.path}: " + ("no card has this model" if self.keys is None else ", ".join(self.keys))


def accelerator_of(environment: Mapping[str, Any]) -> str | None:
    """The kind of accelerator that produced a result, as folders are named; None where it is not recorded."""
    device = environment.get("device")
    return None if device is None else re.sub(r"[^a-z0-9]+", "-", str(device).lower()).strip("-")


def baseline_file(folder: Path, model: str, accelerator: str | None = None) -> SnapshotFile:
    """The file of a model.

    Args:
        folder: Of the zoo's snapshots.
        model: The model.
        accelerator: Whose own file it is; None for the shared one.
    """
    return SnapshotFile((folder if accelerator is None else folder / accelerator) / f"{model}.json")


def model_files(folder: Path, model: str) -> list[SnapshotFile]:
    """The files of a model: the shared one, there or not, and those of accelerators."""
    return [baseline_file(folder, model), *(SnapshotFile(path) for path in sorted(folder.glob(f"*/{model}.json")))]


class AcceptedSnapshots:
    """What is accepted of a zoo; each model is read once, when it is first asked for, and stays as it was then.

    Args:
        folder: Of the zoo's snapshots; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[Path, Mapping[str, Baseline]] = {}

    def read(self, model: str) -> None:
        """Reads all files of a model, those of other accelerators too.

        Raises:
            drift.records.snapshots.SnapshotError: A file is damaged.
        """
        for file in model_files(self.folder, model):
            self._cells(file)

    def of(self, cell: Cell, environment: Mapping[str, Any]) -> Accepted:
        """What is accepted of a cell on the kind of accelerator that an environment names.

        Args:
            cell: The cell.
            environment: As in `drift.records.results.CellResult`.

        Raises:
            drift.records.snapshots.SnapshotError: A file is damaged.
        """
        accelerator = accelerator_of(environment)
        shared = self._cells(baseline_file(self.folder, cell.model)).get(cell.key)
        if accelerator is None:
            return Accepted(shared)
        return Accepted(shared, self._cells(baseline_file(self.folder, cell.model, accelerator)).get(cell.key))

    def _cells(self, file: SnapshotFile) -> Mapping[str, Baseline]:
        if file.path not in self._files:
            self._files[file.path] = file.read()
        return self._files[file.path]


def orphans(folder: Path, declared: Mapping[str, Collection[str]]) -> list[Orphans]:
    """What the snapshots of a zoo hold beyond its declared matrix.

    Args:
        folder: Of the zoo's snapshots.
        declared: The keys of its cells, by model.

    Raises:
        drift.records.snapshots.SnapshotError: The file of a model that has a card is damaged.
    """
    found = []
    for path in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        if path.stem not in declared:
            found.append(Orphans(path, None))
        elif keys := tuple(key for key in SnapshotFile(path).read() if key not in declared[path.stem]):
            found.append(Orphans(path, keys))
    return found
