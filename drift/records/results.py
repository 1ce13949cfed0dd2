"""Cell results, and the folder that keeps them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from core.cells import Cell
from drift.records.files import ensure_writable, write_atomically

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["CellResult", "ResultError", "ResultFolder"]

SCHEMA = 1

# One entry an example; those that may be empty are not recorded everywhere.
_PER_EXAMPLE = ("scores", "prompts", "predictions", "references", "prompt_tokens", "needle_tokens", "reached_depths")
_MAY_BE_EMPTY = ("log_likelihoods", "chosen")


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
        run: The id of the run that measured it; empty where that is not recorded.
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
    run: str = ""

    @property
    def cell(self) -> Cell:
        """What was asked."""
        return Cell(self.model, self.task, self.length, self.depth)

    @property
    def indices(self) -> Sequence[int]:
        """The number of each example within the cell."""
        return self.chosen or range(len(self.scores))

    @property
    def key(self) -> str:
        """The cell's name within its model."""
        return self.cell.key

    @property
    def accuracy(self) -> float:
        """The mean score in percent."""
        return 100 * sum(self.scores) / len(self.scores)

    def __repr__(self) -> str:
        return f"<{self.cell}: accuracy {self.accuracy:.2f} over {len(self.scores)} examples>"

    def measured_alike(self, other: CellResult) -> bool:
        """Whether another result says the same, apart from when it was measured, how fast and by which run."""
        apart = ("seconds", "run")
        return all(
            getattr(self, each.name) == getattr(other, each.name) for each in fields(self) if each.name not in apart
        )

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
            given = json.loads(path.read_bytes())
            if given.pop("schema") != SCHEMA:
                raise ResultError(f"{path} has another schema than {SCHEMA}")
            given.pop("accuracy")
            result = cls(**{name: _checked(name, value) for name, value in given.items() if name in _adapters()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, ResultError):
                raise
            reason = error if isinstance(error, (OSError, ValueError)) else repr(error)
            raise ResultError(f"{path} is not a readable cell result: {reason}") from None
        result._check(path)
        return result

    def _check(self, path: Path) -> None:
        """Refuses lists that do not belong together, and scores that are none."""
        counts = {name: len(getattr(self, name)) for name in (*_PER_EXAMPLE, *_MAY_BE_EMPTY)}
        wrong = [
            name
            for name, count in counts.items()
            if count != counts["scores"] and not (name in _MAY_BE_EMPTY and count == 0)
        ]
        if not counts["scores"] or wrong:
            named = ", ".join(wrong) or "scores"
            raise ResultError(
                f"{path} is not a readable cell result: {named}: {counts['scores']} examples are scored, each list "
                "must have as many entries and at least one"
            )
        if not all(0 <= score <= 1 for score in self.scores):
            raise ResultError(f"{path} is not a readable cell result: scores must lie between 0 and 1")


def _as_tuples(value: Any) -> Any:
    """What JSON has as lists, and lists within lists, as results hold it."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _checked(name: str, value: Any) -> Any:
    """The value of a field, of the field's very type.

    Raises:
        ValueError: It is of another.
    """
    import pydantic

    try:
        return _adapters()[name].validate_python(_as_tuples(value), strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, (name, *first['loc'])))}: {first['msg']}") from None


@cache
def _adapters() -> Mapping[str, TypeAdapter[Any]]:
    # Only those who read results wait for pydantic.
    from pydantic import TypeAdapter

    return {name: TypeAdapter(hint) for name, hint in get_type_hints(CellResult).items()}


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

    def file(self, cell: Cell) -> Path:
        """The file of a cell's result, there or not."""
        return self.path / "cells" / cell.model / f"{cell.key}.json"

    def write(self, result: CellResult) -> Path:
        """Keeps a result; one of the same cell is replaced."""
        path = self.file(result.cell)
        write_atomically(path, result.to_json(), self.path / ".partial")
        return path

    def of(self, cell: Cell) -> CellResult | None:
        """The result of a cell; None where there is none.

        Raises:
            ResultError: It is damaged.
        """
        path = self.file(cell)
        return CellResult.read(path) if path.is_file() else None

    def stream(self) -> Iterator[CellResult]:
        """Every result, one at a time, sorted by file name.

        Raises:
            ResultError: One is damaged.
        """
        for path in sorted((self.path / "cells").glob("*/*.json")):
            yield CellResult.read(path)

    def read(self) -> list[CellResult]:
        """Every result, sorted by file name; raises as `stream`."""
        return list(self.stream())
