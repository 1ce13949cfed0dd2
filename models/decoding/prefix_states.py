"""States after shared prefixes, kept for the next prompts that begin alike."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["PrefixStates"]


@dataclass(frozen=True)
class _Kept:
    state: Any
    capacity: int


class PrefixStates:
    """The states least recently used are dropped first.

    Args:
        budget: Bytes that all of them together may take.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._kept: OrderedDict[tuple[int, bytes], _Kept] = OrderedDict()
        self._bytes = 0

    def longest_prefix(self, ids: Sequence[int], beyond: int, capacity: int) -> tuple[int, Any] | None:
        """The state after the longest known prefix of ids that has more than `beyond` tokens, and its length.

        The state stays here: who goes on from it has to fork it.

        Args:
            ids: Token ids.
            beyond: Shorter prefixes are of no use.
            capacity: Tokens a row that the state must have room for.
        """
        lengths = sorted({length for length, _ in self._kept if beyond < length <= len(ids)}, reverse=True)
        for length in lengths:
            key = length, _digest(ids[:length])
            kept = self._kept.get(key)
            if kept is not None and kept.capacity == capacity:
                self._kept.move_to_end(key)
                return length, kept.state
        return None

    def keep(self, ids: Sequence[int], state: Any, capacity: int) -> None:
        """Keeps the state of one row after ids, where it fits the budget.

        Args:
            ids: The prefix.
            state: Nobody else may go on from it; it is forked here.
            capacity: Tokens that it has room for.
        """
        if state.bytes > self.budget:
            return
        key = len(ids), _digest(ids)
        self._drop(key)
        self._kept[key] = _Kept(state, capacity)
        self._bytes += state.bytes
        while self._bytes > self.budget:
            self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Drops every state."""
        self._kept.clear()
        self._bytes = 0

    def _drop(self, key: tuple[int, bytes]) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= kept.state.bytes


def _digest(ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(np.asarray(ids, dtype=np.int32).tobytes(), digest_size=16).digest()
