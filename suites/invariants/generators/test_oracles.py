"""The oracle and the window oracles, decoded as any model is."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import binom

from generators.corpora.sets import EmbeddedCorpora
from generators.examples import Example, ExampleSource
from generators.oracles import oracle_answer
from generators.tasks.registry import RULER, tasks
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
    model = LoadedModel(
        ZOO.models["oracle"], Oracle(POCKET, CORPORA, window), POCKET, source.prompt_template, environment={}
    )
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
    assert _measured(_source(task, length), samples=4) == 1


def _read(source: ExampleSource, example: Example, window: int) -> float:
    """The score of who reads the last tokens of a prompt."""
    answer = oracle_answer(POCKET.decode(example.ids[-window:]), CORPORA)
    return source.task.score(answer, example.references)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("task", ["essay-word-number", "repeat-word-number", "essay-word-uuid", "needles-word-number"])
def test_a_window_sees_the_depths_that_it_should(task, length):
    """At each depth, the accuracy of a window lies within the 99% interval of what is worked out."""
    if task == "needles-word-number" and length == 256:
        pytest.skip("a line of distractors more does not fit")
    for depth in DEPTHS:
        source = _source(task, length, depth)
        examples = source.examples(6)
        for window in (200, 700):
            expected = expected_accuracy(source, window)
            measured = sum(_read(source, example, window) for example in examples) / 6
            assert _within(measured, expected, 6), (depth, window, expected)


@pytest.mark.parametrize("length", [1024, 4096])
@pytest.mark.parametrize(
    "task", ["niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2"]
)
def test_a_window_sees_the_share_of_drawn_depths_that_it_should(task, length):
    """Where the depth is drawn, accuracies lie within the 99% interval, of all cells, of what is worked out."""
    source = _source(task, length)
    expected = expected_accuracy(source, 600)
    assert 0.05 < expected < 0.9
    measured = sum(_read(source, example, 600) for example in source.examples(150)) / 150
    assert _within(measured, expected, 150, confidence=1 - 0.01 / 10), expected


@pytest.mark.parametrize("window", [12, 200, 600])
@pytest.mark.parametrize("task", ["niah_single_2", "niah_multikey_2", "vt", "qa_1"])
def test_a_window_of_a_decoder_is_the_end_of_its_prompt(task, window):
    """Decoded as any model is, an oracle with a window answers what the last tokens alone give away."""
    source = _source(task, 1024)
    assert _measured(source, 10, window) == sum(_read(source, each, window) for each in source.examples(10)) / 10


def test_an_unseen_question_gets_no_answer():
    """A window that holds less than the question answers nothing right."""
    assert _measured(_source("niah_single_1", 512), 10, window=12) == 0


@pytest.mark.parametrize("task", RULER)
def test_a_prompt_is_recognized_by_its_own_oracle_alone(task):
    """Of all oracles only the task's own answers its prompt, whatever part of it is seen from the question on."""
    source = _source(task, ZOO.smallest_length.get(task, 512))
    text = source.example(0).text
    for seen in (text, text[len(text) // 2 :]):
        answered = {each.oracle for each in tasks().values() if each.oracle(seen, CORPORA) is not None}
        assert answered == {source.task.oracle}


def test_other_tasks_have_no_such_accuracy():
    """A task that hides no needle is refused by its name."""
    with pytest.raises(ValueError, match="vt is no needle"):
        expected_accuracy(_source("vt", 1024), 100)
