"""The token budget: the largest prompt that fits a length, and the error when none does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from generators.assembly import Assembly, Piece, assemble, templated
from generators.prompt_templates import PromptTemplate
from generators.tokenization import Tokenizer

__all__ = ["Fitted", "LengthTooSmall", "PromptBuilder", "Rendered", "fit", "largest"]

# Of the budget, for a first try that all but surely fits.
_FIRST_SHARE: Final = 0.7


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
    """A prompt of one size.

    Attributes:
        pieces: The prompt, without what a model's prompt template adds.
        answer_prefix: The beginning of the answer.
        needles: The index of the piece that begins each needle holding a reference.
        depths: For each of them, the share of the haystack's tokens before it, in percent.
    """

    pieces: tuple[Piece, ...]
    answer_prefix: str
    needles: tuple[int, ...] = ()
    depths: tuple[float, ...] = ()

    @property
    def text(self) -> str:
        """The prompt's text, without the answer prefix."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True)
class PromptBuilder:
    """A prompt whose size is still open.

    Attributes:
        references: What a right answer holds.
        tokens: Number of units, at least 1, to the tokens they take; never falls.
        render: Number of units to the prompt.
        constant: Whether everything but the units takes as many tokens whatever their number, and
            units meet each other and the rest at token boundaries.
        most: The largest number of units there can be; None leaves it to the budget.
        spread: Whether what stands between units is tokenized with them, so that a small prompt would
            be other pieces than a large one.
        beside: Where all is constant, the tokens of everything but the units, if they are known
            beforehand; they save a small prompt, and a wrong number costs no more than a try.
    """

    references: tuple[str, ...]
    tokens: Callable[[int], int]
    render: Callable[[int], Rendered]
    constant: bool = False
    most: int | None = None
    spread: bool = False
    beside: int | None = None


@dataclass(frozen=True)
class Fitted:
    """A prompt that fills its budget.

    Attributes:
        units: The units it holds, at least one.
        rendered: The prompt.
        assembly: Its tokens, prompt template included.
    """

    units: int
    rendered: Rendered
    assembly: Assembly


def fit(
    builder: PromptBuilder, tokenizer: Tokenizer, budget: float, prompt_template: PromptTemplate | None = None
) -> Fitted | int:
    """Finds the largest prompt of at most `budget` tokens.

    Units are tokenized once and counted; the number that this gives is corrected on assembled prompts,
    so the answer holds where borders are no token boundaries too. It is a function of its arguments alone.

    Returns:
        The filled prompt: one unit more would not fit. Where not even one unit fits, the number of
        tokens that a prompt with one unit takes.
    """
    around = prompt_template or PromptTemplate()

    def attempt(units: int) -> Fitted:
        rendered = builder.render(units)
        return Fitted(units, rendered, assemble(tokenizer, templated(around, rendered.pieces, rendered.answer_prefix)))

    too_many = builder.most + 1 if builder.most is not None else None
    if builder.constant and builder.beside is not None and builder.beside < budget:
        known = attempt(largest(builder.tokens, budget - builder.beside, too_many))
        if known.assembly.count == builder.beside + builder.tokens(known.units) <= budget:
            return known
    best = attempt(largest(builder.tokens, _FIRST_SHARE * budget, builder.most) if builder.spread and budget > 0 else 1)
    if best.assembly.count > budget and best.units > 1:
        best = attempt(1)
    if best.assembly.count > budget:
        return best.assembly.count
    beside = best.assembly.count - builder.tokens(best.units)
    while too_many is None or best.units + 1 < too_many:
        fits = largest(builder.tokens, budget - beside, too_many)
        tried = attempt(max(fits, best.units + 1))
        used = tried.assembly.count
        exact = builder.constant and used == beside + builder.tokens(tried.units)
        if used > budget:
            too_many = tried.units
        else:
            best = tried
            if exact and tried.units == fits:
                break
        beside = used - builder.tokens(tried.units)
    return best


def largest(tokens: Callable[[int], int], room: float, too_many: int | None = None) -> int:
    """The largest number of units below `too_many` that take at most `room` tokens; 1 if none does."""
    low, high = 1, 4
    below = tokens(low)
    while (too_many is None or high < too_many) and (above := tokens(high)) <= room:
        # Units are about equally long, so a little more than their share of the room is soon too much.
        low, below, high = high, above, max(2 * high, int(1.1 * high * room / max(above, 1)))
    if too_many is not None and high >= too_many:
        high = too_many
    above = tokens(high)
    interpolating = True
    while low + 1 < high:
        middle = (low + high) // 2
        if interpolating and above > below:
            # Halving in turn sees to it that this comes to an end soon.
            middle = min(max(low + int((room - below) * (high - low) / (above - below)), low + 1), high - 1)
        interpolating = not interpolating
        found = tokens(middle)
        if found <= room:
            low, below = middle, found
        else:
            high, above = middle, found
    return low
