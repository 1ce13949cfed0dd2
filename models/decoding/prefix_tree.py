"""Which prefixes a set of prompts shares, and where each prompt goes its own way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["Prefix", "prefix_tree"]


@dataclass(frozen=True)
class Prefix:
    """A prefix that several prompts share.

    Attributes:
        length: Its tokens.
        rows: The prompts that go their own way from here, each with at least one more token.
        longer: The longer prefixes that some of the other prompts share.
    """

    length: int
    rows: tuple[int, ...]
    longer: tuple[Prefix, ...] = ()

    @property
    def all_rows(self) -> Iterator[int]:
        """Every prompt that begins with it."""
        yield from self.rows
        for each in self.longer:
            yield from each.all_rows


def prefix_tree(prompts: Sequence[Sequence[int]], *, grain: int, least: int) -> Prefix:
    """The shared prefixes of prompts, from the empty one on.

    Args:
        prompts: Token ids, at least one each.
        grain: Along one prompt, prefixes end in different stretches of so many tokens, which bounds how many there are.
        least: A prefix counts where sharing it saves so many tokens of reading.
    """
    # As big-endian bytes, prompts sort by their first different token at the speed of memory.
    encoded = [np.asarray(prompt, dtype=">u4") for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda row: encoded[row].tobytes())
    shared = [_shared(encoded[a], encoded[b]) for a, b in pairwise(order)]

    def content(first: int, last: int, length: int) -> tuple[list[int], list[Prefix]]:
        """What is below a prefix of some length that `order[first:last]` have in common."""
        if last - first == 1:
            return [order[first]], []
        common = min(shared[first : last - 1])
        kept = (last - first - 1) * (common - length) >= least
        cuts = [first, *(i + 1 for i in range(first, last - 1) if shared[i] // grain == common // grain), last]
        rows: list[int] = []
        longer: list[Prefix] = []
        for begin, end in pairwise(cuts):
            more_rows, more_longer = content(begin, end, common if kept else length)
            rows += more_rows
            longer += more_longer
        return ([], [Prefix(common, tuple(rows), tuple(longer))]) if kept else (rows, longer)

    rows, longer = content(0, len(prompts), 0) if prompts else ([], [])
    return Prefix(0, tuple(rows), tuple(longer))


def _shared(a: npt.NDArray[np.uint32], b: npt.NDArray[np.uint32]) -> int:
    """How many tokens two prompts begin with alike, leaving each one of its own."""
    count = min(len(a), len(b)) - 1
    different = np.flatnonzero(a[:count] != b[:count])
    return int(different[0]) if len(different) else count
