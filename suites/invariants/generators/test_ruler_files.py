"""RULER's files of prompts: found, read line by line, and made into examples."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.assembly import Assembly
from generators.examples import Example
from generators.prompt_templates import PromptTemplate, chat_prompt_template, plain_template
from generators.ruler_files import PromptRecord, RulerFileError, prompt_files, prompt_record
from generators.tasks.registry import tasks
from generators.tokenizer_files import load_tokenizer
from suites.support.runs import REPOSITORY

TOKENIZER = load_tokenizer(REPOSITORY / "zoo" / "pocket" / "tokenizer.json")
BEGIN = "<|endoftext|>"
LINE: Mapping[str, Any] = {
    "index": 0,
    "input": "A text. What is in it?",
    "outputs": ["a text"],
    "length": 60,
    "answer_prefix": " It is",
}

# What ends a line for some readers, quotes what others escape, or takes two units in UTF-16.
odd = st.sampled_from(list("\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\x00\x7f\"'\\/{}\ufeff\U0001f600\u0301é ab"))
texts = st.one_of(st.text(odd, max_size=12), st.text(max_size=12))
records = st.builds(
    PromptRecord,
    index=st.integers(-1, 10**6),
    input=texts,
    outputs=st.lists(texts, min_size=1, max_size=3).map(tuple),
    length=st.integers(1, 10**6),
    answer_prefix=texts,
    token_position_answer=st.none() | st.integers(0, 10**6),
)


def _write(path: Path, *lines: Mapping[str, Any] | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_text(content, encoding="utf-8")
    return path


def _refusal(folder: Path) -> str:
    with pytest.raises(RulerFileError) as refused:
        prompt_files(folder)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@given(st.lists(records, min_size=1, max_size=5), st.sampled_from(["\n", "\r\n", "\n\n"]), st.booleans())
def test_what_is_written_is_read_back(written, line_end, ended):
    """Records are read as they were written, one line each, whatever characters they hold and however lines end."""
    lines = [record.to_json() for record in written]
    assert all(len(line.splitlines()) == 1 for line in lines)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vt.jsonl"
        path.write_bytes((line_end.join(lines) + line_end * ended).encode())
        (file,) = prompt_files(Path(folder))
        assert file.records == tuple(written)


@given(records)
def test_other_writers_escape_less(record):
    """A line that leaves in place all that JSON allows is read the same."""
    line = json.dumps(json.loads(record.to_json()), ensure_ascii=False)
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder) / "vt.jsonl", line)
        (file,) = prompt_files(Path(folder))
        assert file.records == (record,)


@given(records, st.lists(st.integers(0, 1000), max_size=20), st.integers(1, 500))
def test_a_record_holds_what_rulers_does(record, ids, tokens_to_generate):
    """An example's line has RULER's fields, its length the prompt's tokens and the answer's together."""
    example = Example(
        record.index,
        record.input,
        record.answer_prefix,
        record.outputs,
        Assembly(len(ids), (), (ids,)),
        answer_token=record.token_position_answer,
    )
    fields = json.loads(prompt_record(example, tokens_to_generate).to_json())
    position = {"token_position_answer": record.token_position_answer}
    assert fields == {
        "index": record.index,
        "input": record.input,
        "outputs": list(record.outputs),
        "length": len(ids) + tokens_to_generate,
        "answer_prefix": record.answer_prefix,
        **(position if record.token_position_answer is not None else {}),
    }


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("vt/validation.jsonl", ("vt", 60)),
        ("vt.jsonl", ("vt", 60)),
        ("4096/vt.jsonl", ("vt", 4096)),
        ("4096/vt/validation.jsonl", ("vt", 4096)),
        ("4096/data/vt/validation.jsonl", ("vt", 4096)),
        ("synthetic/4096/data/niah_single_1/test.jsonl", ("niah_single_1", 4096)),
        ("1/4096/vt/validation.jsonl", ("vt", 4096)),
        ("4k/vt/validation.jsonl", ("vt", 60)),
        ("qa_1/vt.jsonl", ("vt", 60)),
    ],
)
def test_files_are_found_wherever_ruler_lays_them(tmp_path, name, found):
    """A file is found by its task's name or its folder's, its length by the last number above or its longest line."""
    # The number of the folder itself says nothing.
    folder = tmp_path / "512"
    path = _write(folder / name, {**LINE, "length": 50}, LINE, {**LINE, "length": 59})
    (file,) = prompt_files(folder)
    assert (file.task, file.length) == found
    assert file.path == path
    assert [record.length for record in file.records] == [50, 60, 59]


PREDICTION: Mapping[str, Any] = {**LINE, "pred": "a text", "others": {"id": 0}}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("4096/pred/vt.jsonl", PREDICTION),
        ("4096/pred/vt.jsonl", "nothing"),
        ("4096/pred/vt.jsonl", ""),
        ("4096/pred/vt/validation.jsonl", LINE),
        ("4096/answers/vt.jsonl", PREDICTION),
        ("4096/vt.jsonl", PREDICTION),
    ],
)
def test_predictions_are_left_aside(tmp_path, name, line):
    """Of RULER's output the prompts are taken, not the predictions beside them, which its folder or field tells."""
    path = _write(tmp_path / "4096" / "data" / "vt" / "validation.jsonl", LINE)
    _write(tmp_path / name, line)
    (file,) = prompt_files(tmp_path)
    assert (file.task, file.length, file.path) == ("vt", 4096, path)
    path.unlink()
    assert _refusal(tmp_path).startswith(f"no file of RULER's in {tmp_path}: ")


