"""Properties of the prompts of variable tracking, common words, frequent words and question answering."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate, takewhile
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import zeta

from generators.assembly import Piece, TokenizedTexts, assemble
from generators.budget import Fitted, LengthTooSmall, PromptBuilder, Rendered, fit
from generators.corpora.questions import Question, QuestionSet
from generators.corpora.sets import EmbeddedCorpora
from generators.examples import Example, ExampleSource
from generators.oracles import oracle_answer
from generators.prompt_templates import PromptTemplate, Special
from generators.random_streams import EVALUATION, TRAINING
from generators.scoring import all_references, best_reference
from generators.tasks.common_words import CommonWords
from generators.tasks.frequent_words import FrequentWords
from generators.tasks.question_answering import QuestionAnswering, question_set
from generators.tasks.registry import tasks
from generators.tasks.variable_tracking import VariableTracking
from suites.support.strategies import ByteTokenizer, WhitespaceTokenizer, trained_tokenizer

EMBEDDED = EmbeddedCorpora()
TOKENS_TO_GENERATE = 30
BYTES, WORDS = ByteTokenizer(), WhitespaceTokenizer()
FIVE = ("vt", "cwe", "fwe", "qa_1", "qa_2")
NO_TEMPLATE = PromptTemplate()
A_TEMPLATE = PromptTemplate((Special("<s>", 7, spelled=False), "User: "), ("\nAssistant:",))

# RULER's words.
VARIABLES_BEGIN = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
COMMON_BEGIN = (
    "Below is a numbered list of words. In these words, some appear more often than others. "
    "Memorize the ones that appear most often.\n"
)
FREQUENT_BEGIN = (
    "Read the following coded text and track the frequency of each coded word. "
    "Find the three most frequently appeared coded words. "
)
FREQUENT_END = (
    "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three most frequently "
    "appeared words in the above coded text? Answer: According to the coded text above, the three most frequently "
    "appeared words are:"
)
DOCUMENTS_BEGIN = (
    "Answer the question based on the given documents. Only give me the answer and do not output any other words.\n\n"
    "The following are given documents.\n\n"
)
DOCUMENTS_END = (
    "\n\nAnswer the question based on the given documents. Only give me the answer and do not output any other words."
    "\n\nQuestion: "
)

ASSIGNMENT = re.compile(r"VAR ([A-Z]+) = (?:([1-9]\d{4})|VAR ([A-Z]+) )")
NUMBER = re.compile(r"(?:^| )(\d+)\. ")
HEADER = re.compile(r"(?:^|\n\n)Document (\d+):\n")

quick = settings(max_examples=15)

# Few, so that what is tokenized once is remembered.
tokenizers = st.one_of(
    st.sampled_from([BYTES, WORDS]), st.builds(trained_tokenizer, st.just(600), st.booleans(), st.just(0))
)


@st.composite
def common_words_parameters(draw: st.DrawFn) -> CommonWords:
    """Any list, its words no rarer in a long prompt than in a short one."""
    short_uncommon = draw(st.integers(1, 2))
    short = short_uncommon + draw(st.integers(1, 4))
    uncommon = short_uncommon + draw(st.integers(0, 2))
    return CommonWords(
        common=draw(st.integers(1, 12)),
        frequency=max(short, uncommon + 1) + draw(st.integers(0, 5)),
        uncommon_frequency=uncommon,
        short_frequency=short,
        short_uncommon_frequency=short_uncommon,
        short_below=draw(st.sampled_from([0, 1500, 4096])),
        demonstrations=draw(st.integers(0, 2)),
    )


PARAMETERS: Mapping[str, st.SearchStrategy[Any]] = {
    "vt": st.builds(VariableTracking, st.integers(1, 4), st.integers(1, 12), st.integers(0, 1)),
    "cwe": common_words_parameters(),
    "fwe": st.builds(
        FrequentWords, st.floats(1.1, 4), st.sampled_from([3, 6, 10]), st.one_of(st.just(0), st.integers(4, 60))
    ),
    "qa_1": st.one_of(
        st.builds(QuestionAnswering, st.sampled_from(["single_hop", "single_hop_people"]), st.integers(0, 12)),
        st.builds(
            QuestionAnswering,
            st.sampled_from(["two_hop", "two_hop_people"]),
            st.one_of(st.just(0), st.integers(2, 12)),
        ),
    ),
}
LENGTHS = st.integers(600, 6000)
each_family = pytest.mark.parametrize("family", PARAMETERS)


@st.composite
def sources(draw: st.DrawFn, family: str, *, lengths: st.SearchStrategy[int] = LENGTHS) -> ExampleSource:
    """Any way to make examples of a family, without a prompt template."""
    return ExampleSource(
        task=replace(tasks()[family], name="under test", parameters=draw(PARAMETERS[family])),
        length=draw(lengths),
        tokenizer=draw(tokenizers),
        corpora=EMBEDDED,
        tokens_to_generate=TOKENS_TO_GENERATE,
        depth=draw(st.one_of(st.none(), st.integers(0, 100))) if tasks()[family].has_depth else None,
        # Few, as letters in words are, so that pools of words are tokenized once.
        **draw(st.sampled_from([{"namespace": EVALUATION, "seed": 0}, {"namespace": TRAINING, "seed": 1}])),
    )


indices = st.integers(0, 10**6)


def _example(source: ExampleSource, index: int) -> Example:
    try:
        return source.example(index)
    except LengthTooSmall:
        assume(False)
        raise


def _of(name: str, length: int = 1200, **changes: Any) -> ExampleSource:
    return ExampleSource(tasks()[name].variant("under test", changes), length, WORDS, EMBEDDED, TOKENS_TO_GENERATE)


@each_family
@given(data=st.data(), index=indices, prompt_template=st.sampled_from([NO_TEMPLATE, A_TEMPLATE]))
@quick
def test_prompts_fill_the_budget(family, data, index, prompt_template):
    """Prompt plus answer never take more tokens than the length, and one unit more would not fit, if there is one."""
    source = replace(data.draw(sources(family)), prompt_template=prompt_template)
    example = _example(source, index)
    specials = [part.id for part in prompt_template.before if isinstance(part, Special)]
    assert list(example.ids) == specials + list(source.tokenizer.encode(example.text).ids)
    assert len(example.ids) + TOKENS_TO_GENERATE <= source.length

    builder = source.builder(index)
    fitted = fit(builder, source.tokenizer, source.length - TOKENS_TO_GENERATE, prompt_template)
    assert isinstance(fitted, Fitted)
    before, after = ("User: ", "\nAssistant:") if specials else ("", "")
    assert before + fitted.rendered.text + after == example.prompt
    if builder.most is None or fitted.units < builder.most:
        bigger = builder.render(fitted.units + 1)
        text = before + bigger.text + after + bigger.answer_prefix
        assert len(specials) + len(source.tokenizer.encode(text).ids) + TOKENS_TO_GENERATE > source.length
    else:
        assert fitted.units == builder.most


@each_family
@given(data=st.data(), index=indices, prompt_template=st.sampled_from([NO_TEMPLATE, A_TEMPLATE]))
@quick
def test_an_oracle_scores_full_marks(family, data, index, prompt_template):
    """Whoever reads the whole prompt finds every reference."""
    source = replace(data.draw(sources(family)), prompt_template=prompt_template)
    example = _example(source, index)
    assert source.task.score(oracle_answer(example.text, EMBEDDED), example.references) == 1


@each_family
@given(data=st.data(), chosen=st.lists(st.integers(0, 200), min_size=2, max_size=4, unique=True))
@settings(max_examples=8)
def test_examples_are_independent_of_each_other(family, data, chosen):
    """Example k is the same alone, in any order and from a fresh source."""
    source = data.draw(sources(family))
    together = {index: _example(source, index) for index in chosen}
    for index in reversed(chosen):
        assert replace(source).example(index) == together[index]


@pytest.mark.parametrize("name", FIVE)
def test_what_was_made_before_leaves_no_trace(name):
    """A new tokenizer and new corpora, with nothing remembered, give the same example."""
    _of(name, 9000).example(3)
    example = _of(name, 2500).example(5)
    fresh = replace(_of(name, 2500), tokenizer=WhitespaceTokenizer(), corpora=EmbeddedCorpora())
    assert fresh.example(5) == example


@each_family
@given(data=st.data(), index=indices, length=st.integers(600, 6000))
@settings(max_examples=8)
def test_cells_of_a_task_ask_the_same_questions(family, data, index, length):
    """References depend neither on the length nor on the tokenizer nor on the depth."""
    source = data.draw(sources(family))
    other = replace(source, length=length, tokenizer=BYTES, depth=None)
    assert other.builder(index).references == source.builder(index).references


@pytest.mark.parametrize("name", FIVE)
@pytest.mark.parametrize("change", [{"namespace": TRAINING}, {"seed": 1}])
def test_namespaces_and_seeds_ask_other_questions(name, change):
    """In another namespace, or with another seed, the same index asks for something else."""
    one, other = (
        [source.builder(index).references for index in range(60)]
        for source in (_of(name), replace(_of(name), **change))
    )
    if name.startswith("qa"):
        # Questions are few, so they come again, but in another order.
        assert sum(a == b for a, b in zip(one, other, strict=True)) < 10
    else:
        assert not set(one) & set(other)


@each_family
@given(data=st.data(), samples=st.integers(1, 3))
@settings(max_examples=8)
def test_a_length_too_small_names_the_smallest_that_fits(family, data, samples):
    """At the named length every example fits; at one token less, not all do."""
    source = data.draw(sources(family, lengths=st.just(1)))
    smallest = source.smallest_length(samples)
    assert len(replace(source, length=smallest).examples(samples)) == samples
    with pytest.raises(LengthTooSmall, match=f"under test .* {smallest - 1} tokens.* {smallest}$"):
        replace(source, length=smallest - 1).examples(samples)


@pytest.mark.parametrize("name", FIVE)
@pytest.mark.parametrize("tokenizer", [BYTES, WORDS], ids=["bytes", "words"])
def test_ruler_tasks_fit_from_the_smallest_length_on(name, tokenizer):
    """RULER's parameters fit the smallest length, which is below 2K in bytes, and no length below it."""
    source = replace(_of(name), tokenizer=tokenizer)
    smallest = source.smallest_length(4)
    assert smallest < 2048
    assert [example.index for example in replace(source, length=smallest).examples(4)] == [0, 1, 2, 3]
    with pytest.raises(LengthTooSmall, match=f"{smallest}$"):
        replace(source, length=smallest - 1).examples(4)


