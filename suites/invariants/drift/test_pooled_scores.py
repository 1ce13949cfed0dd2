"""Pooled verdicts: clustered by seed, corrected for the whole matrix, and never failing for what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cells import Cell
from drift.statistics.findings import PairedCell, PairedNight, Severity
from drift.statistics.outcomes import Outcome
from drift.statistics.pooled_scores import STATISTIC, pooled_verdicts
from drift.statistics.pools import Pool, pools, seed_sums
from drift.statistics.thresholds import Thresholds, ThresholdTable

LENGTHS, DEPTHS = (256, 512), (0, 50, 100)
MATRIX = [
    *(Cell(model, task, length) for model in ("m2a", "sl") for task in ("vt", "qa_1") for length in LENGTHS),
    *(Cell(model, "essay", 256, depth) for model in ("m2a", "sl") for depth in DEPTHS),
]
LOOSE = ThresholdTable(Thresholds(pooled_error_rate=0.05, pooled_smallest_effect=0.0))
changes = st.sampled_from([-1.0, -0.5, -1 / 3, 0.0, 0.25, 1.0])


@st.composite
def nights(draw, examples=3):
    """The compared cells of some night."""
    cells = draw(st.lists(st.sampled_from(MATRIX), unique=True))
    return {cell: draw(st.lists(changes, min_size=examples, max_size=examples)) for cell in cells}


@given(nights())
def test_the_pooled_test_flips_whole_seeds(compared):
    """A pool's p-value is the share of sign patterns, one sign a task's example, with a sum as far from zero."""
    for verdict in pooled_verdicts(compared, MATRIX, LOOSE):
        cells = pools(compared)[verdict.pool]
        seeds = sorted({(cell.task, i) for cell in cells for i in range(3)})
        # In twelfths, of which all these differences are whole multiples.
        sums = np.array(
            [sum(round(12 * compared[cell][i]) for cell in cells if cell.task == task) for task, i in seeds]
        )
        flipped = np.array(list(product((-1, 1), repeat=len(sums)))) @ sums
        assert verdict.shift.p_value == pytest.approx(np.mean(np.abs(flipped) >= abs(sums.sum())), rel=1e-9)
        assert verdict.shift.points == pytest.approx(100 * sums.sum() / (12 * 3 * len(cells)))
        assert verdict.cells == len(cells)


@given(nights(), st.randoms(use_true_random=False))
def test_direction_and_order_do_not_matter_to_pools(compared, random):
    """A pool that fell is judged as one that rose as much, in whatever order the cells come."""
    mirrored = {cell: [-each for each in compared[cell]] for cell in random.sample(list(compared), len(compared))}
    down, up = ({v.pool: v for v in pooled_verdicts(some, MATRIX, LOOSE)} for some in (compared, mirrored))
    assert set(down) == set(up)
    swapped = {Outcome.REGRESSED: Outcome.IMPROVED, Outcome.IMPROVED: Outcome.REGRESSED}
    for pool, verdict in down.items():
        assert up[pool].shift.points == pytest.approx(-verdict.shift.points)
        assert up[pool].adjusted == pytest.approx(verdict.adjusted)
        assert up[pool].outcome == swapped.get(verdict.outcome, verdict.outcome)


def test_cells_that_share_seeds_count_once():
    """One example that falls at all depths is as surprising as one that falls at a single depth."""
    fell = [-1.0, -1.0, -1.0, 0.0]
    cells = {cell: fell for cell in MATRIX if cell.depth is not None and cell.model == "sl"}
    assert len(cells) == 3
    alone = seed_sums([(MATRIX[-1], fell)])
    assert dict(seed_sums(cells.items())) == {key: 3 * value for key, value in alone.items()}
    (verdict,) = [v for v in pooled_verdicts(cells, MATRIX, LOOSE) if v.pool == Pool("sl", "task", "essay")]
    assert verdict.shift.p_value == 2 / 2**3


@given(nights(), st.sampled_from([Pool("m2a"), Pool("sl", "task", "vt"), Pool("m2a", "length", 256)]))
def test_a_part_is_held_to_the_standard_of_the_whole(compared, pool):
    """A run of one pool's cells alone finds its shift as the whole night does, and corrects it for no fewer pools."""
    part = {cell: compared[cell] for cell in pools(compared).get(pool, [])}
    of_part, of_whole = ({v.pool: v for v in pooled_verdicts(cells, MATRIX, LOOSE)} for cells in (part, compared))
    assert (pool in of_part) == (pool in of_whole) == (len(part) > 1)
    if pool in of_whole:
        assert of_part[pool].shift == of_whole[pool].shift
        # Its p-value cannot be worth more than if all pools that could be judged were as sure.
        family = sum(len(cells) > 1 for cells in pools(MATRIX).values())
        harmonic = sum(1 / rank for rank in range(1, family + 1))
        least = of_part[pool].shift.p_value * family * harmonic / len(of_part)
        assert of_part[pool].adjusted >= min(least, 1) - 1e-12


def _night(points: int, count: int = 100) -> dict[Cell, Sequence[float]]:
    """A night in which every cell of m2a falls by so many points, each in examples of its own."""
    falls = [-1.0] * points + [0.0] * (count - points)
    return {
        cell: np.roll(falls, points * i).tolist() if cell.model == "m2a" else [0.0] * count
        for i, cell in enumerate(MATRIX)
    }


