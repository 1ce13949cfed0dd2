"""Greedy decoding of many prompts at once, written once for every family."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic

import torch
from torch import Tensor, nn

from models.decoding.decoder import Decoder, DraftingDecoder, StateType, read_in_pieces
from models.decoding.drafts import padded, read_drafts, read_prompts_and_drafts
from models.decoding.memory import free_bytes
from models.decoding.prefix_branches import Branch, PrefixReader, branches
from models.decoding.prefix_states import PrefixStates
from models.decoding.prefix_tree import prefix_tree

__all__ = ["TOKENS_ON_CPU", "AnswerListener", "GreedySettings", "NonFiniteLogits", "batches", "greedy"]

# Prefixes end at least so many tokens apart, give or take, and there are at most so many along one prompt: every
# one costs a call of its own.
_GRAIN: Final = 16
_PREFIXES_AT_MOST: Final = 64
# A call costs about as much time as reading so many tokens along with others.
_WORTH_SHARING: Final = 64
_CAPACITY_GRAIN: Final = 256
# Of the free memory, what reading may take at once, and what the states of a batch, which are copied whenever
# they are joined or dropped from.
_SHARE_OF_READING: Final = 0.4
_SHARE_OF_BATCH: Final = 0.2
# Finished rows are dropped from a batch when no more than this share of it goes on.
_DROPPED_AT: Final = 0.75
_PROBED_TOKENS: Final = 256
# More at once are read more slowly by a processor, whose caches they do not fit.
TOKENS_ON_CPU: Final = 2048


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


@dataclass(frozen=True)
class GreedySettings:
    """How answers are decoded.

    Attributes:
        tokens_to_generate: At most so many new tokens each.
        end_of_sequence: The token that ends an answer early; it is left out of the result.
        batch_tokens: Tokens that are read at once, padding included; None takes what fits into memory.
    """

    tokens_to_generate: int
    end_of_sequence: int | None = None
    batch_tokens: int | None = None


class AnswerListener:
    """Hears of answers while they are decoded, and may end them; this one ignores all it hears."""

    def finished(self, row: int, ids: list[int]) -> None:
        """All new ids of the prompt with this index are known."""

    def complete(self, row: int, ids: list[int]) -> bool:
        """Whether more tokens than these first ones of a prompt's answer are of no use."""
        return False

    def log_likelihood_known(self, row: int, log_likelihood: float) -> None:
        """The log-likelihood of the draft of the prompt with this index is known, in nats."""


