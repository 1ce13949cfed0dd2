"""Any causal language model of transformers."""

from __future__ import annotations

from models.families.family import Configuration, Family, Operations

__all__ = ["FAMILY"]


def _operations() -> Operations:
    from models.families.transformers.model import load_transformers

    return Operations(load=load_transformers)


def _rotary_base(configuration: Configuration) -> tuple[str, ...] | None:
    if "rope_parameters" in configuration:
        return ("rope_parameters", "rope_theta")
    return ("rope_theta",) if "rope_theta" in configuration else None


FAMILY = Family("transformers", _operations, rotary_base=_rotary_base)
