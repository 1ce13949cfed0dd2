"""Scoring against RULER's rule, written a second time from its definition."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.scoring import all_references, best_reference, cleaned

# Cases and controls that trip up case folding, stripping and regular expressions.
odd = st.sampled_from(
    list("aAbB1 \t\n\r\x00\x0b\x0c\x1b\x1c\x1f\x7f\x85\xa0ß\u017f\u0130\u0131\u03a3\u03c2\u212a\u2028\u200b.*$^")
)
texts = st.one_of(st.text(odd, max_size=20), st.text(max_size=20))
references = st.lists(st.one_of(st.text(odd, min_size=1, max_size=3), st.text(max_size=3)), min_size=1, max_size=5)


def _rulers_prediction(prediction: str) -> str:
    """RULER's postprocessing, a character at a time."""
    return "".join("\n" if ord(character) <= 0x1F else character for character in prediction.strip()).strip()


def _found(prediction: str, wanted: list[str]) -> list[bool]:
    lower = _rulers_prediction(prediction).lower()
    return [lower.find(reference.lower()) != -1 for reference in wanted]


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A prediction that holds some of the references, in another case now and then."""
    wanted = draw(references)
    held = draw(st.lists(st.sampled_from(wanted), max_size=4))
    cased = [draw(st.sampled_from([str, str.upper, str.lower, str.swapcase]))(each) for each in held]
    return draw(texts) + "".join(each + draw(texts) for each in cased), wanted


@given(answers())
def test_all_references_is_rulers_rule(answer):
    """The score is the share of references that RULER finds."""
    prediction, wanted = answer
    found = _found(prediction, wanted)
    assert all_references(prediction, wanted) == found.count(True) / len(found)


@given(answers())
def test_best_reference_is_rulers_rule(answer):
    """The score is 1 where RULER finds any reference, else 0."""
    prediction, wanted = answer
    assert best_reference(prediction, wanted) == max(map(float, _found(prediction, wanted)))


@given(texts)
def test_cleaning_is_rulers(prediction):
    """Control characters become line ends and the rims are stripped, and doing so twice changes nothing."""
    assert cleaned(prediction) == _rulers_prediction(prediction)
    assert cleaned(cleaned(prediction)) == cleaned(prediction)


@given(references)
def test_an_empty_prediction_finds_nothing(wanted):
    """A prediction of nothing, or of nothing but blanks, scores 0 unless a reference is empty too."""
    for prediction in ("", " \n\t", "\x00\x1f"):
        assert all_references(prediction, wanted) == wanted.count("") / len(wanted)
        assert best_reference(prediction, wanted) == float("" in wanted)


@given(answers())
def test_the_order_of_references_does_not_matter(answer):
    """References may come in any order, and every score lies in [0, 1]."""
    prediction, wanted = answer
    for score in (all_references, best_reference):
        assert score(prediction, wanted) == score(prediction, wanted[::-1])
        assert 0 <= score(prediction, wanted) <= 1


@pytest.mark.parametrize(
    ("prediction", "wanted", "share", "any_of_them"),
    [
        ("The number is 1234567.", ["1234567"], 1.0, 1.0),
        ("1234568", ["1234567"], 0.0, 0.0),
        ("one, TWO and four", ["One", "two", "three", "FOUR"], 0.75, 1.0),
        ("Straße", ["STRASSE"], 0.0, 0.0),
        ("12\x0034", ["1234"], 0.0, 0.0),
        ("two\twords", ["two words"], 0.0, 0.0),
        ("two\x00words", ["two\nwords"], 1.0, 1.0),
        ("aaa", ["a", "a", "b"], 2 / 3, 1.0),
        ("12345678", ["1234567"], 1.0, 1.0),
    ],
)
def test_examples(prediction, wanted, share, any_of_them):
    """Answers that a person can check score what RULER gives them."""
    assert all_references(prediction, wanted) == share
    assert best_reference(prediction, wanted) == any_of_them


# Scored by RULER's own functions; `benchmarks/ruler_agreement.py` made them.
CASES = json.loads(Path(__file__).with_name("ruler_scores.json").read_text(encoding="utf-8"))


def test_scores_are_rulers_on_cases_that_it_scored():
    """On at least a thousand cases that RULER's own functions scored, ours give the same to two decimals."""
    assert len(CASES) >= 1000
    for case in CASES:
        prediction, wanted = case["prediction"], case["references"]
        assert round(100 * all_references(prediction, wanted), 2) == case["all"]
        assert round(100 * best_reference(prediction, wanted), 2) == case["part"]
        assert (cleaned(prediction) == "") == case["null"]
    assert {0.0, 100.0} < {case["all"] for case in CASES}
    assert any(case["null"] for case in CASES)
