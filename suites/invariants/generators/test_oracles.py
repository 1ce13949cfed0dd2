"""The oracle and the window oracles, decoded as any model is."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import binom

from generators.corpora.sets import EmbeddedCorpora
from generators.examples import ExampleSource
from generators.tasks.registry import RULER
from generators.tokenizer_files import load_tokenizer
from generators.window_accuracy import expected_accuracy
from models.evaluation import answer
from models.families.oracle.model import Oracle
from models.loading import LoadedModel
from zoo.cards import load_zoo

ZOO = load_zoo("sanity")
POCKET = load_tokenizer(
    Path(__file__).resolve().parents[3] / "zoo" / "pocket" / "tokenizer.json", end_of_sequence="<|endoftext|>"
)
CORPORA = EmbeddedCorpora()
LENGTHS = (256, 512, 1024, 2048, 4096)
DEPTHS = (0, 20, 40, 50, 60, 80, 100)


def _source(task: str, length: int, depth: float | None = None) -> ExampleSource:
    return ExampleSource(ZOO.tasks[task], length, POCKET, CORPORA, ZOO.budget(task), depth)


def _measured(source: ExampleSource, samples: int, window: int | None = None) -> float:
    """The accuracy, in [0, 1], through the decoding and the scoring of every model."""
    model = LoadedModel(ZOO.models["oracle"], Oracle(POCKET, CORPORA, window), POCKET, source.frame, environment={})
    answers = answer(
        model,
        source.examples(samples),
        score=source.task.score,
        expected=source.task.answer,
        tokens_to_generate=source.tokens_to_generate,
        batch_tokens=65536,
    )
    return sum(answers.scores) / samples


def _within(measured: float, expected: float, samples: int, confidence: float = 0.99) -> bool:
    """Whether a share lies in the central part of a binomial distribution."""
    low, high = binom.interval(confidence, samples, expected) if 0 < expected < 1 else (samples * expected,) * 2
    return low <= measured * samples + 1e-9 and measured * samples - 1e-9 <= high


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("task", RULER)
def test_the_oracle_is_always_right(task, length):
    """The oracle scores 100 on every task at every length it fits."""
    if length < ZOO.smallest_length.get(task, 0):
        pytest.skip(f"{task} does not fit {length} tokens")
    assert _measured(_source(task, length), samples=8) == 1


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("task", ["essay-word-number", "repeat-word-number", "essay-word-uuid", "needles-word-number"])
@pytest.mark.parametrize("window", [200, 700])
def test_a_window_sees_the_depths_that_it_should(task, length, window):
    """At each depth, the accuracy of a window lies within the 99% interval of what is worked out."""
    if task == "needles-word-number" and length == 256:
        pytest.skip("a line of distractors more does not fit")
    for depth in DEPTHS:
        source = _source(task, length, depth)
        expected = expected_accuracy(source, window)
        assert _within(_measured(source, 20, window), expected, 20), (depth, expected)


@pytest.mark.parametrize("length", LENGTHS[2:])
@pytest.mark.parametrize(
    "task", ["niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2"]
)
def test_a_window_sees_the_share_of_drawn_depths_that_it_should(task, length):
    """Where the depth is drawn, accuracies lie within the 99% interval, of all cells, of what is worked out."""
    source = _source(task, length)
    expected = expected_accuracy(source, 600)
    assert 0.05 < expected < 0.9
    assert _within(_measured(source, 150, 600), expected, 150, confidence=1 - 0.01 / 15), expected


def test_an_unseen_question_gets_no_answer():
    """A window that holds less than the question answers nothing right."""
    assert _measured(_source("niah_single_1", 512), 10, window=12) == 0


def test_other_tasks_have_no_such_accuracy():
    """A task that hides no needle is refused by its name."""
    with pytest.raises(ValueError, match="vt is no needle"):
        expected_accuracy(_source("vt", 1024), 100)
