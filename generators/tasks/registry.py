"""The registry of tasks: a task is a pure function that registers itself under a name.

Every module of this folder is imported on the first look at the registry. A module elsewhere adds its tasks
by being imported, for example by pytest's `-p my_tasks` or by `python -m generators -p my_tasks`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from generators.budget import PromptBuilder
from generators.corpora.sets import Corpora, CorpusName
from generators.random_streams import RandomStream
from generators.tokenization import Tokenizer

__all__ = ["RULER", "Task", "TaskContext", "listed_answer", "task", "tasks"]

# RULER's thirteen tasks, in its order.
RULER: Final = (
    "niah_single_1",
    "niah_single_2",
    "niah_single_3",
    "niah_multikey_1",
    "niah_multikey_2",
    "niah_multikey_3",
    "niah_multivalue",
    "niah_multiquery",
    "vt",
    "cwe",
    "fwe",
    "qa_1",
    "qa_2",
)


@dataclass(frozen=True)
class TaskContext:
    """What a task may use besides its own parameters and its random stream.

    Attributes:
        index: The example's number within its cell.
        length: Prompt plus answer, in tokens.
        tokens_to_generate: Tokens kept free for the answer.
        template_tokens: Tokens that the model's prompt template takes.
        tokenizer: The model's own.
        corpora: Essays, questions and words.
        depth: Where what answers the question goes, in percent of the haystack; None draws it as
            RULER does.
        shared: The random stream that all examples of the task share.
    """

    index: int
    length: int
    tokens_to_generate: int
    template_tokens: int
    tokenizer: Tokenizer
    corpora: Corpora
    depth: float | None
    shared: RandomStream


def listed_answer(references: Sequence[str]) -> str:
    """All references, with commas between them."""
    return " " + ", ".join(references)


@dataclass(frozen=True)
class Task:
    """A registered task.

    Attributes:
        name: Its name in options, cells and snapshots.
        parameters: The frozen dataclass handed to `build`.
        tokens_to_generate: RULER's generation budget in tokens.
        score: Prediction and references to a score in [0, 1].
        build: Parameters, random stream and context to a prompt of open size.
        oracle: The end of a prompt, answer prefix included, to the answer that a perfect reader gives, or as
            much of it as the text gives away; None where the text does not ask what this task asks.
        has_depth: Whether what answers the question can be put at a depth.
        answer: References to the words of a right answer, as they follow the answer prefix.
    """

    name: str
    parameters: Any
    tokens_to_generate: int
    score: Callable[[str, Sequence[str]], float]
    build: Callable[[Any, RandomStream, TaskContext], PromptBuilder]
    oracle: Callable[[str, Corpora], str | None]
    has_depth: bool = True
    answer: Callable[[Sequence[str]], str] = listed_answer

    @property
    def corpus(self) -> CorpusName | None:
        """The corpus that its prompts are made from, if any."""
        return getattr(self.parameters, "corpus", None)

    def variant(self, name: str, changes: Mapping[str, Any]) -> Task:
        """The same task under another name, with other parameters.

        Raises:
            ValueError: A parameter that is unknown, of the wrong kind or out of range.
        """
        known = {field.name: field for field in fields(self.parameters)}
        for key, value in changes.items():
            if key not in known:
                raise ValueError(f"task {self.name} has no parameter {key}; there are {', '.join(known)}")
            present = getattr(self.parameters, key)
            kinds = (int, float) if isinstance(present, float) else (int if present is None else type(present),)
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise ValueError(f"{key} must be of the kind of {present!r}, not {value!r}")
        return replace(self, name=name, parameters=replace(self.parameters, **changes))


_registry: dict[str, Task] = {}

Function = TypeVar("Function", bound=Callable[[Any, RandomStream, TaskContext], PromptBuilder])


def task(
    name: str,
    parameters: object,
    *,
    tokens_to_generate: int,
    score: Callable[[str, Sequence[str]], float],
    oracle: Callable[[str, Corpora], str | None],
    has_depth: bool = True,
    answer: Callable[[Sequence[str]], str] = listed_answer,
) -> Callable[[Function], Function]:
    """Registers the decorated function as a task; the arguments are the fields of `Task`.

    Raises:
        ValueError: The name is taken, or the parameters are no dataclass.
    """
    if not is_dataclass(parameters) or isinstance(parameters, type):
        raise ValueError(f"the parameters of task {name!r} must be an instance of a dataclass, not {parameters!r}")

    def register(function: Function) -> Function:
        if name in _registry:
            other = _registry[name].build.__module__
            raise ValueError(f"{function.__module__}: a task named {name!r} is registered already, by {other}")
        _registry[name] = Task(name, parameters, tokens_to_generate, score, function, oracle, has_depth, answer)
        return function

    return register


def tasks() -> Mapping[str, Task]:
    """Every registered task by name."""
    _import_tasks()
    return MappingProxyType(_registry)


@cache
def _import_tasks() -> None:
    """Imports the modules beside this one; each registers its tasks."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{__package__}.{module.name}")