# Variable tracking.


@pytest.mark.parametrize("family", ["cwe", "vt"])
@given(data=st.data(), index=indices, wrong=st.integers(-300, 300))
@quick
def test_a_guess_at_the_rest_changes_no_prompt(family, data, index, wrong):
    """A prompt fills its budget alike whether what is beside its units is known, unknown or known wrongly."""
    source = data.draw(sources(family))
    builder = source.builder(index)
    budget = source.length - TOKENS_TO_GENERATE
    fitted = [
        fit(replace(builder, beside=beside), source.tokenizer, budget)
        for beside in (None, builder.beside, (builder.beside or 0) + wrong)
    ]
    if isinstance(fitted[0], int):
        assert fitted == [fitted[0]] * 3
    else:
        assert len({each.assembly.ids for each in fitted if isinstance(each, Fitted)}) == 1
        assert len({each.units for each in fitted if isinstance(each, Fitted)}) == 1


@pytest.mark.parametrize("tokenizer", [BYTES, trained_tokenizer(600, True, 0)], ids=["bytes", "trained"])
@pytest.mark.parametrize(
    "prompt_template", [NO_TEMPLATE, PromptTemplate((Special("<s>", 7, spelled=False),))], ids=["plain", "begun"]
)
@pytest.mark.parametrize("name", ["cwe", "vt"])
def test_lists_and_chains_fit_at_the_first_try(name, tokenizer, prompt_template):
    """Where units meet the rest at token boundaries, the text is put together once for each prompt."""
    source = replace(_of(name, 8000), tokenizer=tokenizer, prompt_template=prompt_template)
    for index in range(5):
        builder = source.builder(index)
        written: list[int] = []

        def render(units: int, builder: PromptBuilder = builder, written: list[int] = written) -> Rendered:
            written.append(units)
            return builder.render(units)

        fitted = fit(replace(builder, render=render), tokenizer, source.length - TOKENS_TO_GENERATE, prompt_template)
        assert isinstance(fitted, Fitted)
        assert written == [fitted.units]


