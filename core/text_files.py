"""TOML and JSON files that people write: read whole, or refused in one line that names the file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["UnreadableFile", "read_json", "read_toml"]


class UnreadableFile(ValueError):
    """A file that cannot be read; the message names it and says why."""


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        UnreadableFile: It is missing, no text in UTF-8, not TOML, or nested too deeply.
    """
    return _read(path, tomllib.loads, "TOML")


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        UnreadableFile: It is missing, no text in UTF-8, not JSON, or nested too deeply.
    """
    return _read(path, json.loads, "JSON")


def _read(path: Path, parse: Callable[[str], Any], form: str) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
    except UnicodeDecodeError:
        reason = "is no text in UTF-8"
    except RecursionError:
        reason = f"is not readable as {form}: nested too deeply"
    except ValueError as error:  # also paths with a null character, and numbers of thousands of digits
        reason = f"is not readable as {form}: {' '.join(str(error).split())}"
    raise UnreadableFile(f"{path}: {reason}")
