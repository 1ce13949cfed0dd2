"""When a shift is one: the thresholds of a run, read from a TOML file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from core.checked_fields import STRICT, Count, FieldError, Flag, checked_record, dotted
from core.display import shown
from core.names import unknown_name
from core.text_files import UnreadableFile, read_toml
from drift.statistics.stages import Stage, planned

__all__ = ["DEFAULT", "ThresholdError", "ThresholdTable", "Thresholds", "load_thresholds"]

DEFAULT = Path(__file__).parents[1] / "thresholds.toml"

_DTYPES = ("float32", "float16", "bfloat16")
_OF_THE_NIGHT = ("pooled_error_rate", "pooled_correction", "warning_error_rate", "warning_fails")
_OF_THE_RUN: Mapping[str, Any] = {"comparisons": 1, "samples": None}

ErrorRate = Annotated[float, Field(gt=0, le=0.5, description="a number above 0 and up to 0.5")]
Percentage = Annotated[float, Field(ge=0, le=100, description="a number from 0 to 100")]
Exponent = Annotated[float, Field(gt=0, le=10, description="a number above 0 and up to 10")]
Nats = Annotated[float, Field(gt=0, le=100, description="a number above 0 and up to 100")]
Probability = Annotated[float, Field(ge=0, le=1, description="a number from 0 to 1")]


def _growing(counts: tuple[int, ...]) -> tuple[int, ...]:
    if counts != tuple(sorted(set(counts))):
        raise PydanticCustomError("order", "must grow")
    return counts


def _dtype(name: str) -> str:
    if name not in _DTYPES:
        raise ValueError(f"is for nothing that models compute in; there are {', '.join(_DTYPES)}")
    return name


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

    __pydantic_config__ = STRICT

    error_rate: ErrorRate = 0.05
    comparisons: Count = 1
    smallest_effect: Percentage = 2.0
    stages: Annotated[
        tuple[Annotated[int, Field(gt=0, description="a whole number above 0")], ...],
        Field(min_length=1, description="a list of growing whole numbers"),
        AfterValidator(_growing),
    ] = ()
    gates: Annotated[tuple[Probability, ...], Field(description="a list of numbers from 0 to 1")] = ()
    samples: Count | None = None
    spending: Exponent = 1.0
    usual_flips: Annotated[float, Field(ge=0, le=0.5, description="a number from 0 to 0.5")] = 0.02
    pooled_error_rate: ErrorRate = 0.05
    pooled_correction: Literal["bh", "by"] = "by"
    pooled_smallest_effect: Percentage = 0.5
    warning_error_rate: ErrorRate = 0.01
    warning_smallest_effect: Percentage = 0.02
    warning_smallest_scatter: Mapping[Annotated[str, AfterValidator(_dtype)], Nats] = field(default_factory=dict)
    warning_fails: Flag = False

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
            common = checked_record(Thresholds, content["common"], "common")
            return cls(common, *(_changes(kind, content[kind], None) for kind in ("models", "tasks")))
        except KeyError as error:
            raise ThresholdError(f"the thresholds lack {error.args[0]}") from None
        except (FieldError, ThresholdError) as error:
            raise ThresholdError(f"thresholds: {error}") from None

    @property
    def overrides(self) -> str:
        """What differs from the common thresholds, in one line; empty where nothing does."""
        return "; ".join(
            f"{name}: {', '.join(f'{each} {value}' for each, value in changes.items())}"
            for name, changes in [*self.models.items(), *self.tasks.items()]
        )


def load_thresholds(path: Path, models: Collection[str] | None, tasks: Collection[str] | None) -> ThresholdTable:
    """Reads thresholds; what the file leaves out is as in the default one.

    Args:
        path: The file.
        models: The models there are; None where the file may name any.
        tasks: The tasks there are; likewise.

    Raises:
        ThresholdError: The file cannot be read, or a field is unknown or out of range.
    """
    try:
        given = read_toml(path)
        tables = {
            kind: _changes(kind, given.pop(kind, {}), known) for kind, known in (("models", models), ("tasks", tasks))
        }
        usual = {} if path == DEFAULT else read_toml(DEFAULT)
        common = checked_record(Thresholds, {**usual, **given}, **_OF_THE_RUN)
        table = ThresholdTable(common, tables["models"], tables["tasks"])
        for model, task in product((None, *table.models), (None, *table.tasks)):
            _check_gates(table, model, task)
        return table
    except UnreadableFile as error:
        raise ThresholdError(str(error)) from None
    except (FieldError, ThresholdError) as error:
        raise ThresholdError(f"{path}: {error}") from None


def _check_gates(table: ThresholdTable, model: str | None, task: str | None) -> None:
    owners = [dotted(kind, [name]) for kind, name in (("models", model), ("tasks", task)) if name is not None]
    changes = {**table.models.get(model or "", {}), **table.tasks.get(task or "", {})}
    thresholds = replace(table.common, **changes)
    if len(thresholds.gates) != len(thresholds.stages) - 1:
        raise ThresholdError(
            f"{' with '.join(owners)}{': ' if owners else ''}gates must have one number for each of the "
            f"{len(thresholds.stages)} stages but the last, not {list(thresholds.gates)}"
        )


def _changes(kind: str, given: object, known: Collection[str] | None) -> dict[str, dict[str, Any]]:
    """The fields that the tables of some models or tasks give, each right by itself."""
    if not isinstance(given, dict):
        raise ThresholdError(f"{kind} must be a table, not {shown(given)}")
    for name, changes in given.items():
        where = dotted(kind, [name])
        if known is not None and name not in known:
            raise ThresholdError(unknown_name(kind.removesuffix("s"), name, list(known)))
        for each in _OF_THE_NIGHT:
            if isinstance(changes, dict) and each in changes:
                raise ThresholdError(f"{where}.{each} belongs to the whole night; give it above all tables")
        checked_record(Thresholds, changes, where, hidden=_OF_THE_NIGHT, **_OF_THE_RUN)
    return {
        name: {field: tuple(value) if isinstance(value, list) else value for field, value in changes.items()}
        for name, changes in given.items()
    }