def greedy(
    decoder: Decoder[StateType],
    prompts: Sequence[Sequence[int]],
    settings: GreedySettings,
    *,
    drafts: Sequence[Sequence[int]] | None = None,
    prefixes: PrefixStates | None = None,
    listener: AnswerListener | None = None,
) -> list[list[int]]:
    """Continues each prompt with its most likely tokens.

    What prompts begin with alike is read once, and forked where they part. A batch that does not fit into
    memory is halved, and what it has finished is kept.

    Where drafts are given, they are read in one call first. That tells how likely they are, and as much of
    one as agrees with the most likely tokens need not be written token by token: a model that answers as
    expected writes nothing at all (speculative decoding, with the expected answer as the draft).

    Args:
        decoder: The model.
        prompts: Token ids, of any lengths.
        settings: How answers are decoded.
        drafts: For each prompt, the token ids of an answer that is expected; as many of them are read as
            may be generated.
        prefixes: States after prefixes that earlier calls for this decoder have read; None shares within
            this call alone.
        listener: Hears of each answer.

    Returns:
        The new ids of each prompt, in the order of `prompts`.

    Raises:
        NonFiniteLogits: The model's output is not a number.
        torch.OutOfMemoryError: Not even one prompt fits into memory.
    """
    listener = AnswerListener() if listener is None else listener
    tokens_to_generate = settings.tokens_to_generate
    results: list[list[int]] = [[] for _ in prompts]
    if tokens_to_generate < 1:
        for row in range(len(prompts)):
            listener.finished(row, results[row])
        return results
    if not prompts:
        return results
    longest = max(map(len, prompts))
    # Rounded, so that states can be kept from one call to the next of nearly the same length.
    capacity = -(-(longest + tokens_to_generate) // _CAPACITY_GRAIN) * _CAPACITY_GRAIN
    room = _room(decoder, prompts[0][:_PROBED_TOKENS], capacity, settings.batch_tokens)
    kept_drafts = None if drafts is None else [draft[:tokens_to_generate] for draft in drafts]
    answers = _Answers(prompts, kept_drafts, results)
    continuation = _Continuation(decoder, answers, settings, room, listener)
    if not decoder.shares_prefixes or len(prompts) == 1:
        continuation.read([Branch(None, 0, tuple(range(len(prompts))))])
        return results
    grain = max(_GRAIN, longest // _PREFIXES_AT_MOST)
    tree = prefix_tree(prompts, grain=grain, least=_WORTH_SHARING)
    reader = PrefixReader(decoder, capacity, room.tokens, grain, PrefixStates(0) if prefixes is None else prefixes)
    for group in branches(reader, prompts, tree):
        continuation.read(group)
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
class _Answers:
    """The prompts of one call, their drafts if there are any, and the new ids of each so far."""

    prompts: Sequence[Sequence[int]]
    drafts: Sequence[Sequence[int]] | None
    results: list[list[int]]


class _Continuation(Generic[StateType]):
    """Continues prompts from the branches they leave by."""

    def __init__(
        self,
        decoder: Decoder[StateType],
        answers: _Answers,
        settings: GreedySettings,
        room: _Room,
        listener: AnswerListener,
    ) -> None:
        self._decoder = decoder
        self._prompts, self._drafts, self._results = answers.prompts, answers.drafts, answers.results
        self._tokens_to_generate, self._end_of_sequence = settings.tokens_to_generate, settings.end_of_sequence
        self._room = room
        self._listener = listener
        self._done: set[int] = set()

    def read(self, branches: Sequence[Branch[StateType]]) -> None:
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
    def _batch(self, batch: Sequence[int], branch_of: Mapping[int, Branch[StateType]]) -> None:
        """Reads prompts in as many parts as it takes, then writes all their answers together."""
        device = self._decoder.device
        # With their drafts, which some decoders read along with them.
        longer = [0] * len(self._prompts) if self._drafts is None else [len(draft) for draft in self._drafts]
        lengths = [len(self._prompts[row]) - branch_of[row].length + longer[row] for row in batch]
        capacity = max(len(self._prompts[row]) for row in batch) + self._tokens_to_generate
        parts = [[batch[i] for i in part.rows] for part in batches(lengths, self._room.tokens)]
        begun = [made for part in parts if (made := self._begun(part, branch_of, capacity))]
        if not begun:
            return
        # The prompt of each row of the state; None where it is finished and only waits to be dropped.
        rows: list[int | None] = [row for part, _, _ in begun for row in part]
        logits, state = torch.cat([part for _, part, _ in begun]), begun[0][2]
        if len(begun) > 1:
            state = state.joined([part for _, _, part in begun[1:]])
        del begun
        # How many more tokens the state of each row has room for: those whose drafts agree far are ahead of the others.
        room = [self._tokens_to_generate - len(self._results[row]) for row in rows if row is not None]
        while True:
            self._check(logits, rows)
            chosen = logits.argmax(-1)
            rows = [
                None if row is None or not self._goes_on(row, new_id) else row
                for row, new_id in zip(rows, chosen.tolist(), strict=True)
            ]
            going = [i for i, row in enumerate(rows) if row is not None]
            if not going:
                return
            # Dropping rows copies the state of all others, so a few finished ones are carried along while they fit.
            if len(going) <= _DROPPED_AT * len(rows) or not all(room):
                kept = torch.tensor(going, device=device)
                rows, chosen, state = [rows[i] for i in going], chosen[kept], state.select(kept)
                room = [room[i] for i in going]
            logits, state = self._decoder.step(chosen, state)
            room = [left - 1 for left in room]

    def _begun(
        self, part: Sequence[int], branch_of: Mapping[int, Branch[StateType]], capacity: int
    ) -> tuple[Sequence[int], Tensor, StateType] | None:
        """The prompts of a part whose answers are to be gone on with, their logits and their state."""
        prompts = [self._prompts[row][branch_of[row].length :] for row in part]
        state = self._forked(part, branch_of, capacity)
        if self._drafts is None:
            return part, *self._prefilled(prompts, state)
        drafts = [self._drafts[row] for row in part]
        if isinstance(self._decoder, DraftingDecoder):
            logits, read, state = read_prompts_and_drafts(self._decoder, *self._shortened(prompts, drafts, state))
        else:
            logits, state = self._prefilled(prompts, state)
            read = read_drafts(self._decoder, logits, drafts, state)
        for row, draft in zip(part, read, strict=True):
            if not all(draft.finite):
                raise NonFiniteLogits(row, draft.finite.index(False))
            self._listener.log_likelihood_known(row, draft.log_likelihood)
        if not self._decoder.shares_prefixes:
            return part, logits, state
        going = [
            i
            for i, (row, draft) in enumerate(zip(part, read, strict=True))
            if all(self._goes_on(row, new_id) for new_id in draft.greedy)
        ]
        if not going:
            return None
        if len(going) < len(part):
            state = state.select(torch.tensor(going, device=self._decoder.device))
        rows = [part[i] for i in going]
        return rows, *self._decoder.prefill(*padded([self._results[row] for row in rows], self._decoder.device), state)

    def _prefilled(self, prompts: Sequence[Sequence[int]], state: StateType) -> tuple[Tensor, StateType]:
        """The logits and the state after the rest of each prompt."""
        if len(prompts) == 1:
            return read_in_pieces(self._decoder, prompts[0], state, self._room.tokens)
        return self._decoder.prefill(*padded(prompts, self._decoder.device), state)

    def _shortened(
        self, prompts: Sequence[Sequence[int]], drafts: Sequence[Sequence[int]], state: StateType
    ) -> tuple[Sequence[Sequence[int]], Sequence[Sequence[int]], StateType]:
        """What is left to be read after all but the last piece of a prompt that is too long to be read at once."""
        read = (len(prompts[0]) - 1) // self._room.tokens * self._room.tokens
        if len(prompts) > 1 or not read:
            return prompts, drafts, state
        _, state = read_in_pieces(self._decoder, prompts[0][:read], state, self._room.tokens)
        return [prompts[0][read:]], drafts, state

    def _forked(self, part: Sequence[int], branch_of: Mapping[int, Branch[StateType]], capacity: int) -> StateType:
        """The state before the rest of each prompt; those before the first token have room for `capacity` tokens."""
        used = {id(branch_of[row]): branch_of[row] for row in part}
        states = [branch.state for branch in used.values() if branch.state is not None]
        if not states:
            return self._decoder.empty_state(len(part), capacity)
        places = {key: i for i, key in enumerate(used)}
        rows = torch.tensor([places[id(branch_of[row])] for row in part], device=self._decoder.device)
        return (states[0].joined(states[1:]) if len(states) > 1 else states[0]).select(rows)

    def _check(self, logits: Tensor, rows: Sequence[int | None]) -> None:
        finite = logits.isfinite().all(-1).tolist()
        for row, is_finite in zip(rows, finite, strict=True):
            if row is not None and not is_finite:
                raise NonFiniteLogits(row, len(self._results[row]))

    def _goes_on(self, row: int, new: int) -> bool:
        """Takes a new token of a prompt; whether there is to be another."""
        ids = self._results[row]
        if new != self._end_of_sequence:
            ids.append(new)
        last = new == self._end_of_sequence or len(ids) == self._tokens_to_generate
        if not last and not self._listener.complete(row, ids):
            return True
        self._done.add(row)
        self._listener.finished(row, ids)
        return False
