"""Files that are either whole or not there."""

from __future__ import annotations

import glob
import os
import tempfile
from pathlib import Path

__all__ = ["UnwritableFolder", "ensure_writable", "remove_partial", "write_atomically"]


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
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = partial_folder or path.parent
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; a result is as readable as any file the user makes.
        mask = os.umask(0)
        os.umask(mask)
        Path(partial).chmod(0o666 & ~mask)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


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
