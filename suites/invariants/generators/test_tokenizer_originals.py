"""Tokenizers give what their originals give, on random texts of mixed scripts: 1,000 always, 10,000 in the nightly."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from rwkv import rwkv_tokenizer
from sentencepiece import sentencepiece_model_pb2
from tokenizers import normalizers
from transformers import GemmaTokenizer, LlamaTokenizer, PreTrainedTokenizerFast

from generators.corpora.essays import embedded_essays
from generators.tokenization import Tokenizer
from generators.tokenizer_files import load_tokenizer
from zoo.cards import FOLDER

VOCABULARY = 1200

# First and last characters of letters and signs: left to right and right to left, with marks above and below, with
# and without blanks between words, of one to four bytes.
SCRIPTS = ["az", "AZ", "09", "!/", "àÿ", "αω", "ая", "את", "ءي", "ँह", "กู", "ぁん", "一龥", "가힣", "́͏", "😀🙏"]
BLANKS = [" ", "  ", "    ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u3000", "\u200d"]
# Words with pieces of their own; what some tokenizers have as tokens; a blank as SentencePiece spells it.
WORDS = ["the", "The", " needle", " grass is green.", "One of the", "1990's", " 12345", "<s>", "</s>", "<0x41>", "▁"]


def _part(draw: random.Random) -> str:
    kind = draw.random()
    if kind < 0.25:
        return draw.choice(BLANKS)
    if kind < 0.5:
        return draw.choice(WORDS)
    first, last = draw.choice(SCRIPTS)
    return "".join(chr(draw.randint(ord(first), ord(last))) for _ in range(draw.randint(1, 6)))


@cache
def texts(count: int) -> list[str]:
    """Random texts from a fixed seed, one of them empty; more of them begin with the fewer."""
    draw = random.Random(20)
    return ["", *("".join(_part(draw) for _ in range(draw.randint(1, 8))) for _ in range(count - 1))]


Encode = Callable[[list[str]], list[list[int]]]


@dataclass(frozen=True)
class Pair:
    """A tokenizer and its original.

    Attributes:
        ours: The tokenizer.
        encode: The original's ids of many texts.
        decode: The original's text of ids.
        unmarked: The original's ids of many texts without a mark of their beginning.
    """

    ours: Tokenizer
    encode: Encode
    decode: Callable[[list[int]], str]
    unmarked: Encode


def _trie(folder: Path) -> Pair:
    path = Path(rwkv_tokenizer.__file__).with_name("rwkv_vocab_v20230424.txt")
    theirs = rwkv_tokenizer.TRIE_TOKENIZER(str(path))

    def encode(many: list[str]) -> list[list[int]]:
        return [theirs.encode(text) for text in many]

    return Pair(load_tokenizer(path), encode, theirs.decode, encode)


def _sentence_piece(folder: Path, converter: type[PreTrainedTokenizerFast], *, legacy: bool, **options: Any) -> Pair:
    """A SentencePiece model, and the tokenizer.json that transformers makes of it."""
    words = embedded_essays().words
    lines = [" ".join(words[i : i + 12]) for i in range(0, 12_000, 12)]
    model = folder / "tokenizer.model"
    with model.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([*lines, *texts(1000)]),
            model_writer=file,
            model_type="bpe",
            vocab_size=VOCABULARY,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            character_coverage=0.98,
            num_threads=1,
            minloglevel=2,
            **options,
        )
    backend = converter.from_pretrained(folder).backend_tokenizer
    if legacy:
        # As in the published files of the first models.
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.pre_tokenizer = None
    backend.save(str(folder / "tokenizer.json"))

    theirs = sentencepiece.SentencePieceProcessor(model_file=str(model))
    definition = sentencepiece_model_pb2.ModelProto.FromString(model.read_bytes())
    definition.normalizer_spec.add_dummy_prefix = False
    unmarked = sentencepiece.SentencePieceProcessor(model_proto=definition.SerializeToString())
    return Pair(load_tokenizer(folder / "tokenizer.json"), theirs.encode, theirs.decode, unmarked.encode)


def _llama(folder: Path) -> Pair:
    return _sentence_piece(folder, LlamaTokenizer, legacy=True)


def _newer_llama(folder: Path) -> Pair:
    made = _sentence_piece(folder, LlamaTokenizer, legacy=False)

    def encode(many: list[str]) -> list[list[int]]:
        both = zip(many, made.encode(many), made.unmarked(many), strict=True)
        # Newer files mark no beginning that is a blank already; SentencePiece itself marks each.
        return [unmarked if text.startswith((" ", "▁")) else marked for text, marked, unmarked in both]

    return replace(made, encode=encode)


def _gemma(folder: Path) -> Pair:
    numbers = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3}
    pieces = {"eos_piece": "<eos>", "bos_piece": "<bos>", "user_defined_symbols": ["<mask>", "\n", "\n\n"]}
    return _sentence_piece(folder, GemmaTokenizer, legacy=False, add_dummy_prefix=False, **numbers, **pieces)


def _byte_level(folder: Path) -> Pair:
    path = FOLDER / "pocket" / "tokenizer.json"
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(path), clean_up_tokenization_spaces=False)

    def encode(many: list[str]) -> list[list[int]]:
        return theirs(many, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def decode(ids: list[int]) -> str:
        return theirs.decode(ids, skip_special_tokens=True)

    return Pair(load_tokenizer(path), encode, decode, encode)


KINDS = {
    "RWKV": _trie,
    "LLaMA": _llama,
    "newer LLaMA": _newer_llama,
    "Gemma": _gemma,
    "byte-level BPE": _byte_level,
}

every_kind = pytest.mark.parametrize("kind", KINDS)
each_count = pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """Makes a tokenizer and its original, once each."""
    return cache(lambda kind: KINDS[kind](tmp_path_factory.mktemp("tokenizer")))


@every_kind
@each_count
def test_ids_and_texts_are_the_originals(pair, kind, count):
    """The ids of each text are the original's, and so is the text of these ids."""
    made = pair(kind)
    for text, expected in zip(texts(count), made.encode(texts(count)), strict=True):
        assert list(made.ours.encode(text).ids) == expected, text
        assert made.ours.decode(expected) == made.decode(expected), text


@every_kind
@each_count
def test_continued_ids_are_the_originals(pair, kind, count):
    """A text that follows others has the ids that the original gives it without a mark of the beginning."""
    made = pair(kind)
    for text, expected in zip(texts(count), made.unmarked(texts(count)), strict=True):
        assert list(made.ours.continued(text).ids) == expected, text


@every_kind
@each_count
def test_texts_that_meet_at_a_boundary_have_the_originals_ids(pair, kind, count):
    """Where two texts meet at a boundary, the first's ids and the second's continued ids are the original's of both."""
    made = pair(kind)
    some = texts(count)
    meeting = [pair for pair in zip(some[1::2], some[2::2], strict=False) if made.ours.joins(*pair)]
    assert len(meeting) > count / 100
    whole = made.encode([left + right for left, right in meeting])
    first = made.encode([left for left, _ in meeting])
    for (left, right), before, expected in zip(meeting, first, whole, strict=True):
        assert before + list(made.ours.continued(right).ids) == expected, (left, right)
