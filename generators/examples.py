"""Examples: prompts of one cell, each a function of its index alone."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from generators.budget import Fitted, LengthTooSmall, fit
from generators.corpora import Corpus
from generators.draws import EVALUATION, Draw
from generators.tasks import Setting, Task
from generators.tokenization import Tokenizer

__all__ = ["Example", "ExampleSource"]


@dataclass(frozen=True)
class Example:
    """One prompt and what a right answer holds.

    Attributes:
        index: Its number within the cell.
        prompt: The text, answer prefix included.
        ids: The tokens of `prompt` as the model is fed them.
        references: What a right answer holds.
        needle_tokens: For each reference, the index of its needle's first token.
        depths: For each reference, the share of the haystack's tokens before its needle, in percent.
    """

    index: int
    prompt: str
    ids: tuple[int, ...]
    references: tuple[str, ...]
    needle_tokens: tuple[int, ...]
    depths: tuple[float, ...]

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change when the prompt, its ids or the references do."""
        content = repr((self.prompt, self.ids, self.references))
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
        corpus: The text of essay haystacks.
        tokens_to_generate: Tokens kept free for the answer.
        depth: Where the answering needles go in percent; None draws it.
        namespace: `EVALUATION` or `TRAINING`.
    """

    task: Task
    length: int
    tokenizer: Tokenizer
    corpus: Corpus
    tokens_to_generate: int
    depth: float | None = None
    namespace: str = EVALUATION

    def example(self, index: int) -> Example:
        """Example `index`; the same whichever others are made, and in whatever order.

        Raises:
            LengthTooSmall: It does not fit; the error names the smallest length it fits.
        """
        fitted = self._fitted(index, self.length - self.tokens_to_generate)
        if isinstance(fitted, int):
            raise LengthTooSmall(self.task.name, self.length, fitted + self.tokens_to_generate)
        references, prompt = fitted
        return Example(
            index=index,
            prompt=prompt.rendered.text,
            ids=prompt.encoding.ids,
            references=references,
            needle_tokens=tuple(map(prompt.encoding.token_at, prompt.rendered.needles)),
            depths=prompt.rendered.depths,
        )

    def examples(self, count: int) -> list[Example]:
        """The first `count` examples.

        Raises:
            LengthTooSmall: One of them does not fit; the error names the smallest length that fits
                all of them.
        """
        try:
            return [self.example(index) for index in range(count)]
        except LengthTooSmall:
            smallest = self.smallest_length(count)
            raise LengthTooSmall(self.task.name, self.length, smallest) from None

    def smallest_length(self, count: int) -> int:
        """The smallest length in tokens that fits the first `count` examples."""
        sizes = (self._fitted(index, -math.inf) for index in range(count))
        return max(size for size in sizes if isinstance(size, int)) + self.tokens_to_generate

    def _fitted(self, index: int, budget: float) -> int | tuple[tuple[str, ...], Fitted]:
        setting = Setting(self.corpus, self.depth, self.tokenizer.count)
        draft = self.task.draft(self.task.parameters, Draw(self.namespace, self.task.name, index), setting)
        fitted = fit(draft, self.tokenizer, budget)
        return fitted if isinstance(fitted, int) else (draft.references, fitted)
