"""Tokenizers from their files: a `tokenizer.json` of the tokenizers library, or RWKV's vocabulary."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generators.token_boundaries import boundary_rule
from generators.tokenization import Encoding, PieceTokenizer, Tokenizer, TokenizerError
from generators.trie_tokenization import TrieTokenizer

if TYPE_CHECKING:
    import tokenizers

__all__ = ["FileTokenizer", "load_tokenizer"]


class FileTokenizer(PieceTokenizer):
    """A `tokenizer.json` file of the tokenizers library.

    Special tokens that the file itself would add are left out: a prompt's prompt template says which stand
    where.
    """

    def __init__(self, backend: tokenizers.Tokenizer, *, end_of_sequence: str | None = None) -> None:
        content = backend.to_str()
        definition = json.loads(content)
        super().__init__(boundary_rule(definition))
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
