"""What an oracle that sees only the last tokens of a prompt scores, worked out without asking it.

A needle is seen if it begins within the window. Let the haystack have H tokens, h of them before the
insertion point the needle is put at, and let what follows the haystack take q tokens and a needle n. Then a
window of N tokens sees it if H - h + n + q <= N; other needles behind it add n each. At a given depth, h is
the last insertion point not beyond it; where the depth is drawn, the accuracy is the share of depths whose
insertion point is late enough. H is what the length leaves, and n and q are averaged over drawn keys and values.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from generators.examples import ExampleSource
from generators.random_streams import TRAINING
from generators.tasks.needles import DEPTHS, NeedleInAHaystack, needle_in_a_haystack, planned_needles

__all__ = ["expected_accuracy"]

_SIZES: Final = 20


def expected_accuracy(source: ExampleSource, window: int) -> float:
    """The expected score of a needle task, in [0, 1].

    Args:
        source: Task, length and depth; the task must be a needle in a haystack.
        window: How many of the last tokens are seen.

    Raises:
        ValueError: The task is of another kind.
    """
    if source.task.build is not needle_in_a_haystack:
        raise ValueError(f"task {source.task.name} is no needle in a haystack")
    # Sizes come from other examples than those it shall be compared with.
    others = replace(source, namespace=TRAINING)
    return sum(_expected(others, window, index) for index in range(_SIZES)) / _SIZES


def _expected(source: ExampleSource, window: int, index: int) -> float:
    parameters: NeedleInAHaystack = source.task.parameters
    context = source.context(index)
    plan = planned_needles(parameters, source.random_stream(index), context)
    count = source.tokenizer.count
    introduction, question = count(plan.question.introduction), count(plan.question.text)
    behind = (
        question
        + count(plan.question.answer_prefix)
        + sum(1 if not isinstance(part, str) else count(part) for part in source.prompt_template.after)
    )
    needle = count(plan.haystack.leading + plan.needles[0].sentence + plan.haystack.trailing)
    before = context.template_tokens - (behind - question - count(plan.question.answer_prefix)) + introduction
    room = source.length - source.tokens_to_generate - before - behind - needle * len(plan.needles)
    units = 1
    while plan.haystack.tokens(2 * units) <= room:
        units *= 2
    units = bisect_right(range(2 * units), room, lo=units, key=plan.haystack.tokens) - 1
    insertion_points = plan.haystack.insertion_points(units)
    others = len(plan.needles) - len(plan.answering)
    if source.depth is None:
        return _drawn(parameters, insertion_points, window - behind, needle, len(plan.needles))
    place = insertion_points[bisect_right(insertion_points, source.depth / 100 * insertion_points[-1] + 1e-6) - 1]
    later = others * (1 - source.depth / 100)
    seen = [
        insertion_points[-1] - place + needle * (number + later) <= window - behind
        for number in range(1, len(plan.answering) + 1)
    ]
    return sum(seen) / len(seen)


def _drawn(
    parameters: NeedleInAHaystack, insertion_points: Sequence[int], room: int, needle: int, needles: int
) -> float:
    """The share of depths at which a needle is seen, of all that may be drawn."""
    total = insertion_points[-1]
    if parameters.haystack == "essay":
        seen = 0.0
        for depth in DEPTHS:
            place = insertion_points[bisect_right(insertion_points, depth / 100 * total + 1e-6) - 1]
            seen += total - place + needle * (1 + (needles - 1) * (1 - depth / 100)) <= room
        return seen / len(DEPTHS)
    # Of the other needles, a share stands behind: solved for the depth from which on all have room.
    shallowest = 1 - (room - needle) / (total + needle * (needles - 1))
    first = bisect_left(insertion_points, shallowest * total)
    return 0.0 if first >= len(insertion_points) else min(1 - insertion_points[first] / total, 1.0)
