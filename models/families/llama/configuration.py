"""The `config.json` of the Llama family: which files are read here, and what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

from core.checked_fields import STRICT, Amount, Count, FieldError, Flag
from models.checkpoints.configurations import check_multiple, checked_configuration, named_faults

__all__ = ["ARCHITECTURE", "MODEL_TYPE", "LlamaConfiguration"]

MODEL_TYPE: Final = "llama"
ARCHITECTURE: Final = "LlamaForCausalLM"

# Fields with one value that is implemented.
_FIXED: Mapping[str, Any] = {"hidden_act": "silu", "pretraining_tp": 1}

# They matter for training, for generation or for bookkeeping alone.
_UNREAD = (
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


@dataclass(frozen=True)
class LlamaConfiguration:
    """The fields of a published `config.json`; the defaults are transformers', which older files rely on.

    Attributes:
        num_key_value_heads: Heads of keys and values, each shared by as many queries' heads.
        max_position_embeddings: How many tokens the model was made to read.
        head_dim: The width of one attention head.
    """

    __pydantic_config__ = STRICT

    vocab_size: Count = 32000
    hidden_size: Count = 4096
    intermediate_size: Count = 11008
    num_hidden_layers: Count = 32
    num_attention_heads: Count = 32
    num_key_value_heads: Count = 32
    max_position_embeddings: Count = 2048
    head_dim: Count = 128
    rms_norm_eps: Amount = 1e-6
    rope_theta: Amount = 10000.0
    attention_bias: Flag = False
    mlp_bias: Flag = False
    tie_word_embeddings: Flag = False

    @property
    def query_width(self) -> int:
        """Channels of all heads' queries."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_width(self) -> int:
        """Channels of all heads' keys, and of their values."""
        return self.num_key_value_heads * self.head_dim

    @classmethod
    def covers(cls, given: Mapping[str, Any]) -> bool:
        """Whether all that a parsed `config.json` asks for is implemented here.

        It is not where the rotary embedding is scaled, a fixed field has another value, or a field is unknown.
        """
        plain = all(given[name] in (value, None) for name, value in _FIXED.items() if name in given)
        known = {*cls.__dataclass_fields__, *_FIXED, *_UNREAD, *_ROTARY}
        return plain and known.issuperset(given) and all(map(_is_default, map(given.get, _ROTARY)))

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Reads the parsed `config.json`.

        Raises:
            ConfigurationError: It asks for more than is implemented, or its values make no model.
        """
        with named_faults():
            if not cls.covers(given):
                raise FieldError("it asks for what the Llama family does not implement here")
            fields = dict(given)
            for rotary in filter(None, map(given.get, _ROTARY)):
                fields["rope_theta"] = rotary.get("rope_theta", fields.get("rope_theta"))
            read = checked_configuration(cls, fields, (*_FIXED, *_UNREAD, *_ROTARY))
            check_multiple(read, "hidden_size", "num_attention_heads")
            if given.get("num_key_value_heads") is None:
                read = replace(read, num_key_value_heads=read.num_attention_heads)
            if given.get("head_dim") is None:
                read = replace(read, head_dim=read.hidden_size // read.num_attention_heads)
            check_multiple(read, "num_attention_heads", "num_key_value_heads")
            if read.head_dim % 2:
                raise FieldError(f"a head is {read.head_dim} wide; rotary positions need it even")
            return read

    def to_json(self) -> dict[str, Any]:
        """What `from_json` and transformers read."""
        fields = asdict(self)
        rotary = {"rope_theta": fields.pop("rope_theta"), "rope_type": "default"}
        return {
            "architectures": [ARCHITECTURE],
            "model_type": MODEL_TYPE,
            **fields,
            **_FIXED,
            "rope_parameters": rotary,
        }


def _is_default(rotary: object) -> bool:
    """Whether an account of the rotary embedding, if there is one, is that of the plain one."""
    if rotary is None:
        return True
    if not isinstance(rotary, Mapping) or not rotary.keys() <= {"rope_theta", "rope_type", "type"}:
        return False
    return all(rotary.get(name, "default") == "default" for name in ("rope_type", "type"))
