"""Llama."""

from __future__ import annotations

from typing import Any

from models.families.family import AttentionLayers, Configuration, Family, Operations
from models.families.llama.configuration import LlamaConfiguration

__all__ = ["FAMILY"]


def _operations() -> Operations:
    from models.families.llama.checkpoint import load_llama, write_llama
    from models.families.llama.initialization import initialize_llama
    from models.families.llama.model import LlamaModel

    def implementation(model: Any) -> str:
        return "longwatch" if isinstance(model, LlamaModel) else "transformers"

    return Operations(
        load=load_llama,
        new=LlamaModel,
        initialize=lambda model, configuration: initialize_llama(model, configuration.get("initializer_range")),
        write=write_llama,
        implementation=implementation,
    )


def _attention(configuration: Configuration) -> AttentionLayers:
    return AttentionLayers(configuration["num_hidden_layers"], configuration["hidden_size"])


def _rotary_base(configuration: Configuration) -> tuple[str, ...]:
    return ("rope_parameters", "rope_theta") if "rope_parameters" in configuration else ("rope_theta",)


FAMILY = Family("llama", _operations, LlamaConfiguration.from_json, attention=_attention, rotary_base=_rotary_base)
