"""The pocket tokenizers: byte-level BPE with every digit a token of its own, and RWKV's kind with the same entries."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from generators.budget import LengthTooSmall
from generators.corpora.sets import Corpora, EmbeddedCorpora
from generators.examples import ExampleSource
from generators.random_streams import TRAINING
from generators.tasks.registry import RULER, tasks
from generators.tokenizer_files import load_tokenizer
from zoo.cards import FOLDER

if TYPE_CHECKING:
    import tokenizers

__all__ = ["SPECIAL_TOKENS", "VOCABULARY", "make_tokenizer", "train_tokenizer", "write_trie_vocabulary"]

# Those of the state-spaces models, of Llama and of Gemma: one file serves the pocket models of all three kinds.
SPECIAL_TOKENS: Final = (
    "<|endoftext|>",
    "<s>",
    "</s>",
    "<bos>",
    "<eos>",
    "<start_of_turn>",
    "<end_of_turn>",
)
VOCABULARY: Final = 1024
_PROMPTS_A_TASK: Final = 160
_CHAT_TEMPLATE: Final = FOLDER / "templates" / "sheared-llama-sharegpt.jinja"


def make_tokenizer(path: Path) -> None:
    """Makes a pocket tokenizer where there is none yet.

    Args:
        path: A `tokenizer.json`; or an RWKV vocabulary (.txt), which is made from the `tokenizer.json` beside it.
    """
    if path.exists():
        return
    if path.suffix == ".txt":
        beside = path.with_name("tokenizer.json")
        make_tokenizer(beside)
        write_trie_vocabulary(beside, path)
    else:
        train_tokenizer(VOCABULARY, path)


def train_tokenizer(vocabulary: int, path: Path) -> None:
    """Trains on the embedded corpora and on the wording of the prompts, and writes a `tokenizer.json`.

    Args:
        vocabulary: Its size, special tokens and all single bytes included.
        path: The file to write.
    """
    from tokenizers import trainers

    corpora = EmbeddedCorpora()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=_alphabet(),
        show_progress=False,
    )
    tokenizer = _untrained()
    tokenizer.train_from_iterator([" ".join(corpora.essays.words), *_prompts(corpora)], trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))


def write_trie_vocabulary(tokenizer_file: Path, path: Path) -> None:
    """Writes the entries of a byte-level `tokenizer.json` as an RWKV vocabulary, from id 1; 0 ends a text."""
    content = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    specials = {token["content"] for token in content["added_tokens"]}
    by_id = sorted(content["model"]["vocab"].items(), key=lambda item: item[1])
    bytes_of = _bytes_of_characters()
    entries = [bytes(bytes_of[each] for each in token) for token, _ in by_id if token not in specials]
    lines = [f"{number} {entry!r} {len(entry)}" for number, entry in enumerate(entries, 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _alphabet() -> list[str]:
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _bytes_of_characters() -> dict[str, int]:
    """What byte each character of byte-level BPE stands for: itself where it is visible, in order else."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    invisible = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + i): byte for i, byte in enumerate(invisible)}


def _untrained() -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _prompts(corpora: Corpora) -> Iterator[str]:
    """Prompts of RULER's tasks with as little else as they fit, so that their wording takes few tokens."""
    from tokenizers import models

    with tempfile.TemporaryDirectory() as folder:
        # Prompts are measured in tokens, and what tokens there will be is not known yet: bytes will do.
        in_bytes = _untrained()
        in_bytes.model = models.BPE({character: i for i, character in enumerate(_alphabet())}, [])
        in_bytes.add_special_tokens(list(SPECIAL_TOKENS))
        file = Path(folder) / "tokenizer.json"
        in_bytes.save(str(file))
        tokenizer = load_tokenizer(file, end_of_sequence=SPECIAL_TOKENS[0])
    chat = _CHAT_TEMPLATE.read_text(encoding="utf-8")
    for name in RULER:
        source = ExampleSource(tasks()[name], 1, tokenizer, corpora, 0, namespace=TRAINING)
        for index in range(_PROMPTS_A_TASK):
            try:
                example = source.example(index)
            except LengthTooSmall as error:
                source = replace(source, length=error.smallest)
                example = source.example(index)
            prompt = chat.replace("{{ messages[0].content }}", example.prompt) if index % 4 == 0 else example.prompt
            yield f"{prompt}{example.answer_prefix} {' '.join(example.references)}"
