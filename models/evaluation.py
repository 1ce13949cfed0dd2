"""From examples to scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from generators.examples import Example
from generators.tokenization import Tokenizer
from models.decoding.greedy import AnswerListener, GreedySettings, greedy
from models.families.endpoint.model import Endpoint
from models.loading import LoadedModel

__all__ = ["Answers", "answer"]

# Of log-likelihoods that are kept; what other thread counts change is smaller.
_DIGITS: Final = 3


@dataclass(frozen=True)
class Answers:
    """What a model made of some examples, in their order.

    Attributes:
        predictions: The generated texts, as far as they matter: an answer that has all it could score is
            not gone on with.
        scores: In [0, 1].
        log_likelihoods: Of the answers that were expected, in nats; empty where a server answers.
        seconds: Wall time of reading and writing.
    """

    predictions: tuple[str, ...]
    scores: tuple[float, ...]
    log_likelihoods: tuple[float, ...]
    seconds: float


def answer(
    model: LoadedModel,
    examples: Sequence[Example],
    *,
    score: Callable[[str, Sequence[str]], float],
    expected: Callable[[Sequence[str]], str],
    tokens_to_generate: int,
    batch_tokens: int | None = None,
    scored: Callable[[Example, float], None] = lambda example, score: None,
) -> Answers:
    """Lets a model answer examples greedily and scores its answers.

    Args:
        model: The model.
        examples: What it is asked.
        score: Prediction and references to a score in [0, 1].
        expected: References to the words of a right answer.
        tokens_to_generate: The longest answer, in tokens.
        batch_tokens: Tokens read at once; None takes what fits into memory.
        scored: Called with each example and its score as soon as it is known.

    Raises:
        models.decoding.greedy.NonFiniteLogits: The model's output is not a number.
        models.families.endpoint.model.EndpointError: A server did not answer.
    """
    began = time.perf_counter()
    answers = _ScoredAnswers(model.tokenizer, examples, score, scored)
    prompts = [example.ids for example in examples]
    if isinstance(model.decoder, Endpoint):
        model.decoder.continued(prompts, tokens_to_generate=tokens_to_generate, finished=answers.answered)
    else:
        greedy(
            model.decoder,
            prompts,
            GreedySettings(tokens_to_generate, model.tokenizer.end_of_sequence, batch_tokens),
            drafts=[model.tokenizer.continued(expected(example.references)).ids for example in examples],
            prefixes=model.prefixes,
            listener=answers,
        )
    found = answers.log_likelihoods
    log_likelihoods = tuple(round(found[row], _DIGITS) for row in sorted(found))
    seconds = time.perf_counter() - began
    return Answers(tuple(answers.predictions), tuple(answers.scores), log_likelihoods, seconds)


class _ScoredAnswers(AnswerListener):
    """Scores each answer as soon as it is known, and ends those that have all they could score."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        examples: Sequence[Example],
        score: Callable[[str, Sequence[str]], float],
        scored: Callable[[Example, float], None],
    ) -> None:
        self.predictions = [""] * len(examples)
        self.scores = [0.0] * len(examples)
        self.log_likelihoods: dict[int, float] = {}
        self._tokenizer = tokenizer
        self._examples = examples
        self._score = score
        self._scored = scored
        self._steady = tokenizer.decodes_steadily

    def answered(self, row: int, prediction: str) -> None:
        """The text of an answer is known."""
        self.predictions[row] = prediction
        self.scores[row] = self._score(prediction, self._examples[row].references)
        self._scored(self._examples[row], self.scores[row])

    def finished(self, row: int, ids: list[int]) -> None:
        self.answered(row, self._tokenizer.decode(ids))

    def complete(self, row: int, ids: list[int]) -> bool:
        """Whether an answer has all its references.

        One that has been found stays found, whatever follows: references are looked for anywhere in an
        answer, and what follows changes neither the text before it nor its lower case, if that is ASCII.
        """
        references = self._examples[row].references
        return (
            self._steady
            and all(map(str.isascii, references))
            and self._score(self._tokenizer.decode(ids), references) == 1
        )

    def log_likelihood_known(self, row: int, log_likelihood: float) -> None:
        self.log_likelihoods[row] = log_likelihood