class _Counted(list[Piece]):
    """Pieces that count how many of them are read."""

    read = 0

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        self.read += len(found) if isinstance(place, slice) else 1
        return found


@pytest.mark.parametrize(
    "tokenizer", [BYTES, trained_tokenizer(600, False, 0)], ids=["token boundaries", "no token boundaries"]
)
def test_the_work_on_a_prompt_grows_with_its_pieces(tokenizer):
    """Each of many documents is looked at a few times while a prompt is put together, however many they are."""
    source = replace(_of("qa_1", 8000), tokenizer=tokenizer)
    for units in (10, 1000):
        pieces = _Counted(source.builder(0).render(units).pieces)
        assert len(pieces) > units
        assemble(tokenizer, pieces)
        assert pieces.read <= 4 * len(pieces)


@given(
    st.lists(st.text("ab .\n", min_size=1, max_size=4), max_size=6),
    st.lists(st.text("ab .\n", min_size=1, max_size=4), max_size=6),
    st.sampled_from([BYTES, WORDS, trained_tokenizer(600, True, 0)]),
)
@quick
def test_more_texts_are_tokenized_like_the_first(texts, more, tokenizer):
    """Texts that were added are strung together, chosen and met at boundaries like those there from the beginning."""
    at_once, extended = TokenizedTexts(tokenizer, texts + more), TokenizedTexts(tokenizer, texts)
    extended.extend(more)
    order = np.arange(len(texts + more))[::-1]
    assert extended.texts == at_once.texts
    assert extended.chosen(order) == at_once.chosen(order) == (texts + more)[::-1]
    assert extended.counts.tolist() == at_once.counts.tolist()
    assert extended.strung(order).tolist() == at_once.strung(order).tolist()
    other = TokenizedTexts(tokenizer, [" a", "b "])
    assert extended.meets_at_boundaries(other) == at_once.meets_at_boundaries(other)
    assert other.meets_at_boundaries(extended) == other.meets_at_boundaries(at_once)


