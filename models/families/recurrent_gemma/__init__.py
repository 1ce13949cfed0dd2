"""RecurrentGemma (Griffin)."""

from __future__ import annotations

from models.families.family import AttentionLayers, Configuration, Family, Kind, Operations
from models.families.recurrent_gemma.configuration import ATTENTION, RecurrentGemmaConfiguration
from models.layers.kernels import CONVOLUTION

__all__ = ["FAMILY"]


def _operations() -> Operations:
    from models.families.recurrent_gemma.checkpoint import load_recurrent_gemma, write_recurrent_gemma
    from models.families.recurrent_gemma.initialization import initialize_recurrent_gemma
    from models.families.recurrent_gemma.model import RecurrentGemmaModel

    return Operations(
        load=load_recurrent_gemma,
        new=RecurrentGemmaModel,
        initialize=lambda model, _: initialize_recurrent_gemma(model),
        write=write_recurrent_gemma,
    )


def _kind(configuration: Configuration) -> Kind:
    return "hybrid"


def _attention(configuration: Configuration) -> AttentionLayers:
    c = RecurrentGemmaConfiguration.from_json(configuration)
    return AttentionLayers(c.layer_types.count(ATTENTION), c.num_attention_heads * c.head_dim, c.attention_window_size)


def _rotary_base(configuration: Configuration) -> tuple[str, ...]:
    return ("rope_parameters", "rope_theta") if "rope_parameters" in configuration else ("rope_theta",)


FAMILY = Family(
    "recurrent-gemma",
    _operations,
    RecurrentGemmaConfiguration.from_json,
    kind=_kind,
    kernels=(CONVOLUTION,),
    attention=_attention,
    rotary_base=_rotary_base,
    norm_offset=1.0,
)
