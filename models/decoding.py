"""Greedy decoding of many prompts at once, written once for every family."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from models.memory import free_bytes
from models.prefix_states import PrefixStates
from models.prefix_tree import Prefix, prefix_tree

__all__ = ["TOKENS_ON_CPU", "Decoder", "NonFiniteLogits", "State", "batches", "greedy", "read_in_pieces"]

# Prefixes end at multiples of so many tokens, and there are at most so many along one prompt: every one costs
# a call of its own.
_GRAIN: Final = 16
_PREFIXES_AT_MOST: Final = 64
# A call costs about as much time as reading so many tokens along with others.
_WORTH_SHARING: Final = 64
_CAPACITY_GRAIN: Final = 256
# Of the free memory, what reading may take at once, what the states of a batch, which are copied whenever they
# are joined or dropped from, and what those after shared prefixes.
_SHARE_OF_READING: Final = 0.4
_SHARE_OF_BATCH: Final = 0.2
_SHARE_OF_PREFIXES: Final = 0.125
# Finished rows are dropped from a batch when no more than this share of it goes on.
_DROPPED_AT: Final = 0.75
_PROBED_TOKENS: Final = 256
# More at once are read more slowly by a processor, whose caches they do not fit.
TOKENS_ON_CPU: Final = 2048


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
        forks: Whether it is worth its while to read a prefix once and go on from there for many prompts.
    """

    @property
    def device(self) -> torch.device: ...

    @property
    def forks(self) -> bool: ...

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


def batches(lengths: Sequence[int], tokens: int, most: int | None = None) -> Iterator[_Batch]:
    """Groups prompts of like length so that each group holds at most `tokens` tokens with padding.

    A prompt longer than `tokens` makes a group of its own.

    Args:
        lengths: Of the prompts, in tokens.
        tokens: As above.
        most: At most so many prompts a group.
    """
    rows: list[int] = []
    # Longest first: the memory that will be needed is needed at once, not after an hour.
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if rows and (lengths[rows[0]] * (len(rows) + 1) > tokens or len(rows) == most):
            yield _Batch(tuple(rows), lengths[rows[0]])
            rows = []
        rows.append(row)
    if rows:
        yield _Batch(tuple(rows), lengths[rows[0]])


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
    size = at_once if decoder.forks else len(ids)
    for begin in range(0, len(ids), size):
        new = torch.tensor([ids[begin : begin + size]], device=device)
        logits, state = decoder.prefill(new, torch.tensor([new.shape[1]], device=device), state)
    return logits, state


