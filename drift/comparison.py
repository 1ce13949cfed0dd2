"""Two runs, models or snapshots side by side: which cells differ, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.cells import Cell
from drift.changes import Change, changes
from drift.flips import Flip, flips
from drift.records.sources import PAPER, Examples, Source, SourceError
from drift.statistics.outcomes import Outcome
from drift.statistics.paired import paired_shift
from drift.statistics.pooled_scores import PooledVerdict, pooled_verdicts
from drift.statistics.thresholds import Thresholds, ThresholdTable
from drift.statistics.unpaired import Proportion, unpaired_shift

__all__ = ["CellComparison", "Comparison", "ModelComparison", "compared"]


@dataclass(frozen=True)
class CellComparison:
    """One cell on both sides.

    Attributes:
        cell: The cell, of the model on the side of now.
        outcome: Passed where no shift was found; or improved, regressed, not comparable.
        before, now: Accuracies over the compared examples, in percent.
        examples: How many were compared on either side.
        paired: Whether they were compared one by one.
        points: Now minus before, in percentage points.
        interval: The 95% confidence interval of `points`; none where the cell is not comparable.
        p_value: Of the test; none where the cell is not comparable.
        flips: The examples whose score changed.
        note: What else there is to know of it.
    """

    cell: Cell
    outcome: Outcome
    before: float
    now: float
    examples: tuple[int, int]
    paired: bool
    points: float
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    flips: tuple[Flip, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class ModelComparison:
    """One model on both sides, or two models.

    Attributes:
        before, now: The models.
        cells: Those that both have.
        alone: How many cells only one of them has.
        pools: Shifts that many cells share, where examples could be paired.
        changes: What differs between what produced the two, most suspicious first.
    """

    before: str
    now: str
    cells: tuple[CellComparison, ...]
    alone: int
    pools: tuple[PooledVerdict, ...]
    changes: tuple[Change, ...]

    @property
    def name(self) -> str:
        return self.now if self.before == self.now else f"{self.before} → {self.now}"

    @property
    def summary(self) -> str:
        """How far its cells moved, in one line, whether that is a shift or not."""
        comparable = [cell for cell in self.cells if cell.outcome is not Outcome.NOT_COMPARABLE]
        if not comparable:
            return f"{len(self.cells)} cells, none of them comparable"
        examples = sum(cell.examples[1] for cell in comparable)
        mean = sum(cell.points * cell.examples[1] for cell in comparable) / examples
        farthest = max(comparable, key=lambda cell: abs(cell.points))
        p_value = "" if farthest.p_value is None else f", p = {farthest.p_value:.2g}"
        flips = [flip for cell in comparable for flip in cell.flips]
        fell = sum(flip.score < flip.score_before for flip in flips)
        paired = f"; {fell} examples fell, {len(flips) - fell} rose" if any(cell.paired for cell in comparable) else ""
        return (
            f"{len(comparable)} cells, {examples} examples, {mean:+.2f} points on average{paired}; farthest "
            f"{farthest.cell.key}, {farthest.before:.2f} → {farthest.now:.2f} ({farthest.points:+.2f}{p_value})"
        )

    @property
    def shifted_pools(self) -> list[PooledVerdict]:
        return [pool for pool in self.pools if pool.outcome in (Outcome.REGRESSED, Outcome.IMPROVED)]


@dataclass(frozen=True)
class Comparison:
    """Everything that two sources have in common.

    Attributes:
        before, now: What was compared.
        models: The comparisons, model by model.
        declared: For how many cells the tests are corrected.
        caution: What a reader must know before any number; empty where there is nothing.
    """

    before: str
    now: str
    models: tuple[ModelComparison, ...]
    declared: int
    caution: str = ""

    def counted(self, outcome: Outcome) -> int:
        """How many cells came to an outcome."""
        return sum(cell.outcome is outcome for model in self.models for cell in model.cells)

    @property
    def comparable(self) -> bool:
        """Whether anything could be compared."""
        return any(cell.outcome is not Outcome.NOT_COMPARABLE for model in self.models for cell in model.cells)

    @property
    def shifted(self) -> bool:
        """Whether anything fell or rose, a cell or many together."""
        return bool(
            self.counted(Outcome.REGRESSED)
            or self.counted(Outcome.IMPROVED)
            or any(model.shifted_pools for model in self.models)
        )


def compared(before: Source, now: Source, thresholds: ThresholdTable, *, unpaired: bool = False) -> Comparison:
    """Compares all cells that two sources share.

    Corrections are for every cell that a run's zoo declares, where a run file says so, else for the shared cells.
    Each cell is looked at once, with all examples whose prompts both sides have.

    Args:
        before: One side.
        now: The other.
        thresholds: When a shift is one; stages are not used.
        unpaired: Whether to compare accuracies alone also where examples are known, which works for different
            prompts and finds less.

    Raises:
        SourceError: The two have no cell in common.
    """
    pairs = _model_pairs(before, now)
    shared = [
        sorted(
            (Cell.of_key(new, key) for key in before.cells[old].keys() & now.cells[new].keys()),
            key=lambda cell: cell.order,
        )
        for old, new in pairs
    ]
    if not any(shared):
        raise SourceError(
            f"{before.name} and {now.name} have no cell in common: {_described(before)}; {_described(now)}"
        )
    single = replace(thresholds, common=replace(thresholds.common, stages=(), gates=(), samples=None))
    both = [cell for cells in shared for cell in cells]
    declared = max(before.declared, now.declared, key=len)
    # Two models beside each other are a matrix of their own.
    declared = declared if {*both} <= {*declared} else tuple(both)
    single = replace(single, common=replace(single.common, comparisons=len(declared)))
    models = []
    for (old, new), cells in zip(pairs, shared, strict=True):
        if cells:
            models.append(_model(old, new, before.cells[old], now.cells[new], cells, declared, single, unpaired))
    cautions = (*_caution(before, now), *before.cautions, *now.cautions)
    return Comparison(before.name, now.name, tuple(models), len(declared), "; ".join(cautions))


def _caution(before: Source, now: Source) -> list[str]:
    """The paper's numbers say little about models of another zoo that share a name with the paper's."""
    others = {zoo for source in (before, now) for zoo in source.zoos} - {PAPER}
    if PAPER not in (before.name, now.name) or not others:
        return []
    return [
        f"the paper measured the models of the zoo {PAPER}; these results are of the zoo {', '.join(sorted(others))}"
    ]


def _model_pairs(before: Source, now: Source) -> list[tuple[str, str]]:
    if before.model is not None and now.model is not None:
        return [(before.model, now.model)]
    both = [model for model in before.cells if model in now.cells]
    if not both:
        raise SourceError(
            f"{before.name} ({', '.join(before.cells)}) and {now.name} ({', '.join(now.cells)}) have no model in "
            "common; name one on each side, as in RUN:MODEL"
        )
    return [(model, model) for model in both]


def _described(source: Source) -> str:
    cells = [f"{model}-{key}" for model, cells in source.cells.items() for key in cells]
    return f"{source.name} has {', '.join(cells[:3])}" + (f" and {len(cells) - 3} more" if len(cells) > 3 else "")


def _model(
    old: str,
    new: str,
    before: Mapping[str, Examples | Proportion],
    now: Mapping[str, Examples | Proportion],
    shared: Sequence[Cell],
    declared: Sequence[Cell],
    thresholds: ThresholdTable,
    unpaired: bool,
) -> ModelComparison:
    compared_cells: list[CellComparison] = []
    pairs: dict[Cell, Sequence[float]] = {}
    for cell in shared:
        own = thresholds.of(new, cell.task)
        then, measured = before[cell.key], now[cell.key]
        if isinstance(then, Proportion) or isinstance(measured, Proportion) or unpaired:
            compared_cells.append(_unpaired_cell(cell, _proportion(then), _proportion(measured), own))
            continue
        comparison, differences = _paired_cell(cell, then, measured, own)
        compared_cells.append(comparison)
        # Where examples were left out, those of one seed no longer stand at one place in all cells.
        if differences and not comparison.note:
            pairs[cell] = differences
    return ModelComparison(
        before=old,
        now=new,
        cells=tuple(compared_cells),
        alone=len(before.keys() ^ now.keys()),
        pools=tuple(pooled_verdicts(pairs, declared, thresholds)),
        changes=tuple(_changes([before[cell.key] for cell in shared], [now[cell.key] for cell in shared])),
    )


def _proportion(cell: Examples | Proportion) -> Proportion:
    return cell if isinstance(cell, Proportion) else cell.proportion


def _changes(before: Sequence[Examples | Proportion], now: Sequence[Examples | Proportion]) -> list[Change]:
    """What changed for any of the cells, once."""
    found: dict[tuple[str, str], Change] = {}
    for old, new in zip(before, now, strict=True):
        if isinstance(old, Examples) and isinstance(new, Examples):
            found |= {(change.name, str(change)): change for change in changes(old.environment, new.environment)}
    return sorted(found.values(), key=lambda change: change.suspicion)


def _unpaired_cell(cell: Cell, before: Proportion, now: Proportion, thresholds: Thresholds) -> CellComparison:
    shift = unpaired_shift(before, now)
    return CellComparison(
        cell=cell,
        outcome=_outcome(shift.points, shift.p_value, thresholds),
        before=before.accuracy,
        now=now.accuracy,
        examples=(before.examples, now.examples),
        paired=False,
        points=shift.points,
        interval=shift.interval,
        p_value=shift.p_value,
    )


def _paired_cell(
    cell: Cell, before: Examples, now: Examples, thresholds: Thresholds
) -> tuple[CellComparison, tuple[float, ...]]:
    """The comparison, and the differences example by example."""
    then = dict(zip(before.prompts, before.scores, strict=True))
    scores = [(then[prompt], score) for prompt, score in zip(now.prompts, now.scores, strict=True) if prompt in then]
    if not scores:
        return _not_comparable(cell, before.proportion, now.proportion), ()
    differences = tuple(new - old for old, new in scores)
    shift = paired_shift(differences)
    count, fewer = len(scores), min(len(before.scores), len(now.scores))
    return CellComparison(
        cell=cell,
        outcome=_outcome(shift.points, shift.p_value, thresholds),
        before=100 * sum(old for old, _ in scores) / count,
        now=100 * sum(new for _, new in scores) / count,
        examples=(count, count),
        paired=True,
        points=shift.points,
        interval=shift.interval,
        p_value=shift.p_value,
        flips=tuple(flips(before, now)),
        note="" if count == fewer else f"without {fewer - count} of {fewer} examples, whose prompts differ",
    ), differences


def _not_comparable(cell: Cell, before: Proportion, now: Proportion) -> CellComparison:
    return CellComparison(
        cell=cell,
        outcome=Outcome.NOT_COMPARABLE,
        before=before.accuracy,
        now=now.accuracy,
        examples=(before.examples, now.examples),
        paired=False,
        points=now.accuracy - before.accuracy,
        note="other prompts",
    )


def _outcome(points: float, p_value: float, thresholds: Thresholds) -> Outcome:
    # Rounded, since 82 - 77 percent is a little less than five in binary.
    if p_value > thresholds.significant or round(abs(points), 9) < thresholds.smallest_effect:
        return Outcome.PASSED
    return Outcome.REGRESSED if points < 0 else Outcome.IMPROVED
