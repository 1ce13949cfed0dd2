"""The oracle, which needs no checkpoint."""

from __future__ import annotations

from models.families.family import Family, Operations, Surroundings

__all__ = ["FAMILY"]


def _operations() -> Operations:
    from models.families.oracle.model import Oracle

    def stand_in(given: Surroundings) -> Oracle:
        return Oracle(given.tokenizer, given.corpora, given.card.window)

    return Operations(stand_in=stand_in)


FAMILY = Family("oracle", _operations, needs_checkpoint=False, card_fields=("window",))
