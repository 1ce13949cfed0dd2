"""How the weights of state-spaces models are drawn: as those of the published models."""

from __future__ import annotations

import math

import torch
from torch import nn

from models.families.state_spaces.model import Mamba2, StateSpacesModel

__all__ = ["initialize_state_spaces"]


def initialize_state_spaces(model: StateSpacesModel) -> None:
    """As mamba-ssm does: small embeddings, output projections scaled by depth."""
    configuration = model.configuration
    residuals = configuration.n_layer * (2 if configuration.d_intermediate else 1)
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Linear | nn.Conv1d) and module is not model.lm_head:
            module.reset_parameters()
        if isinstance(module, Mamba2):
            c = module.configuration
            span = math.log(c.dt_max) - math.log(c.dt_min)
            dt = torch.exp(torch.rand(module.heads) * span + math.log(c.dt_min)).clamp(min=c.dt_init_floor)
            with torch.no_grad():
                # The inverse of softplus.
                module.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))
                module.A_log.uniform_(*c.A_init_range).log_()
    for name, parameter in model.named_parameters():
        if name.endswith(("out_proj.weight", "fc2.weight")):
            nn.init.kaiming_uniform_(parameter, a=math.sqrt(5))
            with torch.no_grad():
                parameter.div_(math.sqrt(residuals))
    if not configuration.tie_embeddings:
        nn.init.normal_(model.lm_head.weight, std=0.02)
