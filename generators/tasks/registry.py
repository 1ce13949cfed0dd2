"""The registry of tasks: a task is a pure function that registers itself under a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Final, TypeVar

from generators.budget import Draft
from generators.corpora.sets import Corpora, CorpusName
from generators.draws import Draw
from generators.tokenization import Tokenizer

__all__ = ["RULER", "Setting", "Task", "listed_answer", "task", "tasks"]

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
class Setting:
    """What a task may use besides its own parameters and its draws.

    Attributes:
        index: The example's number within its cell.
        length: Prompt plus answer, in tokens.
        tokens_to_generate: Tokens kept free for the answer.
        frame_tokens: Tokens that the model's frame takes.
        tokenizer: The model's own.
        corpora: Essays, questions and words.
        depth: Where what answers the question goes, in percent of the haystack; None draws it as
            RULER does.
        shared: Draws that all examples of the task share.
    """

    index: int
    length: int
    tokens_to_generate: int
    frame_tokens: int
    tokenizer: Tokenizer
    corpora: Corpora
    depth: float | None
    shared: Draw


def listed_answer(references: Sequence[str]) -> str:
    """All references, with commas between them."""
    return " " + ", ".join(references)


@dataclass(frozen=True)
class Task:
    """A registered task.

    Attributes:
        name: Its name in options, cells and snapshots.
        parameters: The frozen dataclass handed to `draft`.
        tokens_to_generate: RULER's generation budget in tokens.
        score: Prediction and references to a score in [0, 1].
        draft: Parameters, draws and setting to a prompt of open size.
        has_depth: Whether what answers the question can be put at a depth.
        answer: References to the words of a right answer, as they follow the answer prefix.
    """

    name: str
    parameters: Any
    tokens_to_generate: int
    score: Callable[[str, Sequence[str]], float]
    draft: Callable[[Any, Draw, Setting], Draft]
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

Function = TypeVar("Function", bound=Callable[[Any, Draw, Setting], Draft])


def task(
    name: str,
    parameters: object,
    *,
    tokens_to_generate: int,
    score: Callable[[str, Sequence[str]], float],
    has_depth: bool = True,
    answer: Callable[[Sequence[str]], str] = listed_answer,
) -> Callable[[Function], Function]:
    """Registers the decorated function as a task.

    Raises:
        ValueError: The name is taken.
    """

    def register(function: Function) -> Function:
        if name in _registry:
            raise ValueError(f"a task named {name!r} is registered already")
        _registry[name] = Task(name, parameters, tokens_to_generate, score, function, has_depth, answer)
        return function

    return register


def tasks() -> Mapping[str, Task]:
    """Every registered task by name."""
    # Each registers its tasks on import.
    from generators.tasks import (  # noqa: F401
        common_words,
        frequent_words,
        needles,
        question_answering,
        variable_tracking,
    )

    return MappingProxyType(_registry)
