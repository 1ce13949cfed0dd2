"""Tokenizers of every form that published models come in, small and trained here, by name."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from generators.corpora.essays import embedded_essays
from generators.tokenization import Tokenizer
from generators.tokenizer_files import load_tokenizer
from suites.support.runs import REPOSITORY

__all__ = [
    "BLANK",
    "FORMS",
    "GREEDY",
    "LEGACY",
    "PROVEN",
    "UNPROVEN",
    "WORDS_OF_LLAMA_3",
    "library",
    "loaded",
    "with_bytes",
]

POCKET = REPOSITORY / "zoo" / "pocket" / "tokenizer.json"
BLANK = "▁"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS_OF_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _stretches(ends: Sequence[str]) -> list[str]:
    """Short texts: without a pre-tokenizer each is one word to a trainer."""
    words = embedded_essays().words[:6000]
    return [" ".join(words[i : i + 8]) + ends[i // 8 % len(ends)] + words[i + 8] for i in range(0, 5900, 8)]


IN_LINES = _stretches(("  ", "   x", " 12 345", " é è", " 日本語", " 1990's -- ", ' "a" (b): '))
ACROSS_LINES = IN_LINES + _stretches(("\n", "\n\n", ".\n\n", ":\n", "!!\n", "\n  ", " \t", "\r\n", "é\n"))


def _trained(
    backend: Backend,
    texts: list[str],
    vocabulary: int,
    trainer: Callable[..., trainers.Trainer] = trainers.BpeTrainer,
    **options: object,
) -> Backend:
    backend.train_from_iterator(texts, trainer(vocab_size=vocabulary, show_progress=False, **options))
    return backend


def _byte_level(*steps: pre_tokenizers.PreTokenizer, expression: bool, **options: object) -> Backend:
    backend = Backend(models.BPE(**options))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=expression)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*steps, level]) if steps else level
    backend.decoder = decoders.ByteLevel()
    return _trained(backend, ACROSS_LINES, 1500, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))


def _gpt_neox() -> Backend:
    backend = _byte_level(expression=True)
    backend.normalizer = normalizers.NFC()
    backend.add_tokens([AddedToken(" " * blanks, normalized=True) for blanks in (2, 3, 4)])
    return backend


def _llama_3(expression: str = WORDS_OF_LLAMA_3) -> Backend:
    step = pre_tokenizers.Split(Regex(expression), "isolated")
    return _byte_level(step, expression=False, ignore_merges=True)


def _qwen_2() -> Backend:
    backend = _llama_3(WORDS_OF_LLAMA_3.replace("{1,3}", ""))
    backend.normalizer = normalizers.NFC()
    return backend


def with_bytes(vocabulary: Sequence[str], merges: Sequence[tuple[str, str]]) -> Backend:
    """BPE as converters from SentencePiece write it; what the vocabulary lacks is spelled in bytes."""
    names = ["<unk>", "<s>", "</s>", *BYTES, *vocabulary]
    backend = Backend(
        models.BPE(
            {name: number for number, name in enumerate(names)},
            list(merges),
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.decoder = decoders.Sequence(
        [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return backend


def _sentence_piece(texts: list[str], *steps: pre_tokenizers.PreTokenizer) -> Backend:
    backend = Backend(models.BPE())
    backend.normalizer = normalizers.Replace(" ", BLANK)
    backend.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
    model = json.loads(_trained(backend, texts, 1200).to_str())["model"]
    return with_bytes(model["vocab"], [tuple(merge) for merge in model["merges"]])


WORD_BY_WORD = pre_tokenizers.Metaspace(BLANK, "never")
LEGACY = normalizers.Sequence([normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)])


def _llama_2() -> Backend:
    backend = _sentence_piece(IN_LINES, WORD_BY_WORD)
    backend.normalizer = LEGACY
    return backend


def _llama_2_across_lines() -> Backend:
    backend = _sentence_piece(ACROSS_LINES, WORD_BY_WORD)
    backend.normalizer = LEGACY
    return backend


def _newer_llama_2() -> Backend:
    backend = _sentence_piece(IN_LINES, WORD_BY_WORD)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(BLANK, "first", split=False)
    return backend


def _gemma() -> Backend:
    backend = _sentence_piece(ACROSS_LINES, pre_tokenizers.Split(Regex("\n+"), "isolated"), WORD_BY_WORD)
    backend.normalizer = normalizers.Replace(" ", BLANK)
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    return backend


def _unigram() -> Backend:
    backend = Backend(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(BLANK, "always")
    backend.decoder = decoders.Metaspace(BLANK, "always")
    return _trained(backend, IN_LINES, 800, trainers.UnigramTrainer, unk_token="<unk>", special_tokens=["<unk>"])


def _pocket() -> Backend:
    return Backend.from_file(str(POCKET))


def _lower_case() -> Backend:
    backend = _byte_level(expression=True)
    backend.normalizer = normalizers.Lowercase()
    return backend


def _other_expression() -> Backend:
    return _llama_3(r"\w+| ?[^\w\s]+|\s+")


def _bert() -> Backend:
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _trained(backend, IN_LINES, 700, trainers.WordPieceTrainer, special_tokens=["[UNK]"])


def _dropout() -> Backend:
    # So small that it never happens in a test.
    return _byte_level(expression=True, dropout=1e-30)


def _stripping_token() -> Backend:
    backend = _gpt_neox()
    backend.add_tokens([AddedToken("<mask>", lstrip=True)])
    return backend


def _unknown_characters() -> Backend:
    backend = Backend(models.BPE(unk_token="<unk>", fuse_unk=True))
    backend.pre_tokenizer = WORD_BY_WORD
    return _trained(backend, IN_LINES, 700, special_tokens=["<unk>"])


PROVEN = {
    "GPT-NeoX": _gpt_neox,
    "Llama 3": _llama_3,
    "Qwen 2": _qwen_2,
    "LLaMA 2": _llama_2,
    "newer LLaMA 2": _newer_llama_2,
    "Gemma": _gemma,
    "Unigram": _unigram,
    "pocket": _pocket,
}
# Their vocabularies hold tokens across words or lines, so fewer borders are token boundaries.
GREEDY = {
    "bytes across words": lambda: _byte_level(expression=False),
    "LLaMA 2 across lines": _llama_2_across_lines,
}
UNPROVEN = {
    "lower case": _lower_case,
    "another expression": _other_expression,
    "BERT": _bert,
    "dropout": _dropout,
    "stripping token": _stripping_token,
    "unknown characters": _unknown_characters,
}
FORMS: dict[str, Callable[[], Backend]] = {**PROVEN, **GREEDY, **UNPROVEN}


@cache
def library(form: str) -> Backend:
    """The library's own tokenizer: the reference."""
    backend = FORMS[form]()
    backend.encode_special_tokens = True
    return backend


@cache
def loaded(form: str) -> Tokenizer:
    """The same from its file, as the generators see it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        library(form).save(str(path))
        return load_tokenizer(path)
