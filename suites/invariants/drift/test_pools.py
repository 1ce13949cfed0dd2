"""Pools: which cells have something in common, and how their p-values are corrected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cells import Cell
from drift.statistics.pools import Pool, adjusted_p_values, pools, seed_sums

LENGTHS, DEPTHS = (256, 512), (0, 50, 100)
MATRIX = [
    *(Cell(model, task, length) for model in ("m2a", "sl") for task in ("vt", "qa_1") for length in LENGTHS),
    *(Cell(model, "essay", 256, depth) for model in ("m2a", "sl") for depth in DEPTHS),
]


def test_pools_of_the_matrix():
    """A model's cells are pooled all together, and by task, length and depth; models are never mixed."""
    members = pools(MATRIX)
    assert set(members[Pool("m2a")]) == {cell for cell in MATRIX if cell.model == "m2a"}
    assert set(members[Pool("sl", "task", "vt")]) == {Cell("sl", "vt", length) for length in LENGTHS}
    assert len(members[Pool("m2a", "length", 256)]) == 5
    assert members[Pool("m2a", "depth", 50)] == [Cell("m2a", "essay", 256, 50)]
    assert len(members) == 2 * (1 + 3 + 2 + 3)


@given(st.lists(st.sampled_from(MATRIX), unique=True))
def test_a_pool_holds_its_members(cells):
    """A pool has exactly those cells that it says it holds, and a pool of a whole axis is in the order of the cells."""
    for pool, members in pools(cells).items():
        assert members == [cell for cell in cells if pool.holds(cell)]
        assert str(pool).startswith(f"{pool.model}, ")
    names = [str(pool) for pool in pools(MATRIX)]
    assert len(set(names)) == len(names)


@given(st.lists(st.tuples(st.sampled_from(MATRIX), st.lists(st.integers(-5, 5), max_size=4)), max_size=6))
def test_seeds_are_a_tasks_examples_of_one_number(cells):
    """The sums of seeds lose nothing, whatever number of examples each cell has, and never mix two tasks."""
    sums = seed_sums(cells)
    for task in {cell.task for cell, _ in cells}:
        own = [differences for cell, differences in cells if cell.task == task]
        assert sum(value for (name, _), value in sums.items() if name == task) == sum(map(sum, own))
        assert sum(name == task for name, _ in sums) == max(map(len, own))


@given(st.lists(st.floats(1e-12, 1), max_size=12), st.integers(0, 20))
def test_corrections_are_the_textbooks(p_values, missing):
    """Corrected p-values are Benjamini-Hochberg's, and Yekutieli's harmonic multiple; missing pools count as 1."""
    family = len(p_values) + missing
    whole = sorted([*p_values, *[1.0] * missing])
    stepped, least = {}, 1.0
    for rank, p in reversed(list(enumerate(whole, start=1))):
        least = min(least, p * family / rank)
        stepped.setdefault(p, least)
    # The same p-value has the rank of its last place.
    assert adjusted_p_values(p_values, family, "bh") == pytest.approx([stepped[p] for p in p_values])
    harmonic = sum(1 / rank for rank in range(1, family + 1))
    expected = [min(stepped[p] * harmonic, 1.0) for p in p_values]
    if all(stepped[p] < 1 for p in p_values):
        assert adjusted_p_values(p_values, family, "by") == pytest.approx(expected)
