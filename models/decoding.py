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


def greedy(
    decoder: Decoder[StateType],
    prompts: Sequence[Sequence[int]],
    *,
    tokens_to_generate: int,
    end_of_sequence: int | None,
    batch_tokens: int,
    finished: Callable[[int, list[int]], None] = lambda row, ids: None,
    settled: Callable[[int, list[int]], bool] = lambda row, ids: False,
) -> list[list[int]]:
    """Continues each prompt with its most likely tokens.

    A batch that does not fit into memory is halved, and what it has finished is kept.

    Args:
        decoder: The model.
        prompts: Token ids, of any lengths.
        tokens_to_generate: At most so many new tokens each.
        end_of_sequence: The token that ends an answer early; it is left out of the result.
        batch_tokens: Tokens that are read at once, padding included.
        finished: Called with each prompt's index and new ids as soon as they are known.
        settled: Asked with a prompt's index and its new ids so far, whether more of them are of no use.

    Returns:
        The new ids of each prompt, in the order of `prompts`.

    Raises:
        NonFiniteLogits: The model's output is not a number.
        torch.OutOfMemoryError: Not even one prompt fits into memory.
    """
    results: list[list[int]] = [[] for _ in prompts]
    done: set[int] = set()

    def ended(row: int) -> None:
        done.add(row)
        finished(row, results[row])

    if tokens_to_generate < 1:
        for row in range(len(prompts)):
            ended(row)
        return results
    waiting = [list(batch.rows) for batch in batches([len(prompt) for prompt in prompts], batch_tokens)][::-1]
    while waiting:
        rows = waiting.pop()
        try:
            _continue(decoder, prompts, rows, results, tokens_to_generate, end_of_sequence, settled, ended)
            continue
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
        # Out of the handler, nothing holds on to the batch's memory any more.
        if decoder.device.type == "cuda":
            torch.cuda.empty_cache()
        left = [row for row in rows if row not in done]
        for row in left:
            results[row].clear()
        half = (len(left) + 1) // 2
        waiting += [part for part in (left[half:], left[:half]) if part]
    return results


@torch.inference_mode()
def _continue(
    decoder: Decoder[StateType],
    prompts: Sequence[Sequence[int]],
    batch: Sequence[int],
    results: list[list[int]],
    tokens_to_generate: int,
    end_of_sequence: int | None,
    settled: Callable[[int, list[int]], bool],
    ended: Callable[[int], None],
) -> None:
    """Continues the prompts of one batch; its longest comes first."""
    longest = len(prompts[batch[0]])
    rows = torch.tensor(batch)
    lengths = torch.tensor([len(prompts[row]) for row in batch], device=decoder.device)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    for i, row in enumerate(batch):
        ids[i, : len(prompts[row])] = torch.tensor(prompts[row])
    state = decoder.empty_state(len(batch), longest + tokens_to_generate)
    logits, state = decoder.prefill(ids.to(decoder.device), lengths, state)
    for token in range(tokens_to_generate):
        finite = logits.isfinite().all(-1)
        if not finite.all():
            raise NonFiniteLogits(int(rows[~finite.cpu()][0]), token)
        chosen = logits.argmax(-1)
        over = []
        for row, new in zip(rows.tolist(), chosen.tolist(), strict=True):
            if new != end_of_sequence:
                results[row].append(new)
            last = new == end_of_sequence or token == tokens_to_generate - 1
            over.append(last or settled(row, results[row]))
            if over[-1]:
                ended(row)
        if all(over):
            return
        if any(over):
            going = (~torch.tensor(over)).nonzero().squeeze(1)
            rows, chosen = rows[going], chosen[going.to(chosen.device)]
            state = state.select(going.to(decoder.device))
        logits, state = decoder.step(chosen, state)
