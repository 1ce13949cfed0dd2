"""What training has to know of each family: how its models begin, and how they are published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.families.llama.checkpoint import write_llama
from models.families.llama.configuration import LlamaConfiguration
from models.families.llama.model import LlamaModel
from models.families.recurrent_gemma.configuration import RecurrentGemmaConfiguration
from models.families.recurrent_gemma.model import RecurrentGemmaModel, write_recurrent_gemma
from models.families.rwkv6.configuration import Rwkv6Configuration
from models.families.rwkv6.model import Rwkv6Model, write_rwkv6
from models.families.state_spaces.checkpoint import write_state_spaces
from models.families.state_spaces.configuration import StateSpacesConfiguration
from models.families.state_spaces.model import StateSpacesModel
from zoo.training.initializations import (
    initialize_llama,
    initialize_recurrent_gemma,
    initialize_rwkv6,
    initialize_state_spaces,
)

__all__ = ["TRAINED_FAMILIES", "TrainedFamily", "new_model"]


@dataclass(frozen=True)
class TrainedFamily:
    """A family whose models can be trained here.

    Attributes:
        begin: A `config.json` to a model with freshly drawn weights.
        publish: Writes a model into a directory as its kind is published.
    """

    begin: Callable[[Mapping[str, Any]], nn.Module]
    publish: Callable[[Path, Any], None]


def new_model(family: str, architecture: Mapping[str, Any], seed: int, embedding_std: float | None = None) -> nn.Module:
    """A model with weights drawn from a seed.

    Args:
        family: One of `TRAINED_FAMILIES`.
        architecture: Its `config.json`.
        seed: Of all weights.
        embedding_std: Standard deviation of the token embeddings, where not that of the published kind.

    Raises:
        ValueError: Models of the family cannot be trained here, or the architecture is not of the family.
    """
    if family not in TRAINED_FAMILIES:
        raise ValueError(f"models of family {family} cannot be trained; there are {', '.join(TRAINED_FAMILIES)}")
    torch.manual_seed(seed)
    model = TRAINED_FAMILIES[family].begin(architecture)
    if embedding_std is not None:
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=embedding_std)
    return model


def _begin_state_spaces(architecture: Mapping[str, Any]) -> nn.Module:
    model = StateSpacesModel(StateSpacesConfiguration.from_json(architecture))
    initialize_state_spaces(model)
    return model


def _begin_recurrent_gemma(architecture: Mapping[str, Any]) -> nn.Module:
    model = RecurrentGemmaModel(RecurrentGemmaConfiguration.from_json(architecture))
    initialize_recurrent_gemma(model)
    return model


def _begin_rwkv6(architecture: Mapping[str, Any]) -> nn.Module:
    model = Rwkv6Model(Rwkv6Configuration.from_json(architecture))
    initialize_rwkv6(model)
    return model


def _begin_llama(architecture: Mapping[str, Any]) -> nn.Module:
    model = LlamaModel(LlamaConfiguration.from_json(architecture))
    initialize_llama(model, architecture.get("initializer_range"))
    return model


TRAINED_FAMILIES: Mapping[str, TrainedFamily] = {
    "state-spaces": TrainedFamily(_begin_state_spaces, write_state_spaces),
    "recurrent-gemma": TrainedFamily(_begin_recurrent_gemma, write_recurrent_gemma),
    "rwkv6": TrainedFamily(_begin_rwkv6, write_rwkv6),
    "llama": TrainedFamily(_begin_llama, write_llama),
}
