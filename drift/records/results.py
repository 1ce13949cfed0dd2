"""Cell results, and the folder that keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from drift.records.files import ensure_writable, write_atomically

__all__ = ["CellResult", "ResultError", "ResultFolder"]

SCHEMA = 1


class ResultError(ValueError):
    """A result file that cannot be read; the message names the file."""


@dataclass(frozen=True)
class CellResult:
    """The outcome of one cell; lists run over its examples, in order of their index.

    Attributes:
        zoo, model, task, length, depth: The cell.
        scores: In [0, 1].
        log_likelihoods: Of the answers that were expected, given the prompts, in nats; empty where unknown.
        prompts: Digests of prompt, ids and references, eight hexadecimal digits each.
        predictions: The generated texts.
        references: What right answers hold.
        prompt_tokens: Length of the prompts in tokens.
        needle_tokens: For each reference, the index of its needle's first token.
        reached_depths: For each reference, the depth its needle reached, in percent.
        seconds: Wall time by stage: generate, decode.
        environment: What produced the result: versions, device, dtype, fingerprints, settings.
        chosen: The indices of its examples, where they were chosen one by one; empty where they are the first ones.
    """

    zoo: str
    model: str
    task: str
    length: int
    depth: int | None
    scores: tuple[float, ...]
    prompts: tuple[str, ...]
    predictions: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    prompt_tokens: tuple[int, ...]
    needle_tokens: tuple[tuple[int, ...], ...]
    reached_depths: tuple[tuple[float, ...], ...]
    seconds: Mapping[str, float]
    environment: Mapping[str, Any]
    log_likelihoods: tuple[float, ...] = ()
    chosen: tuple[int, ...] = ()

    @property
    def indices(self) -> Sequence[int]:
        """The number of each example within the cell."""
        return self.chosen or range(len(self.scores))

    @property
    def key(self) -> str:
        """The cell's name within its model."""
        return f"{self.task}-{self.length}" + ("" if self.depth is None else f"-d{self.depth}")

    @property
    def accuracy(self) -> float:
        """The mean score in percent."""
        return 100 * sum(self.scores) / len(self.scores)

    def __repr__(self) -> str:
        return f"<{self.model}-{self.key}: accuracy {self.accuracy:.2f} over {len(self.scores)} examples>"

    def to_json(self) -> str:
        """The content of its result file."""
        content = {"schema": SCHEMA, "accuracy": self.accuracy, **asdict(self)}
        lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def read(cls, path: Path) -> CellResult:
        """Reads a result file.

        Raises:
            ResultError: It is damaged, or of another schema.
        """
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
            if given.pop("schema") != SCHEMA:
                raise ResultError(f"{path} has another schema than {SCHEMA}")
            given.pop("accuracy")
            lists = {name: value for name, value in given.items() if isinstance(value, list)}
            for name, value in lists.items():
                given[name] = tuple(tuple(each) if isinstance(each, list) else each for each in value)
            # Results written before these were kept have none.
            for name in ("log_likelihoods", "chosen"):
                given.setdefault(name, ())
            return cls(**{each.name: given.pop(each.name) for each in fields(cls)})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ResultError(f"{path} is not a readable cell result: {error}") from error


class ResultFolder:
    """One run's results: `cells/<model>/<cell>.json`, each written whole as soon as it is known."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Makes the folder.

        Raises:
            drift.records.files.UnwritableFolder: Nothing can be written there.
        """
        ensure_writable(self.path)

    def write(self, result: CellResult) -> Path:
        """Keeps a result; one of the same cell is replaced."""
        path = self.path / "cells" / result.model / f"{result.key}.json"
        write_atomically(path, result.to_json(), self.path / ".partial")
        return path

    def read(self) -> list[CellResult]:
        """Every result, sorted by file name."""
        return [CellResult.read(path) for path in sorted((self.path / "cells").glob("*/*.json"))]
