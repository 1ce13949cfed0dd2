"""Tiny models of the state-spaces family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from models.families.state_spaces.checkpoint import write_state_spaces
from models.families.state_spaces.configuration import StateSpacesConfiguration
from models.families.state_spaces.initialization import initialize_state_spaces
from models.families.state_spaces.model import StateSpacesModel
from suites.support.tiny_models import VOCABULARY, TinyFamily

__all__ = ["CONFIGURATIONS", "HYBRID", "MAMBA2", "TINY", "TRANSFORMER", "changed", "tiny_model"]

MAMBA2: Mapping[str, Any] = {
    "d_model": 32,
    "d_intermediate": 0,
    "n_layer": 2,
    "vocab_size": VOCABULARY,
    "ssm_cfg": {"layer": "Mamba2", "d_state": 8, "headdim": 8},
    "attn_layer_idx": [],
    "attn_cfg": {},
}

# Attention between two Mamba2 layers: either kind is followed by the other.
HYBRID: Mapping[str, Any] = {
    **MAMBA2,
    "d_intermediate": 64,
    "n_layer": 3,
    "attn_layer_idx": [1],
    "attn_cfg": {
        "causal": True,
        "d_conv": 4,
        "head_dim": 8,
        "num_heads": 4,
        "out_proj_bias": False,
        "qkv_proj_bias": False,
        "rotary_emb_dim": 4,
    },
}

TRANSFORMER: Mapping[str, Any] = {
    **HYBRID,
    "n_layer": 2,
    "ssm_cfg": {},
    "attn_layer_idx": [0, 1],
    "attn_cfg": {**HYBRID["attn_cfg"], "d_conv": 0, "rotary_emb_dim": 8},
}


def changed(configuration: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """A configuration with some fields replaced; within `ssm_cfg` and `attn_cfg`, field by field."""
    merged = {name: {**configuration[name], **fields.pop(name, {})} for name in ("ssm_cfg", "attn_cfg")}
    return {**configuration, **merged, **fields}


CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "mamba2": MAMBA2,
    "mamba2-gated-mlp": changed(MAMBA2, d_intermediate=64),
    "mamba2-two-groups": changed(MAMBA2, ssm_cfg={"ngroups": 2}),
    "mamba2-norm-before-gate": changed(MAMBA2, ssm_cfg={"norm_before_gate": True}),
    "mamba2-no-inner-norm": changed(MAMBA2, ssm_cfg={"rmsnorm": False}),
    "mamba2-skip-per-channel": changed(MAMBA2, ssm_cfg={"D_has_hdim": True}),
    "mamba2-narrow-state-space": changed(MAMBA2, ssm_cfg={"d_ssm": 48}),
    "mamba2-limited-dt": changed(MAMBA2, ssm_cfg={"dt_limit": [0.01, 0.02]}),
    "mamba2-biases": changed(MAMBA2, ssm_cfg={"bias": True, "conv_bias": False}),
    "mamba2-layer-norm": changed(MAMBA2, rms_norm=False),
    "hybrid": HYBRID,
    "hybrid-attention-last": changed(HYBRID, n_layer=2),
    "hybrid-grouped": changed(HYBRID, attn_cfg={"num_heads_kv": 2}),
    "hybrid-interleaved": changed(HYBRID, attn_cfg={"rotary_emb_interleaved": True}),
    "hybrid-parallel-mlp": changed(HYBRID, attn_cfg={"mlp_dim": 200}),
    "hybrid-untied": changed(HYBRID, tie_embeddings=False, residual_in_fp32=False),
    "transformer": TRANSFORMER,
    "transformer-grouped": changed(TRANSFORMER, attn_cfg={"num_heads_kv": 1, "softmax_scale": 0.5}),
    "transformer-biases": changed(TRANSFORMER, attn_cfg={"qkv_proj_bias": True, "out_proj_bias": True}),
    "transformer-layer-norm": changed(TRANSFORMER, rms_norm=False),
}


def tiny_model(configuration: Mapping[str, Any], seed: int = 0) -> StateSpacesModel:
    """A random model with no weight at a neutral value, so that each one matters."""
    made = StateSpacesModel(StateSpacesConfiguration.from_json(configuration))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        initialize_state_spaces(made)
        for name, parameter in made.named_parameters():
            # Small embeddings stay small: in a model that merely repeats its last token no layer matters.
            if name != "backbone.embedding.weight":
                parameter += 0.1 * torch.randn_like(parameter)
    return made.eval().requires_grad_(False)


TINY = TinyFamily(
    "state-spaces",
    {kind: lambda fields=fields: tiny_model(fields) for kind, fields in CONFIGURATIONS.items()},
    written="hybrid",
    write=lambda directory, model: write_state_spaces(directory, model, torch.float32),
    published_dtype=torch.float16,
    main=("mamba2", "hybrid", "transformer"),
    lost="backbone.layers.0.mixer.dt_bias",
    misshapen="backbone.norm_f.weight",
    tied=("hybrid", "lm_head.weight", "backbone.embedding.weight"),
    half_state={torch.bfloat16, torch.float32},
)
