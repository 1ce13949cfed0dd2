"""Reading expected answers: how likely a model finds each, and how much of it the model would write itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from models.decoding.decoder import Decoder, DraftingDecoder, StateType

__all__ = ["ReadDraft", "padded", "read_drafts", "read_prompts_and_drafts", "stepped_logits"]

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


def read_prompts_and_drafts(
    decoder: DraftingDecoder[StateType],
    prompts: Sequence[Sequence[int]],
    drafts: Sequence[Sequence[int]],
    state: StateType,
) -> tuple[Tensor, list[ReadDraft], StateType]:
    """Reads the rest of each prompt, and a draft after it.

    Args:
        decoder: The model.
        prompts: Token ids, at least one each.
        drafts: Token ids; a draft may be empty.
        state: Before the prompts; it is spent.

    Returns:
        The logits after the prompts, [batch, vocabulary], the drafts, and the state after the prompts.
    """
    whole = [[*prompt, *draft] for prompt, draft in zip(prompts, drafts, strict=True)]
    ids, lengths = padded(whole, decoder.device)
    drafted, counts = padded(drafts, decoder.device)
    every, state = decoder.prefill_drafted(ids, lengths, counts, state)
    return every[:, 0], _compared_with(every, drafted, counts), state


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
    ids, lengths = padded(drafts, logits.device)
    longest = ids.shape[1]
    if not longest:
        return _compared_with(logits[:, None], ids, lengths)
    at_once = max(_LOGITS_BYTES // (_FLOAT_BYTES * logits.shape[1] * (longest + 1)), 1)
    read: list[ReadDraft] = []
    for rows in torch.arange(len(drafts), device=logits.device).split(at_once):
        # A row without a draft reads one token that nothing is made of; one token alone would spend the state.
        tokens = functional.pad(ids[rows], (0, max(2 - longest, 0)))
        before = state if len(rows) == len(drafts) else state.select(rows)
        after = decoder.logits(tokens, lengths[rows].clamp(min=1), before)[:, :longest]
        read += _compared_with(torch.cat([logits[rows, None], after], 1), ids[rows], lengths[rows])
    return read


def _compared_with(every: Tensor, drafts: Tensor, lengths: Tensor) -> list[ReadDraft]:
    """What a model makes of drafts.

    Args:
        every: The logits after the prompts and after each token of a draft, [batch, 1 + time, vocabulary].
        drafts: Token ids, [batch, time].
        lengths: Of the drafts, [batch].
    """
    chosen = every.argmax(-1)
    finite = every.isfinite().all(-1)
    likelihoods = every[:, :-1].log_softmax(-1).gather(2, drafts[..., None])[..., 0]
    real = torch.arange(drafts.shape[1], device=drafts.device) < lengths[:, None]
    totals = likelihoods.masked_fill(~real, 0.0).sum(1)
    agreed = ((chosen[:, :-1] == drafts) & real).long().cumprod(1).sum(1)
    return [
        ReadDraft(total, tuple(row[: count + 1]), tuple(is_finite[: length + 1]))
        for total, count, row, is_finite, length in zip(
            totals.tolist(), agreed.tolist(), chosen.tolist(), finite.tolist(), lengths.tolist(), strict=True
        )
    ]


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
