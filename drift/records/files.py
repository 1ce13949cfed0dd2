"""Files that are either whole or not there."""

from __future__ import annotations

import glob
import os
import tempfile
from pathlib import Path

__all__ = ["UnwritableFolder", "ensure_writable", "remove_partial", "write_atomically", "write_new"]


class UnwritableFolder(OSError):
    """A folder that files cannot be written to."""


def write_atomically(path: Path, text: str, partial_folder: Path | None = None) -> None:
    """Writes `text` so that readers, and a process killed midway, never see half a file.

    Args:
        path: The file; its folder is made where it is missing.
        text: Its whole content.
        partial_folder: Where the unfinished file lives, on the same file system; next to `path` by
            default.
    """
    partial = _written(path, text, partial_folder or path.parent)
    try:
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_new(path: Path, text: str) -> None:
    """As `write_atomically`, for a file that must not be there yet, whoever else is about to write it.

    Raises:
        FileExistsError: It is there.
    """
    partial = _written(path, text, path.parent)
    try:
        os.link(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _written(path: Path, text: str, folder: Path) -> Path:
    """A whole file under a name of its own, in a folder on the same file system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=folder)
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; a result is as readable as any file the user makes.
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return partial


def remove_partial(path: Path) -> None:
    """Removes unfinished files that processes left beside `path` when they were killed; nobody may be writing it."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*"):
        partial.unlink(missing_ok=True)


def ensure_writable(folder: Path) -> None:
    """Makes `folder` and proves that a file can be written there.

    Raises:
        UnwritableFolder: It cannot; the message says why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UnwritableFolder(f"results cannot be written to {folder}: {error.strerror or error}") from None
