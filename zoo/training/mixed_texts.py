"""The texts of a training run, drawn by its recipe's mixture."""

from __future__ import annotations

from generators.corpora.essays import Corpus
from generators.random_streams import RandomStream
from generators.tokenization import Tokenizer
from zoo.training.needle_texts import NeedleTexts
from zoo.training.task_texts import TaskTexts
from zoo.training.texts import NEEDLES, Ends, Mixture, TrainingText, weighted

__all__ = ["MixedTexts"]


class MixedTexts:
    """Draws texts of at most `context` tokens, each a function of its random stream and round alone."""

    def __init__(self, mixture: Mixture, tokenizer: Tokenizer, ends: Ends, essays: Corpus) -> None:
        self._mixture = mixture
        self._needles = NeedleTexts(mixture, tokenizer, ends, essays)
        self._tasks = TaskTexts(mixture, tokenizer, ends, essays)

    def text(self, random: RandomStream, round_number: int, context: int) -> TrainingText:
        """One text; where the drawn task does not fit the context, one about needles."""
        kind = weighted(random, self._mixture.texts)
        text = None if kind == NEEDLES else self._tasks.text(kind, random.stream(kind), round_number, context)
        return self._needles.text(random, context) if text is None else text
