"""How often a night cries wolf, and what it finds: simulated nights of the paper's whole matrix.

    python benchmarks/false_alarms.py [--nights 2000] [--trials 2000] [--out TABLE.md]

Baseline and night are drawn from the same per-example probabilities (see `simulated_nights`), and judged
by the thresholds, the looks and the pools that the suite uses. Beside them, on the same nights: a fixed
tolerance of 2 points, an unpaired z-test at 0.05, and McNemar's (the sign-flip) test at 0.05 of every cell.
A night fails where any cell, or any pool of cells, has fallen; rises count nowhere.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt
import scipy.stats

from benchmarks.simulated_nights import ModelNights, Scores, paper_models
from drift.statistics.outcomes import Outcome
from drift.statistics.paired import mcnemar_p_values, sign_flip_p_value
from drift.statistics.pooled_scores import pooled_outcome
from drift.statistics.pools import Pool, adjusted_p_values, pools
from drift.statistics.stages import Judgement, judged
from drift.statistics.thresholds import DEFAULT, ThresholdTable, load_thresholds

NIGHT = 250
HELD = 1000
FLIPS = (0.005, 0.02, 0.05)
USUAL = 0.02
AT_ONCE = 20
# A common unit of the scores, which are shares of 1, 3, 4, 5 or 10 references.
UNIT = 60

Floats = npt.NDArray[np.float64]


@dataclass
class Tally:
    """What some nights came to.

    Attributes:
        failed: How many nights failed, by rule.
        cells: How many were looked at.
        differing: How many examples differed, in their first look.
        examples: How many they were asked, later looks included.
    """

    failed: Counter[str] = field(default_factory=Counter)
    differing: int = 0
    examples: int = 0
    cells: int = 0


def p_values(changes: Scores, references: npt.NDArray[np.int64]) -> Floats:
    """The suite's p-value of every cell of every night.

    Args:
        changes: In references, [nights, cells, examples].
        references: Of each cell.
    """
    result = mcnemar_p_values((changes < 0).sum(axis=2), (changes > 0).sum(axis=2))
    for cell in np.flatnonzero(references > 1):
        steps = range(-references[cell], references[cell] + 1)
        counts = np.stack([(changes[:, cell] == step).sum(axis=1) for step in steps], axis=1)
        result[:, cell] = [_fractional(tuple(row), int(references[cell])) for row in counts.tolist()]
    return result


@lru_cache(maxsize=2**20)
def _fractional(counts: tuple[int, ...], references: int) -> float:
    steps = np.arange(-references, references + 1)
    changed = steps != 0
    return sign_flip_p_value(np.repeat(steps[changed] / references, np.array(counts)[changed]))


@lru_cache(maxsize=2**12)
def _alone(model: ModelNights, cell: int) -> ModelNights:
    return model.only(cell)


def judgement(model: ModelNights, cell: int, seen: Scores, lost: float, random: np.random.Generator) -> Judgement:
    """The suite's judgement of one cell, which draws further examples as far as it asks for them."""
    alone = _alone(model, cell)
    rest = slice(NIGHT, HELD)
    further = alone.scores(random, 1, rest, lost) - alone.scores(random, 1, rest)
    differences = np.concatenate([seen, further[0, 0]]) / model.references[cell]
    own = TABLE.of(model.cells[cell].model, model.cells[cell].task)
    return judged(differences, own.plan(HELD, NIGHT), own.smallest_effect)


