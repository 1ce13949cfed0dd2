"""From examples to scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from generators.examples import Example
from models.decoding.greedy import greedy
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
    predictions = [""] * len(examples)
    scores = [0.0] * len(examples)
    log_likelihoods: dict[int, float] = {}

    def finished(row: int, prediction: str) -> None:
        predictions[row] = prediction
        scores[row] = score(prediction, examples[row].references)
        scored(examples[row], scores[row])

    prompts = [example.ids for example in examples]
    if isinstance(model.decoder, Endpoint):
        model.decoder.continued(prompts, tokens_to_generate=tokens_to_generate, finished=finished)
    else:
        greedy(
            model.decoder,
            prompts,
            tokens_to_generate=tokens_to_generate,
            end_of_sequence=model.tokenizer.end_of_sequence,
            batch_tokens=batch_tokens,
            finished=lambda row, ids: finished(row, model.tokenizer.decode(ids)),
            settled=_settled(model, examples, score),
            prefixes=model.prefixes,
            drafts=[model.tokenizer.continued(expected(example.references)).ids for example in examples],
            weighed=log_likelihoods.__setitem__,
        )
    weights = tuple(round(log_likelihoods[row], _DIGITS) for row in sorted(log_likelihoods))
    return Answers(tuple(predictions), tuple(scores), weights, time.perf_counter() - began)


def _settled(
    model: LoadedModel, examples: Sequence[Example], score: Callable[[str, Sequence[str]], float]
) -> Callable[[int, list[int]], bool]:
    """Whether an answer has all it could score.

    A reference that has been found stays found, whatever follows: references are looked for anywhere in an
    answer, and what follows changes neither the text before it nor its lower case, if that is ASCII.
    """
    steady = model.tokenizer.decodes_steadily

    def settled(row: int, ids: list[int]) -> bool:
        references = examples[row].references
        return steady and all(map(str.isascii, references)) and score(model.tokenizer.decode(ids), references) == 1

    return settled
