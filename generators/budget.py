"""The token budget: the largest haystack that fits a length, and the error when none does."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from generators.tokenization import Encoding, Tokenizer

__all__ = ["Draft", "Fitted", "LengthTooSmall", "Rendered", "fit"]


class LengthTooSmall(ValueError):
    """Not even the smallest prompt of a task fits a length.

    Attributes:
        task: The task's name.
        length: The length asked for, in tokens.
        smallest: The smallest length that fits, in tokens.
    """

    def __init__(self, task: str, length: int, smallest: int) -> None:
        super().__init__(f"task {task} does not fit a length of {length} tokens; the smallest that fits is {smallest}")
        self.task = task
        self.length = length
        self.smallest = smallest

    def __reduce__(self) -> tuple[type[LengthTooSmall], tuple[str, int, int]]:
        return LengthTooSmall, (self.task, self.length, self.smallest)


@dataclass(frozen=True)
class Rendered:
    """A prompt of one haystack size.

    Attributes:
        text: The whole prompt, answer prefix included.
        needles: The index of the first character of each needle that holds a reference.
        depths: For each of them, the share of the haystack's tokens before it, in percent.
    """

    text: str
    needles: tuple[int, ...]
    depths: tuple[float, ...]


@dataclass(frozen=True)
class Draft:
    """A prompt whose haystack size is still open.

    Attributes:
        references: What a right answer holds.
        unit: Index of a haystack unit to its text, separator included.
        render: Number of haystack units to the prompt.
    """

    references: tuple[str, ...]
    unit: Callable[[int], str]
    render: Callable[[int], Rendered]


@dataclass(frozen=True)
class Fitted:
    """A prompt that fills its budget.

    Attributes:
        units: The haystack units it holds, at least one.
        rendered: The prompt.
        encoding: Its tokens.
    """

    units: int
    rendered: Rendered
    encoding: Encoding


def fit(draft: Draft, tokenizer: Tokenizer, budget: float) -> Fitted | int:
    """Finds the largest haystack whose prompt takes at most `budget` tokens.

    Units are counted one by one for a first guess; the guess is then corrected on whole prompts, so
    the answer holds for tokenizers that merge across the borders of units too. It is a function of
    its arguments alone and does at most a few whole tokenizations.

    Returns:
        The filled prompt: one unit more would not fit. Where not even one unit fits, the number of
        tokens that a prompt with one unit takes.
    """

    def attempt(units: int) -> Fitted:
        rendered = draft.render(units)
        return Fitted(units, rendered, tokenizer.encode(rendered.text))

    smallest = attempt(1)
    room = budget - len(smallest.encoding.ids)
    if room < 0:
        return len(smallest.encoding.ids)
    candidate = 1
    for candidate in count(1):
        # Zero-cost units (a tokenizer that drops white space, say) must not stall the count.
        room -= max(tokenizer.count(draft.unit(candidate)), 1)
        if room < 0:
            break
    best, too_many = smallest, sys.maxsize
    while best.units + 1 < too_many:
        candidate = min(max(candidate, best.units + 1), too_many - 1)
        tried = attempt(candidate)
        used = len(tried.encoding.ids)
        per_unit = max((used - len(smallest.encoding.ids)) / max(tried.units - 1, 1), 1.0)
        if used <= budget:
            best = tried
        else:
            too_many = tried.units
        candidate = tried.units + math.floor((budget - used) / per_unit)
    return best
