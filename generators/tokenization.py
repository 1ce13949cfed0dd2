"""Tokenizers as the generators see them: text to token ids and back."""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from generators.seams import Seam, no_seam, seam_rule

if TYPE_CHECKING:
    import tokenizers

__all__ = ["Encoding", "FileTokenizer", "SeamTokenizer", "Tokenizer", "TokenizerError", "load_tokenizer"]


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
    def has_seams(self) -> bool:
        """Whether any border is proven to be a seam; if not, prompts are tokenized whole."""

    def encode(self, text: str) -> Encoding:
        """The ids of a text from its beginning, no special tokens added."""

    def after_special(self, text: str) -> Encoding:
        """The ids of a text that follows a special token spelled out in a template."""

    def continued(self, piece: str) -> Encoding:
        """The ids of a piece that follows other text at a seam."""

    def all_continued(self, pieces: Sequence[str]) -> list[Sequence[int]]:
        """The ids of many pieces that follow other text at a seam, not remembered."""

    def joins(self, left: str, right: str) -> bool:
        """Whether left and right always meet at a seam: no token ever holds a part of both."""

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


class SeamTokenizer:
    """What tokenizers share: pieces and seams, each worked out once.

    Attributes:
        has_seams: Whether any border is proven to be a seam.
        special_tokens: The names of the special tokens.
        decodes_steadily: Whether more ids never change the text of those before.
        marks_beginning: Whether a text has other ids at the beginning than as a continuation.
    """

    marks_beginning: bool = False

    decodes_steadily: bool = True

    special_tokens: tuple[str, ...] = ()

    def __init__(self, seam: Seam) -> None:
        self.has_seams = seam is not no_seam
        self._seam = seam
        self._seams: dict[tuple[str, str], bool] = {}
        self._pieces: dict[str, Encoding] = {}

    def encode(self, text: str) -> Encoding:
        raise NotImplementedError

    def after_special(self, text: str) -> Encoding:
        return self.encode(text)

    def joins(self, left: str, right: str) -> bool:
        # No rule looks further than two characters back and three ahead.
        key = left[-2:], right[:3]
        known = self._seams.get(key)
        if known is None:
            known = self._seams[key] = self._seam(*key)
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


class FileTokenizer(SeamTokenizer):
    """A `tokenizer.json` file of the tokenizers library.

    Special tokens that the file itself would add are left out: a prompt's frame says which stand
    where.
    """

    def __init__(self, backend: tokenizers.Tokenizer, *, end_of_sequence: str | None = None) -> None:
        content = backend.to_str()
        definition = json.loads(content)
        super().__init__(seam_rule(definition))
        self._backend = backend
        self.end_of_sequence = None if end_of_sequence is None else self.special(end_of_sequence)
        self.fingerprint = hashlib.sha256(f"{content}|{end_of_sequence}".encode()).hexdigest()
        # A SentencePiece tokenizer marks the beginning of a text as if a blank stood before it.
        self.special_tokens = tuple(token["content"] for token in definition["added_tokens"] if token["special"])
        scheme = (definition["pre_tokenizer"] or {}).get("prepend_scheme")
        self._marks_only_first = scheme == "first"
        self.decodes_steadily = _decodes_steadily(definition["decoder"])
        self._unmarked = _without_mark(backend, definition)
        self.marks_beginning = self._unmarked is not backend

    @cached_property
    def vocabulary_size(self) -> int:
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    def special(self, token: str) -> int:
        number = self._backend.token_to_id(token)
        if number is None:
            raise TokenizerError(f"the tokenizer has no token {token!r}, which the model's card or chat template names")
        return int(number)

    def encode(self, text: str) -> Encoding:
        encoding = self._backend.encode(text, add_special_tokens=False)
        return Encoding(tuple(encoding.ids), tuple(start for start, _ in encoding.offsets))

    def after_special(self, text: str) -> Encoding:
        return self.continued(text) if self._marks_only_first else self.encode(text)

    def _continued(self, piece: str) -> Encoding:
        encoding = self._unmarked.encode(piece, add_special_tokens=False)
        return Encoding(tuple(encoding.ids), tuple(start for start, _ in encoding.offsets))

    def all_continued(self, pieces: Sequence[str]) -> list[Sequence[int]]:
        encodings = self._unmarked.encode_batch_fast(list(pieces), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        return self._backend.decode(list(ids), skip_special_tokens=True)


_STEADY_DECODERS = {"ByteLevel", "ByteFallback", "Fuse", "Metaspace", "Replace", "Strip"}


def _decodes_steadily(decoder: dict[str, Any] | None) -> bool:
    # Others clean up around punctuation, or join tokens with blanks.
    if decoder is None:
        return False
    steps = decoder.get("decoders", [decoder])
    return all(
        step["type"] in _STEADY_DECODERS and not (step["type"] == "Strip" and step.get("stop")) for step in steps
    )


def _without_mark(backend: tokenizers.Tokenizer, definition: dict[str, Any]) -> tokenizers.Tokenizer:
    """The tokenizer as it treats the middle of a text.

    SentencePiece tokenizers mark the beginning of a text as if a blank stood before it.
    """
    import tokenizers

    changed = dict(definition)
    normalizer = definition["normalizer"] or {}
    steps = normalizer.get("normalizers", [normalizer])
    if any(step.get("type") == "Prepend" for step in steps):
        kept = [step for step in steps if step["type"] != "Prepend"]
        changed["normalizer"] = {"type": "Sequence", "normalizers": kept} if kept else None
    if definition["pre_tokenizer"] is not None:
        changed["pre_tokenizer"] = _unmarking(definition["pre_tokenizer"])
    if changed == definition:
        return backend
    result = tokenizers.Tokenizer.from_str(json.dumps(changed))
    result.encode_special_tokens = backend.encode_special_tokens
    return result


def _unmarking(splitter: dict[str, Any]) -> dict[str, Any]:
    """A pre-tokenizer, or a sequence of some, that puts no blank before a text."""
    if "pretokenizers" in splitter:
        return {**splitter, "pretokenizers": list(map(_unmarking, splitter["pretokenizers"]))}
    return {**splitter, "prepend_scheme": "never"} if "prepend_scheme" in splitter else splitter


def load_tokenizer(path: Path, *, end_of_sequence: str | None = None) -> Tokenizer:
    """Reads a `tokenizer.json`, or RWKV's vocabulary (`rwkv_vocab_*.txt`).

    Args:
        path: The file.
        end_of_sequence: The token that ends an answer; RWKV's is number 0, whatever is given.

    Raises:
        TokenizerError: The file cannot be read, or lacks the token.
    """
    import tokenizers

    from generators.trie_tokenization import TrieTokenizer

    if not path.is_file():
        raise TokenizerError(f"no tokenizer at {path}; a tokenizer.json file belongs there")
    if path.suffix == ".txt":
        return TrieTokenizer.from_file(path)
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise TokenizerError(f"{path} is not a readable tokenizer.json: {error}") from error
    # A file may carry its own truncation or padding, which would change prompts silently.
    backend.no_truncation()
    backend.no_padding()
    # A special token spelled out in a text stays text, so that no corpus can end or begin a prompt.
    backend.encode_special_tokens = True
    return FileTokenizer(backend, end_of_sequence=end_of_sequence)
