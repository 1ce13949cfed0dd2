"""RWKV-6 (Finch)."""

from __future__ import annotations

from models.families.family import Configuration, Family, Kind, Operations
from models.families.rwkv6.configuration import Rwkv6Configuration
from models.layers.kernels import WKV

__all__ = ["FAMILY"]


def _operations() -> Operations:
    from models.families.rwkv6.checkpoint import load_rwkv6, write_rwkv6
    from models.families.rwkv6.initialization import initialize_rwkv6
    from models.families.rwkv6.model import Rwkv6Model

    return Operations(
        load=load_rwkv6, new=Rwkv6Model, initialize=lambda model, _: initialize_rwkv6(model), write=write_rwkv6
    )


def _kind(configuration: Configuration) -> Kind:
    return "recurrent"


FAMILY = Family("rwkv6", _operations, Rwkv6Configuration.from_json, kind=_kind, kernels=(WKV,))
