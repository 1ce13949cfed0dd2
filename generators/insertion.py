"""Placing sentences in a haystack by depth."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from generators.assembly import Piece
from generators.haystacks import Haystack

__all__ = ["FilledHaystack", "insert_sentences"]


@dataclass(frozen=True)
class FilledHaystack:
    """A haystack with sentences in it.

    Attributes:
        pieces: The whole of it.
        where: For each sentence, the index of its piece.
        depths: For each sentence, the share of the haystack's tokens before it, in percent.
    """

    pieces: list[Piece]
    where: tuple[int, ...]
    depths: tuple[float, ...]


def insert_sentences(
    haystack: Haystack, units: int, sentences: Sequence[str], depths: Sequence[float]
) -> FilledHaystack:
    """Puts each sentence at the last insertion point not beyond its depth.

    Args:
        haystack: The haystack.
        units: How many of its units to take.
        sentences: What to hide.
        depths: For each sentence, the share of the haystack's tokens that shall be before it, in percent.
    """
    insertion_points = haystack.insertion_points(units)
    total = max(insertion_points[-1], 1)
    at: dict[int, list[int]] = {}
    for i, depth in enumerate(depths):
        at.setdefault(bisect_right(insertion_points, depth / 100 * total + 1e-6) - 1, []).append(i)
    pieces: list[Piece] = []
    where = [0] * len(sentences)
    done = 0
    for point in sorted(at):
        pieces += haystack.pieces(units, done, point, at_start=not pieces)
        done = point
        for i in at[point]:
            where[i] = len(pieces)
            pieces.append(Piece((haystack.leading if pieces else "") + sentences[i] + haystack.trailing))
    pieces += haystack.pieces(units, done, len(insertion_points) - 1, at_start=not pieces)
    reached = {i: 100 * insertion_points[point] / total for point, held in at.items() for i in held}
    return FilledHaystack(pieces, tuple(where), tuple(reached[i] for i in range(len(sentences))))
