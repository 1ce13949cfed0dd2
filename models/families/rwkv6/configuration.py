"""The `config.json` of the RWKV-6 (Finch) family, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

from core.checked_fields import STRICT, Amount, Count, FieldError, Flag
from models.checkpoints.configurations import check_architecture, check_multiple, checked_configuration, named_faults

__all__ = ["Rwkv6Configuration"]

MODEL_TYPE: Final = "rwkv6"
ARCHITECTURE: Final = "Rwkv6ForCausalLM"

# They matter for other programs, for generation or for bookkeeping alone. `num_attention_heads` is one of them: the
# published code does not read it but divides the width by `head_size`, and not every file agrees with that.
_UNREAD = (
    "_name_or_path",
    "architectures",
    "auto_map",
    "bos_token_id",
    "context_length",
    "dtype",
    "eos_token_id",
    "model_type",
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

    __pydantic_config__ = STRICT

    vocab_size: Count = 65536
    hidden_size: Count = 768
    num_hidden_layers: Count = 24
    attention_hidden_size: Count = 768
    head_size: Count = 64
    head_size_divisor: Amount = 8
    intermediate_size: Count = 2688
    layer_norm_epsilon: Amount = 1e-5
    tie_word_embeddings: Flag = False

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Reads the parsed `config.json`.

        Raises:
            ConfigurationError: It is another architecture's, a field is unknown, or its value makes no model.
        """
        with named_faults():
            check_architecture(given, MODEL_TYPE, ARCHITECTURE)
            read = checked_configuration(cls, given, _UNREAD)
            if given.get("attention_hidden_size") is None:
                read = replace(read, attention_hidden_size=read.hidden_size)
            if given.get("intermediate_size") is None:
                # The width of the published models: 3.5 times the hidden size, rounded down to a multiple of 32.
                read = replace(read, intermediate_size=int(read.hidden_size * 3.5) // 32 * 32)
            read._check()
            return read

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
            **asdict(self),
            # Without it the published code rescales, which only the range of float16 asks for.
            "rescale_every": 0,
        }

    def _check(self) -> None:
        if self.attention_hidden_size != self.hidden_size:
            # The normalization of heads in the published code has the hidden size.
            raise FieldError(
                f"attention_hidden_size is {self.attention_hidden_size}; only hidden_size, {self.hidden_size}, "
                "is supported"
            )
        check_multiple(self, "attention_hidden_size", "head_size")
        if self.intermediate_size < 1:
            raise FieldError(f"hidden_size, {self.hidden_size}, is too small to have no intermediate_size beside it")
