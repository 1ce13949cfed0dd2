"""The oracle, which needs no checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.families.family import Family, Operations, Surroundings

if TYPE_CHECKING:
    from models.cards import Card

__all__ = ["FAMILY"]


def _operations() -> Operations:
    from models.families.oracle.model import Oracle

    def stand_in(given: Surroundings) -> Oracle:
        return Oracle(given.tokenizer, given.corpora, given.card.window)

    return Operations(stand_in=stand_in)


def _card_problem(card: Card) -> str | None:
    has_checkpoint = card.path is not None or card.hub is not None
    return ": an oracle has no checkpoint, so neither path nor hub" if has_checkpoint else None


FAMILY = Family("oracle", _operations, needs_checkpoint=False, card_fields=("window",), card_problem=_card_problem)