def _variables_prompt(context: str, value: str, count: int) -> str:
    return (
        f"{VARIABLES_BEGIN}{context}Question: Find all variables that are assigned the value {value} in the text "
        f"above. Answer: According to the chain(s) of variable assignment in the text above, {count} variables are "
        f"assigned the value {value}, they are: "
    )


def _context(section: str) -> str:
    return section[: section.rindex("Question: ")]


def _asked_value(section: str) -> str:
    (found,) = re.findall(r"assigned the value (\d+) in the text above", section)
    return found


def _chains(context: str) -> dict[str, list[str]]:
    """Values to the names they reach; an assignment before the one it refers to is an error."""
    chains: dict[str, list[str]] = {}
    for line in context.splitlines():
        if not (statement := ASSIGNMENT.fullmatch(line)):
            continue
        name, value, other = statement.groups()
        if value:
            assert value not in chains
            chains[value] = [name]
        else:
            (chain,) = (chain for chain in chains.values() if chain[-1] == other)
            chain.append(name)
    names = [name for chain in chains.values() for name in chain]
    assert len(set(names)) == len(names)
    return chains


@given(source=sources("vt"), index=indices)
@quick
def test_variables_form_the_chains_asked_for(source, index):
    """Every chain has its length and its order, and the references are the first one's names, each assigned once."""
    example = _example(source, index)
    parameters = source.task.parameters
    *_, section = example.text.split(VARIABLES_BEGIN)
    chains = _chains(_context(section))
    assert len(chains) == parameters.chains
    assert {len(chain) for chain in chains.values()} == {parameters.hops + 1}
    assert tuple(chains[_asked_value(section)]) == example.references
    assert all(example.text.count(f"VAR {name} = ") == 1 for name in example.references)


@given(source=sources("vt"), index=indices)
@quick
def test_variables_are_demonstrated_solved(source, index):
    """The demonstration is a prompt of other names and values with its right answer."""
    example = _example(source, index)
    parameters = source.task.parameters
    _, *shown, section = example.text.split(VARIABLES_BEGIN)
    assert len(shown) == parameters.demonstrations
    for demonstration in shown:
        chains = _chains(_context(demonstration))
        assert len(chains) == parameters.chains
        assert {len(chain) for chain in chains.values()} == {min(parameters.hops, 10) + 1}
        assert demonstration.endswith(f"they are:  {' '.join(chains[_asked_value(demonstration)])}\n\n")
        assert _asked_value(section) not in demonstration


def test_many_chains_have_different_values():
    """A hundred chains have a hundred values, and no name comes twice."""
    source = _of("vt", 3000, chains=100, hops=1, demonstrations=0)
    for index in range(40):
        assert len(_chains(_context(source.builder(index).render(1).text))) == 100


def test_no_demonstrated_chain_has_the_value_asked_for():
    """With many chains too, the demonstration assigns the value asked for to no name."""
    source = _of("vt", 3000, chains=100, hops=1)
    for index in range(60):
        _, shown, section = source.builder(index).render(1).text.split(VARIABLES_BEGIN)
        assert _asked_value(section) not in _chains(_context(shown))


def _haystack_words(section: str) -> int:
    return WORDS.count("\n".join(line for line in _context(section).split("\n") if "VAR" not in line))


@given(st.integers(300, 3000), st.integers(1, 3), st.integers(0, 100))
@quick
def test_the_demonstration_of_variables_is_short(length, chains, index):
    """It takes at most 500 tokens, fills them where there is room, and has no more haystack than the prompt."""
    example = _example(_of("vt", length, chains=chains), index)
    _, shown, asked = example.text.split(VARIABLES_BEGIN)
    size = WORDS.count(VARIABLES_BEGIN + shown)
    assert size <= 500
    assert size > 500 - 5 or length < 1300
    assert _haystack_words(shown) <= _haystack_words(asked) + 5


@given(source=sources("vt"), index=indices)
@quick
def test_variables_are_asked_for_as_ruler_does(source, index):
    """With noise, names and values masked, a prompt is RULER's, its demonstration included."""
    example = _example(source, index)
    expected = ""
    sections = example.text.split(VARIABLES_BEGIN)[1:]
    for section in sections:
        context, value = _context(section), _asked_value(section)
        *whole, last = [line for line in context.removesuffix("\n").split("\n") if not ASSIGNMENT.fullmatch(line)]
        assert context.endswith("\n")
        assert set(whole) <= {NOISE}
        assert NOISE.startswith(last)
        assert last.endswith(".")
        names = _chains(context)[value]
        expected += _variables_prompt(context, value, len(names))
        expected += f" {' '.join(names)}\n\n" if section is not sections[-1] else ""
    assert example.text == expected
    assert {len(name) for name in example.references} == {5}