@pytest.mark.parametrize("prompts", ["pred/vt.jsonl", "pred/vt/validation.jsonl"])
def test_prompts_may_lie_below_a_folder_of_that_name(tmp_path, prompts):
    """What the folder that was asked for is called does not make its files predictions."""
    path = _write(tmp_path / prompts, LINE)
    (file,) = prompt_files(tmp_path / "pred")
    assert file.path == path


def test_many_files_are_found(tmp_path):
    """All tasks at all lengths are found, each file with its own lines."""
    wanted = {(task, length) for task in tasks() for length in (256, 1024)}
    for task, length in wanted:
        _write(tmp_path / str(length) / task / "validation.jsonl", {**LINE, "input": f"{task} {length}"})
    files = prompt_files(tmp_path)
    assert len(files) == len(wanted)
    assert {(file.task, file.length) for file in files} == wanted
    assert all(file.records[0].input == f"{file.task} {file.length}" for file in files)


@pytest.mark.parametrize(
    "name", ["notes.txt", "vt.json", "validation.jsonl", "other/validation.jsonl", "vt/a/b.jsonl", "vt.jsonl.part"]
)
def test_other_files_are_left_alone(tmp_path, name):
    """What is no task's file is not even read."""
    _write(tmp_path / "qa_1.jsonl", LINE)
    _write(tmp_path / name, "nothing")
    assert [file.task for file in prompt_files(tmp_path)] == ["qa_1"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("vt.jsonl", "vt/validation.jsonl"),
        ("vt/test.jsonl", "vt/validation.jsonl"),
        ("60/vt.jsonl", "vt.jsonl"),
        ("256/data/vt/validation.jsonl", "256/vt/validation.jsonl"),
    ],
)
def test_two_files_of_a_task_and_length_are_refused(tmp_path, first, second):
    """Where two files are of one task at one length, both are named."""
    paths = [_write(tmp_path / name, LINE) for name in (first, second)]
    refused = _refusal(tmp_path)
    assert refused.endswith(f"are both of task vt at length {first.partition('/')[0] if first[0] == '2' else 60}")
    assert all(str(path) in refused for path in paths)


def test_a_folder_without_any_is_refused(tmp_path):
    """A folder that holds no task's file is named, with what belongs there."""
    _write(tmp_path / "validation.jsonl", LINE)
    refused = _refusal(tmp_path)
    assert refused.startswith(f"no file of RULER's in {tmp_path}: ")
    assert "TASK/validation.jsonl" in refused


@pytest.mark.parametrize("name", ["nowhere", "vt.jsonl"])
def test_what_is_no_folder_is_refused(tmp_path, name):
    """A path that is missing, or is a file, is named."""
    _write(tmp_path / "vt.jsonl", LINE)
    assert _refusal(tmp_path / name).startswith(f"{tmp_path / name} is no folder; ")


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in LINE.items() if key != name}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nothing", "not JSON"),
        (json.dumps(LINE)[:-9], "not JSON, the file may be cut short"),
        ("[]", "an object is expected"),
        ('"text"', "an object is expected"),
        *((_without(name), f"the field {name} is missing") for name in ("index", "input", "outputs", "length")),
        ({**LINE, "index": "0"}, "index must be of type int, not '0'"),
        ({**LINE, "index": True}, "index must be of type int, not True"),
        ({**LINE, "input": None}, "input must be of type str, not None"),
        ({**LINE, "input": ["a"]}, "input must be of type str, not ['a']"),
        ({**LINE, "length": 59.5}, "length must be of type int, not 59.5"),
        ({**LINE, "length": -5}, "length must be at least 1, not -5"),
        ({**LINE, "length": 0}, "length must be at least 1, not 0"),
        ({**LINE, "input": "ab\ud83d"}, "input holds the lone surrogate '\\ud83d' at character 2"),
        ({**LINE, "outputs": ["a", "\ude00"]}, "outputs holds the lone surrogate '\\ude00' at character 0"),
        ({**LINE, "answer_prefix": "\udfffa"}, "answer_prefix holds the lone surrogate '\\udfff' at character 0"),
        ({**LINE, "answer_prefix": None}, "answer_prefix must be of type str, not None"),
        ({**LINE, "outputs": "a text"}, "outputs must be of type list, not 'a text'"),
        ({**LINE, "outputs": []}, "outputs must be a list of at least one text"),
        ({**LINE, "outputs": ["a", 1]}, "outputs must be a list of at least one text"),
    ],
)
def test_malformed_lines_are_named(tmp_path, line, said):
    """A line that is not RULER's is refused with its file, its number, blank lines counted, and its field."""
    path = _write(tmp_path / "vt" / "validation.jsonl", LINE, "", line, LINE)
    assert _refusal(tmp_path).startswith(f"{path}, line 3: {said}")


