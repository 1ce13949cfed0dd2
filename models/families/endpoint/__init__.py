"""A model behind a completions server."""

from __future__ import annotations

from models.families.family import Family, Operations

__all__ = ["FAMILY"]


def _operations() -> Operations:
    from models.families.endpoint.model import connect_card

    return Operations(stand_in=connect_card)


FAMILY = Family("endpoint", _operations, needs_checkpoint=False, card_fields=("server",))
