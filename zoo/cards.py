"""Model cards and the matrix of cells, read from a zoo's TOML file; imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from core.cells import Cell
from core.checked_fields import STRICT, Count, Different, FieldError, checked_record, dotted
from core.names import InvalidName, check_name, check_names, unknown_name
from core.text_files import UnreadableFile, read_toml
from generators.tasks.registry import Task, tasks
from models.cards import Card
from models.families import families, family_named

__all__ = ["FOLDER", "LeftOut", "Sweep", "Zoo", "ZooError", "load_zoo"]

FOLDER = Path(__file__).parent
BUILT_IN = ("paper", "pocket", "sanity")


Depth = Annotated[int, Field(ge=0, le=100, description="a whole percentage between 0 and 100")]


class ZooError(ValueError):
    """A zoo file that cannot be used; the message names the file and the field."""


@dataclass(frozen=True)
class Sweep:
    """The tasks, lengths and depths of one suite."""

    __pydantic_config__ = STRICT

    tasks: Different[str]
    lengths: Different[Count]
    depths: Different[Depth | None] = (None,)


@dataclass(frozen=True)
class LeftOut:
    """Cells that are not asked, because their prompts would not fit.

    Attributes:
        task: The task.
        lengths: In tokens, ascending.
        models: Whose cells they are; none where they are every model's.
    """

    task: str
    lengths: tuple[int, ...]
    models: tuple[str, ...] = ()

    def __str__(self) -> str:
        whose = f" of {', '.join(self.models)}" if self.models else ""
        return f"{self.task} at {', '.join(map(str, self.lengths))}{whose}"


@dataclass(frozen=True)
class Zoo:
    """Models, and what they are asked.

    Attributes:
        name: The folder of its snapshots.
        folder: What the paths of cards are relative to.
        samples: Examples a cell.
        baseline_samples: Examples that an accepted cell holds, so that a suspicious one can be looked at again.
        batch_tokens: Tokens read at once, by default; None takes what fits into memory.
        tokens_to_generate: Tokens kept free for the answer, by task; others take RULER's number.
        tasks: The tasks by name: all that are registered, and the file's own variants.
        smallest_length: The smallest length a task fits, where that is above the zoo's smallest;
            smaller cells are left out of the matrix.
        models: The cards by name.
        sweeps: The suites by name.
        available: The tasks and lengths there are prompts for; None where prompts are made.
    """

    name: str
    folder: Path
    samples: int
    baseline_samples: int
    batch_tokens: int | None
    tokens_to_generate: Mapping[str, int]
    smallest_length: Mapping[str, int]
    tasks: Mapping[str, Task]
    models: Mapping[str, Card]
    sweeps: Mapping[str, Sweep]
    available: frozenset[tuple[str, int]] | None = None

    def asked_only(self, sweep: str, available: Collection[tuple[str, int]]) -> Zoo:
        """The same models, asked only given tasks at given lengths, in one sweep, with RULER's generation budgets."""
        names = tuple(dict.fromkeys(task for task, _ in available))
        lengths = tuple(sorted({length for _, length in available}))
        return replace(
            self,
            sweeps={sweep: Sweep(names, lengths)},
            smallest_length={},
            tokens_to_generate={},
            available=frozenset(available),
        )

    def fits(self, cell: Cell) -> bool:
        """Whether the cell's task fits its length, and there are prompts for it."""
        if self.available is not None:
            return (cell.task, cell.length) in self.available
        tables = (self.smallest_length, self.models[cell.model].smallest_length)
        return all(cell.length >= table.get(cell.task, 0) for table in tables)

    def cells(self, sweep: str) -> list[Cell]:
        """The cells of a suite, models outermost, without those that do not fit."""
        return [cell for cell in self._all(sweep) if self.fits(cell)]

    def left_out(self) -> list[LeftOut]:
        """What is not asked because it does not fit, in the order of the suites."""
        if self.available is not None:
            return []
        models: dict[tuple[str, int], dict[str, None]] = {}
        for sweep in self.sweeps:
            for cell in self._all(sweep):
                if not self.fits(cell):
                    models.setdefault((cell.task, cell.length), {})[cell.model] = None
        lengths: dict[tuple[str, tuple[str, ...]], list[int]] = {}
        for (task, length), whose in models.items():
            everyone = len(whose) == len(self.models)
            lengths.setdefault((task, () if everyone else tuple(whose)), []).append(length)
        return [LeftOut(task, tuple(sorted(some)), whose) for (task, whose), some in lengths.items()]

    def matrix(self) -> set[Cell]:
        """Every cell of every suite, once."""
        return {cell for sweep in self.sweeps for cell in self.cells(sweep)}

    def budget(self, task: str) -> int:
        """Tokens kept free for an answer to `task`."""
        return self.tokens_to_generate.get(task, self.tasks[task].tokens_to_generate)

    def _all(self, sweep: str) -> Iterable[Cell]:
        s = self.sweeps[sweep]
        return (Cell(*values) for values in product(self.models, s.tasks, s.lengths, s.depths))


