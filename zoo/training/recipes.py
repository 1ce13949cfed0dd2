"""Training recipes: one TOML file a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from core.checked_fields import STRICT, Amount, Count, FieldError, Text, checked_record
from core.names import unknown_name
from core.text_files import read_toml
from zoo.training.texts import Mixture, check_mixture

__all__ = ["CurriculumStage", "Recipe", "load_recipe", "recipe_names"]

Whole = Annotated[int, Field(ge=0, description="a whole number of at least 0")]
NotNegative = Annotated[float, Field(ge=0, description="a number of at least 0")]
Beta = Annotated[float, Field(ge=0, lt=1, description="a number from 0 to below 1")]

_FOLDER = Path(__file__).with_name("recipes")


@dataclass(frozen=True)
class CurriculumStage:
    """A stretch of training.

    Attributes:
        context: Its context length, in tokens.
        steps: How many.
        learning_rate: Where the schedule begins anew with this stage (a warm restart), its new peak.
        mixture: Fields of the recipe's mixture that are others in this stage.
    """

    __pydantic_config__ = STRICT

    context: Count
    steps: Count
    learning_rate: Amount | None = None
    mixture: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """All that fixes a training run.

    Attributes:
        seed: Of the initialization and of the texts.
        architecture: The `config.json` to be published; none where the weights of another model are tuned.
        stages: The curriculum.
        tokens_per_step: Tokens in a batch.
        learning_rate: At its peak, for all stages up to the first with a rate of its own.
        warmup: Steps of linear warm-up; a cosine to a tenth of the peak follows, up to the end or the next restart.
        weight_decay: On matrices alone.
        betas: AdamW's.
        clip: Largest norm of the gradient.
        text_weight: Weight of the loss on text outside answers.
        mixture: What the texts are made of.
        embedding_std: Standard deviation of the embeddings at the start, where not that of the published kind.
        base: The card of the model whose weights this one begins with.
    """

    __pydantic_config__ = STRICT

    seed: Whole
    stages: Annotated[tuple[CurriculumStage, ...], Field(min_length=1, description="a list of stages")]
    tokens_per_step: Count
    learning_rate: Amount
    warmup: Whole
    weight_decay: NotNegative
    betas: Annotated[tuple[Beta, Beta], Field(description="a list of two numbers from 0 to below 1")]
    clip: Amount
    text_weight: NotNegative
    mixture: Mixture
    architecture: Mapping[str, Any] | None = None
    embedding_std: Amount | None = None
    base: Text | None = None

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage(self, step: int) -> CurriculumStage:
        """The stage of a step."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]

    def mixture_at(self, step: int) -> Mixture:
        """What the texts of a step are made of."""
        return replace(self.mixture, **self.stage(step).mixture)

    def rate(self, step: int) -> float:
        """The learning rate of a step: a warm-up, then a cosine, both anew with each restart."""
        begin, end, peak = self._course(step)
        if step - begin < self.warmup:
            return peak * (step - begin + 1) / self.warmup
        share = (step - begin - self.warmup) / max(end - begin - self.warmup, 1)
        return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * share)) / 2)

    def _course(self, step: int) -> tuple[int, int, float]:
        """The first step and the end of the course that a step is in, and its peak."""
        begin, end, peak = 0, 0, self.learning_rate
        for stage in self.stages:
            if stage.learning_rate is not None:
                if step < end:
                    break
                begin, peak = end, stage.learning_rate
            end += stage.steps
        return begin, end, peak


def recipe_names() -> list[str]:
    """The models that can be trained."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_recipe(path_or_name: str) -> Recipe:
    """Reads a recipe by name or from a TOML file.

    Raises:
        ValueError: There is no such recipe, or a field is missing, unknown, of another type or out of range.
    """
    if path_or_name.endswith(".toml"):
        path = Path(path_or_name)
    elif path_or_name in recipe_names():
        path = _FOLDER / f"{path_or_name}.toml"
    else:
        raise ValueError(f"{unknown_name('recipe', path_or_name, recipe_names())}, or the path of a .toml file")
    given = read_toml(path)
    try:
        recipe = checked_record(Recipe, given)
        _check(recipe, given)
    except FieldError as error:
        raise ValueError(f"{path}: {error}") from None
    return recipe


def _check(recipe: Recipe, given: Mapping[str, Any]) -> None:
    """Refuses fields that contradict each other, and texts that cannot be made."""
    if (recipe.architecture is None) == (recipe.base is None):
        raise FieldError("either architecture or base is needed")
    check_mixture("mixture", recipe.mixture)
    for number, stage in enumerate(recipe.stages):
        name = f"stages[{number}]"
        if stage.context > recipe.tokens_per_step:
            raise FieldError(f"{name}.context must be at most tokens_per_step, {recipe.tokens_per_step}")
        where = f"{name}.mixture"
        check_mixture(where, checked_record(Mixture, {**given["mixture"], **stage.mixture}, where))
