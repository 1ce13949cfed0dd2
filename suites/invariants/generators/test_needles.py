"""Properties of every needle prompt, over tokenizers, corpora, formats, lengths and depths."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from generators.budget import Fitted, LengthTooSmall, fit
from generators.corpora.sets import EmbeddedCorpora
from generators.examples import Example, ExampleSource
from generators.oracles import oracle_answer
from generators.random_streams import TRAINING
from generators.scoring import all_references
from generators.tasks import needles
from generators.tasks.needles import FORMATS, NeedleInAHaystack, needle_in_a_haystack
from generators.tasks.registry import Task, tasks
from suites.support.strategies import (
    ByteTokenizer,
    WhitespaceTokenizer,
    corpora,
    lengths,
    needle_parameters,
    tokenizers,
)

EMBEDDED = EmbeddedCorpora()
TOKENS_TO_GENERATE = 40
ANY_DEPTH = st.one_of(st.none(), st.integers(0, 100))
NEEDLE = re.compile(r"One of the special magic (?:word|number|uuid)s for (.+?) is: (.+?)\.(?=[ \n]|$)")
QUERY = re.compile(r"\nWhat (?:is|are all) the special magic \w+ for (.+) mentioned in the provided text\?")

quick = settings(max_examples=25)


@pytest.fixture(autouse=True, scope="module")
def _short_rounds() -> Iterator[None]:
    """Rounds of so few distractors that a prompt takes several, and that a pool is made in no time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(needles, "_DISTRACTORS_A_ROUND", 128)
        needles._distractors.cache_clear()
        yield
        needles._distractors.cache_clear()


def _task(parameters: NeedleInAHaystack) -> Task:
    return Task("under test", parameters, TOKENS_TO_GENERATE, all_references, needle_in_a_haystack, oracle_answer)


@st.composite
def sources(draw: st.DrawFn, *, depth: st.SearchStrategy[float | None] = ANY_DEPTH) -> ExampleSource:
    """Any way to make needle examples."""
    return ExampleSource(
        task=_task(draw(needle_parameters())),
        length=draw(lengths),
        tokenizer=draw(tokenizers),
        corpora=draw(corpora),
        tokens_to_generate=TOKENS_TO_GENERATE,
        depth=draw(depth),
    )


def _example(source: ExampleSource, index: int) -> Example:
    try:
        return source.example(index)
    except LengthTooSmall:
        assume(False)
        raise


def _queried(prompt: str) -> list[str]:
    found = QUERY.findall(prompt)[-1]
    return re.split(r", and |, ", found)


@quick
@given(sources(), st.integers(0, 10**6))
def test_prompts_stay_within_the_budget(source, index):
    """Prompt plus answer never take more tokens than the length."""
    example = _example(source, index)
    assert len(example.ids) + TOKENS_TO_GENERATE <= source.length
    assert source.tokenizer.encode(example.text).ids == example.ids


@quick
@given(sources(), st.integers(0, 10**6))
def test_prompts_are_filled_to_the_last_unit(source, index):
    """One haystack unit more would not fit the budget."""
    example = _example(source, index)
    budget = source.length - TOKENS_TO_GENERATE
    builder = source.builder(index)
    fitted = fit(builder, source.tokenizer, budget)
    assert isinstance(fitted, Fitted)
    assert fitted.rendered.text == example.prompt
    bigger = builder.render(fitted.units + 1)
    one_more = source.tokenizer.encode(bigger.text + bigger.answer_prefix).ids
    assert len(example.ids) <= budget < len(one_more)


@quick
@given(sources(), st.integers(0, 10**6))
def test_each_reference_occurs_once(source, index):
    """A reference stands in the prompt exactly once, in a needle of a queried key."""
    example = _example(source, index)
    needles = NEEDLE.findall(example.prompt)
    for reference in example.references:
        assert example.prompt.lower().count(reference.lower()) == 1
        assert next(key for key, value in needles if value == reference) in _queried(example.prompt)


@quick
@given(sources(), st.integers(0, 10**6))
def test_distractors_never_carry_a_queried_key(source, index):
    """The needles with a queried key are exactly those that hold the references."""
    example = _example(source, index)
    keys = _queried(example.prompt)
    assert len(keys) == source.task.parameters.queries
    answers = [value for key, value in NEEDLE.findall(example.prompt) if key in keys]
    assert sorted(answers) == sorted(example.references)


@quick
@given(sources(), st.integers(0, 10**6))
def test_an_oracle_scores_full_marks(source, index):
    """Whoever parses the prompt finds every reference."""
    example = _example(source, index)
    assert all_references(oracle_answer(example.text, source.corpora), example.references) == 1


@settings(max_examples=10)
@given(sources(), st.lists(st.integers(0, 200), min_size=2, max_size=5, unique=True))
def test_examples_are_independent_of_each_other(source, indices):
    """Example k is the same alone, in any order and from a fresh source."""
    together = {index: _example(source, index) for index in indices}
    again = ExampleSource(
        source.task, source.length, source.tokenizer, source.corpora, source.tokens_to_generate, source.depth
    )
    for index in reversed(indices):
        assert again.example(index) == together[index]


