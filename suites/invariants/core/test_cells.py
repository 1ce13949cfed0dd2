"""A cell's key is read back, its order is total, and its axes are known in one place."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.cells import Cell, NotACell

names = st.from_regex(r"[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+){0,3}", fullmatch=True)
cells = st.builds(Cell, names, names, st.integers(0, 10**7), st.none() | st.integers(0, 100))
near_cells = st.builds(
    Cell,
    st.sampled_from(["a", "b"]),
    st.sampled_from(["vt", "vt-1", "vt-d5"]),
    st.integers(1, 3),
    st.none() | st.integers(0, 2),
)


@given(cells)
def test_a_key_names_its_cell(cell):
    """A cell's key is read back as its task, length and depth, whatever the task is called."""
    assert Cell.of_key(cell.model, cell.key) == cell
    assert str(cell) == f"{cell.model}-{cell.key}"


@given(st.lists(cells, max_size=8))
def test_different_cells_of_a_model_have_different_keys(found):
    """No two cells of one model share a key."""
    distinct = {(cell.model, cell.key) for cell in found}
    assert len(distinct) == len(set(found))


@given(st.text(max_size=12))
def test_other_keys_are_refused(text):
    """What ends in no length is refused with an example of what does."""
    assume(not text.rpartition("-")[2].lstrip("d").isdecimal())
    with pytest.raises(NotACell, match=r"names no cell; one looks like niah_single_2-1024"):
        Cell.of_key("m2a", text)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "vt",
        "-512",
        "vt-",
        "vt-x",
        "vt-512-d",
        "vt-512-dx",
        "vt-512 ",
        "vt512",
        "vt-5\n",
        "vt-५१२",
        "vt-²",
        "vt-0512",
        "vt-512-d05",
    ],
)
def test_what_nearly_is_a_key_is_refused(key):
    """A key is whole: a task, a length, and a depth where it has one."""
    with pytest.raises(NotACell):
        Cell.of_key("m2a", key)


@given(cells, st.dictionaries(st.sampled_from(["score", "zoo"]), st.integers()))
def test_axes_are_read_back(cell, others):
    """A cell is read back from its axes, whatever stands beside them; the model's axis is the first."""
    assert tuple(cell.axes) == Cell.axis_names()
    assert Cell.axis_names()[0] == "model"
    assert Cell.of_fields({**others, **cell.axes}) == cell


@given(near_cells, near_cells)
def test_the_order_is_by_task_depth_and_length(one, other):
    """Cells stand by task, then by depth with none first, then by length; only equal ones at one place."""

    def place(cell):
        return cell.task, cell.depth is not None, cell.depth or 0, cell.length

    assert (one.order < other.order) == (place(one) < place(other))
    if one.model == other.model:
        assert (one.order == other.order) == (one == other)


@given(near_cells, near_cells)
def test_prefixes_are_shared_over_depths(one, other):
    """Cells of one model have the same prefix group where nothing but the depth tells them apart."""
    alike = (one.task, one.length) == (other.task, other.length)
    assert (one.prefix_group == other.prefix_group) == alike


filters = st.fixed_dictionaries(
    {},
    optional={
        "model": st.none() | st.sets(st.sampled_from(["a", "b"])),
        "task": st.none() | st.sets(st.sampled_from(["vt", "vt-1"])),
        "length": st.none() | st.sets(st.integers(1, 3)),
        "depth": st.none() | st.sets(st.none() | st.integers(0, 2)),
    },
)


@given(near_cells, filters)
def test_filters_are_exact(cell, wanted):
    """A cell is within filters where its value on each named axis is wanted; an axis without a filter wants all."""
    assert cell.within(wanted) == all(
        wanted.get(name) is None or value in wanted[name] for name, value in cell.axes.items()
    )
