"""Where prompts leave what they share: prefixes read once, and their states forked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic

import torch

from models.decoding.decoder import Decoder, StateType, read_in_pieces
from models.decoding.memory import free_bytes
from models.decoding.prefix_states import PrefixStates
from models.decoding.prefix_tree import Prefix

__all__ = ["Branch", "PrefixReader", "branches"]

# Of the free memory, what the states after shared prefixes may take.
_SHARE_OF_PREFIXES: Final = 0.125


@dataclass(frozen=True)
class Branch(Generic[StateType]):
    """Prompts that part from each other after a prefix.

    Attributes:
        state: The state after the prefix, of one row; None where there is no prefix.
        length: The prefix's tokens.
        rows: The prompts.
    """

    state: StateType | None
    length: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class PrefixReader(Generic[StateType]):
    """Reads prefixes, one row at a time.

    Attributes:
        decoder: The model.
        capacity: Tokens that states have room for.
        at_once: Tokens that are read at once.
        grain: States at multiples of so many tokens are kept as well: other calls' prompts may part a little earlier.
        known: What earlier calls have read.
    """

    decoder: Decoder[StateType]
    capacity: int
    at_once: int
    grain: int
    known: PrefixStates

    @torch.inference_mode()
    def state(self, ids: Sequence[int], before: StateType | None, read: int) -> StateType:
        """The state of one row after ids, of which `before` has read the first `read`; that stays as it is."""
        found = self.known.longest_prefix(ids, read, self.capacity)
        if found is not None:
            read, before = found
            if read == len(ids):
                return found[1]
        whole = len(ids) // self.grain * self.grain
        if read < whole < len(ids):
            read, before = whole, self.state(ids[:whole], before, read)
        if before is None:
            state = self.decoder.empty_state(1, self.capacity)
        else:
            state = before.select(torch.zeros(1, dtype=torch.long, device=self.decoder.device))
        _, state = read_in_pieces(self.decoder, ids[read:], state, self.at_once)
        self.known.keep(ids, state, self.capacity)
        return state


def branches(
    reader: PrefixReader[StateType], prompts: Sequence[Sequence[int]], tree: Prefix
) -> Iterator[list[Branch[StateType]]]:
    """All prompts, in groups whose states together stay within a budget of memory."""
    if tree.rows:
        yield [Branch(None, 0, tree.rows)]
    held: list[Branch[StateType]] = []
    budget = _SHARE_OF_PREFIXES * free_bytes(reader.decoder.device)
    # What is to be read, with the state to go on from and the tokens it has read.
    waiting: list[tuple[Prefix, StateType | None, int]] = [(prefix, None, 0) for prefix in tree.longer]
    while waiting:
        prefix, state, read = waiting.pop()
        ids = prompts[next(prefix.all_rows)][: prefix.length]
        try:
            state = reader.state(ids, state, read)
        except torch.OutOfMemoryError:
            # Then they are read from their beginnings, in batches that can be halved.
            if held:
                yield held
            held = []
            yield [Branch(None, 0, tuple(prefix.all_rows))]
            continue
        if prefix.rows:
            held.append(Branch(state, prefix.length, prefix.rows))
        waiting += [(longer, state, prefix.length) for longer in prefix.longer]
        if sum(branch.state.bytes for branch in held if branch.state is not None) > budget:
            yield held
            held = []
    if held:
        yield held
