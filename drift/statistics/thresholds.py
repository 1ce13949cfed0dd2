"""When a shift is one: the thresholds of a run, read from a TOML file."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from drift.statistics.stages import Stage, planned

__all__ = ["DEFAULT", "ThresholdError", "ThresholdTable", "Thresholds", "load_thresholds"]

DEFAULT = Path(__file__).parents[1] / "thresholds.toml"

_DTYPES = ("float32", "float16", "bfloat16")
_OF_THE_NIGHT = ("pooled_error_rate", "pooled_correction", "warning_error_rate", "warning_fails")


def _between(lowest: float, highest: float, *, lowest_too: bool = False) -> tuple[Callable[[object], bool], str]:
    """A rule for numbers: whether one keeps it, and what it says."""

    def kept(value: object) -> bool:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and (lowest < value <= highest or (lowest_too and value == lowest))  # type: ignore[operator]

    return (
        kept,
        f"a number {'from' if lowest_too else 'above'} {lowest:g} {'to' if lowest_too else 'and up to'} {highest:g}",
    )


def _growing(value: object) -> bool:
    whole = isinstance(value, list) and all(type(each) is int and each > 0 for each in value)
    return whole and bool(value) and value == sorted(set(value))  # type: ignore[call-overload]


def _shares(value: object) -> bool:
    kept, _ = _between(0, 1, lowest_too=True)
    return isinstance(value, list) and all(map(kept, value))


def _by_dtype(value: object) -> bool:
    kept, _ = _between(0, 100)
    return isinstance(value, dict) and value.keys() <= set(_DTYPES) and all(map(kept, value.values()))


_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "error_rate": _between(0, 0.5),
    "smallest_effect": _between(0, 100, lowest_too=True),
    "stages": (_growing, "a list of growing whole numbers"),
    "gates": (_shares, "a list of numbers from 0 to 1"),
    "spending": _between(0, 10),
    "usual_flips": _between(0, 0.5, lowest_too=True),
    "pooled_error_rate": _between(0, 0.5),
    "pooled_correction": (lambda value: value in ("bh", "by"), '"bh" or "by"'),
    "pooled_smallest_effect": _between(0, 100, lowest_too=True),
    "warning_error_rate": _between(0, 0.5),
    "warning_smallest_effect": _between(0, 100, lowest_too=True),
    "warning_smallest_scatter": (_by_dtype, f"a table of numbers above 0, by {', '.join(_DTYPES)}"),
    "warning_fails": (lambda value: isinstance(value, bool), "true or false"),
}


class ThresholdError(ValueError):
    """Thresholds that cannot be used; the message names the file and the field."""


@dataclass(frozen=True)
class Thresholds:
    """When a shift is one.

    Attributes:
        error_rate: The chance of any false alarm over the whole matrix.
        comparisons: Cells of the whole declared matrix, however few of them a run selects.
        smallest_effect: The smallest change worth waking someone for, in percentage points.
        stages: How many examples each look at a cell has, growing; none means one look at all there are.
        gates: For each stage but the last, the p-value up to which a look at no more examples is suspicious.
        samples: How many examples the first look has; of the stages, the larger ones follow.
        spending: How the error rate is spread over the stages, see `drift.statistics.stages.planned`.
        usual_flips: The share of examples that differ between two nights without a shift.
        pooled_error_rate: The share of false alarms among the pools that look shifted.
        pooled_correction: Benjamini-Hochberg (bh) or Benjamini-Yekutieli (by).
        pooled_smallest_effect: The smallest change of a pool worth waking someone for, in percentage points.
        warning_error_rate: As `pooled_error_rate`, of the pools whose log-likelihood is said to drift.
        warning_smallest_effect: The smallest mean change of an expected answer's log-likelihood worth a
            warning, in nats.
        warning_smallest_scatter: By what a model computes in, the smallest root mean square of the changes of its
            expected answers' log-likelihoods worth a warning, in nats; none for what is not named.
        warning_fails: Whether a night fails where expected answers became less likely.
    """

    error_rate: float = 0.05
    comparisons: int = 1
    smallest_effect: float = 2.0
    stages: tuple[int, ...] = ()
    gates: tuple[float, ...] = ()
    samples: int | None = None
    spending: float = 1.0
    usual_flips: float = 0.02
    pooled_error_rate: float = 0.05
    pooled_correction: Literal["bh", "by"] = "by"
    pooled_smallest_effect: float = 0.5
    warning_error_rate: float = 0.01
    warning_smallest_effect: float = 0.02
    warning_smallest_scatter: Mapping[str, float] = field(default_factory=dict)
    warning_fails: bool = False

    @property
    def significant(self) -> float:
        """The p-value of a cell that is looked at once; what its stages share (Bonferroni)."""
        return self.error_rate / self.comparisons

    def plan(self, held: int, asked: int) -> tuple[Stage, ...]:
        """The looks at a cell.

        Args:
            held: How many examples its snapshot has, which is known before anything is looked at. A plan
                that asks for more ends there, with nothing of the error rate left.
            asked: How many examples it was asked, at least.
        """
        first = min(held, asked, *self.stages[:1] if self.samples is None else (self.samples,))
        longest = max(first, min(held, max(self.stages, default=first)))
        looks = sorted({first, longest, *(count for count in self.stages if first < count < longest)})
        return planned(looks, [self._gate(count) for count in looks], self.significant, self.spending)

    def _gate(self, examples: int) -> float:
        return next((gate for stage, gate in zip(self.stages, self.gates, strict=False) if examples <= stage), 0.0)


@dataclass(frozen=True)
class ThresholdTable:
    """The thresholds of a run: the common ones, and what differs for some models and tasks."""

    common: Thresholds
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, model: str, task: str | None = None) -> Thresholds:
        """The thresholds of a model's cells of a task; of the model alone without one."""
        changes = {**self.models.get(model, {}), **(self.tasks.get(task, {}) if task is not None else {})}
        return replace(self.common, **changes)

    def asked(self, samples: int, comparisons: int) -> ThresholdTable:
        """The thresholds of a run that asks every cell so many examples first.

        Args:
            samples: How many examples the first look has.
            comparisons: Cells of the whole declared matrix.
        """
        return replace(self, common=replace(self.common, samples=samples, comparisons=comparisons))

    def content(self) -> dict[str, Any]:
        """Everything it says, for a run file; `of_content` reads it back."""
        return asdict(self)

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> ThresholdTable:
        """The table that a run file holds.

        Raises:
            ThresholdError: It holds none.
        """
        try:
            common, models, tasks = (content[name] for name in ("common", "models", "tasks"))
            return cls(
                Thresholds(**_as_tuples(common)),
                {name: _as_tuples(changes) for name, changes in models.items()},
                {name: _as_tuples(changes) for name, changes in tasks.items()},
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ThresholdError(f"not the thresholds of this version: {error!r}") from None

    @property
    def overrides(self) -> str:
        """What differs from the common thresholds, in one line; empty where nothing does."""
        return "; ".join(
            f"{name}: {', '.join(f'{each} {value}' for each, value in changes.items())}"
            for name, changes in [*self.models.items(), *self.tasks.items()]
        )


def _as_tuples(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def load_thresholds(path: Path, models: Collection[str], tasks: Collection[str]) -> ThresholdTable:
    """Reads thresholds; what the file leaves out is as in the default one.

    Args:
        path: The file.
        models: The models there are.
        tasks: The tasks there are.

    Raises:
        ThresholdError: The file cannot be read, or a field is unknown or out of range.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
        tables = {"models": _overrides("models", given, models), "tasks": _overrides("tasks", given, tasks)}
        usual = {} if path == DEFAULT else tomllib.loads(DEFAULT.read_text(encoding="utf-8"))
        table = ThresholdTable(Thresholds(**_checked({**usual, **given}, "")), **tables)
        _check_gates(table)
    except OSError as error:
        raise ThresholdError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ThresholdError) as error:
        raise ThresholdError(f"{path}: {error}") from None
    return table


def _check_gates(table: ThresholdTable) -> None:
    owners = [("", {}), *((f"{name}: ", changes) for name, changes in [*table.models.items(), *table.tasks.items()])]
    for owner, changes in owners:
        thresholds = replace(table.common, **changes)
        if len(thresholds.gates) != len(thresholds.stages) - 1:
            raise ThresholdError(
                f"{owner}gates must have one number for each of the {len(thresholds.stages)} stages but the last, "
                f"not {list(thresholds.gates)}"
            )


def _overrides(kind: str, given: dict[str, Any], known: Collection[str]) -> dict[str, dict[str, Any]]:
    tables = given.pop(kind, {})
    if not isinstance(tables, dict):
        raise ThresholdError(f"{kind} must be a table, not {tables!r}")
    for name, changes in tables.items():
        if name not in known:
            raise ThresholdError(_unknown(kind.removesuffix("s"), name, known))
        if not isinstance(changes, dict):
            raise ThresholdError(f"{kind}.{name} must be a table, not {changes!r}")
        for each in _OF_THE_NIGHT:
            if each in changes:
                raise ThresholdError(f"{kind}.{name}.{each} belongs to the whole night; give it above all tables")
    return {name: _checked(changes, f"{kind}.{name}.") for name, changes in tables.items()}


def _checked(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    for name, value in given.items():
        if name not in _RULES:
            raise ThresholdError(_unknown("field", f"{where}{name}", [f"{where}{each}" for each in _RULES]))
        kept, rule = _RULES[name]
        if not kept(value):
            raise ThresholdError(f"{where}{name} must be {rule}, not {value!r}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _unknown(kind: str, given: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"unknown {kind} {given}{hint}; there are {', '.join(known)}"
