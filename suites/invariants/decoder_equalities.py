"""Equalities that hold for a decoder of any family, however its input is batched or cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.decoding import Decoder
from suites.invariants.tiny_models import difference, random_ids

__all__ = ["batched_difference", "pieces_difference", "read_alone"]


def read_alone(made: Decoder[Any], ids: Tensor) -> tuple[Tensor, Any]:
    """The logits after one row of ids read at once, and the state, with room for a few more tokens."""
    return made.prefill(ids[None], torch.tensor([len(ids)]), made.empty_state(1, len(ids) + 8))


def batched_difference(made: Decoder[Any], lengths: Sequence[int], seed: int) -> float:
    """How far rows of unequal lengths in a batch are from each alone, two later steps included."""
    batch = len(lengths)
    ids = random_ids(batch, max(lengths), seed=seed)
    later = random_ids(2, batch, seed=seed + 1)
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


def pieces_difference(made: Decoder[Any], pieces: Sequence[Sequence[int]]) -> float:
    """How far prompts read in pieces, lengths [pieces][batch], are from each read at once, a later step included."""
    batch = len(pieces[0])
    whole = [random_ids(sum(row), seed=i) for i, row in enumerate(zip(*pieces, strict=True))]
    later = random_ids(batch, seed=9)
    state = made.empty_state(batch, sum(map(max, pieces)) + 1)
    done = [0] * batch
    logits = torch.empty(0)
    for piece in pieces:
        ids = random_ids(batch, max(piece), seed=77)
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
