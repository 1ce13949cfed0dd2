"""How the weights of RWKV-6 models are drawn: as those of the published models."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.families.rwkv6.model import Rwkv6Model

__all__ = ["initialize_rwkv6"]


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
