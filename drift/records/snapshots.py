"""Accepted accuracies: one JSON file a model, one line a cell.

A file is a JSON object that also reads line by line, so that `git diff` shows cells and damage can
be told by its line. Every cell's line ends in a checksum of the rest of it: scores are accepted with
`--snapshot-update`, not by hand.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drift.records.files import remove_partial, write_atomically
from drift.records.results import CellResult

__all__ = ["Baseline", "SnapshotError", "SnapshotFile"]

SCHEMA = 1
_DIGEST = 8


class SnapshotError(ValueError):
    """A snapshot file that cannot be used; the message names file and line."""


@dataclass(frozen=True)
class Baseline:
    """The accepted outcome of one cell.

    Attributes:
        scores: Per example, in [0, 1].
        prompts: Digests of the examples, as in `CellResult`.
        environment: What produced it.
        log_likelihoods: Of the answers that were expected, in nats; empty where unknown.
    """

    scores: tuple[float, ...]
    prompts: tuple[str, ...]
    environment: Mapping[str, Any]
    log_likelihoods: tuple[float, ...] = ()

    @classmethod
    def of(cls, result: CellResult) -> Baseline:
        """The baseline that accepts a result."""
        return cls(result.scores, result.prompts, result.environment, result.log_likelihoods)

    @property
    def accuracy(self) -> float:
        """The mean score in percent."""
        return 100 * sum(self.scores) / len(self.scores)

    def __str__(self) -> str:
        return f"<accuracy {self.accuracy:.2f} over {len(self.scores)} examples>"


def _checksum(key: str, line: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([key, line]).encode()).hexdigest()[:_DIGEST]


def _cell_line(key: str, baseline: Baseline) -> str:
    line = {
        "accuracy": round(baseline.accuracy, 2),
        "samples": len(baseline.scores),
        "scores": [int(score) if score == int(score) else score for score in baseline.scores],
        "environment": _fingerprint(baseline.environment),
        "prompts": "".join(baseline.prompts),
        **({"log_likelihoods": baseline.log_likelihoods} if baseline.log_likelihoods else {}),
    }
    return f"{json.dumps(key)}: {json.dumps({**line, 'check': _checksum(key, line)})}"


def _fingerprint(environment: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()[:_DIGEST]


def _natural(key: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", key)]


@dataclass(frozen=True)
class SnapshotFile:
    """The accepted accuracies of one model."""

    path: Path

    def read(self) -> dict[str, Baseline]:
        """Every accepted cell by key; empty where there is no file yet.

        Raises:
            SnapshotError: The file is truncated, edited by hand or of another schema.
        """
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise SnapshotError(f"snapshot file {self.path} cannot be read: {error}") from None
        return _Reader(self.path, lines).baselines()

    def update(self, accepted: Mapping[str, Baseline]) -> None:
        """Adds or replaces cells; every other cell of the file stays as it is.

        The caller holds the file's lock.

        Raises:
            SnapshotError: The file is damaged, or cannot be written; it stays as it is.
        """
        self._write({**self.read(), **accepted})

    def remove(self, keys: Collection[str]) -> None:
        """Removes cells, and the file with the last of them.

        The caller holds the file's lock.

        Raises:
            SnapshotError: The file is damaged, or cannot be written; it stays as it is.
        """
        kept = {key: baseline for key, baseline in self.read().items() if key not in keys}
        if kept:
            self._write(kept)
        else:
            self.path.unlink(missing_ok=True)

    def _write(self, cells: Mapping[str, Baseline]) -> None:
        environments = {_fingerprint(each.environment): each.environment for each in cells.values()}
        text = "\n".join(
            [
                "{",
                f'"schema": {SCHEMA},',
                '"environments": {',
                *_joined(f'"{name}": {json.dumps(environments[name])}' for name in sorted(environments)),
                "},",
                '"cells": {',
                *_joined(_cell_line(key, cells[key]) for key in sorted(cells, key=_natural)),
                "}",
                "}",
            ]
        )
        try:
            # Under the lock nobody else is writing: what is unfinished was left by a process that was killed.
            remove_partial(self.path)
            write_atomically(self.path, text + "\n")
        except OSError as error:
            raise SnapshotError(
                f"snapshot file {self.path} cannot be written: {error.strerror or error}. It was left as it is."
            ) from None


def _joined(lines: Any) -> list[str]:
    rows = list(lines)
    return [row + "," for row in rows[:-1]] + rows[-1:]


@dataclass(frozen=True)
class _Reader:
    path: Path
    lines: Sequence[str]

    def baselines(self) -> dict[str, Baseline]:
        self._expect(1, "{")
        if self._line(2) != f'"schema": {SCHEMA},':
            raise self._error(2, f"this version of longwatch reads schema {SCHEMA}")
        self._expect(3, '"environments": {')
        number, environments = 4, {}
        while self._line(number) != "},":
            name, environment = self._entry(number)
            if not isinstance(environment, dict) or _fingerprint(environment) != name:
                raise self._error(number, "the environment was changed by hand")
            environments[name] = environment
            number += 1
        self._expect(number + 1, '"cells": {')
        number += 2
        cells: dict[str, Baseline] = {}
        while self._line(number) != "}":
            key, line = self._entry(number)
            if key in cells:
                raise self._error(number, f"the cell {key} stands here a second time")
            cells[key] = self._baseline(number, key, line, environments)
            number += 1
        self._expect(number + 1, "}")
        if len(self.lines) > number + 1:
            raise self._error(number + 2, "nothing belongs after the closing brace")
        return cells

    def _baseline(self, number: int, key: str, line: Any, environments: Mapping[str, Mapping[str, Any]]) -> Baseline:
        try:
            rest = {name: value for name, value in line.items() if name != "check"}
            prompts = line["prompts"]
            baseline = Baseline(
                scores=tuple(map(float, line["scores"])),
                prompts=tuple(prompts[i : i + _DIGEST] for i in range(0, len(prompts), _DIGEST)),
                environment=environments[line["environment"]],
                log_likelihoods=tuple(line.get("log_likelihoods", ())),
            )
            counts = {len(baseline.prompts), len(baseline.scores), len(baseline.log_likelihoods or baseline.scores)}
            numbers = [*line["scores"], *baseline.log_likelihoods]
            intact = (
                _checksum(key, rest) == line["check"]
                and len(counts) == 1
                and counts != {0}
                and all(type(each) in (int, float) for each in numbers)
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            intact = False
        if not intact:
            raise self._error(number, "its checksum does not fit: the line was changed by hand")
        return baseline

    def _line(self, number: int) -> str:
        if number > len(self.lines):
            raise self._error(number, "the file ends here, too early")
        return self.lines[number - 1]

    def _expect(self, number: int, text: str) -> None:
        if self._line(number) != text:
            raise self._error(number, f"{text!r} belongs here")

    def _entry(self, number: int) -> tuple[str, Any]:
        try:
            ((key, value),) = json.loads("{" + self._line(number).removesuffix(",") + "}").items()
        except (ValueError, AttributeError, RecursionError) as error:
            raise self._error(number, f"not a JSON entry ({error})") from None
        return key, value

    def _error(self, number: int, problem: str) -> SnapshotError:
        return SnapshotError(
            f"snapshot file {self.path}, line {number}: {problem}. The file was left as it is; "
            "restore it from git, or remove the line and accept the cell again with --snapshot-update."
        )