@dataclass(frozen=True)
class _ZooFile:
    """A zoo's file; the attributes are those of `Zoo`, and tables of models and tasks as they stand there."""

    __pydantic_config__ = STRICT

    samples: Count
    models: Annotated[Mapping[str, Mapping[str, Any]], Field(min_length=1, description="a table of models")]
    sweeps: Annotated[Mapping[str, Sweep], Field(min_length=1, description="a table of sweeps")]
    baseline_samples: Count | None = None
    batch_tokens: Count | None = None
    tokens_to_generate: Mapping[str, Count] = field(default_factory=dict)
    smallest_length: Mapping[str, Count] = field(default_factory=dict)
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def load_zoo(name_or_path: str) -> Zoo:
    """Reads a built-in zoo by name, or any zoo file.

    Raises:
        ZooError: No such zoo, or a field that is missing, unknown or out of range.
    """
    if name_or_path in BUILT_IN:
        path = FOLDER / f"{name_or_path}.toml"
    elif name_or_path.endswith(".toml"):
        path = Path(name_or_path).absolute()
        if not path.is_file():
            raise ZooError(f"no zoo file at {path}")
    else:
        raise ZooError(f"{unknown_name('zoo', name_or_path, BUILT_IN)}, or the path of a .toml file")
    try:
        return _zoo(path, checked_record(_ZooFile, read_toml(path)))
    except UnreadableFile as error:
        raise ZooError(str(error)) from None
    except (FieldError, InvalidName, ZooError) as error:
        raise ZooError(f"{path}: {error}") from None


def _zoo(path: Path, file: _ZooFile) -> Zoo:
    """The zoo of a file whose fields are right one by one."""
    check_name("zoo, which is its file's,", path.stem)
    if file.baseline_samples is not None and file.baseline_samples < file.samples:
        raise ZooError(f"baseline_samples must be at least samples, {file.samples}, not {file.baseline_samples}")
    known_tasks = _tasks(file.tasks)
    for kind, names in (("model", file.models), ("task", known_tasks), ("sweep", file.sweeps)):
        check_names(kind, names)
    for name, sweep in file.sweeps.items():
        _check_sweep(f"sweeps.{name}", sweep, known_tasks)
    for table in ("tokens_to_generate", "smallest_length"):
        _check_tasks(table, getattr(file, table), known_tasks)
    zoo = Zoo(
        name=path.stem,
        folder=path.parent,
        samples=file.samples,
        baseline_samples=file.baseline_samples or file.samples,
        batch_tokens=file.batch_tokens,
        tokens_to_generate=file.tokens_to_generate,
        smallest_length=file.smallest_length,
        tasks=known_tasks,
        models={name: _card(name, given, known_tasks) for name, given in file.models.items()},
        sweeps=file.sweeps,
    )
    _check_ids(zoo.matrix())
    return zoo


def _card(name: str, given: Mapping[str, Any], known_tasks: Mapping[str, Task]) -> Card:
    where = f"models.{name}"
    card = checked_record(Card, given, where, name=name)
    _check_tasks(f"{where}.smallest_length", card.smallest_length, known_tasks)
    _check_family(card, where)
    if card.hub is not None and card.revision is None:
        raise ZooError(f"{where} must name the revision of {card.hub} to take")
    return card


def _check_family(card: Card, where: str) -> None:
    """Refuses a card whose family does not exist, or that has too little or too much for it."""
    try:
        family = family_named(card.family)
    except ValueError as error:
        raise ZooError(f"{where}: {error}") from None
    if (problem := family.card_problem(card)) is not None:
        raise ZooError(f"{where}{problem}")
    for other in families().values():
        for name in other.card_fields:
            if other is not family and getattr(card, name) is not None:
                raise ZooError(f"{where}: {name} is for the {other.name} family only")


def _tasks(given: Mapping[str, Mapping[str, Any]]) -> dict[str, Task]:
    """All registered tasks, with the changes of the file and its own variants."""
    result = dict(tasks())
    for name, changes in given.items():
        where = dotted("tasks", [name])
        model = changes.get("like", name)
        if not isinstance(model, str) or model not in tasks():
            raise ZooError(f"{where}.like: {unknown_name('task', model, list(tasks()))}")
        try:
            result[name] = tasks()[model].variant(name, {k: v for k, v in changes.items() if k != "like"})
        except ValueError as error:
            raise ZooError(f"{where}: {error}") from None
    return result


def _check_sweep(where: str, sweep: Sweep, known_tasks: Mapping[str, Task]) -> None:
    for task in sweep.tasks:
        if task not in known_tasks:
            raise ZooError(f"{where}: {unknown_name('task', task, list(known_tasks))}")
        if not known_tasks[task].has_depth and sweep.depths != (None,):
            raise ZooError(f"{where}: task {task} has no depth; leave depths out of its sweep")


def _check_tasks(where: str, numbers: Mapping[str, int], known_tasks: Mapping[str, Task]) -> None:
    for task in numbers:
        if task not in known_tasks:
            raise ZooError(f"{where}: {unknown_name('task', task, list(known_tasks))}")


def _check_ids(cells: Collection[Cell]) -> None:
    """Refuses two cells with one id, also where only capital letters tell them apart."""
    seen: dict[str, Cell] = {}
    for cell in sorted(cells, key=str):
        other = seen.setdefault(str(cell).casefold(), cell)
        if other != cell:
            raise ZooError(
                f"two cells would have the id {cell}: model {other.model} with task {other.task}, and model "
                f"{cell.model} with task {cell.task}; rename a model or a task"
            )