# Common words.


def _common_prompt(listed: list[str], count: int) -> str:
    numbered = " ".join(f"{i}. {word}" for i, word in enumerate(listed, 1))
    return (
        f"{COMMON_BEGIN}{numbered}\nQuestion: What are the {count} most common words in the above list? "
        f"Answer: The top {count} words that appear most often in the list are:"
    )


def _numbered(text: str) -> list[str]:
    _, *parts = NUMBER.split(text)
    assert parts[::2] == [str(i) for i in range(1, len(parts) // 2 + 1)]
    return parts[1::2]


def _common_lists(example: Example) -> list[tuple[list[str], list[str]]]:
    """Each list of a prompt with the answer that is shown below it."""
    sections = [section.partition("\nQuestion: ") for section in example.text.split(COMMON_BEGIN)[1:]]
    return [(_numbered(listed), _numbered(rest.partition("are: ")[2].rstrip("\n"))) for listed, _, rest in sections]


@given(source=sources("cwe"), index=indices)
@quick
def test_common_words_are_as_frequent_as_asked_for(source, index):
    """Of a list numbered without gaps, the references are the most frequent words, and all counts are as asked for."""
    example = _example(source, index)
    parameters = source.task.parameters
    short = source.length < parameters.short_below
    often = parameters.short_frequency if short else parameters.frequency
    seldom = parameters.short_uncommon_frequency if short else parameters.uncommon_frequency
    listed, _ = _common_lists(example)[-1]
    counts = Counter(listed)
    assert len(set(example.references)) == len(example.references) == parameters.common
    assert {counts.pop(word) for word in example.references} == {often}
    assert set(counts.values()) == {seldom}


@given(source=sources("cwe"), index=indices)
@quick
def test_common_words_are_demonstrated_solved(source, index):
    """A demonstration has RULER's 20 or 40 words in proportion, and names the most frequent ones of its own list."""
    example = _example(source, index)
    parameters = source.task.parameters
    often, seldom = (3, 1) if source.length < parameters.short_below else (10, 3)
    *shown, (_, answer) = _common_lists(example)
    assert answer == []
    assert len(shown) == parameters.demonstrations
    for listed, solved in shown:
        counts = Counter(listed)
        assert len(set(solved)) == len(solved) == parameters.common
        assert {counts.pop(word) for word in solved} == {often}
        assert Counter(counts.values()) == {seldom: parameters.common * seldom}
    assert len({tuple(listed) for listed, _ in shown}) == len(shown)


@pytest.mark.parametrize(
    ("length", "often", "seldom", "shown"), [(4095, 6, 1, {3: 10, 1: 10}), (4096, 30, 3, {10: 10, 3: 30})]
)
def test_common_words_change_their_shape_at_4096(length, often, seldom, shown):
    """RULER's parameters give short lists below 4096 tokens, and long ones from there on."""
    (demonstrated, _), (listed, _) = _common_lists(_of("cwe", length).example(2))
    counts = Counter(Counter(listed).values())
    assert counts[often] == 10
    assert set(counts) == {often, seldom}
    assert Counter(Counter(demonstrated).values()) == shown


def test_common_words_outlast_the_list_of_words():
    """A list longer than the words there are goes on with pairs of words, each as often as it should be."""
    example = _of("cwe", 24_000, short_below=0, uncommon_frequency=1, demonstrations=0).example(0)
    ((listed, _),) = _common_lists(example)
    counts = Counter(listed)
    assert len(counts) > 9000
    assert {counts.pop(word) for word in example.references} == {30}
    assert set(counts.values()) == {1}


@given(source=sources("cwe"), index=indices)
@quick
def test_common_words_are_asked_for_as_ruler_does(source, index):
    """With the words masked, a prompt is RULER's, its demonstrations included."""
    example = _example(source, index)
    count = source.task.parameters.common
    *shown, (listed, _) = _common_lists(example)
    expected = ""
    for words, answer in shown:
        solved = " ".join(f"{i}. {word}" for i, word in enumerate(answer, 1))
        expected += f"{_common_prompt(words, count)} {solved}\n"
    assert example.text == expected + _common_prompt(listed, count)


# Frequent words.


def _coded(example: Example) -> list[str]:
    return example.text.removeprefix(FREQUENT_BEGIN).removesuffix(FREQUENT_END).split(" ")


def _zeta_counts(size: int, exponent: float, vocabulary: int) -> list[int]:
    scale = zeta(exponent)
    counts = (floor(size * rank**-exponent / scale) for rank in range(1, vocabulary + 1))
    return list(takewhile(bool, counts))


@given(source=sources("fwe"), index=indices)
@quick
def test_frequent_words_are_the_most_frequent(source, index):
    """The references, in order, are strictly more frequent than every other word save the dots."""
    example = _example(source, index)
    counts = Counter(_coded(example))
    dots = counts.pop("...")
    answers = [counts.pop(word) for word in example.references]
    assert len(set(example.references)) == len(example.references) == 3
    assert [dots, *answers] == sorted([dots, *answers], reverse=True)
    assert answers[-1] > max(counts.values(), default=0)


@given(source=sources("fwe"), index=indices)
@quick
def test_frequencies_fall_as_zeta_does(source, index):
    """The word of rank k occurs n / (k ** exponent * zeta(exponent)) times, rounded down, for one n."""
    parameters = source.task.parameters
    counts = sorted(Counter(_coded(_example(source, index))).values(), reverse=True)
    vocabulary = parameters.vocabulary or max((source.length - TOKENS_TO_GENERATE) // 50, 4)
    scale = zeta(parameters.exponent)
    sizes = range(floor(counts[0] * scale), ceil((counts[0] + 1) * scale) + 1)
    assert any(counts == _zeta_counts(size, parameters.exponent, vocabulary) for size in sizes)


@given(source=sources("fwe"), index=indices)
@quick
def test_frequent_words_are_asked_for_as_ruler_does(source, index):
    """With the coded words masked, a prompt is RULER's, and a coded word has as many letters as asked for."""
    example = _example(source, index)
    coded = _coded(example)
    assert example.text == FREQUENT_BEGIN + " ".join(coded) + FREQUENT_END
    letters = source.task.parameters.word_length
    assert all(re.fullmatch(rf"[a-z]{{{letters}}}", word) for word in {*coded} - {"..."})


# Question answering.


def _question_set(source: ExampleSource) -> QuestionSet:
    return question_set(source.task.parameters, source.context(0))


def _question(source: ExampleSource, example: Example) -> Question:
    words = example.text.rpartition(DOCUMENTS_END)[2].removesuffix(" Answer:")
    (found,) = (question for question in _question_set(source).questions if question.text.strip() == words)
    return found


def _documents(source: ExampleSource, example: Example) -> list[int]:
    """The numbers of the documents, as they stand in the prompt."""
    context = example.text.removeprefix(DOCUMENTS_BEGIN).rpartition(DOCUMENTS_END)[0]
    _, *parts = HEADER.split(context)
    assert parts[::2] == [str(i) for i in range(1, len(parts) // 2 + 1)]
    held = _question_set(source).documents
    return [held.index(text) for text in parts[1::2]]


@given(source=sources("qa_1"), index=indices)
@quick
def test_what_answers_a_question_is_there_once(source, index):
    """Each document that answers is in the prompt once, and the references are the question's answers."""
    example = _example(source, index)
    question = _question(source, example)
    assert example.references == question.answers
    for gold in question.gold:
        assert example.text.count(_question_set(source).documents[gold]) == 1
        assert _documents(source, example).count(gold) == 1


@given(source=sources("qa_1"), index=indices)
@quick
def test_near_documents_are_the_first_to_distract(source, index):
    """Unrelated documents come only when all those of the subject are there, and none comes twice."""
    example = _example(source, index)
    question = _question(source, example)
    documents = _documents(source, example)
    distractors = set(documents) - {*question.gold}
    assert len(distractors) == min(len(documents), len(_question_set(source).documents)) - len(question.gold)
    assert distractors <= {*question.near} or distractors >= {*question.near}


@given(source=sources("qa_1"), index=indices, limit=st.integers(2, 9))
@quick
def test_the_number_of_documents_is_kept(source, index, limit):
    """There are never more documents than asked for, and as many where the length allows."""
    parameters = replace(source.task.parameters, documents=limit)
    unlimited = replace(parameters, documents=0)
    count, free = (
        len(_documents(source, _example(replace(source, task=replace(source.task, parameters=each)), index)))
        for each in (parameters, unlimited)
    )
    assert count == min(limit, free)


@pytest.mark.parametrize("name", ["qa_1", "qa_2"])
@pytest.mark.parametrize("length", [300, 2000])
def test_documents_that_answer_go_where_the_depth_says(name, length):
    """At depth 0 they are the first, at depth 100 the last, and between they move on with the depth."""
    for index in range(8):
        reached = []
        for depth in (0, 25, 50, 75, 100):
            source = replace(_of(name, length), depth=depth)
            example = source.example(index)
            documents, gold = _documents(source, example), {*_question(source, example).gold}
            places = [place for place, document in enumerate(documents) if document in gold]
            assert places == list(range(places[0], places[0] + len(gold)))
            assert depth or places[0] == 0
            assert depth < 100 or places[-1] == len(documents) - 1
            sizes = [WORDS.count(_question_set(source).documents[document]) for document in documents]
            distracting = sum(sizes) - sum(sizes[place] for place in places)
            before = sum(sizes[: places[0]])
            assert depth * distracting / 100 - max(sizes) < before <= depth * distracting / 100 + 1e-6
            reached.append(before)
        assert reached == sorted(reached)


@given(source=sources("qa_1"), index=indices)
@quick
def test_the_recorded_places_are_those_of_what_answers(source, index):
    """A recorded token holds the start of a document that answers, a depth is the share of documents before it."""
    example = _example(source, index)
    question, documents = _question(source, example), _documents(source, example)
    held = _question_set(source).documents
    starts = source.tokenizer.encode(example.text).starts
    sizes = [source.tokenizer.count(held[document]) for document in documents]
    before = [0, *accumulate(sizes)]
    assert len(example.needle_tokens) == len(example.depths) == len(question.gold)
    for gold, token, depth in zip(question.gold, example.needle_tokens, example.depths, strict=True):
        begin = example.text.index(held[gold])
        end = starts[token + 1] if token + 1 < len(starts) else len(example.text)
        assert starts[token] <= begin < end or end == starts[token]
        # Blank lines at a document's end may be counted with it.
        assert depth == pytest.approx(100 * before[documents.index(gold)] / before[-1], abs=2)


@pytest.mark.parametrize("name", ["qa_1", "qa_2"])
def test_a_set_that_is_used_up_begins_again(name):
    """A prompt longer than all documents repeats the distractors evenly, and never what answers."""
    source = _of(name, 45_000)
    example = source.example(1)
    question, counts = _question(source, example), Counter(_documents(source, example))
    assert counts.total() > len(counts) == len(_question_set(source).documents)
    assert {counts.pop(gold) for gold in question.gold} == {1}
    assert min(counts.values()) >= 2 > max(counts.values()) - min(counts.values())


@pytest.mark.parametrize("name", ["qa_1", "qa_2"])
def test_every_question_is_asked_before_any_is_asked_again(name):
    """As many examples as there are questions ask each of them once."""
    source = _of(name, 500, documents=2)
    questions = _question_set(source).questions
    asked = [_question(source, source.example(index)).text for index in range(len(questions) + 1)]
    assert sorted(asked[:-1]) == sorted(question.text for question in questions)
    assert asked[-1] == asked[0]


@given(source=sources("qa_1"), index=indices)
@quick
def test_questions_are_asked_as_ruler_does(source, index):
    """With documents and question masked, a prompt is RULER's."""
    example = _example(source, index)
    held = _question_set(source).documents
    documents = "\n\n".join(f"Document {i}:\n{held[number]}" for i, number in enumerate(_documents(source, example), 1))
    assert (
        example.text == f"{DOCUMENTS_BEGIN}{documents}{DOCUMENTS_END}{_question(source, example).text.strip()} Answer:"
    )


# The oracle.


@pytest.mark.parametrize("name", FIVE)
def test_an_oracle_that_lacks_what_it_needs_does_not_answer(name):
    """Without the first assignment, the beginning of a list or a document that answers, no reference is found."""
    source = _of(name, 2500)
    for index in range(5):
        example = source.example(index)
        text = example.text
        if name == "vt":
            cuts = [text[text.index("\n", text.index(f"VAR {example.references[0]} = ")) :]]
        elif name in ("cwe", "fwe"):
            cuts = [text[text.rindex(COMMON_BEGIN if name == "cwe" else FREQUENT_BEGIN) + 1 :]]
        else:
            held = _question_set(source).documents
            cuts = [text.replace(held[gold], "") for gold in _question(source, example).gold]
        for cut in cuts:
            assert source.task.score(oracle_answer(text, EMBEDDED), example.references) == 1
            assert source.task.score(oracle_answer(cut, EMBEDDED), example.references) == 0


# Parameters.


@pytest.mark.parametrize(
    ("name", "tokens", "score", "parameters"),
    [
        ("vt", 30, all_references, VariableTracking(chains=1, hops=4, demonstrations=1)),
        ("cwe", 120, all_references, CommonWords(10, 30, 3, 6, 1, 4096, 1)),
        ("fwe", 50, all_references, FrequentWords(exponent=2.0, word_length=6, vocabulary=0)),
        ("qa_1", 32, best_reference, QuestionAnswering("single_hop", documents=0)),
        ("qa_2", 32, best_reference, QuestionAnswering("two_hop", documents=0)),
    ],
)
def test_ruler_tasks_have_rulers_parameters(name, tokens, score, parameters):
    """A registered task has the parameters, the budget and the score that RULER's has."""
    found = tasks()[name]
    assert (found.tokens_to_generate, found.score, found.parameters) == (tokens, score, parameters)


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("vt", {"chains": 0}, "chains"),
        ("vt", {"chains": 101}, "chains"),
        ("vt", {"hops": 0}, "hops"),
        ("vt", {"hops": 101}, "hops"),
        ("vt", {"demonstrations": -1}, "demonstrations"),
        ("vt", {"demonstrations": 2}, "demonstrations"),
        ("cwe", {"common": 0}, "common"),
        ("cwe", {"common": 1001}, "common"),
        ("cwe", {"frequency": 3}, "frequency"),
        ("cwe", {"uncommon_frequency": 0}, "uncommon_frequency"),
        ("cwe", {"uncommon_frequency": 30}, "uncommon_frequency"),
        ("cwe", {"short_frequency": 1}, "short_frequency"),
        ("cwe", {"short_uncommon_frequency": 0}, "short_uncommon_frequency"),
        ("cwe", {"short_uncommon_frequency": 6}, "short_uncommon_frequency"),
        ("cwe", {"short_below": -1}, "short_below"),
        ("cwe", {"demonstrations": -1}, "demonstrations"),
        ("fwe", {"exponent": 1.0}, "exponent"),
        ("fwe", {"exponent": 4.01}, "exponent"),
        ("fwe", {"exponent": float("nan")}, "exponent"),
        ("fwe", {"word_length": 2}, "word_length"),
        ("fwe", {"word_length": 65}, "word_length"),
        ("fwe", {"vocabulary": 3}, "vocabulary"),
        ("fwe", {"vocabulary": -1}, "vocabulary"),
        ("fwe", {"vocabulary": 10_001}, "vocabulary"),
        ("qa_1", {"questions": "three_hop"}, "questions"),
        ("qa_2", {"documents": -1}, "documents"),
        ("qa_2", {"questions": "two_hop", "documents": 1}, "documents"),
        ("qa_2", {"questions": "two_hop_people", "documents": 1}, "documents"),
    ],
)
def test_impossible_parameters_are_refused(name, changes, field):
    """A parameter out of range is refused by its name, made directly or as a variant."""
    found = tasks()[name]
    with pytest.raises(ValueError, match=rf"\b{field}\b"):
        type(found.parameters)(**changes)
    with pytest.raises(ValueError, match=rf"\b{field}\b"):
        found.variant("under test", changes)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("vt", {"chains": 100, "hops": 100, "demonstrations": 0}),
        ("vt", {"chains": 1, "hops": 1}),
        ("cwe", {"common": 1000, "uncommon_frequency": 29, "short_uncommon_frequency": 5}),
        ("cwe", {"common": 1, "short_frequency": 2, "short_below": 0, "demonstrations": 0}),
        ("fwe", {"exponent": 4, "word_length": 64, "vocabulary": 10_000}),
        ("fwe", {"exponent": 1.01, "word_length": 3, "vocabulary": 4}),
        ("qa_1", {"questions": "two_hop", "documents": 2}),
    ],
)
def test_a_variant_differs_in_its_parameters_alone(name, changes):
    """A variant, up to the last value in range, keeps all but name and parameters, and leaves the task as it was."""
    before = tasks()[name]
    parameters = type(before.parameters)(**changes)
    made = before.variant("another", changes)
    assert made == replace(before, name="another", parameters=parameters)
    assert (made.score, made.build, made.tokens_to_generate, made.has_depth) == (
        before.score,
        before.build,
        before.tokens_to_generate,
        before.has_depth,
    )
    assert made.parameters != before.parameters
    assert tasks()[name] is before
    assert "another" not in tasks()


@pytest.mark.parametrize("name", FIVE)
def test_a_variant_of_an_unknown_parameter_is_refused(name):
    """A parameter that the task lacks is refused, and those it has are named."""
    known = ", ".join(vars(tasks()[name].parameters))
    with pytest.raises(ValueError, match=rf"^task {name} has no parameter needles; there are {known}$"):
        tasks()[name].variant("another", {"needles": 2})


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("vt", "hops", True),
        ("vt", "hops", 2.0),
        ("vt", "chains", "2"),
        ("vt", "demonstrations", False),
        ("cwe", "common", None),
        ("cwe", "frequency", 30.5),
        ("fwe", "exponent", True),
        ("fwe", "exponent", "2"),
        ("fwe", "vocabulary", [100]),
        ("qa_1", "questions", 1),
        ("qa_2", "documents", True),
    ],
)
def test_a_variant_of_the_wrong_kind_is_refused(name, field, value):
    """A value of another kind than the task's own is refused by name, a truth value for a number too."""
    with pytest.raises(ValueError, match=f"^{field} must be of the kind of"):
        tasks()[name].variant("another", {field: value})
