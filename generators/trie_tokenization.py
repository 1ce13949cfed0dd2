"""RWKV's tokenizer: from left to right, always the longest entry of the vocabulary."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from generators.tokenization import Encoding, PieceTokenizer, TokenizerError

__all__ = ["TrieTokenizer"]

_END_OF_TEXT: Final = 0


class TrieTokenizer(PieceTokenizer):
    """A vocabulary of byte strings (the `rwkv_vocab_v20230424.txt` of the RWKV-5 and -6 World models).

    Id 0 stands for the end of a text and has no bytes.
    """

    def __init__(self, vocabulary: Mapping[int, bytes]) -> None:
        entries = set(vocabulary.values())
        missing = [byte for byte in range(256) if bytes([byte]) not in entries]
        if missing:
            raise TokenizerError(
                f"the vocabulary has no entry for the byte {missing[0]}; some texts could not be encoded"
            )
        self._bytes = dict(vocabulary)
        self._ids = {entry: number for number, entry in vocabulary.items()}
        # By the first two bytes, the lengths of entries that begin so, longest first.
        lengths: dict[bytes, set[int]] = {}
        for entry in self._ids:
            lengths.setdefault(entry[:2], set()).add(len(entry))
        self._lengths = {begin: sorted(each, reverse=True) for begin, each in lengths.items()}
        inside = {bytes(pair) for entry in self._ids for pair in pairwise(entry)}

        def is_boundary(left: str, right: str) -> bool:
            return bool(left and right) and left.encode()[-1:] + right.encode()[:1] not in inside

        super().__init__(is_boundary)
        self.end_of_sequence = _END_OF_TEXT
        self.vocabulary_size = max(self._bytes) + 1
        self.fingerprint = hashlib.sha256(repr(sorted(vocabulary.items())).encode()).hexdigest()

    @classmethod
    def from_file(cls, path: Path) -> TrieTokenizer:
        """Reads lines of id, Python literal and number of bytes.

        Raises:
            TokenizerError: A line is of another form; the error names it.
        """
        vocabulary: dict[int, bytes] = {}
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise TokenizerError(f"{path} is not UTF-8: {error}") from None
        for number, line in enumerate(lines, 1):
            try:
                identity, rest = line.split(" ", 1)
                literal, size = rest.rsplit(" ", 1)
                entry = ast.literal_eval(literal)
                if not isinstance(entry, str | bytes):
                    raise ValueError(f"a text or bytes expected, not {literal}")
                entry = entry.encode() if isinstance(entry, str) else entry
                if len(entry) != int(size) or not entry:
                    raise ValueError(f"{size} bytes expected, {len(entry)} found")
                vocabulary[int(identity)] = entry
            except (ValueError, SyntaxError, TypeError) as error:
                raise TokenizerError(
                    f"{path}, line {number}: not an id, a quoted entry and its number of bytes ({error})"
                ) from None
        return cls(vocabulary)

    def special(self, token: str) -> int:
        raise TokenizerError(f"RWKV's vocabulary has no special tokens, so none called {token!r}")

    def encode(self, text: str) -> Encoding:
        data = text.encode()
        ids: list[int] = []
        places: list[int] = []
        place = 0
        while place < len(data):
            entry = data[place : place + 1]
            for length in self._lengths.get(data[place : place + 2], ()):
                longer = data[place : place + length]
                if longer in self._ids:
                    entry = longer
                    break
            ids.append(self._ids[entry])
            places.append(place)
            place += len(entry)
        return Encoding(tuple(ids), _characters(text, places))

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self._bytes.get(number, b"") for number in ids).decode(errors="replace")


def _characters(text: str, places: Sequence[int]) -> tuple[int, ...]:
    """The indices of the characters that hold the bytes at `places`."""
    if text.isascii():
        return tuple(places)
    of_byte = [index for index, character in enumerate(text) for _ in character.encode()]
    return tuple(of_byte[place] for place in places)
