"""Placing sentences in a haystack by depth."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from generators.assembly import Piece
from generators.haystacks import Haystack

__all__ = ["Placed", "placed"]


@dataclass(frozen=True)
class Placed:
    """A haystack with sentences in it.

    Attributes:
        pieces: The whole of it.
        where: For each sentence, the index of its piece.
        depths: For each sentence, the share of the haystack's tokens before it, in percent.
    """

    pieces: list[Piece]
    where: tuple[int, ...]
    depths: tuple[float, ...]


def placed(haystack: Haystack, units: int, sentences: Sequence[str], depths: Sequence[float]) -> Placed:
    """Puts each sentence at the last opening not beyond its depth.

    Args:
        haystack: The haystack.
        units: How many of its units to take.
        sentences: What to hide.
        depths: For each sentence, the share of the haystack's tokens that shall be before it, in percent.
    """
    openings = haystack.openings(units)
    total = max(openings[-1], 1)
    at: dict[int, list[int]] = {}
    for i, depth in enumerate(depths):
        at.setdefault(bisect_right(openings, depth / 100 * total + 1e-6) - 1, []).append(i)
    pieces: list[Piece] = []
    where = [0] * len(sentences)
    done = 0
    for opening in sorted(at):
        pieces += haystack.pieces(units, done, opening, opening=not pieces)
        done = opening
        for i in at[opening]:
            where[i] = len(pieces)
            pieces.append(Piece((haystack.leading if pieces else "") + sentences[i] + haystack.trailing))
    pieces += haystack.pieces(units, done, len(openings) - 1, opening=not pieces)
    reached = {i: 100 * openings[opening] / total for opening, held in at.items() for i in held}
    return Placed(pieces, tuple(where), tuple(reached[i] for i in range(len(sentences))))