@quick
@given(sources(depth=st.just(0.0)), st.lists(st.integers(0, 100), min_size=2, max_size=5))
def test_the_reached_position_follows_the_depth(source, depths):
    """The needle moves on with the depth asked for, and ends within one block before it."""
    parameters = source.task.parameters
    single = NeedleInAHaystack(parameters.haystack, parameters.key, parameters.value)
    reached = []
    for depth in sorted(depths):
        insert_sentences = ExampleSource(
            _task(single), source.length, source.tokenizer, source.corpora, TOKENS_TO_GENERATE, depth
        )
        example = _example(insert_sentences, 3)
        context = example.prompt.partition("\n")[2].rpartition("\nWhat ")[0]
        needle = NEEDLE.search(example.prompt[example.prompt.lower().rindex(example.references[0].lower()) - 150 :])
        assert needle is not None
        blocks = _blocks(single, context, example)
        sizes = [source.tokenizer.count((" " if single.haystack == "essay" else "\n") + block) for block in blocks]
        total = max(sum(sizes), 1)
        assert depth - 100 * max(sizes) / total - 1e-6 <= example.depths[0] <= depth + 1e-6
        reached.append(example.needle_tokens[0])
        assert (depth < 100) or example.depths[0] == pytest.approx(100)
        assert depth > 0 or example.depths[0] == 0
    assert reached == sorted(reached)


def _blocks(parameters: NeedleInAHaystack, context: str, example: Example) -> list[str]:
    """The haystack of a prompt with one needle, cut where the needle could have gone."""
    (own,) = {match[0] for match in NEEDLE.finditer(context) if match[2].lower() == example.references[0].lower()}
    if parameters.haystack == "essay":
        rest = " ".join(context.replace(own, "").split())
        return re.split(r"(?<=[.!?]) (?=\S)", rest)
    return [line for line in context.split("\n") if line != own]


@quick
@given(sources(), st.integers(0, 10**6))
def test_the_recorded_token_holds_the_start_of_the_needle(source, index):
    """Each recorded position is the token at which the needle's sentence begins."""
    example = _example(source, index)
    starts = source.tokenizer.encode(example.text).starts
    beginnings = {match[2]: match.start() for match in NEEDLE.finditer(example.prompt)}
    for reference, token in zip(example.references, example.needle_tokens, strict=True):
        end = starts[token + 1] if token + 1 < len(starts) else len(example.prompt)
        assert starts[token] <= beginnings[reference] < end or end == starts[token]


@settings(max_examples=10)
@given(sources(), st.integers(1, 3))
def test_a_length_too_small_names_the_smallest_that_fits(source, samples):
    """At the named length every example fits; at one token less, not all do."""
    smallest = source.smallest_length(samples)

    def at(length: int) -> ExampleSource:
        return ExampleSource(
            source.task, length, source.tokenizer, source.corpora, source.tokens_to_generate, source.depth
        )

    assert len(at(smallest).examples(samples)) == samples
    with pytest.raises(LengthTooSmall, match=f"under test .* {smallest - 1} tokens.* {smallest}$"):
        at(smallest - 1).examples(samples)


@pytest.mark.parametrize("name", [name for name in tasks() if name.startswith("niah")])
def test_ruler_tasks_are_worded_as_ruler_does(name):
    """With haystack, keys and values masked, a prompt is RULER's, in its singular or plural."""
    example = ExampleSource(tasks()[name], 600, WhitespaceTokenizer(), EMBEDDED, 128).example(0)
    introduction, rest = example.prompt.split("\n", 1)
    question = rest.rpartition("\n")[2] + example.answer_prefix
    kind = "uuid" if name in ("niah_single_3", "niah_multikey_3") else "number"
    if name in ("niah_multivalue", "niah_multiquery"):
        begin, verb, plural, how_many = "Some", "are", f"{kind}s", "are all"
    else:
        begin, verb, plural, how_many = "A", "is", kind, "is"
    masked = question
    for key in _queried(example.prompt):
        masked = masked.replace(key, "KEY")
    keys = "KEY, KEY, KEY, and KEY" if name == "niah_multiquery" else "KEY"
    assert introduction == (
        f"{begin} special magic {plural} {verb} hidden within the following text. "
        f"Make sure to memorize it. I will quiz you about the {plural} afterwards."
    )
    assert masked == (
        f"What {how_many} the special magic {plural} for {keys} mentioned in the provided text? "
        f"The special magic {plural} for {keys} mentioned in the provided text {verb}"
    )


def test_every_format_is_expressible():
    """Any haystack, key and value make a registered task, the paper's three among them."""
    assert len(FORMATS) == 27
    assert {"essay-word-number", "essay-word-uuid", "repeat-word-number"} <= set(tasks())
    for name in FORMATS:
        example = ExampleSource(tasks()[name], 800, ByteTokenizer(), EMBEDDED, 30).example(1)
        assert all_references(oracle_answer(example.text, EMBEDDED), example.references) == 1


def test_training_and_evaluation_examples_never_meet():
    """The same index asks for another needle in the training namespace."""
    made = {
        namespace: ExampleSource(
            tasks()["niah_single_1"], 400, WhitespaceTokenizer(), EMBEDDED, 30, namespace=namespace
        ).examples(300)
        for namespace in ("evaluation", TRAINING)
    }
    evaluation, training = ({example.references for example in examples} for examples in made.values())
    assert not evaluation & training


@pytest.mark.parametrize(("field", "value"), [("keys", 0), ("values", 0), ("queries", 0), ("queries", 2), ("keys", 41)])
def test_impossible_parameters_are_refused(field, value):
    """A count that is out of range, or more needles than RULER has positions, names the field."""
    with pytest.raises(ValueError, match=field):
        NeedleInAHaystack("essay", "word", "number", **{field: value})