def pooled(
    model: ModelNights, changes: Scores, asked: Collection[Pool] | None = None
) -> Iterator[tuple[Pool, Floats, Floats]]:
    """Each of a model's pools, or of those asked for, with the p-value and the change in points of every night."""
    units = changes * (UNIT // model.references)[None, :, None]
    for pool, members in model.pools.items():
        if asked is not None and pool not in asked:
            continue
        questions = model.questions[members]
        sums = np.stack([units[:, members[questions == each]].sum(axis=1) for each in np.unique(questions)], axis=1)
        flat = sums.reshape(len(sums), -1)
        points = 100 / UNIT * flat.sum(axis=1) / (len(members) * changes.shape[2])
        yield pool, np.array([_pooled_p_value(row[row != 0]) for row in flat]), points


def _pooled_p_value(units: Scores) -> float:
    """The suite's p-value of a pool; 1 in place of what is above any threshold, which decides as much."""
    # A sum of random signs is at least its standard deviation from zero with a chance of at least 0.1
    # (Oleszkiewicz 1996, "On the Stein property of Rademacher sequences").
    steps = units.astype(np.int64)
    return 1.0 if steps.sum() ** 2 <= steps @ steps else sign_flip_p_value(steps / UNIT)


def other_rules(model: ModelNights, before: Scores, now: Scores, p: Floats) -> dict[str, npt.NDArray[np.bool_]]:
    """By rule, whether any cell of a night has failed it."""
    was, new = (scores.mean(axis=2) / model.references for scores in (before, now))
    both = (was + new) / 2
    spread = np.sqrt(np.maximum(2 * both * (1 - both) / NIGHT, 1e-12))
    fell = new < was
    failed = {
        "fixed": new <= was - 0.02 + 1e-9,
        "unpaired": fell & (2 * scipy.stats.norm.sf(np.abs(new - was) / spread) <= 0.05),
        "uncorrected": fell & (p <= 0.05),
    }
    return {rule: cells.any(axis=1) for rule, cells in failed.items()}


def quiet_nights(flips: float, nights: int, random: np.random.Generator) -> Tally:
    """Judges nights on which nothing has shifted."""
    models = list(paper_models(flips, HELD))
    tally = Tally()
    for begun in range(0, nights, AT_ONCE):
        count = min(AT_ONCE, nights - begun)
        failed = {rule: np.zeros(count, dtype=bool) for rule in ("cells", "pools", "fixed", "unpaired", "uncorrected")}
        found: list[tuple[Pool, Floats, Floats]] = []
        for model in models:
            before, now = (model.scores(random, count, slice(NIGHT)) for _ in range(2))
            changes = now - before
            p = p_values(changes, model.references)
            tally.differing += int((changes != 0).sum())
            tally.examples += changes.size
            tally.cells += p.size
            for night, cell in np.argwhere(p <= GATE).tolist():
                verdict = judgement(model, cell, changes[night, cell], 0.0, random)
                tally.examples += verdict.stage.examples - NIGHT
                failed["cells"][night] |= verdict.shifted and verdict.shift.points < 0
            for rule, some in other_rules(model, before, now, p).items():
                failed[rule] |= some
            found += pooled(model, changes)
        failed["pools"] = regressed(found).any(axis=0)
        failed["any"] = failed["cells"] | failed["pools"]
        for rule, some in failed.items():
            tally.failed[rule] += int(some.sum())
    return tally


def regressed(found: Sequence[tuple[Pool, Floats, Floats]]) -> npt.NDArray[np.bool_]:
    """Whether each pool has regressed in each night: [pools, nights]; the family is the whole matrix's."""
    columns = zip(*(p for _, p, _ in found), strict=True)
    adjusted = np.array([adjusted_p_values(each, FAMILY, TABLE.common.pooled_correction) for each in columns]).T
    return np.array(
        [
            [pooled_outcome(pool, *pair, TABLE) is Outcome.REGRESSED for pair in zip(points, p, strict=True)]
            for (pool, _, points), p in zip(found, adjusted, strict=True)
        ]
    )


def found_in_one_cell(drop: float, trials: int, random: np.random.Generator) -> tuple[int, int]:
    """How often the cell's own verdict finds a drop in one cell that had 30 or more, and of how many trials."""
    eligible = [
        (model, cell)
        for model in paper_models(USUAL, HELD)
        for cell, accuracy in enumerate(model.accuracies)
        if accuracy >= 0.3
    ]
    found = 0
    for trial in range(trials):
        model, cell = eligible[trial % len(eligible)]
        alone = _alone(model, cell)
        night = slice(NIGHT)
        seen = alone.scores(random, 1, night, drop) - alone.scores(random, 1, night)
        verdict = judgement(model, cell, seen[0, 0], drop, random)
        found += verdict.shifted and verdict.shift.points < 0
    return found, trials


def found_in_a_pool(
    by: str | None, drop: float, trials: int, random: np.random.Generator, least: float = 0.0
) -> tuple[int, int]:
    """How often a pool's verdict finds a drop in each of its cells, and of how many trials.

    Args:
        by: What the pool's cells have in common beside the model.
        drop: Of every cell; where a cell has less, of all that it has.
        trials: How many, spread over all such pools.
        random: Of the nights.
        least: Pools whose mean accuracy is lower are left out.
    """
    cases = [
        (model, pool, np.isin(range(len(model.cells)), members))
        for model in paper_models(USUAL, HELD)
        for pool, members in model.pools.items()
        if pool.by == by
    ]
    cases = [case for case in cases if np.array(case[0].accuracies)[case[2]].mean() >= least]
    nights = -(-trials // len(cases))
    found = 0
    for model, pool, members in cases:
        for begun in range(0, nights, AT_ONCE):
            count = min(AT_ONCE, nights - begun)
            before = model.scores(random, count, slice(NIGHT))
            now = model.scores(random, count, slice(NIGHT), np.where(members, drop, 0.0))
            # The other pools of the family count as p = 1, which makes it hardest for this one.
            found += int(regressed(list(pooled(model, now - before, [pool]))).sum())
    return found, nights * len(cases)


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    random = np.random.default_rng(given.seed)
    lines = [*quiet_table(given.nights, random), "", *power_table(given.trials, random), ""]
    lines.append(f"{time.process_time() / 60:.0f} minutes of one core.")
    text = "\n".join(lines) + "\n"
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    print(text)


def quiet_table(nights: int, random: np.random.Generator) -> list[str]:
    """Nights without a shift, as Markdown."""
    rules = ("cells", "pools", "any", "fixed", "unpaired", "uncorrected")
    lines = [
        f"Nights with any failing verdict, of {nights:,} without a shift, in percent:",
        "",
        "| examples that differ | longwatch: cells | pools | **together** | fixed ±2 points | unpaired z, 0.05 "
        "| McNemar, 0.05 | examples a cell |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for flips in FLIPS:
        tally = quiet_nights(flips, nights, random)
        shares = [f"{100 * tally.failed[rule] / nights:.2f}" for rule in rules]
        shares[2] = f"**{shares[2]}**"
        lines.append(
            f"| {100 * tally.differing / (tally.cells * NIGHT):.2f}% | {' | '.join(shares)} "
            f"| {tally.examples / tally.cells:.1f} |"
        )
        print(lines[-1], file=sys.stderr)
    return lines


def power_table(trials: int, random: np.random.Generator) -> list[str]:
    """Planted drops, as Markdown."""
    rows = (
        ("10 points in one cell that had 30 or more", found_in_one_cell(0.10, trials, random)),
        ("5 points in one cell that had 30 or more", found_in_one_cell(0.05, trials, random)),
        ("3 points in every cell of a model", found_in_a_pool(None, 0.03, trials, random)),
        (
            "5 points at one depth of a model whose cells there had a mean of 30 or more",
            found_in_a_pool("depth", 0.05, trials, random, least=0.3),
        ),
        ("5 points at any depth of any model", found_in_a_pool("depth", 0.05, trials, random)),
    )
    return [
        f"Drops found where {100 * USUAL:g}% of examples differ anyway; a cell that has less than the drop loses all:",
        "",
        "| drop | trials | found |",
        "|---|---:|---:|",
        *(f"| {name} | {count:,} | {100 * found / count:.2f}% |" for name, (found, count) in rows),
    ]


def matrix_thresholds() -> tuple[ThresholdTable, int]:
    """The suite's own thresholds for the paper's matrix, and how many pools that has."""
    cells = [cell for model in paper_models(USUAL, NIGHT) for cell in model.cells]
    table = load_thresholds(DEFAULT, {cell.model for cell in cells}, {cell.task for cell in cells})
    return table.asked(NIGHT, len(cells)), sum(len(members) > 1 for members in pools(cells).values())


TABLE, FAMILY = matrix_thresholds()
GATE = TABLE.common.plan(HELD, NIGHT)[0].gate

if __name__ == "__main__":
    main()
