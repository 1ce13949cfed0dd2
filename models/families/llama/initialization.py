"""How the weights of Llama models are drawn: as those of the published models."""

from __future__ import annotations

from torch import nn

from models.families.llama.model import LlamaModel

__all__ = ["initialize_llama"]


def initialize_llama(model: LlamaModel, deviation: float | None = None) -> None:
    """As transformers does: all matrices drawn alike.

    Args:
        model: The model.
        deviation: Standard deviation of the weights, `initializer_range` in `config.json`; 0.02 unless given.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02 if deviation is None else deviation)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
