"""The full sizes of published models, made without their weights.

`published/` holds what their `config.json` says of their shape. A model that was tuned has the shape of its base.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from rich.table import Table
from torch import nn

from models.cards import Card
from models.families import family_named
from zoo.cards import FOLDER, Zoo

__all__ = ["PUBLISHED", "Published", "Shape", "configuration_of", "made", "shape", "shapes"]

_FILES = FOLDER / "published"
_LENGTH: Final = 16384


@dataclass(frozen=True)
class Published:
    """What was published of a model.

    Attributes:
        file: Its configuration, in `published/`.
        parameters: In billions.
        source: Who says so.
    """

    file: str
    parameters: float
    source: str


_NAME = "the model's name"
_FINCH = "Peng et al., 'Eagle and Finch' (2024), abstract"
_METADATA = "the metadata of its safetensors files"

# By id on the hub.
PUBLISHED: Mapping[str, Published] = {
    "state-spaces/mamba2-2.7b": Published("mamba2-2.7b.json", 2.7027, "5,405,424,282 bytes of float16 on the hub"),
    "state-spaces/mamba2attn-2.7b": Published("mamba2attn-2.7b.json", 2.7, _NAME),
    "state-spaces/transformerpp-2.7b": Published("transformerpp-2.7b.json", 2.7, _NAME),
    "RWKV/rwkv-6-world-3b-v2.1": Published("rwkv-6-world-3b-v2.1.json", 3.1, _FINCH),
    "princeton-nlp/Sheared-LLaMA-2.7B": Published("Sheared-LLaMA-2.7B.json", 2.7, _NAME),
    "princeton-nlp/Sheared-LLaMA-2.7B-ShareGPT": Published("Sheared-LLaMA-2.7B.json", 2.7, _NAME),
    "google/recurrentgemma-2b": Published("recurrentgemma-2b.json", 2.6829, _METADATA),
    "google/recurrentgemma-2b-it": Published("recurrentgemma-2b.json", 2.6829, _METADATA),
}


@dataclass(frozen=True)
class Shape:
    """How large a model is.

    Attributes:
        parameters: Each counted once, also where two layers share it.
        state_bytes: What one row's state takes after 16,384 tokens, in bfloat16.
    """

    parameters: int
    state_bytes: int


def made(family: str, configuration: Mapping[str, Any], device: str = "meta") -> nn.Module:
    """A model with random weights, or with none; a `models.decoding.decoder.Decoder`.

    Args:
        family: As on a card.
        configuration: What `config.json` says.
        device: Where it is made; on the meta device its tensors have shapes and nothing else.

    Raises:
        ValueError: There is no such family, it makes no models from configurations, or this one is not the family's.
    """
    with torch.device(device):
        return family_named(family).new(configuration).eval().requires_grad_(False)


def configuration_of(hub: str) -> dict[str, Any]:
    """What the `config.json` of a published model says of its shape.

    Raises:
        ValueError: It is not known here.
    """
    if hub not in PUBLISHED:
        raise ValueError(f"the shape of {hub} is not known here; those of {', '.join(PUBLISHED)} are")
    return json.loads((_FILES / PUBLISHED[hub].file).read_text(encoding="utf-8"))


@functools.cache
def shape(card: Card) -> Shape:
    """The shape of a published card's model.

    Raises:
        ValueError: It is not known here.
    """
    model = made(card.family, configuration_of(str(card.hub))).to(torch.bfloat16)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    state = cast("Any", model).empty_state(1, _LENGTH).bytes
    return Shape(parameters, state)


def shapes(zoo: Zoo) -> Table:
    """The shapes of a zoo's published cards, beside what was published."""
    table = Table()
    for heading in ("model", "from"):
        table.add_column(heading, overflow="fold")
    for heading in ("parameters", "published", "difference", "state at 16K, MiB"):
        table.add_column(heading, justify="right")
    table.add_column("published in", overflow="fold")
    for card in zoo.models.values():
        published = PUBLISHED.get(card.hub or "")
        if published is None:
            continue
        found = shape(card)
        table.add_row(
            card.name,
            str(card.hub),
            f"{found.parameters:,}",
            f"{published.parameters:g}B",
            f"{100 * (found.parameters / (1e9 * published.parameters) - 1):+.1f}%",
            f"{found.state_bytes / 2**20:,.0f}",
            published.source,
        )
    return table
