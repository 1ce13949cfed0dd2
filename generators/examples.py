"""Examples: prompts of one cell, each a function of its index alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from generators.assembly import Assembly
from generators.budget import Fitted, LengthTooSmall, PromptBuilder, fit
from generators.corpora.sets import Corpora
from generators.prompt_templates import PromptTemplate
from generators.random_streams import EVALUATION, RandomStream
from generators.tasks.registry import Task, TaskContext
from generators.tokenization import Tokenizer

__all__ = ["Example", "ExampleSource"]

_NO_TEMPLATE: Final = PromptTemplate()


@dataclass(frozen=True)
class Example:
    """One prompt and what a right answer holds.

    Attributes:
        index: Its number within the cell.
        prompt: The text, chat template included, up to the answer prefix; tokens that are only ids
            (a beginning-of-sequence token that no template spells out) are not in it.
        answer_prefix: The beginning of the answer, which the model goes on with.
        references: What a right answer holds.
        assembly: The tokens of the whole.
        needle_tokens: For each needle that holds a reference, the index of its first token; empty
            where a task hides none.
        depths: For each of them, the share of the haystack's tokens before it, in percent.
        answer_token: How many tokens stand before the first reference where a needle holds it.
    """

    index: int
    prompt: str
    answer_prefix: str
    references: tuple[str, ...]
    assembly: Assembly = field(repr=False, compare=False)
    needle_tokens: tuple[int, ...] = ()
    depths: tuple[float, ...] = ()
    answer_token: int | None = None

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """The tokens of the whole as the model is fed them."""
        return self.assembly.ids

    @property
    def text(self) -> str:
        """Prompt and answer prefix."""
        return self.prompt + self.answer_prefix

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change when the prompt, its ids or the references do."""
        content = repr((self.text, self.ids, self.references))
        return hashlib.sha256(content.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class ExampleSource:
    """Everything that fixes the examples of a cell.

    Seeds depend on the task and the index, not on length or depth: cells of one task ask the same
    questions, so that lengths and depths can be compared in pairs.

    Attributes:
        task: The task.
        length: The longest prompt plus answer, in tokens.
        tokenizer: The model's own tokenizer.
        corpora: Essays, questions and words.
        tokens_to_generate: Tokens kept free for the answer.
        depth: Where what answers the question goes, in percent; None draws it.
        namespace: `EVALUATION` or `TRAINING`.
        prompt_template: What the model wants around every prompt.
        seed: Other seeds give other examples.
    """

    task: Task
    length: int
    tokenizer: Tokenizer
    corpora: Corpora
    tokens_to_generate: int
    depth: float | None = None
    namespace: str = EVALUATION
    prompt_template: PromptTemplate = _NO_TEMPLATE
    seed: int = 0

    def example(self, index: int) -> Example:
        """Example `index`; the same whichever others are made, and in whatever order.

        Raises:
            LengthTooSmall: It does not fit; the error names the smallest length it fits.
        """
        fitted = self._fitted(index, self.length - self.tokens_to_generate)
        if isinstance(fitted, int):
            raise LengthTooSmall(self.task.name, self.length, self._smallest(range(index, index + 1), self.length))
        references, prompt = fitted
        pieces = prompt.rendered.pieces
        starts = prompt.assembly.starts[len(self.prompt_template.before) :]
        answers = ((piece, pieces[piece].text.find(references[0])) for piece in prompt.rendered.needles)
        held = next(((piece, place) for piece, place in answers if place >= 0), None)
        return Example(
            index=index,
            prompt=self.prompt_template.around(prompt.rendered.text),
            answer_prefix=prompt.rendered.answer_prefix,
            references=references,
            assembly=prompt.assembly,
            needle_tokens=tuple(starts[piece] for piece in prompt.rendered.needles),
            depths=prompt.rendered.depths,
            answer_token=None if held is None else self._token_at(pieces[held[0]].text, held[1], starts[held[0]]),
        )

    def _token_at(self, piece: str, place: int, start: int) -> int:
        # The blank before it belongs to its own first token.
        return start + self.tokenizer.count(piece[:place].strip())

    def stream(self, count: int) -> Iterator[Example]:
        """The first `count` examples, one at a time.

        Raises:
            LengthTooSmall: One of them does not fit; the error names the smallest length that fits
                all of them.
        """
        yield from self._stream(range(count))

    def examples(self, count: int) -> list[Example]:
        """The first `count` examples; raises as `stream`."""
        return list(self.stream(count))

    def chosen(self, indices: Sequence[int]) -> list[Example]:
        """The examples of some indices; raises as `stream`."""
        return list(self._stream(indices))

    def _stream(self, indices: Sequence[int]) -> Iterator[Example]:
        for index in indices:
            try:
                yield self.example(index)
            except LengthTooSmall:
                smallest = self._smallest(indices, self.length)
                raise LengthTooSmall(self.task.name, self.length, smallest) from None

    def smallest_length(self, count: int) -> int:
        """The smallest length in tokens that fits the first `count` examples."""
        return self._smallest(range(count), 1)

    def _smallest(self, indices: Sequence[int], length: int) -> int:
        """The smallest length from `length` on that fits some examples."""
        # What a task shows beside its haystack may grow with the length, so the first answer is a start.
        while True:
            source = replace(self, length=length)
            sizes = (source._fitted(index, -math.inf) for index in indices)
            smallest = max(size for size in sizes if isinstance(size, int)) + self.tokens_to_generate
            if smallest <= length:
                return length
            length = smallest

    def context(self, index: int) -> TaskContext:
        """What the task may use for example `index`."""
        return TaskContext(
            index=index,
            length=self.length,
            tokens_to_generate=self.tokens_to_generate,
            template_tokens=self.prompt_template.tokens(self.tokenizer),
            tokenizer=self.tokenizer,
            corpora=self.corpora,
            depth=self.depth,
            shared=RandomStream(self.namespace, self.seed, self.task.name),
        )

    def random_stream(self, index: int) -> RandomStream:
        """The random stream of example `index`."""
        return RandomStream(self.namespace, self.seed, self.task.name, index)

    def builder(self, index: int) -> PromptBuilder:
        """Example `index` while its size is still open."""
        return self.task.build(self.task.parameters, self.random_stream(index), self.context(index))

    def _fitted(self, index: int, budget: float) -> int | tuple[tuple[str, ...], Fitted]:
        builder = self.builder(index)
        fitted = fit(builder, self.tokenizer, budget, self.prompt_template)
        return fitted if isinstance(fitted, int) else (builder.references, fitted)