def greedy(
    decoder: Decoder[StateType],
    prompts: Sequence[Sequence[int]],
    *,
    tokens_to_generate: int,
    end_of_sequence: int | None,
    batch_tokens: int | None = None,
    finished: Callable[[int, list[int]], None] = lambda row, ids: None,
    settled: Callable[[int, list[int]], bool] = lambda row, ids: False,
    prefixes: PrefixStates | None = None,
) -> list[list[int]]:
    """Continues each prompt with its most likely tokens.

    What prompts begin with alike is read once, and forked where they part. A batch that does not fit into
    memory is halved, and what it has finished is kept.

    Args:
        decoder: The model.
        prompts: Token ids, of any lengths.
        tokens_to_generate: At most so many new tokens each.
        end_of_sequence: The token that ends an answer early; it is left out of the result.
        batch_tokens: Tokens that are read at once, padding included; None takes what fits into memory.
        finished: Called with each prompt's index and new ids as soon as they are known.
        settled: Asked with a prompt's index and its new ids so far, whether more of them are of no use.
        prefixes: States after prefixes that earlier calls for this decoder have read; None shares within
            this call alone.

    Returns:
        The new ids of each prompt, in the order of `prompts`.

    Raises:
        NonFiniteLogits: The model's output is not a number.
        torch.OutOfMemoryError: Not even one prompt fits into memory.
    """
    results: list[list[int]] = [[] for _ in prompts]
    if tokens_to_generate < 1:
        for row in range(len(prompts)):
            finished(row, results[row])
        return results
    if not prompts:
        return results
    longest = max(map(len, prompts))
    # Rounded, so that states can be kept from one call to the next of nearly the same length.
    capacity = -(-(longest + tokens_to_generate) // _CAPACITY_GRAIN) * _CAPACITY_GRAIN
    room = _room(decoder, prompts[0][:_PROBED_TOKENS], capacity, batch_tokens)
    continuation = _Continuation(
        decoder, prompts, results, room, tokens_to_generate, end_of_sequence, settled, finished
    )
    if not decoder.forks or len(prompts) == 1:
        continuation.read([_Branch(None, 0, tuple(range(len(prompts))))])
        return results
    tree = prefix_tree(prompts, grain=max(_GRAIN, longest // _PREFIXES_AT_MOST), least=_WORTH_SHARING)
    reader = _PrefixReader(decoder, capacity, room.tokens, PrefixStates(0) if prefixes is None else prefixes)
    for branches in _branches(reader, prompts, tree):
        continuation.read(branches)
    return results


@dataclass(frozen=True)
class _Room:
    """What fits into memory at once: prompts being written, and tokens being read."""

    rows: int
    tokens: int


@torch.inference_mode()
def _room(decoder: Decoder[Any], probed: Sequence[int], capacity: int, batch_tokens: int | None) -> _Room:
    """Measured on a few tokens, since what a token takes depends on the family."""
    if not isinstance(decoder, nn.Module):
        # What has no weights takes no memory worth measuring.
        return _Room(sys.maxsize, batch_tokens or TOKENS_ON_CPU)
    device = decoder.device
    on_cuda = device.type == "cuda"
    count = len(probed) if on_cuda else 1
    ids = torch.tensor([probed[:count]], device=device)
    before = 0
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    _, state = decoder.prefill(ids, torch.tensor([count], device=device), decoder.empty_state(1, capacity))
    free = free_bytes(device)
    rows = max(int(_SHARE_OF_BATCH * free // max(state.bytes, 1)), 1)
    if batch_tokens is None and on_cuda:
        a_token = (torch.cuda.max_memory_allocated(device) - before) / count
        batch_tokens = max(int(_SHARE_OF_READING * free / max(a_token, 1)), 1)
    return _Room(rows, batch_tokens or TOKENS_ON_CPU)


@dataclass(frozen=True)
class _Branch(Generic[StateType]):
    """Prompts that part from each other after a prefix.

    Attributes:
        state: The state after the prefix, of one row; None where there is no prefix.
        length: The prefix's tokens.
        rows: The prompts.
    """

    state: StateType | None
    length: int
    rows: tuple[int, ...]


def _branches(
    reader: _PrefixReader[StateType], prompts: Sequence[Sequence[int]], tree: Prefix
) -> Iterator[list[_Branch[StateType]]]:
    """All prompts, in groups whose states together stay within a budget of memory."""
    if tree.rows:
        yield [_Branch(None, 0, tree.rows)]
    held: list[_Branch[StateType]] = []
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
            yield [_Branch(None, 0, tuple(prefix.all_rows))]
            continue
        if prefix.rows:
            held.append(_Branch(state, prefix.length, prefix.rows))
        waiting += [(longer, state, prefix.length) for longer in prefix.longer]
        if sum(branch.state.bytes for branch in held if branch.state is not None) > budget:
            yield held
            held = []
    if held:
        yield held


@dataclass(frozen=True)
class _PrefixReader(Generic[StateType]):
    """Reads prefixes, one row at a time.

    Attributes:
        decoder: The model.
        capacity: Tokens that states have room for.
        at_once: Tokens that are read at once.
        known: What earlier calls have read.
    """

    decoder: Decoder[StateType]
    capacity: int
    at_once: int
    known: PrefixStates

    @torch.inference_mode()
    def state(self, ids: Sequence[int], before: StateType | None, read: int) -> StateType:
        """The state of one row after ids, of which `before` has read the first `read`; that stays as it is."""
        found = self.known.longest(ids, read, self.capacity)
        if found is not None:
            read, before = found
            if read == len(ids):
                return found[1]
        if before is None:
            state = self.decoder.empty_state(1, self.capacity)
        else:
            state = before.select(torch.zeros(1, dtype=torch.long, device=self.decoder.device))
        _, state = read_in_pieces(self.decoder, ids[read:], state, self.at_once)
        self.known.keep(ids, state, self.capacity)
        return state


class _Continuation(Generic[StateType]):
    """Continues prompts from the branches they leave by."""

    def __init__(
        self,
        decoder: Decoder[StateType],
        prompts: Sequence[Sequence[int]],
        results: list[list[int]],
        room: _Room,
        tokens_to_generate: int,
        end_of_sequence: int | None,
        settled: Callable[[int, list[int]], bool],
        finished: Callable[[int, list[int]], None],
    ) -> None:
        self._decoder = decoder
        self._prompts = prompts
        self._results = results
        self._room = room
        self._tokens_to_generate = tokens_to_generate
        self._end_of_sequence = end_of_sequence
        self._settled = settled
        self._finished = finished
        self._done: set[int] = set()

    def read(self, branches: Sequence[_Branch[StateType]]) -> None:
        """Continues all prompts of some branches, in batches that are halved where memory ends.

        Args:
            branches: One without a state, or any number with.
        """
        branch_of = {row: branch for branch in branches for row in branch.rows}
        rows = sorted(branch_of, key=lambda row: -len(self._prompts[row]))
        waiting = [rows[first : first + self._room.rows] for first in range(0, len(rows), self._room.rows)][::-1]
        while waiting:
            batch = waiting.pop()
            try:
                self._batch(batch, branch_of)
                continue
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
            # Out of the handler, nothing holds on to the batch's memory any more.
            if self._decoder.device.type == "cuda":
                torch.cuda.empty_cache()
            left = [row for row in batch if row not in self._done]
            for row in left:
                self._results[row].clear()
            half = (len(left) + 1) // 2
            waiting += [part for part in (left[half:], left[:half]) if part]

    @torch.inference_mode()
    def _batch(self, batch: Sequence[int], branch_of: Mapping[int, _Branch[StateType]]) -> None:
        """Reads prompts in as many parts as it takes, then writes all their answers together."""
        device = self._decoder.device
        lengths = [len(self._prompts[row]) - branch_of[row].length for row in batch]
        capacity = max(len(self._prompts[row]) for row in batch) + self._tokens_to_generate
        parts = [[batch[i] for i in part.rows] for part in batches(lengths, self._room.tokens)]
        logits, state = self._prefilled(parts[0], branch_of, capacity)
        if len(parts) > 1:
            others = [self._prefilled(part, branch_of, capacity) for part in parts[1:]]
            logits = torch.cat([logits, *(more for more, _ in others)])
            state = state.joined([more for _, more in others])
            del others
        # The prompt of each row of the state; None where it is finished and only waits to be dropped.
        rows: list[int | None] = [row for part in parts for row in part]
        for token in range(self._tokens_to_generate):
            self._check(logits, rows, token)
            chosen = logits.argmax(-1)
            rows = [
                None if row is None else self._taken(row, new_id, token)
                for row, new_id in zip(rows, chosen.tolist(), strict=True)
            ]
            going = [i for i, row in enumerate(rows) if row is not None]
            if not going:
                return
            # Dropping rows copies the state of all others, so a few finished ones are carried along.
            if len(going) <= _DROPPED_AT * len(rows):
                kept = torch.tensor(going, device=device)
                rows, chosen, state = [rows[i] for i in going], chosen[kept], state.select(kept)
            logits, state = self._decoder.step(chosen, state)

    def _prefilled(
        self, part: Sequence[int], branch_of: Mapping[int, _Branch[StateType]], capacity: int
    ) -> tuple[Tensor, StateType]:
        """The logits and the state after the rest of each prompt."""
        device = self._decoder.device
        new = [self._prompts[row][branch_of[row].length :] for row in part]
        state = self._forked(part, branch_of, capacity)
        if len(new) == 1:
            return read_in_pieces(self._decoder, new[0], state, self._room.tokens)
        lengths = torch.tensor(list(map(len, new)))
        ids = torch.zeros(len(part), int(lengths.max()), dtype=torch.long)
        for i, row_ids in enumerate(new):
            ids[i, : len(row_ids)] = torch.tensor(row_ids)
        return self._decoder.prefill(ids.to(device), lengths.to(device), state)

    def _forked(self, part: Sequence[int], branch_of: Mapping[int, _Branch[StateType]], capacity: int) -> StateType:
        """The state before the rest of each prompt; those before the first token have room for `capacity` tokens."""
        used = {id(branch_of[row]): branch_of[row] for row in part}
        states = [branch.state for branch in used.values() if branch.state is not None]
        if not states:
            return self._decoder.empty_state(len(part), capacity)
        places = {key: i for i, key in enumerate(used)}
        rows = torch.tensor([places[id(branch_of[row])] for row in part], device=self._decoder.device)
        return (states[0].joined(states[1:]) if len(states) > 1 else states[0]).select(rows)

    def _check(self, logits: Tensor, rows: Sequence[int | None], token: int) -> None:
        finite = logits.isfinite().all(-1).tolist()
        for row, is_finite in zip(rows, finite, strict=True):
            if row is not None and not is_finite:
                raise NonFiniteLogits(row, token)

    def _taken(self, row: int, new: int, token: int) -> int | None:
        """Takes a new token of a prompt; the prompt, or None where it is finished with that."""
        ids = self._results[row]
        if new != self._end_of_sequence:
            ids.append(new)
        last = new == self._end_of_sequence or token == self._tokens_to_generate - 1
        if not last and not self._settled(row, ids):
            return row
        self._done.add(row)
        self._finished(row, ids)
        return None
