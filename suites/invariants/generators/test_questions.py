"""Questions and their documents: both JSON shapes read back, bad files named, and the embedded sets."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.corpora import sets
from generators.corpora.questions import CorpusError, Question, QuestionSet, read_hotpotqa, read_squad
from generators.corpora.sets import EmbeddedCorpora

EMBEDDED = EmbeddedCorpora()
FOLDER = Path(sets.__file__).with_name("questions")
SINGLE_HOP = json.loads((FOLDER / "single_hop.json").read_text(encoding="utf-8"))
TWO_HOP = json.loads((FOLDER / "two_hop.json").read_text(encoding="utf-8"))
READERS = [read_squad, read_hotpotqa]

# Few short texts, so that documents, questions and answers come more than once; now and then any text.
texts = st.one_of(st.text("abC ", max_size=2), st.text(max_size=8))


@st.composite
def squad_entries(draw: st.DrawFn) -> dict[str, Any]:
    """A question of SQuAD; one that can be answered need not say so."""
    entry: dict[str, Any] = {"question": draw(texts), "answers": []}
    if draw(st.integers(0, 3)) == 0:
        return entry | {"is_impossible": True}
    answers = draw(st.lists(texts, min_size=1, max_size=4))
    entry["answers"] = [{"text": text, "answer_start": 0} for text in answers]
    return entry | draw(st.sampled_from([{}, {"is_impossible": False}]))


squad_paragraphs = st.builds(
    lambda text, entries: {"context": text, "qas": entries}, texts, st.lists(squad_entries(), max_size=3)
)
squad_articles = st.builds(
    lambda paragraphs: {"title": "", "paragraphs": paragraphs}, st.lists(squad_paragraphs, max_size=4)
)
squad_files = st.builds(lambda articles: {"data": articles}, st.lists(squad_articles, max_size=3))


@st.composite
def hotpotqa_items(draw: st.DrawFn) -> dict[str, Any]:
    """A question of HotpotQA with some of its paragraphs as supporting facts, in any order, some of them twice."""
    titles = draw(st.lists(texts, min_size=1, max_size=5, unique=True))
    return {
        "question": draw(texts),
        "answer": draw(texts),
        "supporting_facts": [[title, 0] for title in draw(st.lists(st.sampled_from(titles), min_size=1, max_size=4))],
        "context": [[title, draw(st.lists(texts, max_size=3))] for title in titles],
    }


hotpotqa_files = st.lists(hotpotqa_items(), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every test writes its file."""
    return tmp_path_factory.mktemp("questions") / "file.json"


def _unfolded(questions: QuestionSet) -> list[tuple[str, tuple[str, ...], list[str], list[str]]]:
    """Text, answers, gold and near documents of every question."""
    document = questions.documents
    return [
        (question.text, question.answers, [document[i] for i in question.gold], [document[i] for i in question.near])
        for question in questions.questions
    ]


def _each_once(items: list[str]) -> list[str]:
    return [item for index, item in enumerate(items) if item not in items[:index]]


@given(content=squad_files, ascii_only=st.booleans())
def test_squad_reads_back(file, content, ascii_only):
    """Of SQuAD's answerable questions texts, answers without doubles, paragraph and its article's others come back."""
    file.write_text(json.dumps(content, ensure_ascii=ascii_only), encoding="utf-8")
    contexts = []
    expected = []
    for article in content["data"]:
        own = [paragraph["context"] for paragraph in article["paragraphs"]]
        contexts += own
        for paragraph in article["paragraphs"]:
            near = _each_once([context for context in own if context != paragraph["context"]])
            for entry in paragraph["qas"]:
                if not entry.get("is_impossible"):
                    answers = tuple(_each_once([answer["text"] for answer in entry["answers"]]))
                    expected.append((entry["question"], answers, [paragraph["context"]], near))
    if expected:
        questions = read_squad(file)
        assert questions.documents == tuple(sorted(set(contexts)))
        assert _unfolded(questions) == expected
    else:
        with pytest.raises(CorpusError, match=f"^{re.escape(str(file))} holds no answerable question"):
            read_squad(file)