def _without(night: dict[Cell, Sequence[float]], cell: Cell) -> dict[Cell, Sequence[float]]:
    return {each: differences for each, differences in night.items() if each != cell}


def test_a_shared_shift_regresses():
    """A drop that no cell could show alone is found in the pools of its model, and in no other's."""
    verdicts = {verdict.pool: verdict for verdict in pooled_verdicts(_night(3), MATRIX, ThresholdTable(Thresholds()))}
    assert verdicts[Pool("m2a")].outcome is Outcome.REGRESSED
    assert verdicts[Pool("sl")].outcome is Outcome.PASSED
    message = verdicts[Pool("m2a")].message
    for part in (
        "m2a, all cells: regressed: -3.00 points over 7 cells",
        "21 examples fell, 0 rose",
        "corrected for all",
    ):
        assert part in message
    low, high = verdicts[Pool("m2a")].shift.interval
    assert low < -3 < high < 0


def test_a_pool_has_a_smallest_effect_of_its_own():
    """A significant pool passes below the smallest effect, which may differ by model and task."""
    table = ThresholdTable(Thresholds(), {"m2a": {"pooled_smallest_effect": 3.5}})
    assert {verdict.outcome for verdict in pooled_verdicts(_night(3), MATRIX, table)} == {Outcome.PASSED}
    table = replace(table, tasks={"vt": {"pooled_smallest_effect": 0.5}})
    assert {v.pool for v in pooled_verdicts(_night(9), MATRIX, table) if v.outcome is Outcome.REGRESSED} >= {
        Pool("m2a"),
        Pool("m2a", "task", "vt"),
    }


def test_missing_cells_leave_a_pool_incomplete():
    """Where nothing shifted but cells are missing, a pool is incomplete; a shift of what is there stands."""
    table = ThresholdTable(Thresholds())
    quiet = pooled_verdicts(_without(_night(0), MATRIX[0]), MATRIX, table)
    assert {v.outcome for v in quiet if v.pool.model == "sl"} == {Outcome.PASSED}
    (whole,) = [verdict for verdict in quiet if verdict.pool == Pool("m2a")]
    assert whole.outcome is Outcome.INCOMPLETE
    assert "1 cells not compared" in whole.message
    # With one cell left it would only say what the cell says.
    assert Pool("m2a", "task", "vt") not in {verdict.pool for verdict in quiet}
    (fallen,) = [v for v in pooled_verdicts(_without(_night(4), MATRIX[0]), MATRIX, table) if v.pool == Pool("m2a")]
    assert fallen.outcome is Outcome.REGRESSED


def test_nothing_compared():
    """Without a compared cell there is no pool to judge."""
    assert pooled_verdicts({}, MATRIX, LOOSE) == []
    assert STATISTIC.find(PairedNight((), tuple(MATRIX), LOOSE), ()).closing == ()


@pytest.mark.parametrize(
    ("points", "severity"), [(-3, Severity.IMPROVEMENT), (0, Severity.NOTE), (3, Severity.FAILURE)]
)
def test_a_night_fails_for_pools_that_fell(points, severity):
    """Pools that fell fail a night and come first, those that rose are improvements; the rest are counted in a line."""
    table = ThresholdTable(Thresholds())
    sign = -1 if points < 0 else 1
    fallen = _without(_night(abs(points)), MATRIX[-1])
    paired = tuple(PairedCell(cell, tuple(sign * each for each in scores)) for cell, scores in fallen.items())
    found = STATISTIC.find(PairedNight(paired, tuple(MATRIX), table), ())
    verdicts = [each.details for each in found.found]
    assert found.found[0].severity is severity
    assert [each.severity for each in found.found] == sorted(each.severity for each in found.found)
    assert {each.pool for each in verdicts} == {each.pool for each in pooled_verdicts(fallen, MATRIX, table)}
    quiet = [each for each in verdicts if each.outcome in (Outcome.PASSED, Outcome.INCOMPLETE)]
    partly = sum(each.outcome is Outcome.INCOMPLETE for each in quiet)
    assert partly
    assert found.closing == (
        f"no shift in {len(quiet)} of {len(verdicts)} pools, {partly} of them over part of their cells",
    )


def test_pools_of_nights_without_a_shift_stay_within_the_error_rate():
    """Where cells fall and rise together by seed, but as often up as down, pools alarm no more often than allowed."""
    random = np.random.default_rng(3)
    table = ThresholdTable(Thresholds(pooled_error_rate=0.2, pooled_smallest_effect=0.0, pooled_correction="bh"))
    runs, alarms = 250, 0
    for _ in range(runs):
        shared = {(c.model, c.task): random.choice([-1.0, 0.0, 1.0], 30, p=[0.15, 0.7, 0.15]) for c in MATRIX}
        kept = [np.where(random.random(30) < 0.8, shared[cell.model, cell.task], 0.0) for cell in MATRIX]
        verdicts = pooled_verdicts(dict(zip(MATRIX, kept, strict=True)), MATRIX, table)
        alarms += any(verdict.outcome is not Outcome.PASSED for verdict in verdicts)
    assert alarms / runs <= 0.2 + 3 * math.sqrt(0.2 * 0.8 / runs)
