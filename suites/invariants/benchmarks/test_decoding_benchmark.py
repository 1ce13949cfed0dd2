"""The decoding benchmark calls answers the same only where they are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.decoding import different
from benchmarks.decoding_sides import Answered

answers = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 1.0]), st.text("ab", max_size=4)), min_size=1, max_size=8)
changes = st.sampled_from(["longer", "score", "text"])


def answered(pairs: list[tuple[float, str]]) -> Answered:
    """A side's answers; what they took does not matter."""
    return Answered(tuple(score for score, _ in pairs), tuple(text for _, text in pairs), 1.0, 1.0, 1, 1)


@given(answers, st.data())
@settings(max_examples=80)
def test_exactly_the_answers_that_differ_are_named(pairs, data):
    """Only another score, and only a text that does not begin with ours, counts as different, and by its number."""
    drawn = data.draw(st.lists(changes, min_size=len(pairs), max_size=len(pairs)))
    changed = {
        "longer": lambda score, text: (score, f"{text}c"),
        "score": lambda score, text: (score + 0.5, text),
        "text": lambda score, text: (score, f"c{text}"),
    }
    theirs = answered([changed[change](*pair) for change, pair in zip(drawn, pairs, strict=True)])
    scores, texts = different(answered(pairs), theirs)
    assert scores == [i for i, change in enumerate(drawn) if change == "score"]
    # The empty text is the beginning of any.
    assert texts == [i for i, change in enumerate(drawn) if change == "text" and pairs[i][1]]


@given(answers)
@settings(max_examples=10)
def test_sides_of_unequal_size_are_no_comparison(pairs):
    """Answers to unequally many examples are refused."""
    ours = answered(pairs)
    with pytest.raises(ValueError, match="argument 2"):
        different(ours, replace(ours, scores=ours.scores[1:], predictions=ours.predictions[1:]))