@given(content=hotpotqa_files, ascii_only=st.booleans())
def test_hotpotqa_reads_back(file, content, ascii_only):
    """HotpotQA's questions come back with the supporting paragraphs below their titles, and the others as near."""
    file.write_text(json.dumps(content, ensure_ascii=ascii_only), encoding="utf-8")
    paragraphs = []
    expected = []
    for item in content:
        own = [(title, title + "\n" + "".join(sentences)) for title, sentences in item["context"]]
        paragraphs += [paragraph for _, paragraph in own]
        titles = _each_once([title for title, _ in item["supporting_facts"]])
        gold = [paragraph for title in titles for other, paragraph in own if other == title]
        near = [paragraph for title, paragraph in own if title not in titles]
        expected.append((item["question"], (item["answer"],), gold, near))
    questions = read_hotpotqa(file)
    assert questions.documents == tuple(sorted(set(paragraphs)))
    assert _unfolded(questions) == expected


@given(st.lists(st.tuples(texts, texts), min_size=2, max_size=4), st.data())
def test_the_fingerprint_changes_with_any_text(pairs, data):
    """The fingerprint is the same for the same set, and another when a document, question, answer or place is."""
    documents = tuple(document for document, _ in pairs)
    questions = tuple(Question(text, (text,), (0,), (1,)) for _, text in pairs)
    before = QuestionSet(documents, questions).fingerprint
    place = data.draw(st.integers(0, len(pairs) - 1))
    head, tail = questions[:place], questions[place + 1 :]
    text = pairs[place][1]
    others = [
        QuestionSet((*documents[:place], documents[place] + "x", *documents[place + 1 :]), questions),
        QuestionSet(documents, (*head, Question(text + "x", (text,), (0,), (1,)), *tail)),
        QuestionSet(documents, (*head, Question(text, (text, "x"), (0,), (1,)), *tail)),
        QuestionSet(documents, (*head, Question(text, (text,), (1,), (1,)), *tail)),
        QuestionSet(documents, (*head, Question(text, (text,), (0,), ()), *tail)),
    ]
    assert QuestionSet(documents, questions).fingerprint == before
    assert len({before, *(other.fingerprint for other in others)}) == 6


def _squad() -> dict[str, Any]:
    """Two articles of two paragraphs with two questions each."""
    entry = {"question": "Who?", "answers": [{"text": "He", "answer_start": 0}], "is_impossible": False}
    paragraph = {"context": "He did.", "qas": [entry, entry]}
    article = {"title": "T", "paragraphs": [paragraph, paragraph]}
    # Through JSON, so that nothing is shared.
    return json.loads(json.dumps({"version": "v2.0", "data": [article, article]}))


def _hotpotqa() -> list[dict[str, Any]]:
    """Two questions with two paragraphs each."""
    context = [["One", ["It is", " so."]], ["Two", ["It is not."]]]
    item = {"question": "Who?", "answer": "It", "supporting_facts": [["One", 0], ["Two", 0]], "context": context}
    return [copy.deepcopy(item), copy.deepcopy(item)]


def _written(file: Path, content: object) -> Path:
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("place", "name", "where"),
    [
        ([], "data", "the top"),
        (["data", 1], "paragraphs", "data[1]"),
        (["data", 1, "paragraphs", 0], "context", "data[1].paragraphs[0]"),
        (["data", 0, "paragraphs", 1], "qas", "data[0].paragraphs[1]"),
        (["data", 0, "paragraphs", 1, "qas", 0], "question", "data[0].paragraphs[1].qas[0]"),
        (["data", 0, "paragraphs", 1, "qas", 0], "answers", "data[0].paragraphs[1].qas[0]"),
        (["data", 1, "paragraphs", 0, "qas", 1, "answers", 0], "text", "data[1].paragraphs[0].qas[1]"),
    ],
)
def test_a_field_that_squad_lacks_is_named(file, place, name, where):
    """A missing field of SQuAD's shape is named with the file and the place."""
    content = _squad()
    read_squad(_written(file, content))
    record: Any = content
    for step in place:
        record = record[step]
    del record[name]
    with pytest.raises(CorpusError, match=f"^{re.escape(f'{file}: {where} lacks the field {name}')}$"):
        read_squad(_written(file, content))


