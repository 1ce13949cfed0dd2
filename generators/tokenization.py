"""Tokenizers as the generators see them: text to token ids and back."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import tokenizers

__all__ = ["Encoding", "FileTokenizer", "Tokenizer", "TokenizerError", "load_tokenizer"]


_REMEMBERED_COUNTS = 200_000


class TokenizerError(ValueError):
    """A tokenizer file that is missing, unreadable or lacks a token it needs."""


@dataclass(frozen=True)
class Encoding:
    """A tokenized text.

    Attributes:
        ids: The token ids the model is fed, beginning-of-sequence token included.
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

    def encode(self, text: str) -> Encoding:
        """The ids of a whole prompt, exactly as the model is fed them."""

    def count(self, piece: str) -> int:
        """How many tokens a piece of a prompt takes on its own, without special tokens."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated ids, special tokens left out."""


class FileTokenizer:
    """A `tokenizer.json` file of the tokenizers library.

    Special tokens that the file itself would add are left out, so that a beginning-of-sequence
    token is there exactly once, and only where the caller asks for it.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        end_of_sequence: str | None = None,
        beginning_of_sequence: str | None = None,
    ) -> None:
        self._backend = backend
        self._counts: dict[str, int] = {}
        self.end_of_sequence = self._special(end_of_sequence)
        self._beginning = self._special(beginning_of_sequence)
        state = f"{backend.to_str()}|{end_of_sequence}|{beginning_of_sequence}"
        self.fingerprint = hashlib.sha256(state.encode()).hexdigest()
        self.vocabulary_size = max(backend.get_vocab(with_added_tokens=True).values()) + 1

    def _special(self, token: str | None) -> int | None:
        if token is None:
            return None
        number = self._backend.token_to_id(token)
        if number is None:
            raise TokenizerError(f"the tokenizer has no token {token!r}, which the model's card names")
        return int(number)

    def encode(self, text: str) -> Encoding:
        encoding = self._backend.encode(text, add_special_tokens=False)
        ids, starts = tuple(encoding.ids), tuple(start for start, _ in encoding.offsets)
        if self._beginning is not None:
            ids, starts = (self._beginning, *ids), (0, *starts)
        return Encoding(ids, starts)

    def count(self, piece: str) -> int:
        # Words of a corpus recur by the thousand; distractors never do, and must not fill the memory.
        if len(self._counts) > _REMEMBERED_COUNTS:
            self._counts.clear()
        known = self._counts.get(piece)
        if known is None:
            known = self._counts[piece] = len(self._backend.encode(piece, add_special_tokens=False).ids)
        return known

    def decode(self, ids: Sequence[int]) -> str:
        return self._backend.decode(list(ids), skip_special_tokens=True)


def load_tokenizer(
    path: Path, *, end_of_sequence: str | None = None, beginning_of_sequence: str | None = None
) -> FileTokenizer:
    """Reads a `tokenizer.json`.

    Args:
        path: The file.
        end_of_sequence: The token that ends an answer.
        beginning_of_sequence: The token every prompt begins with, None where the model wants none.

    Raises:
        TokenizerError: The file cannot be read, or lacks one of the two tokens.
    """
    import tokenizers

    if not path.is_file():
        raise TokenizerError(f"no tokenizer at {path}; a tokenizer.json file belongs there")
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise TokenizerError(f"{path} is not a readable tokenizer.json: {error}") from error
    # A file may carry its own truncation or padding, which would change prompts silently.
    backend.no_truncation()
    backend.no_padding()
    # A special token spelled out in a text stays text, so that no corpus can end or begin a prompt.
    backend.encode_special_tokens = True
    return FileTokenizer(backend, end_of_sequence=end_of_sequence, beginning_of_sequence=beginning_of_sequence)
