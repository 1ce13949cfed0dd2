"""Reading expected answers: how likely a model finds each, and how much of it the model would write itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from models.decoders import Decoder, StateType

__all__ = ["ReadDraft", "padded", "read_drafts", "stepped_logits"]

# Of the logits that are held at once.
_LOGITS_BYTES: Final = 2**27
_FLOAT_BYTES: Final = 4


@dataclass(frozen=True)
class ReadDraft:
    """What a model makes of an answer that it is shown instead of writing its own.

    Attributes:
        log_likelihood: Of the whole, given the prompt, in nats.
        greedy: The tokens that greedy decoding begins with: those of the draft, as long as each is the most
            likely one, then the first that differs or follows.
        finite: Whether all logits were finite.
    """

    log_likelihood: float
    greedy: tuple[int, ...]
    finite: tuple[bool, ...]


def read_drafts(
    decoder: Decoder[StateType], logits: Tensor, drafts: Sequence[Sequence[int]], state: StateType
) -> list[ReadDraft]:
    """Reads a draft a row, as many rows at once as their logits leave room for.

    Args:
        decoder: The model.
        logits: After the prompts, [batch, vocabulary].
        drafts: Token ids; a draft may be empty.
        state: After the prompts; it stays as it is.
    """
    longest = max(map(len, drafts))
    at_once = max(_LOGITS_BYTES // (_FLOAT_BYTES * logits.shape[1] * (longest + 1)), 1)
    read: list[ReadDraft] = []
    for first in range(0, len(drafts), at_once):
        rows = torch.arange(first, min(first + at_once, len(drafts)), device=logits.device)
        part = drafts[first : first + at_once]
        read += _read(decoder, logits[rows], part, state.select(rows) if longest else state)
    return read


def _read(
    decoder: Decoder[StateType], logits: Tensor, drafts: Sequence[Sequence[int]], state: StateType
) -> Iterator[ReadDraft]:
    ids, lengths = padded(drafts, logits.device)
    every = logits[:, None]
    if ids.shape[1]:
        # A row without a draft reads one token that nothing is made of.
        every = torch.cat([every, decoder.logits(ids, lengths.clamp(min=1), state)], 1)
    chosen = every.argmax(-1)
    finite = every.isfinite().all(-1)
    likelihoods = every[:, :-1].log_softmax(-1).gather(2, ids[..., None])[..., 0]
    real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    totals = likelihoods.masked_fill(~real, 0.0).sum(1)
    agreed = ((chosen[:, :-1] == ids) & real).long().cumprod(1).sum(1)
    for draft, total, count, row, is_finite in zip(
        drafts, totals.tolist(), agreed.tolist(), chosen.tolist(), finite.tolist(), strict=True
    ):
        yield ReadDraft(total, tuple(row[: count + 1]), tuple(is_finite[: len(draft) + 1]))


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids as [batch, time], flush left, and how many each row has."""
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return ids.to(device), lengths.to(device)


def stepped_logits(decoder: Decoder[StateType], ids: Tensor, state: StateType) -> Tensor:
    """The logits after each of a few tokens, read one by one, [batch, time, vocabulary].

    For decoders that cannot read several from a state at once.

    Args:
        decoder: The model.
        ids: [batch, time]; what follows a row's last real token gets logits of no meaning.
        state: It is spent.
    """
    every = []
    for token in ids.unbind(1):
        logits, state = decoder.step(token, state)
        every.append(logits)
    return torch.stack(every, 1)
