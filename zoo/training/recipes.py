"""Training recipes: one TOML file a model."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zoo.training.texts import Mixture

__all__ = ["Recipe", "Stage", "load_recipe", "recipe_names"]

_FOLDER = Path(__file__).with_name("recipes")


@dataclass(frozen=True)
class Stage:
    """A stretch of training.

    Attributes:
        context: Its context length, in tokens.
        steps: How many.
        learning_rate: Where the schedule begins anew with this stage (a warm restart), its new peak.
        mixture: Fields of the recipe's mixture that are others in this stage.
    """

    context: int
    steps: int
    learning_rate: float | None = None
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

    seed: int
    stages: tuple[Stage, ...]
    tokens_per_step: int
    learning_rate: float
    warmup: int
    weight_decay: float
    betas: tuple[float, float]
    clip: float
    text_weight: float
    mixture: Mixture
    architecture: Mapping[str, Any] | None = None
    embedding_std: float | None = None
    base: str | None = None

    def __post_init__(self) -> None:
        if (self.architecture is None) == (self.base is None):
            raise TypeError("either architecture or base is needed")

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage(self, step: int) -> Stage:
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
        ValueError: There is no such recipe, or a field is missing or unknown.
    """
    path = Path(path_or_name) if path_or_name.endswith(".toml") else _FOLDER / f"{path_or_name}.toml"
    if not path.is_file():
        raise ValueError(f"no recipe {path_or_name!r}; there are {', '.join(recipe_names())}")
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
        given["stages"] = tuple(Stage(**stage) for stage in given["stages"])
        given["mixture"] = Mixture(**given["mixture"])
        given["betas"] = tuple(given["betas"])
        recipe = Recipe(**given)
        for stage in recipe.stages:
            replace(recipe.mixture, **stage.mixture)
        return recipe
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
