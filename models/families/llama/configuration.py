"""The `config.json` of the Llama family: which files are read here, and what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from models.checkpoints.errors import ConfigurationError

__all__ = ["ARCHITECTURE", "MODEL_TYPE", "LlamaConfiguration"]

MODEL_TYPE: Final = "llama"
ARCHITECTURE: Final = "LlamaForCausalLM"

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "head_dim",
)
_POSITIVE = ("rms_norm_eps", "rope_theta")
_CHOICES = ("attention_bias", "mlp_bias", "tie_word_embeddings")

# Fields with one value that is implemented.
_FIXED: Mapping[str, Any] = {"hidden_act": "silu", "pretraining_tp": 1}

# They matter for training, for generation or for bookkeeping alone.
_IGNORED = (
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "initializer_range",
    "model_type",
    "pad_token_id",
    "torch_dtype",
    "transformers_version",
    "use_cache",
)
# Two names of one thing: what the rotary embedding is made from, since transformers 5 and before.
_ROTARY = ("rope_parameters", "rope_scaling")
_KNOWN = frozenset((*_SIZES, *_POSITIVE, *_CHOICES, *_FIXED, *_IGNORED, *_ROTARY))


@dataclass(frozen=True)
class LlamaConfiguration:
    """The fields of a published `config.json`; the defaults are transformers', which older files rely on.

    Attributes:
        num_key_value_heads: Heads of keys and values, each shared by as many queries' heads.
        max_position_embeddings: How many tokens the model was made to read.
        head_dim: The width of one attention head.
    """

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    max_position_embeddings: int = 2048
    head_dim: int = 128
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False

    @property
    def query_width(self) -> int:
        """Channels of all heads' queries."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_width(self) -> int:
        """Channels of all heads' keys, and of their values."""
        return self.num_key_value_heads * self.head_dim

    @staticmethod
    def covers(given: Mapping[str, Any]) -> bool:
        """Whether all that a parsed `config.json` asks for is implemented here.

        It is not where the rotary embedding is scaled, a fixed field has another value, or a field is unknown.
        """
        plain = all(given[name] in (value, None) for name, value in _FIXED.items() if name in given)
        return plain and _KNOWN.issuperset(given) and all(map(_is_default, map(given.get, _ROTARY)))

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Reads the parsed `config.json`.

        Raises:
            ConfigurationError: It asks for more than is implemented, or its values make no model.
        """
        if not cls.covers(given):
            raise ConfigurationError("config.json asks for what the Llama family does not implement here")
        fields = {name: given[name] for name in (*_SIZES, *_POSITIVE, *_CHOICES) if given.get(name) is not None}
        for rotary in filter(None, map(given.get, _ROTARY)):
            fields |= {name: value for name, value in rotary.items() if name == "rope_theta"}
        for name in _SIZES:
            size = fields.get(name, 1)
            if type(size) is not int or size < 1:
                raise ConfigurationError(f"{name} in config.json must be a whole number of at least 1, not {size!r}")
        width, heads = (fields.get(name, getattr(cls, name)) for name in ("hidden_size", "num_attention_heads"))
        if width % heads:
            raise ConfigurationError(f"hidden_size in config.json, {width}, is no multiple of its {heads} heads")
        fields.setdefault("num_key_value_heads", heads)
        fields.setdefault("head_dim", width // heads)
        configuration = cls(**fields)
        configuration._check()
        return configuration

    def to_json(self) -> dict[str, Any]:
        """What `from_json` and transformers read."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "rope_theta"}
        rotary = {"rope_theta": self.rope_theta, "rope_type": "default"}
        return {
            "architectures": [ARCHITECTURE],
            "model_type": MODEL_TYPE,
            **fields,
            **_FIXED,
            "rope_parameters": rotary,
        }

    def _check(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if type(value) not in (int, float) or value <= 0:
                raise ConfigurationError(f"{name} in config.json must be a positive number, not {value!r}")
        for name in _CHOICES:
            if type(getattr(self, name)) is not bool:
                raise ConfigurationError(f"{name} in config.json is {getattr(self, name)!r}, not true or false")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigurationError(
                f"num_attention_heads in config.json, {self.num_attention_heads}, is no multiple of "
                f"num_key_value_heads, {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise ConfigurationError(f"a head in config.json is {self.head_dim} wide; rotary positions need it even")


def _is_default(rotary: object) -> bool:
    """Whether an account of the rotary embedding, if there is one, is that of the plain one."""
    if rotary is None:
        return True
    if not isinstance(rotary, Mapping) or not rotary.keys() <= {"rope_theta", "rope_type", "type"}:
        return False
    return all(rotary.get(name, "default") == "default" for name in ("rope_type", "type"))
