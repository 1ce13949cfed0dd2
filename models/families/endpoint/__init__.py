"""A model behind a completions server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.families.family import Family, Operations

if TYPE_CHECKING:
    from models.cards import Card

__all__ = ["FAMILY"]


def _operations() -> Operations:
    from models.families.endpoint.model import connect_card

    return Operations(stand_in=connect_card)


def _card_problem(card: Card) -> str | None:
    if card.server is None:
        return " lacks the field server, a table with the url and the model's name there"
    for name in ("path", "hub", "revision", "window"):
        if getattr(card, name) is not None:
            return f": an endpoint has its checkpoint at its server, so no {name}"
    if card.dtype != "auto" or card.emulate:
        return ": an endpoint computes as its server does, so neither dtype nor emulate"
    if card.server.adds_beginning and card.beginning_of_sequence is None:
        return " lacks beginning_of_sequence, the token that its server adds (adds_beginning)"
    return None


FAMILY = Family("endpoint", _operations, needs_checkpoint=False, card_fields=("server",), card_problem=_card_problem)
