"""The `config.json` of the RecurrentGemma family, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from models.checkpoints.errors import ConfigurationError

__all__ = ["ATTENTION", "RECURRENT", "RecurrentGemmaConfiguration"]

MODEL_TYPE: Final = "recurrent_gemma"
ARCHITECTURE: Final = "RecurrentGemmaForCausalLM"

RECURRENT: Final = "recurrent"
ATTENTION: Final = "attention"

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "lru_width",
    "attention_window_size",
    "conv1d_width",
)
_POSITIVE = ("logits_soft_cap", "rms_norm_eps", "rope_theta", "partial_rotary_factor")

# The only value that a model of this family has been published with.
_FIXED: Mapping[str, Any] = {
    "embeddings_scale_by_sqrt_dim": True,
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
}

# They matter for training, for generation or for bookkeeping alone. `_block_types` repeats `block_types`
# and is read where that is missing.
_IGNORED = (
    "_name_or_path",
    "attention_dropout",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "final_w_init_variance_scale",
    "initializer_range",
    "pad_token_id",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "w_init_variance_scale",
)
_READ = (
    *_SIZES,
    *_POSITIVE,
    *_FIXED,
    "_block_types",
    "architectures",
    "attention_bias",
    "block_types",
    "head_dim",
    "model_type",
    "rope_parameters",
)


@dataclass(frozen=True)
class RecurrentGemmaConfiguration:
    """The fields of a published `config.json`; the defaults are transformers', which leaves them out of files.

    Attributes:
        intermediate_size: Twice the width of the feed-forward layer.
        lru_width: Channels of the recurrence.
        attention_window_size: How many tokens a token attends to, itself included.
        block_types: Recurrence or attention, repeated over the layers.
    """

    vocab_size: int = 256000
    hidden_size: int = 2560
    intermediate_size: int = 7680
    num_hidden_layers: int = 26
    num_attention_heads: int = 10
    num_key_value_heads: int = 10
    lru_width: int = 2560
    attention_window_size: int = 2048
    conv1d_width: int = 4
    logits_soft_cap: float = 30.0
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    partial_rotary_factor: float = 0.5
    attention_bias: bool = False
    block_types: tuple[str, ...] = (RECURRENT, RECURRENT, ATTENTION)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Reads the parsed `config.json`.

        Raises:
            ConfigurationError: It is another architecture's, a field is unknown, or its value makes no model.
        """
        _check_kind(given)
        for name in given:
            if name not in _READ and name not in _IGNORED:
                raise ConfigurationError(f"unknown field {name!r} in config.json; known are {', '.join(_READ)}")
        for name, value in _FIXED.items():
            if given.get(name, value) != value:
                raise ConfigurationError(f"{name} in config.json is {given[name]!r}; only {value!r} is supported")

        fields = {name: given[name] for name in (*_SIZES, *_POSITIVE, "attention_bias") if given.get(name) is not None}
        fields |= _rotary(given)
        fields.setdefault("num_key_value_heads", fields.get("num_attention_heads", cls.num_attention_heads))
        fields.setdefault("lru_width", fields.get("hidden_size", cls.hidden_size))
        types = given.get("block_types") or given.get("_block_types") or cls.block_types
        if not isinstance(types, list | tuple) or not set(map(str, types)) <= {RECURRENT, ATTENTION}:
            raise ConfigurationError(f"block_types in config.json is {types!r}; known are {RECURRENT}, {ATTENTION}")
        configuration = cls(**fields, block_types=tuple(types))
        configuration._check(given.get("head_dim"))
        return configuration

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
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "block_types": list(self.block_types),
            "head_dim": self.head_dim,
            "hidden_activation": _FIXED["hidden_activation"],
            "tie_word_embeddings": True,
        }

    def _check(self, head_dim: object) -> None:
        for name in _SIZES:
            size = getattr(self, name)
            if type(size) is not int or size < 1:
                raise ConfigurationError(f"{name} in config.json must be a whole number of at least 1, not {size!r}")
        for name in _POSITIVE:
            value = getattr(self, name)
            if type(value) not in (int, float) or value <= 0:
                raise ConfigurationError(f"{name} in config.json must be a positive number, not {value!r}")
        if type(self.attention_bias) is not bool:
            raise ConfigurationError(f"attention_bias in config.json is {self.attention_bias!r}, not true or false")
        for whole, part in (
            ("hidden_size", "num_attention_heads"),
            ("lru_width", "num_attention_heads"),
            ("num_attention_heads", "num_key_value_heads"),
            ("intermediate_size", "2"),
        ):
            divisor = getattr(self, part, 2)
            if getattr(self, whole) % divisor:
                raise ConfigurationError(f"{whole} in config.json, {getattr(self, whole)}, is no multiple of {divisor}")
        if head_dim is not None and head_dim != self.head_dim:
            raise ConfigurationError(
                f"head_dim in config.json is {head_dim!r}; only hidden_size / num_attention_heads, {self.head_dim}, "
                "is supported"
            )
        if self.rotary_dim % 2 or self.rotary_dim > self.head_dim:
            raise ConfigurationError(
                f"partial_rotary_factor in config.json makes {self.rotary_dim} rotary dimensions; "
                f"they must be even and at most the head dimension, {self.head_dim}"
            )


def _check_kind(given: Mapping[str, Any]) -> None:
    kind, architectures = given.get("model_type"), given.get("architectures")
    if kind != MODEL_TYPE:
        raise ConfigurationError(f"model_type in config.json is {kind!r}, not {MODEL_TYPE!r}")
    if architectures is not None and architectures != [ARCHITECTURE]:
        raise ConfigurationError(f"architectures in config.json is {architectures!r}, not {[ARCHITECTURE]!r}")


def _rotary(given: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary embedding as transformers 5 nests it; before, its fields stood beside the others."""
    rotary = given.get("rope_parameters")
    if rotary is None:
        return {}
    if not isinstance(rotary, Mapping):
        raise ConfigurationError(f"rope_parameters in config.json must be an object, not {rotary!r}")
    for name, value in rotary.items():
        if name not in ("rope_type", "rope_theta", "partial_rotary_factor"):
            raise ConfigurationError(f"unknown field {name!r} in rope_parameters of config.json")
        if name == "rope_type" and value != "default":
            raise ConfigurationError(f"rope_type in config.json is {value!r}; only 'default' is supported")
    return {name: value for name, value in rotary.items() if name != "rope_type"}
