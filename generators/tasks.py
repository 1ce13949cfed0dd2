"""The registry of tasks: a task is a pure function that registers itself under a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from generators.budget import Draft
from generators.corpora import Corpus
from generators.draws import Draw

__all__ = ["Setting", "Task", "task", "tasks"]


@dataclass(frozen=True)
class Setting:
    """What a task may use besides its own parameters and its draws.

    Attributes:
        corpus: The text of essay haystacks.
        depth: Where the needles that answer the question go, in percent of the haystack; None draws
            it as RULER does.
        cost: The number of tokens that a piece of text takes.
    """

    corpus: Corpus
    depth: float | None
    cost: Callable[[str], int]


@dataclass(frozen=True)
class Task:
    """A registered task.

    Attributes:
        name: Its name in options, cells and snapshots.
        parameters: The frozen dataclass handed to `draft`.
        tokens_to_generate: RULER's generation budget in tokens.
        score: Prediction and references to a score in [0, 1].
        draft: Parameters, draws and setting to a prompt of open size.
    """

    name: str
    parameters: Any
    tokens_to_generate: int
    score: Callable[[str, Sequence[str]], float]
    draft: Callable[[Any, Draw, Setting], Draft]


_registry: dict[str, Task] = {}

Function = TypeVar("Function", bound=Callable[[Any, Draw, Setting], Draft])


def task(
    name: str,
    parameters: object,
    *,
    tokens_to_generate: int,
    score: Callable[[str, Sequence[str]], float],
) -> Callable[[Function], Function]:
    """Registers the decorated function as a task.

    Raises:
        ValueError: The name is taken.
    """

    def register(function: Function) -> Function:
        if name in _registry:
            raise ValueError(f"a task named {name!r} is registered already")
        _registry[name] = Task(name, parameters, tokens_to_generate, score, function)
        return function

    return register


def tasks() -> Mapping[str, Task]:
    """Every registered task by name."""
    from generators import needles  # noqa: F401  registers its tasks on import

    return MappingProxyType(_registry)
