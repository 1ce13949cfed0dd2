"""The oracle as a decoder, to run through everything a model runs through; it has no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from generators.corpora.sets import Corpora
from generators.oracles import oracle_answer
from generators.tokenization import Tokenizer
from models.decoding.drafts import stepped_logits

__all__ = ["Oracle", "OracleState"]


@dataclass(frozen=True)
class OracleState:
    """What each row has read, and what it is about to write.

    Attributes:
        read: Token ids, a list a row.
        answers: The rest of each row's answer.
    """

    read: tuple[tuple[int, ...], ...]
    answers: tuple[tuple[int, ...], ...]

    @property
    def bytes(self) -> int:
        """Nothing beside a model's."""
        return 0

    def select(self, rows: Tensor) -> Self:
        """The state of some rows of the batch."""
        return type(self)(*(tuple(field[row] for row in rows.tolist()) for field in (self.read, self.answers)))

    def joined(self, others: Sequence[Self]) -> Self:
        """The rows of this state, then those of others."""
        read = tuple(row for state in (self, *others) for row in state.read)
        return type(self)(read, tuple(row for state in (self, *others) for row in state.answers))


class Oracle:
    """Writes the right answer, as far as it follows from the last tokens read.

    Args:
        tokenizer: What prompts are read and answers written with.
        corpora: Where questions about documents come from.
        window: How many tokens it looks back; None sees them all.
    """

    device = torch.device("cpu")
    # It reads each prompt as a whole, however it got it.
    shares_prefixes = False

    def __init__(self, tokenizer: Tokenizer, corpora: Corpora, window: int | None = None) -> None:
        self._tokenizer = tokenizer
        self._corpora = corpora
        self._window = window
        end = tokenizer.end_of_sequence
        # Without an end, an answer is followed by line ends.
        self._end = tokenizer.continued("\n").ids[-1] if end is None else end

    def empty_state(self, batch: int, capacity: int) -> OracleState:
        return OracleState(((),) * batch, ((),) * batch)

    def prefill(self, ids: Tensor, lengths: Tensor, state: OracleState) -> tuple[Tensor, OracleState]:
        new = (row[:length] for row, length in zip(ids.tolist(), lengths.tolist(), strict=True))
        read = tuple(before + tuple(row) for before, row in zip(state.read, new, strict=True))
        return self._next(OracleState(read, tuple(map(self._answer, read))))

    def step(self, ids: Tensor, state: OracleState) -> tuple[Tensor, OracleState]:
        read = tuple((*before, new) for before, new in zip(state.read, ids.tolist(), strict=True))
        return self._next(OracleState(read, state.answers))

    def logits(self, ids: Tensor, lengths: Tensor, state: OracleState) -> Tensor:
        return stepped_logits(self, ids, state)

    def _answer(self, read: Sequence[int]) -> tuple[int, ...]:
        text = self._tokenizer.decode(read if self._window is None else read[-self._window :])
        return self._tokenizer.continued(" " + oracle_answer(text, self._corpora)).ids

    def _next(self, state: OracleState) -> tuple[Tensor, OracleState]:
        logits = torch.zeros(len(state.answers), self._tokenizer.vocabulary_size)
        for row, answer in enumerate(state.answers):
            logits[row, answer[0] if answer else self._end] = 1.0
        return logits, OracleState(state.read, tuple(answer[1:] for answer in state.answers))