@pytest.mark.parametrize("content", [b"", b"\n\n", b" "])
def test_empty_files_are_named(tmp_path, content):
    """A file without a line is refused by its name."""
    (tmp_path / "vt.jsonl").write_bytes(content)
    assert _refusal(tmp_path) == f"{tmp_path / 'vt.jsonl'} is empty"


def test_files_that_are_no_text_are_named(tmp_path):
    """A file that is not UTF-8 is refused by its name."""
    (tmp_path / "vt.jsonl").write_bytes(b"\xff\xfe")
    assert _refusal(tmp_path).startswith(f"{tmp_path / 'vt.jsonl'} is not UTF-8")


@given(records)
def test_a_byte_order_mark_is_no_part_of_the_text(record):
    """A file that begins with a byte order mark is read like one without."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vt.jsonl").write_text(record.to_json() + "\n", encoding="utf-8-sig")
        (file,) = prompt_files(Path(folder))
        assert file.records == (record,)


def test_a_line_without_an_answer_prefix_is_read(tmp_path):
    """Files of RULER's older versions, whose prompts hold the answer prefix already, are read."""
    _write(tmp_path / "vt.jsonl", _without("answer_prefix"))
    (file,) = prompt_files(tmp_path)
    assert file.records == (PromptRecord(0, LINE["input"], ("a text",), 60, ""),)


def test_the_fingerprint_is_the_files(tmp_path):
    """A file's fingerprint is the sum of its bytes."""
    path = _write(tmp_path / "vt.jsonl", LINE)
    (file,) = prompt_files(tmp_path)
    assert file.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()


@given(st.lists(records, min_size=1, max_size=4), st.integers(1, 5))
def test_examples_are_the_first_lines(written, count):
    """Examples are the first lines as they stand, their ids those of prompt and answer prefix as one text."""
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder) / "vt.jsonl", *(record.to_json() for record in written))
        (file,) = prompt_files(Path(folder))
        examples = file.examples(count, TOKENIZER, PromptTemplate())
    assert len(examples) == min(count, len(written))
    for record, example in zip(written, examples, strict=False):
        assert (example.index, example.prompt, example.answer_prefix) == (
            record.index,
            record.input,
            record.answer_prefix,
        )
        assert example.references == record.outputs
        assert example.ids == TOKENIZER.encode(record.input + record.answer_prefix).ids


def test_a_beginning_of_sequence_is_one_id_more(tmp_path):
    """A model that wants a beginning-of-sequence token gets exactly one, before ids that stay as they are."""
    _write(tmp_path / "vt.jsonl", LINE)
    (file,) = prompt_files(tmp_path)
    (plain,) = file.examples(1, TOKENIZER, PromptTemplate())
    (begun,) = file.examples(1, TOKENIZER, plain_template(TOKENIZER, BEGIN))
    assert begun.ids == (TOKENIZER.special(BEGIN), *plain.ids)
    assert begun.prompt == plain.prompt == LINE["input"]


def test_a_chat_template_stands_around_the_input(tmp_path):
    """In a chat the input is the user's turn, and the answer prefix begins the answer."""
    _write(tmp_path / "vt.jsonl", LINE)
    (file,) = prompt_files(tmp_path)
    template = "{{ bos_token }}User: {{ messages[0]['content'] }}\nAnswer:"
    prompt_template = chat_prompt_template(TOKENIZER, template, beginning_of_sequence=BEGIN, end_of_sequence=None)
    (example,) = file.examples(1, TOKENIZER, prompt_template)
    words = f"User: {LINE['input']}\nAnswer:"
    assert example.prompt == BEGIN + words
    assert example.answer_prefix == LINE["answer_prefix"]
    assert example.ids == (TOKENIZER.special(BEGIN), *TOKENIZER.encode(words + LINE["answer_prefix"]).ids)
