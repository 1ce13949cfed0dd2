"""Hypothesis strategies that several tests share: tokenizers, needle parameters, corpora."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import get_args

from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from generators.corpora.essays import Corpus, embedded_essays
from generators.corpora.sets import EmbeddedCorpora
from generators.tasks.needles import HaystackKind, Kind, NeedleInAHaystack
from generators.tokenization import Encoding, PieceTokenizer
from generators.tokenizer_files import FileTokenizer

__all__ = ["ByteTokenizer", "CorporaOf", "WhitespaceTokenizer", "corpora", "lengths", "needle_parameters", "tokenizers"]


class ByteTokenizer(PieceTokenizer):
    """One token a byte of UTF-8."""

    fingerprint = "bytes"
    end_of_sequence = None
    vocabulary_size = 256

    def __init__(self) -> None:
        super().__init__(lambda left, right: bool(left and right))

    def encode(self, text: str) -> Encoding:
        ids = tuple(text.encode())
        if text.isascii():
            return Encoding(ids, tuple(range(len(text))))
        return Encoding(ids, tuple(i for i, character in enumerate(text) for _ in character.encode()))

    def all_continued(self, pieces: Sequence[str]) -> list[Sequence[int]]:
        return [piece.encode() for piece in pieces]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")


class WhitespaceTokenizer(PieceTokenizer):
    """One token a word, as a hash; white space is dropped."""

    fingerprint = "whitespace"
    end_of_sequence = None
    vocabulary_size = 2**20

    def __init__(self) -> None:
        super().__init__(lambda left, right: left[-1:].isspace() or right[:1].isspace())

    def encode(self, text: str) -> Encoding:
        words = list(re.finditer(r"\S+", text))
        return Encoding(tuple(sum(word[0].encode()) for word in words), tuple(word.start() for word in words))

    def all_continued(self, pieces: Sequence[str]) -> list[Sequence[int]]:
        return [[sum(word.encode()) for word in piece.split()] for piece in pieces]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))


@dataclass(frozen=True, eq=False)
class CorporaOf(EmbeddedCorpora):
    """The embedded corpora with other essays."""

    own_essays: Corpus

    @property
    def essays(self) -> Corpus:
        return self.own_essays


@cache
def trained_tokenizer(vocabulary: int, split: bool, first_word: int) -> FileTokenizer:
    """Byte-level BPE; without `split` it merges across words, and so across the borders of units."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split)
    backend.decoder = decoders.ByteLevel()
    words = embedded_essays().words[first_word : first_word + 3000]
    # Unsplit training texts must be short: they are one word to the trainer.
    texts = [" ".join(words[i : i + 12]) for i in range(0, len(words), 12)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return FileTokenizer(backend)


# One of each kind, so that what is tokenized once is remembered.
tokenizers = st.one_of(
    st.sampled_from([ByteTokenizer(), WhitespaceTokenizer()]),
    st.builds(trained_tokenizer, st.sampled_from([300, 1500]), st.booleans(), st.just(0)),
)

# Mostly short, so that many examples are tried; now and then as long as the paper's.
lengths = st.one_of(st.integers(200, 1500), st.integers(1500, 6000), st.integers(6000, 20_000))


@st.composite
def needle_parameters(draw: st.DrawFn) -> NeedleInAHaystack:
    """Any haystack, key and value, with few or many needles."""
    keys = draw(st.integers(1, 5))
    return NeedleInAHaystack(
        haystack=draw(st.sampled_from(get_args(HaystackKind))),
        key=draw(st.sampled_from(get_args(Kind))),
        value=draw(st.sampled_from(get_args(Kind))),
        keys=keys,
        values=draw(st.integers(1, 4)),
        queries=draw(st.integers(1, keys)),
    )


@cache
def _part_of_the_essays(first: int, words: int) -> Corpus:
    return Corpus(f"words {first} to {first + words}", embedded_essays().words[first : first + words])


@cache
def _corpora_with_a_part_of_the_essays(first: int, words: int) -> CorporaOf:
    return CorporaOf(_part_of_the_essays(first, words))


# Short ones are exhausted and begin again.
corpora = st.sampled_from([(0, 40), (777, 1000), (5000, 5000)]).map(
    lambda part: _corpora_with_a_part_of_the_essays(*part)
)