@pytest.mark.parametrize("name", ["question", "answer", "supporting_facts", "context"])
def test_a_field_that_hotpotqa_lacks_is_named(file, name):
    """A missing field of HotpotQA's shape is named with the file and the place."""
    content = _hotpotqa()
    read_hotpotqa(_written(file, content))
    del content[1][name]
    with pytest.raises(CorpusError, match=f"^{re.escape(f'{file}: [1] lacks the field {name}')}$"):
        read_hotpotqa(_written(file, content))


def test_an_answerable_question_without_answers_is_refused(file):
    """A question of SQuAD that has no answer and is not marked so is named with the file and the place."""
    content = _squad()
    content["data"][1]["paragraphs"][0]["qas"][1]["answers"] = []
    with pytest.raises(CorpusError, match=f"^{re.escape(f'{file}: data[1].paragraphs[0].qas[1].answers is empty')}"):
        read_squad(_written(file, content))


def test_a_fact_outside_the_context_is_refused(file):
    """A supporting fact of HotpotQA that is not in the question's own context is named with the file and the place."""
    content = _hotpotqa()
    content[0]["context"].append(["Three", ["It may be."]])
    content[1]["supporting_facts"].append(["Three", 0])
    with pytest.raises(CorpusError, match=f"^{re.escape(f'{file}: [1].supporting_facts')}.*'Three'"):
        read_hotpotqa(_written(file, content))


@pytest.mark.parametrize("context", [5, None, ["alone"], [["One"]], [["One", ["It"], "more"]], [["One", [5]]]])
def test_a_context_of_another_shape_is_refused(file, context):
    """A context of HotpotQA that is no list of titles with sentences is named with the file and the place."""
    content = _hotpotqa()
    content[1]["context"] = context
    with pytest.raises(CorpusError, match=f"^{re.escape(f'{file}: [1].context')}"):
        read_hotpotqa(_written(file, content))


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("content", [b"", b"{", b'{"data": [}', b"text", b"\xff\xfe[]"])
def test_what_is_not_json_is_refused(file, read, content):
    """A file that is not JSON is refused by its name."""
    file.write_bytes(content)
    with pytest.raises(CorpusError, match=f"^{re.escape(str(file))} is not JSON"):
        read(file)


@pytest.mark.parametrize("read", READERS)
def test_a_file_that_is_not_there_is_refused(tmp_path, read):
    """A file that is not there is refused by its name."""
    missing = tmp_path / "missing.json"
    with pytest.raises(CorpusError, match=f"^{re.escape(str(missing))} cannot be read"):
        read(missing)


@pytest.mark.parametrize(("read", "content"), [(read_squad, {"data": []}), (read_hotpotqa, [])])
def test_an_empty_set_is_refused(file, read, content):
    """A file with no question in it is refused by its name."""
    with pytest.raises(CorpusError, match=f"^{re.escape(str(file))} holds no answerable question"):
        read(_written(file, content))


@pytest.mark.parametrize(
    ("read", "content"),
    [
        *((read_squad, content) for content in (_hotpotqa(), [], 5, "data", None)),
        *((read_hotpotqa, content) for content in (_squad(), {}, 5, "data", None)),
    ],
)
def test_another_top_level_is_refused(file, read, content):
    """What is not of the reader's shape at the top, the other shape too, is refused by the file's name."""
    with pytest.raises(CorpusError, match=f"^{re.escape(str(file))}: .*the top"):
        read(_written(file, content))


def _holding(questions: QuestionSet, answer: str) -> list[int]:
    """The documents in which an answer occurs, whatever its case."""
    return [index for index, document in enumerate(questions.documents) if answer.lower() in document.lower()]


