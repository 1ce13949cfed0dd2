"""The pocket tokenizer: byte-level BPE with every digit a token of its own."""

from __future__ import annotations

from pathlib import Path

from generators import protocol
from generators.corpora.essays import Corpus
from generators.draws import TRAINING, Draw
from generators.needles import Kind, Needle, Question, draw_text

__all__ = ["END_OF_TEXT", "train_tokenizer"]

END_OF_TEXT = "<|endoftext|>"
_PROMPTS = 2000


def train_tokenizer(corpus: Corpus, vocabulary: int, path: Path) -> None:
    """Trains on the corpus and on the wording of the prompts, and writes a `tokenizer.json`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(corpus.words), *_prompts()], trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))


def _prompts() -> list[str]:
    """Haystack-free prompts about numbers and words, so that their wording takes few tokens."""
    texts = []
    for index in range(_PROMPTS):
        draw = Draw(TRAINING, "tokenizer", index)
        kind: Kind = draw.choice(("number", "word"))
        needle = Needle(draw_text("word", draw), draw_text(kind, draw), kind)
        question = Question(kind, (needle.key,), plural=draw.below(2) == 0)
        joiner = draw.choice((" ", "\n"))
        haystack = joiner.join([protocol.NOISE, needle.sentence, protocol.NOISE])
        texts.append(f"{question.introduction}{haystack}{question.text}{question.answer_prefix} {needle.value}.")
    return texts
