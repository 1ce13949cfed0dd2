"""How the weights of RecurrentGemma models are drawn: as those of the published models."""

from __future__ import annotations

import torch
from torch import nn

from models.families.recurrent_gemma.model import GatedRecurrentUnit, RecurrentGemmaModel

__all__ = ["initialize_recurrent_gemma"]


def initialize_recurrent_gemma(model: RecurrentGemmaModel) -> None:
    """Decays between 0.9 and 0.999 at an open gate (Griffin, section 2.4); embeddings of size one once scaled."""
    nn.init.normal_(model.model.embed_tokens.weight, std=model.configuration.hidden_size**-0.5)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d):
            module.reset_parameters()
        if isinstance(module, GatedRecurrentUnit):
            for weight in (module.input_gate_weight, module.recurrent_gate_weight):
                nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
            with torch.no_grad():
                decay = torch.rand_like(module.recurrent_param) * (0.999**2 - 0.9**2) + 0.9**2
                # The inverse of exp(-8 softplus(parameter)), the eighth power being the decay's.
                module.recurrent_param.copy_(torch.log(torch.expm1(-decay.sqrt().log() / 8)))
