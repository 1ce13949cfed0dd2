"""The `config.json` of the state-spaces family, read strictly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import Field

from core.checked_fields import STRICT, Count, FieldError, Flag, Text, checked_record
from models.checkpoints.configurations import named_faults

__all__ = ["AttentionConfiguration", "Mamba2Configuration", "StateSpacesConfiguration"]

Whole = Annotated[int, Field(ge=0, description="a whole number of at least 0")]
# Where nothing is limited, files say Infinity.
Limit = Annotated[float, Field(allow_inf_nan=True)]


@dataclass(frozen=True)
class Mamba2Configuration:
    """The fields of `ssm_cfg`; the ones that only matter for initialization or kernels are unused."""

    __pydantic_config__ = STRICT

    layer: Text = "Mamba1"  # mamba-ssm's default
    d_state: Count = 128
    d_conv: Count = 4
    conv_init: float | None = None
    expand: Count = 2
    headdim: Count = 64
    d_ssm: Whole | None = None
    ngroups: Count = 1
    A_init_range: tuple[float, float] = (1, 16)
    D_has_hdim: Flag = False
    rmsnorm: Flag = True
    norm_before_gate: Flag = False
    dt_min: float = 0.001
    dt_max: float = 0.1
    dt_init_floor: float = 1e-4
    dt_limit: tuple[Limit, Limit] = (0.0, math.inf)
    bias: Flag = False
    conv_bias: Flag = True
    chunk_size: Whole = 256
    use_mem_eff_path: Flag = True


@dataclass(frozen=True)
class AttentionConfiguration:
    """The fields of `attn_cfg`."""

    __pydantic_config__ = STRICT

    num_heads: Count
    num_heads_kv: Whole | None = None
    head_dim: Whole | None = None
    mlp_dim: Whole = 0
    qkv_proj_bias: Flag = True
    out_proj_bias: Flag = True
    softmax_scale: float | None = None
    causal: Flag = False
    d_conv: Whole = 0
    rotary_emb_dim: Whole = 0
    rotary_emb_base: float = 10000.0
    rotary_emb_interleaved: Flag = False


@dataclass(frozen=True)
class StateSpacesConfiguration:
    """The fields of a published `config.json`."""

    __pydantic_config__ = STRICT

    d_model: Count = 2560
    d_intermediate: Whole = 0
    n_layer: Count = 64
    vocab_size: Count = 50277
    ssm_cfg: Mapping[str, Any] = field(default_factory=dict)
    attn_layer_idx: tuple[Whole, ...] = ()
    attn_cfg: Mapping[str, Any] = field(default_factory=dict)
    rms_norm: Flag = True
    residual_in_fp32: Flag = True
    fused_add_norm: Flag = True
    pad_vocab_size_multiple: Count = 8
    tie_embeddings: Flag = True

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Reads the parsed `config.json`.

        Raises:
            ConfigurationError: A field is unknown, or describes a layer this family does not have.
        """
        with named_faults():
            read = checked_record(cls, given)
            if not set(read.attn_layer_idx) <= set(range(read.n_layer)):
                raise FieldError(
                    f"attn_layer_idx names layers outside 0-{read.n_layer - 1}: {sorted(set(read.attn_layer_idx))}"
                )
            if len(set(read.attn_layer_idx)) < read.n_layer and read.mamba2.layer != "Mamba2":
                raise FieldError(
                    f"ssm_cfg.layer is {read.mamba2.layer!r} (mamba-ssm's default where it is missing); "
                    "only 'Mamba2' is supported"
                )
            if read.attn_layer_idx:
                read._check_attention()
            return read

    @property
    def mamba2(self) -> Mamba2Configuration:
        return checked_record(Mamba2Configuration, self.ssm_cfg, "ssm_cfg")

    @property
    def attention(self) -> AttentionConfiguration:
        return checked_record(AttentionConfiguration, self.attn_cfg, "attn_cfg")

    def _check_attention(self) -> None:
        attention = self.attention
        head_dim = attention.head_dim or self.d_model // attention.num_heads
        if head_dim < 1:
            raise FieldError(f"attn_cfg.num_heads must be at most d_model, {self.d_model}, not {attention.num_heads}")
        if attention.rotary_emb_dim > head_dim or attention.rotary_emb_dim % 2:
            raise FieldError(
                f"attn_cfg.rotary_emb_dim is {attention.rotary_emb_dim}; "
                f"it must be even and at most the head dimension, {head_dim}"
            )
        if not attention.causal:
            raise FieldError("attn_cfg.causal must be true for a language model")

    @property
    def padded_vocabulary(self) -> int:
        """Rows of the embedding."""
        return -(-self.vocab_size // self.pad_vocab_size_multiple) * self.pad_vocab_size_multiple
