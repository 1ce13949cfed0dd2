"""Tiny models of the Llama family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from models.families.llama.checkpoint import write_llama
from models.families.llama.configuration import LlamaConfiguration
from models.families.llama.model import LlamaModel
from suites.support.tiny_models import VOCABULARY, TinyFamily

__all__ = ["CONFIGURATIONS", "LLAMA", "TINY", "tiny_model"]

LLAMA: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 160,
}


CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "llama": LLAMA,
    "grouped": {**LLAMA, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "one-shared-head": {**LLAMA, "num_key_value_heads": 1, "rope_theta": 100.0, "rms_norm_eps": 1e-3},
    "biases": {**LLAMA, "attention_bias": True, "mlp_bias": True, "num_hidden_layers": 3},
    "wide-heads": {**LLAMA, "head_dim": 24, "num_key_value_heads": 2, "tie_word_embeddings": True},
}


def tiny_model(configuration: Mapping[str, Any], seed: int = 0) -> LlamaModel:
    """A random model with no weight at a neutral value."""
    made = LlamaModel(LlamaConfiguration.from_json(configuration))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for name, parameter in made.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(1.0 if "norm" in name else 0.0, 0.3)
            else:
                parameter.normal_(std=0.3 if "embed" in name else 1.5 / parameter.shape[-1] ** 0.5)
    return made.eval().requires_grad_(False)


TINY = TinyFamily(
    "llama",
    {kind: lambda fields=fields: tiny_model(fields) for kind, fields in CONFIGURATIONS.items()},
    written="grouped",
    write=lambda directory, model: write_llama(directory, model, torch.float32),
    published_dtype=torch.bfloat16,
    main=("grouped",),
    lost="model.layers.0.self_attn.k_proj.weight",
    misshapen="model.layers.1.mlp.up_proj.weight",
    tied=("grouped", "lm_head.weight", "model.embed_tokens.weight"),
)
