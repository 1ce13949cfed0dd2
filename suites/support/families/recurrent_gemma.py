"""Tiny models of the RecurrentGemma family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from models.families.recurrent_gemma.checkpoint import write_recurrent_gemma
from models.families.recurrent_gemma.configuration import RecurrentGemmaConfiguration
from models.families.recurrent_gemma.model import RecurrentGemmaModel
from suites.support.tiny_models import VOCABULARY, TinyFamily

__all__ = ["CONFIGURATIONS", "GRIFFIN", "TINY", "WIDE", "tiny_model"]

GRIFFIN: Mapping[str, Any] = {
    "architectures": ["RecurrentGemmaForCausalLM"],
    "model_type": "recurrent_gemma",
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "lru_width": 48,
    "attention_window_size": 16,
}


CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "griffin": GRIFFIN,
    "attention-last": {
        **GRIFFIN,
        "num_hidden_layers": 3,
        "block_types": ["recurrent", "attention", "attention"],
        "num_key_value_heads": 2,
        "attention_bias": True,
        "logits_soft_cap": 4.0,
    },
    "narrow-window": {
        **GRIFFIN,
        "block_types": ["attention", "recurrent"],
        "num_key_value_heads": 4,
        "attention_window_size": 3,
        "conv1d_width": 2,
        "partial_rotary_factor": 1.0,
        "rope_theta": 100.0,
    },
}


# Wider than the blocks that attention works in.
WIDE = {**GRIFFIN, "num_hidden_layers": 2, "block_types": ["recurrent", "attention"], "attention_window_size": 140}


def tiny_model(configuration: Mapping[str, Any], seed: int = 0) -> RecurrentGemmaModel:
    """A random model with no weight at a neutral value, gates half open, and memories short and long."""
    made = RecurrentGemmaModel(RecurrentGemmaConfiguration.from_json(configuration))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for name, parameter in made.named_parameters():
            if name.endswith("recurrent_param"):
                parameter.uniform_(-6, -1)
            elif parameter.ndim == 1 or name.endswith("bias") or "embed" in name:
                parameter.normal_(std=0.3)
            elif "conv_1d" in name:
                parameter.normal_(std=0.6)
            else:
                parameter.normal_(std=1.5 / parameter.shape[-1] ** 0.5)
    return made.eval().requires_grad_(False)


def _never_forget(model: RecurrentGemmaModel) -> None:
    """Decays of exactly 1."""
    for name, parameter in model.named_parameters():
        if name.endswith("recurrent_param"):
            parameter.data[0] = -200.0


TINY = TinyFamily(
    "recurrent-gemma",
    {kind: lambda fields=fields: tiny_model(fields) for kind, fields in CONFIGURATIONS.items()},
    written="griffin",
    write=lambda directory, model: write_recurrent_gemma(directory, model, torch.float32),
    published_dtype=torch.bfloat16,
    main=("griffin",),
    lost="model.final_norm.weight",
    misshapen="model.embed_tokens.weight",
    tied=("griffin", "lm_head.weight", "model.embed_tokens.weight"),
    half_state={torch.bfloat16, torch.float32},
    harden=_never_forget,
)
