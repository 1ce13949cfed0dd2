"""Models before training, and after it as they are published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.families import families, family_named

__all__ = ["new_model", "publish", "trained_families"]


def trained_families() -> tuple[str, ...]:
    """The families whose models can be trained here."""
    return tuple(name for name, family in families().items() if family.operations().initialize is not None)


def new_model(family: str, architecture: Mapping[str, Any], seed: int, embedding_std: float | None = None) -> nn.Module:
    """A model with weights drawn from a seed.

    Args:
        family: One of `trained_families()`.
        architecture: Its `config.json`.
        seed: Of all weights.
        embedding_std: Standard deviation of the token embeddings, where not that of the published kind.

    Raises:
        ValueError: Models of the family cannot be trained here, or the architecture is not of the family.
    """
    initialize = family_named(family).operations().initialize
    if initialize is None:
        raise ValueError(f"models of family {family} cannot be trained; there are {', '.join(trained_families())}")
    torch.manual_seed(seed)
    model = family_named(family).new(architecture)
    initialize(model, architecture)
    if embedding_std is not None:
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=embedding_std)
    return model


def publish(family: str, directory: Path, model: nn.Module) -> None:
    """Writes a model into a directory as its kind is published.

    Raises:
        ValueError: Models of the family are not written here.
    """
    write = family_named(family).operations().write
    if write is None:
        raise ValueError(f"models of family {family} cannot be written")
    write(directory, model)
