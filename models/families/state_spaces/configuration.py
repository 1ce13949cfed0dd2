"""The `config.json` of the state-spaces family, read strictly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Self, TypeVar, get_args, get_origin, get_type_hints

from models.checkpoints.errors import ConfigurationError

__all__ = ["AttentionConfiguration", "Mamba2Configuration", "StateSpacesConfiguration"]


Configuration = TypeVar("Configuration")


def _from_fields(cls: type[Configuration], where: str, given: Mapping[str, Any]) -> Configuration:
    hints = get_type_hints(cls)
    for name, value in given.items():
        if name not in hints:
            raise ConfigurationError(f"unknown field {name!r} in {where}; known are {', '.join(hints)}")
        if not _is_a(value, hints[name]):
            raise ConfigurationError(f"{name} in {where} is {value!r}, which no model of this family has")
    return cls(**given)


def _is_a(value: object, hint: Any) -> bool:
    """Whether a parsed JSON value suits a field; whole numbers are never negative in this family."""
    if isinstance(hint, UnionType):
        return any(_is_a(value, each) for each in get_args(hint))
    if get_origin(hint) is tuple:
        element = get_args(hint)[0]
        return isinstance(value, list | tuple) and all(_is_a(each, element) for each in value)
    if get_origin(hint) is Mapping:
        return isinstance(value, Mapping)
    if hint is int:
        return type(value) is int and value >= 0
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint


@dataclass(frozen=True)
class Mamba2Configuration:
    """The fields of `ssm_cfg`; the ones that only matter for initialization or kernels are unused."""

    layer: str = "Mamba1"  # mamba-ssm's default
    d_state: int = 128
    d_conv: int = 4
    conv_init: float | None = None
    expand: int = 2
    headdim: int = 64
    d_ssm: int | None = None
    ngroups: int = 1
    A_init_range: tuple[float, float] = (1, 16)
    D_has_hdim: bool = False
    rmsnorm: bool = True
    norm_before_gate: bool = False
    dt_min: float = 0.001
    dt_max: float = 0.1
    dt_init_floor: float = 1e-4
    dt_limit: tuple[float, float] = (0.0, math.inf)
    bias: bool = False
    conv_bias: bool = True
    chunk_size: int = 256
    use_mem_eff_path: bool = True


@dataclass(frozen=True)
class AttentionConfiguration:
    """The fields of `attn_cfg`."""

    num_heads: int
    num_heads_kv: int | None = None
    head_dim: int | None = None
    mlp_dim: int = 0
    qkv_proj_bias: bool = True
    out_proj_bias: bool = True
    softmax_scale: float | None = None
    causal: bool = False
    d_conv: int = 0
    rotary_emb_dim: int = 0
    rotary_emb_base: float = 10000.0
    rotary_emb_interleaved: bool = False


@dataclass(frozen=True)
class StateSpacesConfiguration:
    """The fields of a published `config.json`."""

    d_model: int = 2560
    d_intermediate: int = 0
    n_layer: int = 64
    vocab_size: int = 50277
    ssm_cfg: Mapping[str, Any] = field(default_factory=dict)
    attn_layer_idx: tuple[int, ...] = ()
    attn_cfg: Mapping[str, Any] = field(default_factory=dict)
    rms_norm: bool = True
    residual_in_fp32: bool = True
    fused_add_norm: bool = True
    pad_vocab_size_multiple: int = 8
    tie_embeddings: bool = True

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Reads the parsed `config.json`.

        Raises:
            ConfigurationError: A field is unknown, or describes a layer this family does not have.
        """
        configuration = _from_fields(cls, "config.json", given)
        configuration._check_sizes()
        attention_layers = set(configuration.attn_layer_idx)
        if not attention_layers <= set(range(configuration.n_layer)):
            raise ConfigurationError(
                f"attn_layer_idx names layers outside 0-{configuration.n_layer - 1}: {sorted(attention_layers)}"
            )
        if len(attention_layers) < configuration.n_layer and configuration.mamba2.layer != "Mamba2":
            raise ConfigurationError(
                f"ssm_cfg.layer is {configuration.mamba2.layer!r} (mamba-ssm's default where it is missing); "
                "only 'Mamba2' is supported"
            )
        if attention_layers and not configuration.attention.causal:
            raise ConfigurationError("attn_cfg.causal must be true for a language model")
        return configuration

    @property
    def mamba2(self) -> Mamba2Configuration:
        return _from_fields(Mamba2Configuration, "ssm_cfg of config.json", self.ssm_cfg)

    @property
    def attention(self) -> AttentionConfiguration:
        if "num_heads" not in self.attn_cfg:
            raise ConfigurationError("attn_cfg of config.json lacks num_heads, and attn_layer_idx names layers")
        return _from_fields(AttentionConfiguration, "attn_cfg of config.json", self.attn_cfg)

    def _check_sizes(self) -> None:
        sizes = {name: getattr(self, name) for name in ("d_model", "n_layer", "vocab_size", "pad_vocab_size_multiple")}
        if len(set(self.attn_layer_idx)) < self.n_layer:
            ssm = self.mamba2
            sizes |= {name: getattr(ssm, name) for name in ("d_state", "d_conv", "expand", "headdim", "ngroups")}
        if self.attn_layer_idx:
            attention = self.attention
            head_dim = attention.head_dim or self.d_model // max(attention.num_heads, 1)
            sizes |= {"num_heads": attention.num_heads, "head_dim": head_dim}
            if attention.rotary_emb_dim > head_dim or attention.rotary_emb_dim % 2:
                raise ConfigurationError(
                    f"rotary_emb_dim in attn_cfg of config.json is {attention.rotary_emb_dim}; "
                    f"it must be even and at most the head dimension, {head_dim}"
                )
        for name, size in sizes.items():
            if size < 1:
                raise ConfigurationError(f"{name} in config.json must be at least 1, not {size}")

    @property
    def padded_vocabulary(self) -> int:
        """Rows of the embedding."""
        return -(-self.vocab_size // self.pad_vocab_size_multiple) * self.pad_vocab_size_multiple