def _entries() -> list[tuple[str, dict[str, Any]]]:
    """Every paragraph of the embedded single-hop file with each of its questions."""
    paragraphs = [paragraph for article in SINGLE_HOP["data"] for paragraph in article["paragraphs"]]
    return [(paragraph["context"], entry) for paragraph in paragraphs for entry in paragraph["qas"]]


def test_the_single_hop_set_is_large_enough():
    """The embedded single-hop set has at least 150 paragraphs and 300 answerable questions."""
    assert len(EMBEDDED.single_hop.documents) >= 150
    assert len(EMBEDDED.single_hop.questions) >= 300


def test_the_two_hop_set_is_large_enough():
    """The embedded two-hop set has at least 100 questions, each with two gold documents and four near ones."""
    questions = EMBEDDED.two_hop.questions
    assert len(questions) >= 100
    for question in questions:
        assert len(set(question.gold)) == len(question.gold) == 2
        assert len(set(question.near) - set(question.gold)) >= 4


def test_single_hop_answers_are_in_their_document_alone():
    """Every single-hop answer occurs in its gold document and in no other, whatever the case."""
    questions = EMBEDDED.single_hop
    for question in questions.questions:
        for answer in question.answers:
            assert _holding(questions, answer) == list(question.gold), (question.text, answer)


def test_single_hop_answers_start_where_the_file_says():
    """At every answer's start in the single-hop file its paragraph goes on with the answer."""
    answers = [(context, answer) for context, entry in _entries() for answer in entry["answers"]]
    assert len(answers) >= len(EMBEDDED.single_hop.questions)
    for context, answer in answers:
        start = answer["answer_start"]
        assert context[start : start + len(answer["text"])] == answer["text"]


def test_unanswerable_questions_have_no_answer():
    """The single-hop file's questions have an answer exactly where they are not marked impossible."""
    for _, entry in _entries():
        assert bool(entry["answers"]) != entry["is_impossible"], entry["question"]


def test_bridge_answers_are_in_one_document():
    """Every two-hop answer that is not a comparison occurs in exactly one document, which is gold."""
    questions = EMBEDDED.two_hop
    bridges = {item["question"] for item in TWO_HOP if item["type"] == "bridge"}
    asked = [question for question in questions.questions if question.text in bridges]
    assert asked
    for question in asked:
        for answer in question.answers:
            found = _holding(questions, answer)
            assert len(found) == 1, (question.text, answer)
            assert set(found) <= set(question.gold), (question.text, answer)


def test_no_question_occurs_twice():
    """No question of the embedded sets occurs twice, whatever the case, unanswerable ones and ids included."""
    entries = [entry for _, entry in _entries()]
    counts = Counter(entry["question"].lower() for entry in (*entries, *TWO_HOP))
    assert [text for text, count in counts.items() if count > 1] == []
    ids = [*(entry["id"] for entry in entries), *(item["_id"] for item in TWO_HOP)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", ["single_hop", "two_hop"])
def test_the_embedded_sets_are_ascii(name):
    """The embedded sets are ASCII: in the files, the documents, the questions and the answers."""
    assert (FOLDER / f"{name}.json").read_bytes().isascii()
    questions: QuestionSet = getattr(EMBEDDED, name)
    assert all(document.isascii() for document in questions.documents)
    assert all("".join((question.text, *question.answers)).isascii() for question in questions.questions)


@pytest.mark.parametrize("name", ["single_hop", "two_hop"])
def test_embedded_texts_have_no_blanks_at_their_rims(name):
    """Documents, questions and answers of the embedded sets begin and end without blanks, and no line is empty."""
    questions: QuestionSet = getattr(EMBEDDED, name)
    asked = [text for question in questions.questions for text in (question.text, *question.answers)]
    for text in (*questions.documents, *asked):
        assert text == text.strip()
        assert all(line.strip() for line in text.split("\n"))
