"""Training texts: prompts of the project's own tasks with their answers behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field

from core.checked_fields import STRICT, Count, FieldError, Flag, dotted
from core.names import unknown_name
from generators.prompt_templates import PromptTemplate, Special
from generators.random_streams import RandomStream
from generators.tasks.needles import HaystackKind, Kind
from generators.tasks.registry import tasks
from generators.tokenization import Tokenizer
from models.cards import Card

__all__ = ["NEEDLES", "Ends", "Mixture", "Part", "TrainingText", "check_mixture", "encoded", "ends", "weighted"]

# The kind of text that asks many questions about one haystack; every other kind is a registered task.
NEEDLES = "needles"

Name = TypeVar("Name", bound=str)


def _some(weights: Mapping[Name, float]) -> Mapping[Name, float]:
    if not sum(weights.values()):
        raise ValueError("must have a weight above 0")
    return weights


Weights = Annotated[
    Mapping[Name, Annotated[float, Field(ge=0, description="a number of at least 0")]], AfterValidator(_some)
]


@dataclass(frozen=True)
class Mixture:
    """How often each kind of text is drawn; weights need not add up to one.

    Attributes:
        texts: `needles`, and registered tasks.
        parameters: By task, parameters that make it fit the context.
        haystack: noise, essay or needles.
        key: Kinds of keys.
        value: Kinds of values.
        asked: What a question about needles asks for: one value, all values of one key, or several keys.
        needles: At most so many needles in a text, context permitting.
        filled: Share of the texts that fill the context; the others end anywhere above a quarter.
        any_hops: Whether chains of variables have any number of hops up to the task's own.
        texts_alike: Whether the answers of every text weigh alike in the loss, however long, rather than every token.
    """

    __pydantic_config__ = STRICT

    texts: Weights[str]
    haystack: Weights[HaystackKind]
    key: Weights[Kind]
    value: Weights[Kind]
    asked: Weights[Literal["one", "values", "keys"]]
    needles: Count
    filled: Annotated[float, Field(ge=0, le=1, description="a number from 0 to 1")]
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    any_hops: Flag = False
    texts_alike: Flag = False


def check_mixture(where: str, mixture: Mixture) -> None:
    """Refuses texts of tasks that there are not, and parameters that these have not.

    Args:
        where: The dotted name of the mixture's table.
        mixture: What texts are made of.

    Raises:
        FieldError: A task or a parameter is unknown, or its value cannot be.
    """
    for name in mixture.texts:
        if name != NEEDLES and name not in tasks():
            raise FieldError(f"{where}.texts: {unknown_name('task', name, [NEEDLES, *tasks()])}")
    for name, parameters in mixture.parameters.items():
        if name not in tasks():
            raise FieldError(f"{where}.parameters: {unknown_name('task', name, list(tasks()))}")
        try:
            tasks()[name].variant(name, parameters)
        except ValueError as error:
            raise FieldError(f"{dotted(where, ['parameters', name])}: {error}") from None


@dataclass(frozen=True)
class TrainingText:
    """Token ids and, for each, whether it belongs to an answer."""

    ids: tuple[int, ...]
    answer: tuple[bool, ...]


@dataclass(frozen=True)
class Ends:
    """What a model wants around questions and after answers.

    Attributes:
        first: The prompt template of the first question.
        later: That of every other: the user's turn again, but not the beginning of the sequence.
        end: The token that ends an answer.
    """

    first: PromptTemplate
    later: PromptTemplate
    end: Special


def ends(card: Card, tokenizer: Tokenizer, prompt_template: PromptTemplate) -> Ends:
    """What the model of a card wants.

    Raises:
        ValueError: Its tokenizer has no token that ends an answer.
    """
    if tokenizer.end_of_sequence is None:
        raise ValueError(f"model {card.name}: training needs an end_of_sequence on its card")
    later = prompt_template
    if card.beginning_of_sequence is not None:
        later = PromptTemplate(prompt_template.before[1:], prompt_template.after)
    return Ends(prompt_template, later, Special(card.end_of_sequence or "", tokenizer.end_of_sequence))


@dataclass(frozen=True)
class Part:
    """A stretch of a text or a special token, and whether it belongs to an answer."""

    content: str | Special
    answer: bool = False


def encoded(tokenizer: Tokenizer, parts: list[Part], context: int) -> TrainingText:
    """The first `context` tokens of a text.

    An answer must begin where the tokenizer splits anyway, at a blank, so that encoding it apart gives the
    ids that decoding must produce.
    """
    ids: list[int] = []
    answer: list[bool] = []
    for (special, is_answer), group in groupby(parts, lambda part: (isinstance(part.content, Special), part.answer)):
        contents = [part.content for part in group]
        if special:
            new = [content.id for content in contents if isinstance(content, Special)]
        else:
            text = "".join(content for content in contents if isinstance(content, str))
            new = list((tokenizer.continued if ids else tokenizer.encode)(text).ids)
        ids += new
        answer += [is_answer] * len(new)
    return TrainingText(tuple(ids[:context]), tuple(answer[:context]))


def weighted(random: RandomStream, weights: Mapping[Name, float]) -> Name:
    """One of the names, as often as its weight says."""
    names = list(weights)
    point = random.fraction() * sum(weights.values())
    for name, edge in zip(names, accumulate(weights.values()), strict=True):
        if point < edge:
            return name
    return names[-1]
