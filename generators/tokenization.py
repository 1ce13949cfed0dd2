"""Tokenizers as the generators see them: text to token ids and back."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from generators.token_boundaries import BoundaryRule, no_boundary

__all__ = ["Encoding", "PieceTokenizer", "Tokenizer", "TokenizerError"]


_REMEMBERED_PIECES = 20_000


class TokenizerError(ValueError):
    """A tokenizer file that is missing, unreadable or lacks a token it needs."""


@dataclass(frozen=True)
class Encoding:
    """A tokenized text.

    Attributes:
        ids: The token ids.
        starts: For each token, the index of the character it starts at.
    """

    ids: tuple[int, ...]
    starts: tuple[int, ...]

    def token_at(self, character: int) -> int:
        """The index of the token that holds the character at index `character`."""
        return bisect.bisect_right(self.starts, character) - 1


class Tokenizer(Protocol):
    """What generators and decoding need of a tokenizer."""

    @property
    def fingerprint(self) -> str:
        """A hash that changes whenever the ids of some text may change."""

    @property
    def end_of_sequence(self) -> int | None:
        """The id that ends an answer, if the vocabulary has one."""

    @property
    def vocabulary_size(self) -> int:
        """One more than the largest id."""

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The names of the special tokens, which a chat template may spell out."""

    @property
    def marks_beginning(self) -> bool:
        """Whether a text has other ids at the beginning than as the continuation of another."""

    @property
    def decodes_steadily(self) -> bool:
        """Whether more ids never change the text of those before, but for a last incomplete character."""

    @property
    def has_boundaries(self) -> bool:
        """Whether any border is proven to be a token boundary; if not, prompts are tokenized whole."""

    def encode(self, text: str) -> Encoding:
        """The ids of a text from its beginning, no special tokens added."""

    def after_special(self, text: str) -> Encoding:
        """The ids of a text that follows a special token spelled out in a template."""

    def continued(self, piece: str) -> Encoding:
        """The ids of a piece that follows other text at a token boundary."""

    def all_continued(self, pieces: Sequence[str]) -> list[Sequence[int]]:
        """The ids of many pieces that follow other text at a token boundary, not remembered."""

    def joins(self, left: str, right: str) -> bool:
        """Whether left and right always meet at a token boundary: no token ever holds a part of both."""

    def count(self, piece: str) -> int:
        """How many tokens `continued` has."""

    def special(self, token: str) -> int:
        """The id of a special token.

        Raises:
            TokenizerError: There is none of that name.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated ids, special tokens left out."""

    def __hash__(self) -> int:
        """By identity: what was tokenized once is remembered with it."""


class PieceTokenizer:
    """What tokenizers share: pieces and token boundaries, each worked out once.

    Attributes:
        has_boundaries: Whether any border is proven to be a token boundary.
        special_tokens: The names of the special tokens.
        decodes_steadily: Whether more ids never change the text of those before.
        marks_beginning: Whether a text has other ids at the beginning than as a continuation.
    """

    marks_beginning: bool = False

    decodes_steadily: bool = True

    special_tokens: tuple[str, ...] = ()

    def __init__(self, is_boundary: BoundaryRule) -> None:
        self.has_boundaries = is_boundary is not no_boundary
        self._is_boundary = is_boundary
        self._boundaries: dict[tuple[str, str], bool] = {}
        self._pieces: dict[str, Encoding] = {}

    def encode(self, text: str) -> Encoding:
        raise NotImplementedError

    def after_special(self, text: str) -> Encoding:
        return self.encode(text)

    def joins(self, left: str, right: str) -> bool:
        # No rule looks further than two characters back and three ahead.
        key = left[-2:], right[:3]
        known = self._boundaries.get(key)
        if known is None:
            known = self._boundaries[key] = self._is_boundary(*key)
        return known

    def continued(self, piece: str) -> Encoding:
        known = self._pieces.get(piece)
        if known is None:
            # Wording recurs in every prompt; names and values never do, and must not fill the memory.
            if len(self._pieces) > _REMEMBERED_PIECES:
                self._pieces.clear()
            known = self._pieces[piece] = self._continued(piece)
        return known

    def _continued(self, piece: str) -> Encoding:
        return self.encode(piece)

    def all_continued(self, pieces: Sequence[str]) -> list[Sequence[int]]:
        return [self._continued(piece).ids for piece in pieces]

    def count(self, piece: str) -> int:
        return len(self.continued(piece).ids)
