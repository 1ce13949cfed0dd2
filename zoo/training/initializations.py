"""How the weights of the pocket models are drawn: as those of the published models of their kinds."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.families.llama.model import LlamaModel
from models.families.recurrent_gemma.model import GatedRecurrentUnit, RecurrentGemmaModel
from models.families.rwkv6.model import Rwkv6Model
from models.families.state_spaces.model import Mamba2, StateSpacesModel

__all__ = ["initialize_llama", "initialize_recurrent_gemma", "initialize_rwkv6", "initialize_state_spaces"]


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


def initialize_rwkv6(model: Rwkv6Model) -> None:
    """As RWKV-LM does: decays and mixing shares that grow with channel and layer, outputs that begin at zero."""
    c = model.configuration
    nn.init.normal_(model.rwkv.embeddings.weight, std=0.02)
    if not c.tie_word_embeddings:
        nn.init.orthogonal_(model.head.weight, gain=0.5)
    channels = torch.arange(c.hidden_size) / c.hidden_size
    inner = torch.arange(c.attention_hidden_size) / max(c.attention_hidden_size - 1, 1)
    zigzag = ((torch.arange(c.attention_hidden_size) + 1) % 3 - 1) * 0.1
    layers = len(model.blocks)
    for number, block in enumerate(model.blocks):
        deep = number / max(layers - 1, 1)
        shallow = 1 - number / layers
        attention, feed_forward = block.attention, block.feed_forward
        mixed = 1 - channels**shallow
        half_mixed = 1 - channels ** (shallow / 2)
        values: dict[nn.Parameter, Tensor] = {
            attention.time_maa_x: mixed,
            attention.get_parameter("time_maa_w"): mixed,
            attention.get_parameter("time_maa_k"): mixed,
            attention.get_parameter("time_maa_v"): mixed - 0.3 * deep,
            attention.get_parameter("time_maa_r"): half_mixed,
            attention.get_parameter("time_maa_g"): half_mixed,
            attention.time_decay: -6 + 5 * inner ** (0.7 + 1.3 * deep),
            attention.time_faaaa: deep * (1 - inner) + zigzag,
            feed_forward.time_maa_k: mixed,
            feed_forward.time_maa_r: mixed,
        }
        with torch.no_grad():
            for parameter, value in values.items():
                parameter.copy_(value.view_as(parameter))
            for small in (attention.time_maa_w2, attention.time_decay_w2):
                nn.init.uniform_(small, -0.01, 0.01)
            for projection in (attention.receptance, attention.key, attention.value, attention.gate, feed_forward.key):
                nn.init.orthogonal_(projection.weight)
            for silent in (attention.output, feed_forward.value, feed_forward.receptance):
                nn.init.zeros_(silent.weight)
