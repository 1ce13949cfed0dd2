"""What decoding asks of a model: to read tokens, to remember them, and to say what it expects next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor

__all__ = ["Decoder", "DraftingDecoder", "EmulatingDecoder", "State", "StateType", "read_in_pieces"]


class State(Protocol):
    """All that a decoder remembers of the tokens it has read.

    Attributes:
        bytes: The memory it takes.
    """

    @property
    def bytes(self) -> int: ...

    def select(self, rows: Tensor) -> Self:
        """The state of some rows of the batch, in memory of its own; a row may be taken more than once."""

    def joined(self, others: Sequence[Self]) -> Self:
        """The rows of this state, then those of others, of which any may have read any number of tokens."""


StateType = TypeVar("StateType", bound=State)


class Decoder(Protocol[StateType]):
    """A model that reads token ids and predicts the next one.

    Attributes:
        device: Where its weights are.
        shares_prefixes: Whether it is worth its while to read a prefix once and go on from there for many prompts.
    """

    @property
    def device(self) -> torch.device: ...

    @property
    def shares_prefixes(self) -> bool: ...

    def empty_state(self, batch: int, capacity: int) -> StateType:
        """The state before any token, with room for `capacity` tokens a row."""

    def prefill(self, ids: Tensor, lengths: Tensor, state: StateType) -> tuple[Tensor, StateType]:
        """Reads many tokens a row.

        Args:
            ids: [batch, time]; row i is real up to `lengths[i]`, then anything.
            lengths: [batch], each at least 1.
            state: The state before them; the call may reuse its memory, so it is spent.

        Returns:
            The logits after the last real token, [batch, vocabulary], and the state after it.
            Padding leaves no trace in either.
        """

    def step(self, ids: Tensor, state: StateType) -> tuple[Tensor, StateType]:
        """Reads one token a row, ids [batch]; otherwise as `prefill`."""

    def logits(self, ids: Tensor, lengths: Tensor, state: StateType) -> Tensor:
        """The logits after each of a few tokens, [batch, time, vocabulary]; the state stays as it is.

        Otherwise as `prefill`; of one token a row the state may be spent.
        """


@runtime_checkable
class DraftingDecoder(Decoder[StateType], Protocol[StateType]):
    """A decoder whose states can be taken back by some tokens, so that it reads a prompt and its draft in one call."""

    def prefill_drafted(
        self, ids: Tensor, lengths: Tensor, drafted: Tensor, state: StateType
    ) -> tuple[Tensor, StateType]:
        """Reads many tokens a row and then some of a draft; otherwise as `prefill`.

        Args:
            ids: [batch, time].
            lengths: Of prompt and draft together, [batch].
            drafted: Of the draft, [batch]; at least one token comes before it.
            state: As above.

        Returns:
            The logits after the last token before the draft and after each one of it, [batch, 1 + longest draft,
            vocabulary], of which a shorter draft's last mean nothing; and the state before the draft.
        """


@runtime_checkable
class EmulatingDecoder(Protocol):
    """A decoder that can take on known defects of other implementations."""

    def emulate(self, defects: Sequence[str]) -> None:
        """Takes defects on.

        Raises:
            ValueError: A defect is unknown, or this model has nothing that it could show in.
        """


@torch.inference_mode()
def read_in_pieces(
    decoder: Decoder[StateType], ids: Sequence[int], state: StateType, at_once: int
) -> tuple[Tensor, StateType]:
    """Reads one row; apart from the state, the memory that takes does not grow with its length.

    Args:
        decoder: The model; one that does not fork is slow to go on from a state, and reads the whole at once.
        ids: At least one token.
        state: Of one row; it is spent.
        at_once: Tokens that are read at once.

    Returns:
        The logits after the last token, [1, vocabulary], and the state after it.
    """
    device = decoder.device
    size = at_once if decoder.shares_prefixes else len(ids)
    for begin in range(0, len(ids), size):
        new = torch.tensor([ids[begin : begin + size]], device=device)
        logits, state = decoder.prefill(new, torch.tensor([new.shape[1]], device=device), state)
    return logits, state
