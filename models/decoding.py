"""Greedy decoding of many prompts at once, written once for every family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

__all__ = ["Decoder", "NonFiniteLogits", "State", "batches", "greedy"]


class State(Protocol):
    """All that a decoder remembers of the tokens it has read."""

    def select(self, rows: Tensor) -> Self:
        """The state of some rows of the batch."""


StateType = TypeVar("StateType", bound=State)


class Decoder(Protocol[StateType]):
    """A model that reads token ids and predicts the next one.

    Attributes:
        device: Where its weights are.
    """

    @property
    def device(self) -> torch.device: ...

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


class NonFiniteLogits(ArithmeticError):
    """A model produced NaN or infinite logits.

    Attributes:
        row: The prompt's index in the call.
        token: How many tokens had been generated for it.
    """

    def __init__(self, row: int, token: int) -> None:
        super().__init__(
            f"the model's logits for example {row} are not finite at generated token {token}; "
            'no score can be given (if the model runs in half precision, try dtype = "float32" on its card)'
        )
        self.row = row
        self.token = token


@dataclass(frozen=True)
class _Batch:
    rows: tuple[int, ...]
    longest: int


def batches(lengths: Sequence[int], tokens: int) -> Iterator[_Batch]:
    """Groups prompts of like length so that each group holds at most `tokens` tokens with padding.

    A prompt longer than `tokens` makes a group of its own.
    """
    rows: list[int] = []
    # Longest first: the memory that will be needed is needed at once, not after an hour.
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if rows and lengths[rows[0]] * (len(rows) + 1) > tokens:
            yield _Batch(tuple(rows), lengths[rows[0]])
            rows = []
        rows.append(row)
    if rows:
        yield _Batch(tuple(rows), lengths[rows[0]])


@torch.inference_mode()
def greedy(
    decoder: Decoder[StateType],
    prompts: Sequence[Sequence[int]],
    *,
    tokens_to_generate: int,
    end_of_sequence: int | None,
    batch_tokens: int,
    finished: Callable[[int, list[int]], None] = lambda row, ids: None,
) -> list[list[int]]:
    """Continues each prompt with its most likely tokens.

    Args:
        decoder: The model.
        prompts: Token ids, of any lengths.
        tokens_to_generate: At most so many new tokens each.
        end_of_sequence: The token that ends an answer early; it is left out of the result.
        batch_tokens: Tokens that are read at once, padding included.
        finished: Called with each prompt's index and new ids as soon as they are known.

    Returns:
        The new ids of each prompt, in the order of `prompts`.

    Raises:
        NonFiniteLogits: The model's output is not a number.
    """
    results: list[list[int]] = [[] for _ in prompts]
    for batch in batches([len(prompt) for prompt in prompts], batch_tokens):
        rows = torch.tensor(batch.rows)
        lengths = torch.tensor([len(prompts[row]) for row in batch.rows], device=decoder.device)
        ids = torch.zeros(len(batch.rows), batch.longest, dtype=torch.long)
        for i, row in enumerate(batch.rows):
            ids[i, : len(prompts[row])] = torch.tensor(prompts[row])
        state = decoder.empty_state(len(batch.rows), batch.longest + tokens_to_generate)
        logits, state = decoder.prefill(ids.to(decoder.device), lengths, state)
        for token in range(tokens_to_generate):
            finite = logits.isfinite().all(-1)
            if not finite.all():
                raise NonFiniteLogits(int(rows[~finite.cpu()][0]), token)
            chosen = logits.argmax(-1)
            ended = chosen.cpu() == (-1 if end_of_sequence is None else end_of_sequence)
            for row, new in zip(rows[~ended].tolist(), chosen.cpu()[~ended].tolist(), strict=True):
                results[row].append(new)
            for row in rows[ended].tolist():
                finished(row, results[row])
            if ended.any():
                going = (~ended).nonzero().squeeze(1)
                rows, chosen = rows[going], chosen[going.to(chosen.device)]
                state = state.select(going.to(decoder.device))
            if not len(rows) or token == tokens_to_generate - 1:
                break
            logits, state = decoder.step(chosen, state)
        for row in rows.tolist():
            finished(row, results[row])
    return results
