"""Mamba2, Mamba2 with attention, Transformer++."""

from __future__ import annotations

from models.families.family import AttentionLayers, Configuration, Family, Kind, Operations
from models.families.state_spaces.configuration import StateSpacesConfiguration
from models.families.state_spaces.defects import CONVOLVED_HISTORY
from models.layers.kernels import CHUNK_SCAN, CONVOLUTION, STATE_UPDATE

__all__ = ["FAMILY"]


def _operations() -> Operations:
    from models.families.state_spaces.checkpoint import load_state_spaces, write_state_spaces
    from models.families.state_spaces.initialization import initialize_state_spaces
    from models.families.state_spaces.model import StateSpacesModel

    return Operations(
        load=load_state_spaces,
        new=StateSpacesModel,
        initialize=lambda model, _: initialize_state_spaces(model),
        write=write_state_spaces,
    )


def _kind(configuration: Configuration) -> Kind:
    attending = len(configuration["attn_layer_idx"])
    return "recurrent" if not attending else "attention" if attending == configuration["n_layer"] else "hybrid"


def _defects(configuration: Configuration) -> tuple[str, ...]:
    convolving = configuration.get("attn_layer_idx") and configuration["attn_cfg"].get("d_conv")
    return (CONVOLVED_HISTORY,) if convolving else ()


def _attention(configuration: Configuration) -> AttentionLayers:
    attention = configuration["attn_cfg"]
    channels = attention.get("num_heads", 0) * attention.get("head_dim", 0)
    return AttentionLayers(len(configuration["attn_layer_idx"]), channels)


def _rotary_base(configuration: Configuration) -> tuple[str, ...] | None:
    turning = configuration.get("attn_layer_idx") and configuration["attn_cfg"].get("rotary_emb_dim")
    return ("attn_cfg", "rotary_emb_base") if turning else None


FAMILY = Family(
    "state-spaces",
    _operations,
    StateSpacesConfiguration.from_json,
    kind=_kind,
    kernels=(CHUNK_SCAN, STATE_UPDATE, CONVOLUTION),
    defects=_defects,
    attention=_attention,
    rotary_base=_rotary_base,
)
