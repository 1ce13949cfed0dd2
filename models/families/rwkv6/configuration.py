"""The `config.json` of the RWKV-6 (Finch) family, read strictly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from models.checkpoints.errors import ConfigurationError

__all__ = ["Rwkv6Configuration"]

MODEL_TYPE: Final = "rwkv6"
ARCHITECTURE: Final = "Rwkv6ForCausalLM"

_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "attention_hidden_size",
    "head_size",
    "intermediate_size",
)
_POSITIVE = ("head_size_divisor", "layer_norm_epsilon")
_READ = (*_SIZES, *_POSITIVE, "architectures", "model_type", "tie_word_embeddings")

# They matter for other programs, for generation or for bookkeeping alone. `num_attention_heads` is one of them: the
# published code does not read it but divides the width by `head_size`, and not every file agrees with that.
_IGNORED = (
    "_name_or_path",
    "auto_map",
    "bos_token_id",
    "context_length",
    "dtype",
    "eos_token_id",
    "model_version",
    "num_attention_heads",
    "pad_token_id",
    "rescale_every",
    "torch_dtype",
    "transformers_version",
    "use_cache",
)

# The published code has no fields for the ranks; the 7B model alone, which has this width, doubles them.
_WIDTH_OF_DOUBLE_RANKS: Final = 4096


@dataclass(frozen=True)
class Rwkv6Configuration:
    """The fields of a published `config.json`; the defaults are those of the published code.

    Attributes:
        attention_hidden_size: Width of all heads together; only `hidden_size` has ever been published.
        head_size: Width of one head.
        head_size_divisor: Enlarges the epsilon of the normalization of heads, by its square.
        intermediate_size: Width of the feed-forward layer.
    """

    vocab_size: int = 65536
    hidden_size: int = 768
    num_hidden_layers: int = 24
    attention_hidden_size: int = 768
    head_size: int = 64
    head_size_divisor: float = 8
    intermediate_size: int = 2688
    layer_norm_epsilon: float = 1e-5
    tie_word_embeddings: bool = False

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Reads the parsed `config.json`.

        Raises:
            ConfigurationError: It is another architecture's, a field is unknown, or its value makes no model.
        """
        kind, architectures = given.get("model_type"), given.get("architectures")
        if kind != MODEL_TYPE:
            raise ConfigurationError(f"model_type in config.json is {kind!r}, not {MODEL_TYPE!r}")
        if architectures is not None and architectures != [ARCHITECTURE]:
            raise ConfigurationError(f"architectures in config.json is {architectures!r}, not {[ARCHITECTURE]!r}")
        for name in given:
            if name not in _READ and name not in _IGNORED:
                raise ConfigurationError(f"unknown field {name!r} in config.json; known are {', '.join(_READ)}")

        names = (*_SIZES, *_POSITIVE, "tie_word_embeddings")
        fields = {name: given[name] for name in names if given.get(name) is not None}
        fields.setdefault("hidden_size", cls.hidden_size)
        _check(fields)
        fields.setdefault("attention_hidden_size", fields["hidden_size"])
        # The width of the published models: 3.5 times the hidden size, rounded down to a multiple of 32.
        fields.setdefault("intermediate_size", int(fields["hidden_size"] * 3.5) // 32 * 32)
        configuration = cls(**fields)
        configuration._check_widths()
        return configuration

    @property
    def heads(self) -> int:
        """The number of heads."""
        return self.attention_hidden_size // self.head_size

    @property
    def group_norm_epsilon(self) -> float:
        """The epsilon of the normalization of heads."""
        return 1e-5 * self.head_size_divisor**2

    @property
    def mix_rank(self) -> int:
        """Rank of what mixes a token with the one before, for each of its five uses."""
        return 64 if self.hidden_size == _WIDTH_OF_DOUBLE_RANKS else 32

    @property
    def decay_rank(self) -> int:
        """Rank of what makes the decay depend on the token."""
        return 128 if self.hidden_size == _WIDTH_OF_DOUBLE_RANKS else 64

    def to_json(self) -> dict[str, Any]:
        """What `from_json` and the published code read."""
        return {
            "architectures": [ARCHITECTURE],
            "model_type": MODEL_TYPE,
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            # Without it the published code rescales, which only the range of float16 asks for.
            "rescale_every": 0,
        }

    def _check_widths(self) -> None:
        if self.attention_hidden_size != self.hidden_size:
            # The normalization of heads in the published code has the hidden size.
            raise ConfigurationError(
                f"attention_hidden_size in config.json is {self.attention_hidden_size}; "
                f"only hidden_size, {self.hidden_size}, is supported"
            )
        if self.attention_hidden_size % self.head_size:
            raise ConfigurationError(
                f"attention_hidden_size in config.json, {self.attention_hidden_size}, "
                f"is no multiple of head_size, {self.head_size}"
            )
        if self.intermediate_size < 1:
            raise ConfigurationError(
                f"hidden_size in config.json, {self.hidden_size}, is too small to have no intermediate_size beside it"
            )


def _check(fields: Mapping[str, Any]) -> None:
    """Checks each given field on its own."""
    for name, value in fields.items():
        if name in _SIZES and (type(value) is not int or value < 1):
            raise ConfigurationError(f"{name} in config.json must be a whole number of at least 1, not {value!r}")
        if name in _POSITIVE and (type(value) not in (int, float) or not 0 < value < math.inf):
            raise ConfigurationError(f"{name} in config.json must be a positive number, not {value!r}")
        if name == "tie_word_embeddings" and type(value) is not bool:
            raise ConfigurationError(f"tie_word_embeddings in config.json is {value!r}, not true or false")
