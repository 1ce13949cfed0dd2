"""Training texts of the registered tasks: an example and its answer."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any, Final

from generators.budget import LengthTooSmall
from generators.corpora.essays import Corpus
from generators.corpora.people import people_questions
from generators.corpora.questions import QuestionSet
from generators.corpora.sets import WordList
from generators.examples import Example, ExampleSource
from generators.random_streams import TRAINING, RandomStream
from generators.tasks.registry import Task, tasks
from generators.tokenization import Tokenizer
from zoo.training.texts import Ends, Mixture, Part, TrainingText, encoded

__all__ = ["TaskTexts"]

_INDICES: Final = 10**9


class TrainingCorpora:
    """The embedded essays, and questions other than the evaluation's.

    Args:
        essays: The essays.
        round_number: Others have other questions.
    """

    name: Final = "training"

    def __init__(self, essays: Corpus, round_number: int) -> None:
        self.essays = essays
        self._round = round_number

    @cached_property
    def single_hop(self) -> QuestionSet:
        return people_questions(RandomStream(TRAINING, "single_hop", self._round), hops=1)

    @cached_property
    def two_hop(self) -> QuestionSet:
        return people_questions(RandomStream(TRAINING, "two_hop", self._round), hops=2)

    @cached_property
    def words(self) -> WordList:
        return WordList(())


class TaskTexts:
    """Draws texts of at most `context` tokens, each a function of its random stream and round alone."""

    def __init__(self, mixture: Mixture, tokenizer: Tokenizer, ends: Ends, essays: Corpus) -> None:
        self._mixture = mixture
        self._tokenizer = tokenizer
        self._ends = ends
        self._corpora = lru_cache(maxsize=2)(lambda round_number: TrainingCorpora(essays, round_number))

    def text(self, name: str, random: RandomStream, round_number: int, context: int) -> TrainingText | None:
        """One text of a task; none where the task does not fit the context."""
        changes: dict[str, Any] = {**self._mixture.parameters.get(name, {})}
        if hasattr(tasks()[name].parameters, "demonstrations") and random.below(2):
            changes["demonstrations"] = 0
        hops = getattr(tasks()[name].parameters, "hops", None)
        if hops is not None and self._mixture.any_hops:
            changes["hops"] = 1 + random.below(hops)
        task = tasks()[name].variant(name, changes)
        index = random.below(_INDICES)
        source = ExampleSource(
            task=task,
            length=context,
            tokenizer=self._tokenizer,
            corpora=self._corpora(round_number),
            tokens_to_generate=0,
            namespace=TRAINING,
            prompt_template=self._ends.first,
            seed=round_number,
        )
        try:
            # How long the answer is does not depend on the length, but on which example it is.
            references = source.builder(index).references
            room = self._tokenizer.count(task.answer(references)) + 1
            example = replace(source, tokens_to_generate=room).example(index)
        except LengthTooSmall:
            return None
        return self._encoded(task, example, context)

    def _encoded(self, task: Task, example: Example, context: int) -> TrainingText:
        answer = encoded(self._tokenizer, [Part(task.answer(example.references)), Part(self._ends.end)], context)
        ids = (*example.ids, *answer.ids)
        return TrainingText(ids[:context], ((False,) * len(example.ids) + (True,) * len(answer.ids))[:context])
