"""Model cards and the matrix of cells, read from a zoo's TOML file; imports no torch."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from core.cells import Cell
from core.names import unknown_name
from generators.tasks.registry import Task, tasks
from models.cards import Card
from models.families import families, family_named
from models.families.endpoint.server import Server

__all__ = ["FOLDER", "LeftOut", "Sweep", "Zoo", "ZooError", "load_zoo"]

FOLDER = Path(__file__).parent
BUILT_IN = ("paper", "pocket", "sanity")


class ZooError(ValueError):
    """A zoo file that cannot be used; the message names the file and the field."""


@dataclass(frozen=True)
class Sweep:
    """The tasks, lengths and depths of one suite."""

    tasks: tuple[str, ...]
    lengths: tuple[int, ...]
    depths: tuple[int | None, ...] = (None,)


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
        return _parsed(path, tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ZooError) as error:
        raise ZooError(f"{path}: {error}") from None


def _parsed(path: Path, given: dict[str, Any]) -> Zoo:
    known = [each.name for each in fields(Zoo) if each.name not in ("name", "folder", "available")]
    _only(given, known, "the zoo")
    for name in ("samples", "models", "sweeps"):
        if name not in given:
            raise ZooError(f"the field {name} is missing")
    for name in ("samples", "batch_tokens"):
        if name in given:
            _whole_number(name, given[name])
    baseline_samples = given.get("baseline_samples", given["samples"])
    _whole_number("baseline_samples", baseline_samples)
    if baseline_samples < given["samples"]:
        raise ZooError(f"baseline_samples must be at least samples, {given['samples']}, not {baseline_samples}")
    for name in ("tokens_to_generate", "smallest_length", "tasks", "models", "sweeps"):
        _table(name, given.get(name, {}))
    known_tasks = _tasks(given.get("tasks", {}))
    sweeps = {name: _sweep(name, sweep, known_tasks) for name, sweep in given["sweeps"].items()}
    for table in ("tokens_to_generate", "smallest_length"):
        _numbers(table, given.get(table, {}), known_tasks)
    return Zoo(
        name=path.stem,
        folder=path.parent,
        samples=given["samples"],
        baseline_samples=baseline_samples,
        batch_tokens=given.get("batch_tokens"),
        tokens_to_generate=given.get("tokens_to_generate", {}),
        smallest_length=given.get("smallest_length", {}),
        tasks=known_tasks,
        models={name: _card(name, card, known_tasks) for name, card in given["models"].items()},
        sweeps=sweeps,
    )


def _card(name: str, given: Mapping[str, Any], known_tasks: Mapping[str, Task]) -> Card:
    where = f"models.{name}"
    _table(where, given)
    _only(given, [each.name for each in fields(Card) if each.name != "name"], where)
    emulate = given.get("emulate", [])
    if not isinstance(emulate, list) or not all(isinstance(defect, str) for defect in emulate):
        raise ZooError(f"{where}.emulate must be a list of names, not {emulate!r}")
    _numbers(f"{where}.smallest_length", given.get("smallest_length", {}), known_tasks)
    server = _server(f"{where}.server", given["server"]) if "server" in given else None
    card = _dataclass(Card, {**given, "name": name, "emulate": tuple(emulate), "server": server}, where)
    _check_family(card, where)
    if card.window is not None:
        _whole_number(f"{where}.window", card.window)
    if card.hub is not None and card.revision is None:
        raise ZooError(f"{where} must name the revision of {card.hub} to take")
    if type(card.extrapolate) is not bool:
        raise ZooError(f"{where}.extrapolate must be true or false, not {card.extrapolate!r}")
    if card.dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise ZooError(f"{where}: {unknown_name('dtype', card.dtype, ('auto', 'float32', 'bfloat16', 'float16'))}")
    return card


def _server(where: str, given: Any) -> Server:
    _table(where, given)
    try:
        return _dataclass(Server, given, where)
    except ZooError:
        raise
    except ValueError as error:
        raise ZooError(f"{where}.{error}") from None


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


def _tasks(given: Mapping[str, Any]) -> dict[str, Task]:
    """All registered tasks, with the changes of the file and its own variants."""
    result = dict(tasks())
    for name, changes in given.items():
        where = f"tasks.{name}"
        _table(where, changes)
        model = changes.get("like", name)
        if not isinstance(model, str) or model not in tasks():
            raise ZooError(f"{where}.like: {unknown_name('task', model, list(tasks()))}")
        try:
            result[name] = tasks()[model].variant(name, {k: v for k, v in changes.items() if k != "like"})
        except ValueError as error:
            raise ZooError(f"{where}: {error}") from None
    return result


def _sweep(name: str, given: Mapping[str, Any], known_tasks: Mapping[str, Task]) -> Sweep:
    where = f"sweeps.{name}"
    _table(where, given)
    for key, values in given.items():
        if not isinstance(values, list) or not values or len(set(map(repr, values))) < len(values):
            raise ZooError(f"{where}.{key} must be a list of different values, not {values!r}")
    sweep = _dataclass(Sweep, {key: tuple(values) for key, values in given.items()}, where)
    for task in sweep.tasks:
        if task not in known_tasks:
            raise ZooError(f"{where}: {unknown_name('task', task, list(known_tasks))}")
        if not known_tasks[task].has_depth and sweep.depths != (None,):
            raise ZooError(f"{where}: task {task} has no depth; leave depths out of its sweep")
    for depth in sweep.depths:
        if depth is not None and not (type(depth) is int and 0 <= depth <= 100):
            raise ZooError(f"{where}: depths are whole percentages between 0 and 100, not {depth!r}")
    for length in sweep.lengths:
        _whole_number(f"{where}.lengths: each", length)
    return sweep


def _whole_number(where: str, given: object) -> None:
    if type(given) is not int or given < 1:
        raise ZooError(f"{where} must be a whole number of at least 1, not {given!r}")


def _numbers(where: str, given: Any, known_tasks: Mapping[str, Task]) -> None:
    """Refuses anything but a table of tasks, each with a number."""
    _table(where, given)
    for task, number in given.items():
        _whole_number(f"{where}.{task}", number)
        if task not in known_tasks:
            raise ZooError(f"{where}: {unknown_name('task', task, list(known_tasks))}")


def _table(where: str, given: object) -> None:
    if not isinstance(given, dict):
        raise ZooError(f"{where} must be a table, not {given!r}")


Record = TypeVar("Record")


def _dataclass(cls: type[Record], given: Mapping[str, Any], where: str) -> Record:
    all_fields = fields(cls)  # type: ignore[arg-type]
    _only(given, [each.name for each in all_fields], where)
    for each in all_fields:
        if each.default is MISSING and each.default_factory is MISSING and each.name not in given:
            raise ZooError(f"{where} lacks the field {each.name}")
    return cls(**given)


def _only(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for name in given:
        if name not in known:
            raise ZooError(f"{where}: {unknown_name('field', name, known)}")
