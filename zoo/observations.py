"""What the paper saw of its models, computed for a zoo from its accepted accuracies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from core.cells import Cell
from drift.records.snapshots import Baseline
from drift.statistics.paired import sign_flip_p_value
from models.cards import Card
from models.families import family_named
from models.families.family import Kind
from zoo.cards import Zoo

__all__ = ["ATTENTION", "HYBRID", "RECURRENT", "Observation", "kept_by_kind", "kind_of", "observed", "undecided"]

ATTENTION: Final = "attention"
RECURRENT: Final = "recurrent"
HYBRID: Final = "hybrid"

# Between these accuracies, in percent, a cell can still move both ways.
_FLOOR: Final = 5.0
_CEILING: Final = 95.0

_CHANCE: Final = 0.05


@dataclass(frozen=True)
class Observation:
    """One model's accuracies in percent, as far as the paper's observations are about them.

    Attributes:
        model: Its name.
        kind: `ATTENTION`, `RECURRENT` or `HYBRID`.
        by_length: Of one needle, the mean over RULER's three single tasks, by length in tokens.
        trained: The length it was trained at, in tokens.
        ends: Of a needle at depths 0 and 100%, the mean over formats and the lengths beyond the trained one.
        middle: The same at the depths between.
        middle_p_value: Of the difference between the two, the same needle in the same haystack at either.
        by_format: The mean over the cells of the format sweep, by format.
    """

    model: str
    kind: str
    by_length: Mapping[int, float]
    trained: int
    ends: float
    middle: float
    middle_p_value: float
    by_format: Mapping[str, float]

    @property
    def falls(self) -> bool:
        """Whether accuracy at the largest length is below that at the trained one."""
        return self.by_length[max(self.by_length)] < self.by_length[self.trained]

    def kept(self, length: int) -> float:
        """What is left at a length of the accuracy at the trained one, in percent."""
        return 100 * self.by_length[length] / max(self.by_length[self.trained], 1e-9)

    @property
    def middle_is_worse(self) -> bool:
        return self.middle < self.ends

    @property
    def middle_is_significantly_worse(self) -> bool:
        """Whether the middle is worse by more than chance explains."""
        return self.middle_is_worse and self.middle_p_value < _CHANCE

    @property
    def format_spread(self) -> float:
        """Points between the best format and the worst."""
        return max(self.by_format.values()) - min(self.by_format.values())


def kind_of(card: Card, configuration: Mapping[str, Any]) -> Kind:
    """What a model remembers by: keys of every token, a state of fixed size, or both.

    Args:
        card: Its card.
        configuration: Its checkpoint's `config.json`.
    """
    return family_named(card.family).kind(configuration)


def observed(zoo: Zoo, card: Card, kind: str, baselines: Mapping[str, Baseline]) -> Observation:
    """One model's figures.

    Args:
        zoo: The zoo, with the sweeps `ruler`, `niah_position` and `niah_format`.
        card: The model; it has a trained length.
        kind: As `kind_of` says.
        baselines: Its accepted accuracies, by the cell's key.
    """
    single = [task for task in zoo.sweeps["ruler"].tasks if task.startswith("niah_single")]
    position, forms = zoo.sweeps["niah_position"], zoo.sweeps["niah_format"]
    trained = card.trained_length or 0
    beyond = [length for length in position.lengths if length > trained]
    ends = [depth for depth in position.depths if depth in (0, 100)]
    middle = [depth for depth in position.depths if depth not in ends]

    def mean(tasks: Sequence[str], lengths: Sequence[int], depths: Sequence[int | None]) -> float:
        keys = [Cell("", task, length, depth).key for task in tasks for length in lengths for depth in depths]
        return fmean(baselines[key].accuracy for key in keys)

    def differences(task: str, length: int) -> list[float]:
        def scores(depths: Sequence[int | None]) -> list[float]:
            keys = [Cell("", task, length, depth).key for depth in depths]
            return [fmean(example) for example in zip(*(baselines[key].scores for key in keys), strict=True)]

        return [b - a for a, b in zip(scores(ends), scores(middle), strict=True)]

    return Observation(
        model=card.name,
        kind=kind,
        by_length={length: mean(single, [length], [None]) for length in zoo.sweeps["ruler"].lengths},
        trained=trained,
        ends=mean(position.tasks, beyond, ends),
        middle=mean(position.tasks, beyond, middle),
        middle_p_value=sign_flip_p_value(
            [difference for task in position.tasks for length in beyond for difference in differences(task, length)]
        ),
        by_format={task: mean([task], forms.lengths, forms.depths) for task in forms.tasks},
    )


def kept_by_kind(observations: Sequence[Observation], length: int) -> dict[str, float]:
    """For each kind of model, the mean of what its models keep at a length, in percent."""
    kinds = (ATTENTION, RECURRENT, HYBRID)
    by_kind = {kind: [each.kept(length) for each in observations if each.kind == kind] for kind in kinds}
    return {kind: fmean(kept) for kind, kept in by_kind.items() if kept}


def undecided(models: Sequence[Mapping[str, Baseline]]) -> tuple[int, int]:
    """How many cells lie strictly between 5 and 95%, and of how many."""
    accuracies = [baseline.accuracy for baselines in models for baseline in baselines.values()]
    return sum(_FLOOR < accuracy < _CEILING for accuracy in accuracies), len(accuracies)
