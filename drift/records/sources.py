"""What can be compared: a folder of results, a file or folder of snapshots, and the paper's printed accuracies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from drift.records.paper_accuracies import paper_accuracies
from drift.records.results import CellResult, ResultFolder
from drift.records.snapshots import Baseline, SnapshotFile
from drift.statistics.unpaired import Proportion

__all__ = ["PAPER", "Examples", "Place", "Source", "SourceError", "merged", "read_source"]

PAPER: Final = "paper"

_KEY: Final = re.compile(r"(?P<task>.+)-(?P<length>\d+)(?:-d(?P<depth>\d+))?")


class SourceError(ValueError):
    """Something that cannot be compared; the message says what would be right."""


@dataclass(frozen=True)
class Place:
    """A cell without its model."""

    task: str
    length: int
    depth: int | None = None

    @classmethod
    def of(cls, key: str) -> Place:
        """The place that a key names, as in `drift.records.results.CellResult.key`.

        Raises:
            SourceError: It names none.
        """
        match = _KEY.fullmatch(key)
        if match is None:
            raise SourceError(f"{key!r} names no cell; one looks like niah_single_2-1024 or essay-word-uuid-512-d50")
        depth = match["depth"]
        return cls(match["task"], int(match["length"]), None if depth is None else int(depth))

    @property
    def key(self) -> str:
        return f"{self.task}-{self.length}" + ("" if self.depth is None else f"-d{self.depth}")

    @property
    def order(self) -> tuple[str, int, int]:
        """Where it stands in a list."""
        return self.task, -1 if self.depth is None else self.depth, self.length


@dataclass(frozen=True)
class Examples:
    """A cell measured example by example.

    Attributes:
        scores: In [0, 1].
        prompts: Digests of the prompts.
        environment: What produced the scores.
        indices: The number of each example within the cell.
        predictions: The answers, where they are known.
        references: What right answers hold, where it is known.
    """

    scores: tuple[float, ...]
    prompts: tuple[str, ...]
    environment: Mapping[str, Any]
    indices: Sequence[int]
    predictions: tuple[str | None, ...] | None = None
    references: tuple[tuple[str, ...], ...] | None = None

    @classmethod
    def of_result(cls, result: CellResult) -> Examples:
        measured = result.scores, result.prompts, result.environment, result.indices
        return cls(*measured, result.predictions, result.references)

    @classmethod
    def of_baseline(cls, baseline: Baseline) -> Examples:
        return cls(baseline.scores, baseline.prompts, baseline.environment, range(len(baseline.scores)))

    @property
    def proportion(self) -> Proportion:
        """What remains of it without its examples."""
        return Proportion(100 * sum(self.scores) / len(self.scores), len(self.scores))


@dataclass(frozen=True)
class Source:
    """One side of a comparison.

    Attributes:
        name: What the user called it, without the model.
        model: The one model that was asked for, if one was.
        cells: By model and place.
        zoos: Where its models are from, as far as that is recorded.
    """

    name: str
    model: str | None
    cells: Mapping[str, Mapping[Place, Examples | Proportion]]
    zoos: frozenset[str] = frozenset()


def read_source(given: str) -> Source:
    """Reads one side of a comparison.

    Args:
        given: A run's folder of results, a snapshot file, a folder of snapshot files, or `paper`; each may be
            followed by a colon and the name of one of its models.

    Raises:
        SourceError: There is no such thing, or nothing in it.
        drift.records.results.ResultError: A result is damaged.
        drift.records.snapshots.SnapshotError: A snapshot is.
    """
    name, model = given, None
    if given != PAPER and not Path(given).exists():
        head, colon, tail = given.rpartition(":")
        if colon and (head == PAPER or Path(head).exists()):
            name, model = head, tail
    cells, zoos = _cells(name)
    if not cells:
        raise SourceError(f"{name} holds no results: a run's folder has them under cells/, snapshots are .json files")
    if model is not None and model not in cells:
        raise SourceError(f"{name} has no model {model}; there are {', '.join(cells)}")
    return Source(name, model, cells if model is None else {model: cells[model]}, zoos)


def merged(shards: Sequence[Source]) -> Source:
    """One source of the shards of a run, each of which measured cells of its own.

    Args:
        shards: At least one.

    Raises:
        SourceError: Two of them hold the same cell.
    """
    cells: dict[str, dict[Place, Examples | Proportion]] = {}
    holders: dict[tuple[str, Place], str] = {}
    for shard in shards:
        for model, places in shard.cells.items():
            for place, measured in places.items():
                if (model, place) in holders:
                    raise SourceError(
                        f"{holders[model, place]} and {shard.name} both hold {model}-{place.key}; "
                        "give the shards of one run, each once"
                    )
                holders[model, place] = shard.name
                cells.setdefault(model, {})[place] = measured
    models = {shard.model for shard in shards}
    return Source(
        name=" + ".join(shard.name for shard in shards),
        model=models.pop() if len(models) == 1 else None,
        cells=cells,
        zoos=frozenset().union(*(shard.zoos for shard in shards)),
    )


def _cells(name: str) -> tuple[Mapping[str, Mapping[Place, Examples | Proportion]], frozenset[str]]:
    """By model and place what a source holds, and the zoos it is from."""
    path = Path(name)
    if name == PAPER:
        printed = paper_accuracies()
        return {
            model: {Place.of(key): each for key, each in cells.items()} for model, cells in printed.items()
        }, frozenset([PAPER])
    if path.is_file():
        return {path.stem: _snapshots(path)}, frozenset()
    if not path.is_dir():
        raise SourceError(
            f"there is no {name}; give a folder of results, a snapshot file or folder, or {PAPER}, "
            "with :MODEL behind it for one model"
        )
    if not (path / "cells").is_dir():
        return {file.stem: _snapshots(file) for file in sorted(path.glob("*.json"))}, frozenset()
    results = ResultFolder(path).read()
    measured: dict[str, dict[Place, Examples | Proportion]] = {}
    for result in results:
        place = Place(result.task, result.length, result.depth)
        measured.setdefault(result.model, {})[place] = Examples.of_result(result)
    return measured, frozenset(result.zoo for result in results)


def _snapshots(path: Path) -> dict[Place, Examples | Proportion]:
    return {Place.of(key): Examples.of_baseline(each) for key, each in SnapshotFile(path).read().items()}
