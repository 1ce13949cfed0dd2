"""What the paper saw, computed from accepted accuracies."""

from __future__ import annotations

import pytest

from core.cells import Cell
from drift.records.snapshots import Baseline
from models.cards import Card
from models.checkpoints.files import read_configuration
from zoo.cards import load_zoo
from zoo.observations import ATTENTION, HYBRID, RECURRENT, kept_by_kind, kind_of, observed, undecided

ZOO = load_zoo("pocket")
CARD = Card("some", "llama", "tokenizer.json", path="some", trained_length=512)
KINDS = {
    "mamba2": RECURRENT,
    "m2a": HYBRID,
    "tpp": ATTENTION,
    "rwkv6": RECURRENT,
    "sl": ATTENTION,
    "sl-it": ATTENTION,
    "rg": HYBRID,
    "rg-it": HYBRID,
}


def _baselines(accuracy):
    """Baselines of one model whose cells have the accuracy, in percent, that a function of the cell says."""
    cells = {cell for sweep in ZOO.sweeps for cell in ZOO.cells(sweep)}
    return {cell.key: Baseline((accuracy(cell) / 100,), ("0" * 8,), {}) for cell in cells}


@pytest.mark.parametrize("card", ZOO.models.values(), ids=list(ZOO.models))
def test_kinds_are_read_from_checkpoints(card):
    """What a pocket model remembers by is told from its configuration."""
    assert kind_of(card, read_configuration(ZOO.folder / card.path)) == KINDS[card.name]


def test_figures_are_means_of_their_cells():
    """Each figure is the mean of the cells that it is about, and of no others."""

    def accuracy(cell: Cell) -> float:
        if cell.depth is None:
            return 80.0 if cell.length <= 512 else 20.0 if cell.task.startswith("niah_single") else 99.0
        beyond = 0.0 if cell.length <= 512 else 10.0 if cell.depth in (0, 100) else 30.0
        return beyond + (5.0 if cell.task == "essay-word-uuid" else 0.0)

    found = observed(ZOO, CARD, ATTENTION, _baselines(accuracy))
    assert found.by_length == pytest.approx({256: 80, 512: 80, 1024: 20, 2048: 20, 4096: 20})
    assert found.kept(2048) == pytest.approx(25)
    assert found.falls
    assert (found.ends, found.middle) == pytest.approx((10 + 5 / 3, 30 + 5 / 3))
    assert not found.middle_is_worse
    assert found.format_spread == pytest.approx(5)


@pytest.mark.parametrize(("lost", "significant"), [(1, False), (16, True)])
def test_a_worse_middle_is_told_from_chance(lost, significant):
    """A middle that loses one needle is worse; one that loses many is worse by more than chance explains."""
    cells = {cell for sweep in ZOO.sweeps for cell in ZOO.cells(sweep)}
    baselines = {}
    for cell in cells:
        losing = (cell.task, cell.length, cell.depth) == ("essay-word-uuid", 1024, 50)
        scores = tuple(0.0 if losing and example < lost else 1.0 for example in range(32))
        baselines[cell.key] = Baseline(scores, ("0" * 8,) * 32, {})
    found = observed(ZOO, CARD, ATTENTION, baselines)
    assert found.middle_is_worse
    assert found.middle_is_significantly_worse == significant


def test_kinds_are_averaged_apart():
    """What is kept is averaged over the models of each kind, and kinds without models are left out."""
    halves = observed(ZOO, CARD, HYBRID, _baselines(lambda cell: 60.0 if cell.length <= 512 else 30.0))
    nothing = observed(ZOO, CARD, HYBRID, _baselines(lambda cell: 60.0 if cell.length <= 512 else 0.0))
    whole = observed(ZOO, CARD, RECURRENT, _baselines(lambda cell: 60.0))
    assert kept_by_kind([halves, nothing, whole], 1024) == pytest.approx({RECURRENT: 100, HYBRID: 25})
    assert not whole.falls


def test_cells_at_the_edges_are_decided():
    """Cells at or beyond 5 and 95% count as decided."""
    baselines = {
        str(i): Baseline((value,), ("0" * 8,), {}) for i, value in enumerate((0.0, 0.05, 0.06, 0.94, 0.95, 1.0))
    }
    assert undecided([baselines, {}]) == (2, 6)
