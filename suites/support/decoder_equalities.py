"""Equalities that hold for a decoder of any family, however its input is batched or cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.decoding.decoder import Decoder
from models.decoding.greedy import GreedySettings, greedy
from suites.support.tiny_models import VOCABULARY, difference, random_ids

__all__ = [
    "batched_difference",
    "drafts_difference",
    "forked_difference",
    "greedy_tokens",
    "pieces_difference",
    "read_alone",
    "steps_difference",
]


def read_alone(made: Decoder[Any], ids: Tensor) -> tuple[Tensor, Any]:
    """The logits after one row of ids read at once, and the state, with room for a few more tokens."""
    return made.prefill(ids[None], torch.tensor([len(ids)]), made.empty_state(1, len(ids) + 8))


def batched_difference(made: Decoder[Any], lengths: Sequence[int], seed: int, *, vocabulary: int = VOCABULARY) -> float:
    """How far rows of unequal lengths in a batch are from each alone, two later steps included."""
    batch = len(lengths)
    ids = random_ids(batch, max(lengths), seed=seed, vocabulary=vocabulary)
    later = random_ids(2, batch, seed=seed + 1, vocabulary=vocabulary)
    logits, state = made.prefill(ids, torch.tensor(lengths), made.empty_state(batch, max(lengths) + len(later)))
    found = [logits]
    for new in later:
        logits, state = made.step(new, state)
        found.append(logits)
    worst = 0.0
    for i, length in enumerate(lengths):
        logits, alone = read_alone(made, ids[i, :length])
        expected = [logits]
        for new in later:
            logits, alone = made.step(new[i : i + 1], alone)
            expected.append(logits)
        worst = max(worst, difference(torch.stack(found)[:, i], torch.cat(expected)))
    return worst


def pieces_difference(made: Decoder[Any], pieces: Sequence[Sequence[int]], *, vocabulary: int = VOCABULARY) -> float:
    """How far prompts read in pieces, lengths [pieces][batch], are from each read at once, a later step included."""
    batch = len(pieces[0])
    sizes = [sum(row) for row in zip(*pieces, strict=True)]
    whole = [random_ids(size, seed=i, vocabulary=vocabulary) for i, size in enumerate(sizes)]
    later = random_ids(batch, seed=9, vocabulary=vocabulary)
    state = made.empty_state(batch, sum(map(max, pieces)) + 1)
    done = [0] * batch
    logits = torch.empty(0)
    for piece in pieces:
        ids = random_ids(batch, max(piece), seed=77, vocabulary=vocabulary)
        for i, length in enumerate(piece):
            ids[i, :length] = whole[i][done[i] : done[i] + length]
            done[i] += length
        logits, state = made.prefill(ids, torch.tensor(piece), state)
    after, _ = made.step(later, state)
    worst = 0.0
    for i, row in enumerate(whole):
        expected, state = read_alone(made, row)
        expected_after, _ = made.step(later[i : i + 1], state)
        worst = max(worst, difference(logits[i], expected[0]), difference(after[i], expected_after[0]))
    return worst


def forked_difference(
    made: Decoder[Any], lengths: Sequence[int], rows: Sequence[int], *, vocabulary: int = VOCABULARY
) -> float:
    """How far rows selected from the state of a batch, in any order or twice, are after two steps from each alone."""
    ids = random_ids(len(lengths), max(lengths), vocabulary=vocabulary)
    later = random_ids(2, len(rows), seed=1, vocabulary=vocabulary)
    _, state = made.prefill(ids, torch.tensor(lengths), made.empty_state(len(lengths), max(lengths) + len(later)))
    state = state.select(torch.tensor(rows))
    found = torch.empty(0)
    for new in later:
        found, state = made.step(new, state)
    alone = [read_alone(made, torch.cat([ids[row, : lengths[row]], later[:, i]])) for i, row in enumerate(rows)]
    return max(difference(found[i], expected[0]) for i, (expected, _) in enumerate(alone))


def steps_difference(made: Any, first: int, time: int, *, vocabulary: int = VOCABULARY) -> float:
    """How far cached steps after a prefill of `first` tokens are from a full forward, at the worst position."""
    ids = random_ids(2, time, seed=first, vocabulary=vocabulary)
    logits, state = made.prefill(ids[:, :first], torch.full((2,), first), made.empty_state(2, time))
    found = [logits]
    for new in ids[:, first:].unbind(1):
        logits, state = made.step(new, state)
        found.append(logits)
    # Some families' full forwards have rows beyond the vocabulary.
    return difference(torch.stack(found, 1), made(ids)[:, first - 1 :, : logits.shape[-1]])


def drafts_difference(
    made: Any, lengths: Sequence[int], drafts: Sequence[int], *, vocabulary: int = VOCABULARY
) -> float:
    """How far the logits of a draft a row, read twice after prompts of unequal lengths, are from full forwards'."""
    batch = len(lengths)
    ids = random_ids(batch, max(lengths), vocabulary=vocabulary)
    later = random_ids(batch, max(drafts), seed=1, vocabulary=vocabulary)
    _, state = made.prefill(ids, torch.tensor(lengths), made.empty_state(batch, max(lengths) + max(drafts)))
    # The second time the state is still that after the prompts.
    found, again = (made.logits(later, torch.tensor(drafts), state) for _ in range(2))
    worst = 0.0
    for i, (length, draft) in enumerate(zip(lengths, drafts, strict=True)):
        whole = torch.cat([ids[i, :length], later[i, :draft]])[None]
        expected = made(whole)[0, length:, : found.shape[-1]]
        worst = max(worst, *(difference(read[i, :draft], expected) for read in (found, again)))
    return worst


def greedy_tokens(
    made: Any, lengths: Sequence[int], steps: int, *, vocabulary: int = VOCABULARY
) -> tuple[list[list[int]], list[list[int]]]:
    """What batched cached decoding takes after random prompts, and what full forwards find likeliest at each place."""
    prompts = [random_ids(length, seed=length, vocabulary=vocabulary).tolist() for length in lengths]
    found = greedy(made, prompts, GreedySettings(steps, batch_tokens=1000))
    likeliest = []
    for prompt, new in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt])
        width = made.prefill(ids, torch.tensor([len(prompt)]), made.empty_state(1, len(prompt)))[0].shape[-1]
        logits = made(torch.tensor([prompt + new[:-1]]))[0, len(prompt) - 1 :, :width]
        likeliest.append(logits.argmax(-1).tolist())
    return found, likeliest
