"""Decoders whose next token is a function of all that a row has read."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.decoding.drafts import stepped_logits
from models.decoding.greedy import AnswerListener

__all__ = ["END", "VOCABULARY", "Heard", "Read", "Recitation", "Reciter", "alone", "scrambled"]

Read = tuple[int, ...]


@dataclass
class Recitation:
    """All that each row has read."""

    rows: list[Read]
    capacity: int

    @property
    def bytes(self) -> int:
        return sum(map(len, self.rows))

    def select(self, rows: Tensor) -> Recitation:
        return Recitation([self.rows[row] for row in rows.tolist()], self.capacity)

    def joined(self, others: Sequence[Recitation]) -> Recitation:
        return Recitation([row for state in (self, *others) for row in state.rows], self.capacity)


@dataclass
class Reciter:
    """A decoder whose next token is a function of all that a row has read; None stands for `broken` logits."""

    answer: Callable[[Read], int | None]
    broken: float = torch.nan
    prefills: list[torch.Size] = field(default_factory=list)
    device = torch.device("cpu")
    shares_prefixes: bool = True

    def empty_state(self, batch: int, capacity: int) -> Recitation:
        return Recitation([()] * batch, capacity)

    def prefill(self, ids: Tensor, lengths: Tensor, state: Recitation) -> tuple[Tensor, Recitation]:
        self.prefills.append(ids.shape)
        return self._read([tuple(row[:n]) for row, n in zip(ids.tolist(), lengths.tolist(), strict=True)], state)

    def step(self, ids: Tensor, state: Recitation) -> tuple[Tensor, Recitation]:
        return self._read([(token,) for token in ids.tolist()], state)

    def logits(self, ids: Tensor, lengths: Tensor, state: Recitation) -> Tensor:
        return stepped_logits(self, ids, Recitation(state.rows, 10**6))

    def _read(self, new: Sequence[Read], state: Recitation) -> tuple[Tensor, Recitation]:
        rows = [old + more for old, more in zip(state.rows, new, strict=True)]
        assert max(map(len, rows)) <= state.capacity
        logits = torch.zeros(len(rows), VOCABULARY)
        for i, row in enumerate(rows):
            token = self.answer(row)
            logits[i, token or 0] = self.broken if token is None else 1.0
        return logits, Recitation(rows, state.capacity)


@dataclass
class Heard(AnswerListener):
    """Keeps what it hears; an answer is complete with the token `wanted`."""

    wanted: int | None = None
    answers: list[tuple[int, list[int]]] = field(default_factory=list)
    log_likelihoods: dict[int, float] = field(default_factory=dict)

    def finished(self, row: int, ids: list[int]) -> None:
        self.answers.append((row, list(ids)))

    def complete(self, row: int, ids: list[int]) -> bool:
        return self.wanted in ids

    def log_likelihood_known(self, row: int, log_likelihood: float) -> None:
        self.log_likelihoods[row] = log_likelihood


def scrambled(read: Read) -> int:
    """A token that depends on every token read, and on their order."""
    return zlib.crc32(bytes(read)) % VOCABULARY


def alone(prompt: Sequence[int], tokens: int, end: int | None) -> list[int]:
    """What greedy decoding is: one prompt, token by token."""
    new: list[int] = []
    while len(new) < tokens:
        token = scrambled((*prompt, *new))
        if token == end:
            break
        new.append(token)
    return new


VOCABULARY = 7


END = 0
