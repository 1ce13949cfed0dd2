"""What can be compared: a folder of results, a file or folder of snapshots, and the paper's printed accuracies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from core.cells import Cell
from drift.records.evidence import read_evidence
from drift.records.paper_accuracies import paper_accuracies
from drift.records.results import CellResult
from drift.records.run_file import RUN_FILE
from drift.records.snapshots import Baseline, SnapshotFile
from drift.statistics.unpaired import Proportion

__all__ = ["PAPER", "Examples", "Source", "SourceError", "merged", "read_source"]

PAPER: Final = "paper"


class SourceError(ValueError):
    """Something that cannot be compared; the message says what would be right."""


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
        cells: By model and the cell's key.
        zoos: Where its models are from, as far as that is recorded.
        declared: Every cell of the zoo of the run; empty where that is not recorded.
        cautions: What a reader must know before any number, a line each.
    """

    name: str
    model: str | None
    cells: Mapping[str, Mapping[str, Examples | Proportion]]
    zoos: frozenset[str] = frozenset()
    declared: tuple[Cell, ...] = ()
    cautions: tuple[str, ...] = ()


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
    whole = _read(name)
    if not whole.cells:
        raise SourceError(f"{name} holds no results: a run's folder has them under cells/, snapshots are .json files")
    if model is None:
        return whole
    if model not in whole.cells:
        raise SourceError(f"{name} has no model {model}; there are {', '.join(whole.cells)}")
    return replace(whole, model=model, cells={model: whole.cells[model]})


def merged(shards: Sequence[Source]) -> Source:
    """One source of the shards of a run; what two of them say alike is taken once.

    Args:
        shards: At least one.

    Raises:
        SourceError: Two of them say different things of one cell.
    """
    cells: dict[str, dict[str, Examples | Proportion]] = {}
    holders: dict[tuple[str, str], str] = {}
    for shard in shards:
        for model, measured in shard.cells.items():
            for key, cell in measured.items():
                holder = holders.setdefault((model, key), shard.name)
                if cells.setdefault(model, {}).setdefault(key, cell) != cell:
                    raise SourceError(
                        f"{holder} and {shard.name} hold different results of {model}-{key}; "
                        "give the shards of one run, each once"
                    )
    models = {shard.model for shard in shards}
    return Source(
        name=" + ".join(shard.name for shard in shards),
        model=models.pop() if len(models) == 1 else None,
        cells=cells,
        zoos=frozenset().union(*(shard.zoos for shard in shards)),
        declared=max((shard.declared for shard in shards), key=len),
        cautions=tuple(caution for shard in shards for caution in shard.cautions),
    )


def _read(name: str) -> Source:
    path = Path(name)
    if name == PAPER:
        return Source(name, None, paper_accuracies(), frozenset([PAPER]))
    if path.is_file():
        return Source(name, None, {path.stem: _snapshots(path)})
    if not path.is_dir():
        raise SourceError(
            f"there is no {name}; give a folder of results, a snapshot file or folder, or {PAPER}, "
            "with :MODEL behind it for one model"
        )
    if not (path / "cells").is_dir() and not (path / RUN_FILE).is_file():
        return Source(name, None, {file.stem: _snapshots(file) for file in sorted(path.glob("*.json"))})
    evidence = read_evidence([path])
    measured: dict[str, dict[str, Examples | Proportion]] = {}
    for cell, result in evidence.results.items():
        measured.setdefault(cell.model, {})[cell.key] = Examples.of_result(result)
    return Source(
        name=name,
        model=None,
        cells=measured,
        zoos=frozenset(result.zoo for result in evidence.results.values()),
        declared=evidence.declared if evidence.runs else (),
        cautions=(*evidence.cautions, *([f"{name}: {evidence.cut}"] if evidence.cut else [])) if evidence.runs else (),
    )


def _snapshots(path: Path) -> dict[str, Examples | Proportion]:
    return {key: Examples.of_baseline(each) for key, each in SnapshotFile(path).read().items()}
