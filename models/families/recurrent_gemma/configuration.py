"""The `config.json` of the RecurrentGemma family, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field

from core.checked_fields import STRICT, Amount, Count, FieldError, Flag, checked_record
from models.checkpoints.configurations import (
    check_architecture,
    check_fixed,
    check_multiple,
    checked_configuration,
    named_faults,
)

__all__ = ["ATTENTION", "RECURRENT", "RecurrentGemmaConfiguration"]

MODEL_TYPE: Final = "recurrent_gemma"
ARCHITECTURE: Final = "RecurrentGemmaForCausalLM"

RECURRENT: Final = "recurrent"
ATTENTION: Final = "attention"

# The only value that a model of this family has been published with.
_FIXED: Mapping[str, Any] = {
    "embeddings_scale_by_sqrt_dim": True,
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
}

# They matter for training, for generation or for bookkeeping alone.
_UNREAD = (
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "final_w_init_variance_scale",
    "initializer_range",
    "model_type",
    "pad_token_id",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "w_init_variance_scale",
)


@dataclass(frozen=True)
class _Rotary:
    """The rotary embedding as transformers 5 nests it; before, its fields stood beside the others."""

    __pydantic_config__ = STRICT

    rope_type: Literal["default"] = "default"
    rope_theta: Amount | None = None
    partial_rotary_factor: Amount | None = None


@dataclass(frozen=True)
class RecurrentGemmaConfiguration:
    """The fields of a published `config.json`; the defaults are transformers', which leaves them out of files.

    Attributes:
        intermediate_size: Twice the width of the feed-forward layer.
        lru_width: Channels of the recurrence.
        attention_window_size: How many tokens a token attends to, itself included.
        block_types: Recurrence or attention, repeated over the layers.
    """

    __pydantic_config__ = STRICT

    vocab_size: Count = 256000
    hidden_size: Count = 2560
    intermediate_size: Count = 7680
    num_hidden_layers: Count = 26
    num_attention_heads: Count = 10
    num_key_value_heads: Count = 10
    lru_width: Count = 2560
    attention_window_size: Count = 2048
    conv1d_width: Count = 4
    logits_soft_cap: Amount = 30.0
    rms_norm_eps: Amount = 1e-6
    rope_theta: Amount = 10000.0
    partial_rotary_factor: Amount = 0.5
    attention_bias: Flag = False
    block_types: Annotated[
        tuple[Literal["recurrent", "attention"], ...], Field(min_length=1, description="a list of types of layers")
    ] = (RECURRENT, RECURRENT, ATTENTION)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Reads the parsed `config.json`.

        Raises:
            ConfigurationError: It is another architecture's, a field is unknown, or its value makes no model.
        """
        with named_faults():
            check_architecture(given, MODEL_TYPE, ARCHITECTURE)
            check_fixed(given, _FIXED)
            fields = {name: value for name, value in given.items() if value is not None}
            rotary = asdict(checked_record(_Rotary, fields.pop("rope_parameters", {}), "rope_parameters"))
            fields |= {name: value for name, value in rotary.items() if name != "rope_type" and value is not None}
            # Older files repeat the types, or have them under the second name alone.
            repeated, head_dim = fields.pop("_block_types", None), fields.pop("head_dim", None)
            if repeated and not fields.get("block_types"):
                fields["block_types"] = repeated
            read = checked_configuration(cls, fields, (*_FIXED, *_UNREAD))
            if "num_key_value_heads" not in fields:
                read = replace(read, num_key_value_heads=read.num_attention_heads)
            if "lru_width" not in fields:
                read = replace(read, lru_width=read.hidden_size)
            read._check(head_dim)
            return read

    @property
    def layer_types(self) -> tuple[str, ...]:
        """The type of each layer."""
        return tuple(self.block_types[i % len(self.block_types)] for i in range(self.num_hidden_layers))

    @property
    def head_dim(self) -> int:
        """The width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def rotary_dim(self) -> int:
        """How many of a head's first dimensions are turned by the position."""
        return int(self.head_dim * self.partial_rotary_factor)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` and transformers read."""
        return {
            "architectures": [ARCHITECTURE],
            "model_type": MODEL_TYPE,
            **asdict(self),
            "block_types": list(self.block_types),
            "head_dim": self.head_dim,
            "hidden_activation": _FIXED["hidden_activation"],
            "tie_word_embeddings": True,
        }

    def _check(self, head_dim: object) -> None:
        for whole, part in (
            ("hidden_size", "num_attention_heads"),
            ("lru_width", "num_attention_heads"),
            ("num_attention_heads", "num_key_value_heads"),
        ):
            check_multiple(self, whole, part)
        if self.intermediate_size % 2:
            raise FieldError(f"intermediate_size, {self.intermediate_size}, is no multiple of 2")
        if head_dim is not None and head_dim != self.head_dim:
            raise FieldError(
                f"head_dim is {head_dim!r}; only hidden_size / num_attention_heads, {self.head_dim}, is supported"
            )
        if self.rotary_dim % 2 or self.rotary_dim > self.head_dim:
            raise FieldError(
                f"partial_rotary_factor makes {self.rotary_dim} rotary dimensions; "
                f"they must be even and at most the head dimension, {self.head_dim}"
            )
