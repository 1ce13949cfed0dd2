"""Counter-based random draws: the same key gives the same draws, on any machine and worker."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["EVALUATION", "TRAINING", "RandomStream"]

EVALUATION: Final = "evaluation"
TRAINING: Final = "training"

Item = TypeVar("Item")

_FIRST_BLOCK: Final = 64


class RandomStream:
    """A stream of random draws addressed by a path, with no state shared between streams.

    Draw `i` of a stream is a keyed BLAKE2b hash of `i`; the key is the hash of the path. So what
    example 17 holds does not depend on whether examples 0-16 were made, on the worker, or on the
    version of any library. The first part of a path is its namespace, `EVALUATION` or `TRAINING`:
    the two never share a stream.
    """

    __slots__ = ("_counter", "_key", "path")

    def __init__(self, *path: str | int) -> None:
        self.path = path
        # repr keeps the parts apart and the string "1" different from the number 1.
        self._key = hashlib.sha256(repr(path).encode()).digest()
        self._counter = 0

    def stream(self, *path: str | int) -> RandomStream:
        """An independent stream below this one; its draws do not move this one's."""
        return RandomStream(*self.path, *path)

    def bits(self, count: int) -> int:
        """An integer of `count` random bits, at most 512."""
        if not 0 < count <= 512:
            raise ValueError(f"cannot draw {count} bits at once; between 1 and 512 is possible")
        block = hashlib.blake2b(self._counter.to_bytes(8, "little"), key=self._key).digest()
        self._counter += 1
        return int.from_bytes(block, "little") >> (512 - count)

    def below(self, limit: int) -> int:
        """A uniform integer in [0, limit); the bias of the modulus is below 2**-128."""
        if limit < 1:
            raise ValueError(f"cannot draw below {limit}; the limit must be at least 1")
        return self.bits(limit.bit_length() + 128) % limit

    def fraction(self) -> float:
        """A uniform number in [0, 1)."""
        return self.bits(53) / 2**53

    def numbers(self, count: int) -> npt.NDArray[np.uint64]:
        """`count` uniform integers of 64 bits at once."""
        block = hashlib.shake_256(self._counter.to_bytes(8, "little") + self._key).digest(8 * count)
        self._counter += 1
        return np.frombuffer(block, dtype="<u8").astype(np.uint64)

    def order(self, count: int) -> npt.NDArray[np.int64]:
        """The numbers from 0 to `count` - 1 in random order."""
        return np.argsort(self.numbers(count), kind="stable")

    def distinct(self, limit: int, count: int) -> npt.NDArray[np.int64]:
        """`count` different integers in [0, limit), [count]; more of them begin with the fewer.

        Takes memory for `limit` integers.

        Raises:
            ValueError: More than half of all are asked for; `order` is there for that.
        """
        if 2 * count > limit:
            raise ValueError(f"cannot draw {count} different integers below {limit} one by one; at most half of them")
        blocks: list[npt.NDArray[np.int64]] = []
        found: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        while len(found) < count:
            # The bias of the modulus is below 2**-32 for any list of words.
            block = self.stream(len(blocks)).numbers(_FIRST_BLOCK << len(blocks)) % limit
            blocks.append(block.astype(np.int64))
            if sum(map(len, blocks)) >= count:
                found = _first_occurrences(np.concatenate(blocks), limit)
        return found[:count]

    def choice(self, items: Sequence[Item]) -> Item:
        """One of `items`."""
        return items[self.below(len(items))]

    def sample(self, items: Sequence[Item], count: int) -> list[Item]:
        """`count` of `items` without replacement, in random order.

        Raises:
            ValueError: There are fewer than `count` items.
        """
        if count > len(items):
            raise ValueError(f"cannot draw {count} of {len(items)} items without replacement")
        pool = list(items)
        for i in range(count):
            j = i + self.below(len(pool) - i)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:count]

    def digits(self, count: int) -> str:
        """A decimal number of exactly `count` digits, the first not zero."""
        lowest = 10 ** (count - 1)
        return str(lowest + self.below(9 * lowest))

    def uuid(self) -> str:
        """A version-4 UUID."""
        return str(uuid.UUID(int=self.bits(128), version=4))


def _first_occurrences(numbers: npt.NDArray[np.int64], limit: int) -> npt.NDArray[np.int64]:
    """The different ones of `numbers`, all below `limit`, in the order they first come in."""
    places = np.arange(len(numbers))
    first = np.empty(limit, dtype=np.int64)
    # Of several assignments to one place the last one stays.
    first[numbers[::-1]] = places[::-1]
    return numbers[first[numbers] == places]
