"""The published models can be made at their full sizes, without weights."""

from __future__ import annotations

import dataclasses

import pytest

from zoo.__main__ import main
from zoo.cards import load_zoo
from zoo.shapes import PUBLISHED, configuration_of, made, shape, shapes

PAPER = load_zoo("paper")
# One card of each shape: some share a configuration.
CARDS = {PUBLISHED[str(card.hub)].file: card for card in PAPER.models.values() if card.hub in PUBLISHED}
MEBI = 2**20

every_shape = pytest.mark.parametrize("file", CARDS)


def test_every_card_of_the_paper_has_a_shape():
    """No card of the paper zoo lacks its published configuration."""
    assert {card.hub for card in PAPER.models.values()} == set(PUBLISHED)


@every_shape
def test_parameters_are_as_many_as_published(file):
    """A model made from its published configuration has the published number of parameters, within two percent."""
    published = PUBLISHED[str(CARDS[file].hub)].parameters
    assert shape(CARDS[file]).parameters == pytest.approx(1e9 * published, rel=0.02)


@every_shape
def test_no_weight_takes_memory(file):
    """A model of a published size is made on the meta device alone, buffers included."""
    card = CARDS[file]
    model = made(card.family, configuration_of(str(card.hub)))
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"meta"}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # layers x (heads x width x state in float32 + three inputs of the convolution)
        ("mamba2", 64 * (80 * 64 * 128 * 4 + 3 * (5120 + 2 * 128) * 2)),
        # layers x keys and values x heads x width x tokens
        ("tpp", 32 * 2 * 20 * 128 * 16384 * 2),
        ("sl", 32 * 2 * 20 * 128 * 16384 * 2),
        # layers x (heads x width x width in float32 + the last inputs of both mixings)
        ("rwkv6", 32 * (40 * 64 * 64 * 4 + 2 * 2560 * 2)),
        # 18 recurrences in float32 with three inputs of the convolution, 8 windows of one head of 256
        ("rg", 18 * (2560 * 4 + 3 * 2560 * 2) + 8 * 2 * 2047 * 256 * 2),
    ],
)
def test_the_state_is_as_large_as_the_architecture_says(model, expected):
    """The memory of one row's state after 16,384 tokens is that of the tensors that the architecture keeps."""
    assert shape(PAPER.models[model]).state_bytes == expected


def test_an_unknown_shape_is_refused():
    """A card whose published configuration is not known is refused by its name."""
    card = dataclasses.replace(PAPER.models["mamba2"], hub="someone/else")
    with pytest.raises(ValueError, match="someone/else is not known"):
        shape(card)
    with pytest.raises(ValueError, match="unknown family other"):
        made("other", {})


def test_shapes_are_listed(capsys):
    """The command lists each card of the paper with its parameters; zoos without published cards make no rows."""
    assert main(["shapes"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{shape(card).parameters:,}"[:5] in shown for card in CARDS.values())
    assert shapes(load_zoo("pocket")).row_count == 0
