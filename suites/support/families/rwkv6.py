"""Tiny models of the RWKV-6 family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from models.families.rwkv6.checkpoint import write_rwkv6
from models.families.rwkv6.configuration import Rwkv6Configuration
from models.families.rwkv6.model import Rwkv6Model
from suites.support.tiny_models import VOCABULARY, TinyFamily

__all__ = ["CONFIGURATIONS", "FINCH", "TINY", "tiny_model"]

FINCH: Mapping[str, Any] = {
    "architectures": ["Rwkv6ForCausalLM"],
    "model_type": "rwkv6",
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "head_size": 8,
}


CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "finch": FINCH,
    "one-wide-head": {**FINCH, "num_hidden_layers": 1, "head_size": 32, "intermediate_size": 200},
    "other-epsilons": {
        **FINCH,
        "num_hidden_layers": 2,
        "head_size": 4,
        "head_size_divisor": 40,
        "layer_norm_epsilon": 0.05,
        "tie_word_embeddings": True,
    },
}


def tiny_model(configuration: Mapping[str, Any], seed: int = 0) -> Rwkv6Model:
    """A random model with no weight at a neutral value, mixing by halves, and memories short and long."""
    made = Rwkv6Model(Rwkv6Configuration.from_json(configuration))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for name, parameter in made.named_parameters():
            if name.endswith("time_decay"):
                parameter.uniform_(-6, 0)
            elif name.endswith("time_faaaa"):
                parameter.normal_(std=2.0)
            elif "time_maa" in name and parameter.shape[:2] == (1, 1):
                parameter.normal_(0.5, 0.3)
            elif "_w1" in name or "_w2" in name:
                parameter.normal_(std=parameter.shape[-2] ** -0.5)
            elif "ln" in name:
                parameter.normal_(float(name.endswith("weight")), 0.3)
            else:
                parameter.normal_(std=1.5 * parameter.shape[-1] ** -0.5)
    return made.eval().requires_grad_(False)


def _forget_at_once(model: Rwkv6Model) -> None:
    """Decays of exactly 0."""
    for name, parameter in model.named_parameters():
        if name.endswith("time_decay"):
            parameter.data[..., 0] = 6.0


TINY = TinyFamily(
    "rwkv6",
    {kind: lambda fields=fields: tiny_model(fields) for kind, fields in CONFIGURATIONS.items()},
    written="finch",
    write=lambda directory, model: write_rwkv6(directory, model, torch.float32),
    published_dtype=torch.bfloat16,
    main=("finch",),
    lost="rwkv.ln_out.weight",
    misshapen="head.weight",
    tied=("other-epsilons", "head.weight", "rwkv.embeddings.weight"),
    half_state={torch.bfloat16, torch.float32},
    harden=_forget_at_once,
)
