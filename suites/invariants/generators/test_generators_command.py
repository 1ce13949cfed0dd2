"""`python -m generators`: what it writes, scores, shows and fetches, and what it refuses in one line."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import normalizers

from generators import source_options
from generators.__main__ import main
from generators.corpora import downloads
from generators.corpora.downloads import CorpusSource, File, Mirror
from generators.corpora.sets import corpora
from generators.examples import ExampleSource
from generators.tasks.registry import RULER, tasks
from generators.tokenization import Tokenizer
from generators.tokenizer_files import load_tokenizer
from suites.support.runs import REPOSITORY, environment

POCKET = REPOSITORY / "zoo" / "pocket" / "tokenizer.json"
TOKENIZER = load_tokenizer(POCKET)
EMBEDDED = corpora("embedded")
NEEDLES = ("niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_2", "niah_multiquery")
# Everything a whole number or a name is asked for at; what comes later on a command line counts.
WRITE = ("write", "--task=niah_single_1", "--length=256", "--tokens-to-generate=48", f"--tokenizer={POCKET}")
SHOW = ("show", *WRITE[1:])
CHAT = "{{ bos_token }}<user>{% for message in messages %}{{ message['content'] }}{% endfor %}</user>"


@pytest.fixture(autouse=True)
def _one_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pocket tokenizer is read once, so that what it has tokenized is remembered from test to test."""

    def load(path: Path) -> Tokenizer:
        return TOKENIZER if path == POCKET else load_tokenizer(path)

    monkeypatch.setattr(source_options, "load_tokenizer", load)


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but text is printed, whatever the surrounding terminal is said to be."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def _written(path: Path, *options: str) -> list[dict[str, Any]]:
    """The lines of a file after it was written."""
    assert main([*WRITE, f"--out={path}", *options]) == 0
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a refused command says: one line, or argparse's usage and one line; nothing on stdout."""
    capsys.readouterr()
    try:
        status: object = main(arguments)
    except SystemExit as error:
        status = error.code
    said = capsys.readouterr()
    assert status == 2
    assert not said.out
    *before, last = said.err.removesuffix("\n").split("\n")
    if before:
        assert before[0].startswith("usage: python -m generators")
        assert all(line.startswith(" ") for line in before[1:])
        assert re.match(r"python -m generators\S* ?\w*: error: ", last)
    else:
        assert last.startswith("error: ")
    return last


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _source(task: str, length: int, tokens_to_generate: int, **others: Any) -> ExampleSource:
    return ExampleSource(tasks()[task], length, TOKENIZER, EMBEDDED, tokens_to_generate, **others)


@pytest.mark.parametrize(
    ("task", "length", "budget"),
    [
        ("niah_single_1", 256, 48),
        ("niah_multikey_3", 640, 48),
        ("niah_multivalue", 512, 48),
        ("vt", 640, 40),
        ("cwe", 1300, 80),
        ("fwe", 512, 50),
        ("qa_1", 800, 32),
    ],
)
def test_lines_are_the_examples(tmp_path, task, length, budget):
    """A file holds the examples of its task in order, each with the tokens it takes."""
    lines = _written(
        tmp_path / "out.jsonl", f"--task={task}", f"--length={length}", f"--tokens-to-generate={budget}", "--samples=4"
    )
    examples = _source(task, length, budget).examples(4)
    assert [line["index"] for line in lines] == [0, 1, 2, 3]
    for line, example in zip(lines, examples, strict=True):
        assert line["input"] == example.prompt
        assert line["answer_prefix"] == example.answer_prefix
        assert line["outputs"] == list(example.references)
        assert line.get("token_position_answer") == example.answer_token
        ids = TOKENIZER.encode(line["input"] + line["answer_prefix"]).ids
        assert ids == example.ids
        assert line["length"] == len(ids) + budget <= length


@pytest.mark.parametrize(("task", "length"), [*((task, 512) for task in NEEDLES), ("vt", 640), ("qa_1", 800)])
@pytest.mark.parametrize("begin", [[], ["--beginning-of-sequence=<|endoftext|>"]], ids=["without", "with one more"])
def test_the_answers_position_counts_the_tokens_before_it(tmp_path, task, length, begin):
    """As many tokens stand before the first reference as the line says, up to the blank before it."""
    lines = _written(
        tmp_path / "out.jsonl", f"--task={task}", f"--length={length}", "--tokens-to-generate=40", "--samples=4", *begin
    )
    for line in lines:
        found = re.finditer(re.escape(line["outputs"][0]), line["input"])
        before = [line["input"][: each.start()] for each in found]
        counted = {len(TOKENIZER.encode(side).ids) for text in before for side in (text, text.rstrip())}
        assert line["token_position_answer"] - len(begin) in counted


@pytest.mark.parametrize("task", ["cwe", "fwe"])
def test_what_is_hidden_nowhere_has_no_position(tmp_path, task):
    """A task whose answer stands at no place writes no position."""
    (line,) = _written(tmp_path / "out.jsonl", f"--task={task}", "--length=1300", "--samples=1")
    assert set(line) == {"index", "input", "outputs", "length", "answer_prefix"}


def test_the_budget_is_rulers_unless_given(tmp_path):
    """Without a number of tokens to generate, RULER's is kept free."""
    path = tmp_path / "out.jsonl"
    arguments = ["write", "--task=niah_single_1", "--length=512", f"--tokenizer={POCKET}", "--samples=2"]
    assert main([*arguments, f"--out={path}"]) == 0
    examples = _source("niah_single_1", 512, 128).examples(2)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(line["input"], line["length"]) for line in lines] == [
        (example.prompt, len(example.ids) + 128) for example in examples
    ]


def test_workers_change_no_byte(tmp_path):
    """Two processes write the same files as one, of several tasks and more samples than a process takes at once."""
    options = [*WRITE, "--task=niah_single_1,niah_multikey_1", "--length=256,300", "--samples=37"]
    assert main([*options, f"--out={tmp_path / 'one'}"]) == 0
    assert main([*options, f"--out={tmp_path / 'two'}", "--workers=2"]) == 0
    assert _files(tmp_path / "one") == _files(tmp_path / "two")
    assert len(_files(tmp_path / "one")) == 4
    for name in _files(tmp_path / "one"):
        one = (tmp_path / "one" / name).read_bytes()
        assert one == (tmp_path / "two" / name).read_bytes()
        assert [json.loads(line)["index"] for line in one.splitlines()] == list(range(37))


def test_seeds_give_other_examples(tmp_path):
    """Every seed gives examples of its own, and the same ones again."""
    written = [_written(tmp_path / f"{i}.jsonl", f"--seed={seed}", "--samples=5") for i, seed in enumerate("0123311")]
    answers = [{line["outputs"][0] for line in lines} for lines in written]
    assert not any(answers[i] & answers[j] for i in range(4) for j in range(i))
    assert (written[3], written[1], written[1]) == (written[4], written[5], written[6])
    assert written[0] == _written(tmp_path / "default.jsonl", "--samples=5")


def test_several_files_go_below_a_folder(tmp_path):
    """Tasks and lengths are written one by one, as RULER lays them out, each the same as when written alone."""
    options = ["--task=niah_single_1,niah_multikey_1", "--length=256,320", "--samples=2"]
    assert main([*WRITE, f"--out={tmp_path / 'all'}", *options]) == 0
    assert _files(tmp_path / "all") == [
        f"{length}/{task}/validation.jsonl" for length in (256, 320) for task in ("niah_multikey_1", "niah_single_1")
    ]
    alone = tmp_path / "alone.jsonl"
    for length in (256, 320):
        for task in ("niah_multikey_1", "niah_single_1"):
            _written(alone, f"--task={task}", f"--length={length}", "--samples=2")
            path = tmp_path / "all" / str(length) / task / "validation.jsonl"
            assert path.read_bytes() == alone.read_bytes()


def test_all_of_ruler_that_fits_is_written(tmp_path, capsys):
    """Of RULER's thirteen tasks those that fit are on disk, and one that does not is named with a length."""
    arguments = ["write", "--task=ruler", "--length=1024", f"--tokenizer={POCKET}", "--samples=1"]
    assert main([*arguments, f"--out={tmp_path}"]) == 2
    fit = [task for task in RULER if task != "cwe"]
    said = capsys.readouterr().err.splitlines()
    smallest = _source("cwe", 1024, 120).smallest_length(1)
    assert said.pop() == (f"error: task cwe does not fit a length of 1024 tokens; the smallest that fits is {smallest}")
    assert [line.split()[3] for line in said] == fit
    assert _files(tmp_path) == sorted(f"1024/{task}/validation.jsonl" for task in fit)
    assert sorted(path.name for path in (tmp_path / "1024").iterdir()) == sorted(fit)
    for task in fit:
        (line,) = (tmp_path / "1024" / task / "validation.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(line)["outputs"] == list(
            _source(task, 1024, tasks()[task].tokens_to_generate).example(0).references
        )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_length_too_small_leaves_what_was_there(tmp_path, capsys, workers):
    """Where a task does not fit, no file, part of one or new folder is left, and an older file or folder stays."""
    old, empty = tmp_path / "old.jsonl", tmp_path / "empty"
    old.write_text("older\n", encoding="utf-8")
    empty.mkdir()
    for path in (tmp_path / "new" / "newer" / "out.jsonl", empty / "new" / "out.jsonl", empty / "out.jsonl", old):
        said = _refusal(capsys, *WRITE, "--length=100", "--samples=20", f"--workers={workers}", f"--out={path}")
        assert re.fullmatch(
            r"error: task niah_single_1 does not fit a length of 100 tokens; the smallest that fits is 1\d\d", said
        )
    assert sorted(tmp_path.rglob("*")) == [empty, old]
    assert old.read_text(encoding="utf-8") == "older\n"


def test_what_was_written_is_named_with_its_corpus(tmp_path, capsys):
    """Each file is told on stderr in one line with its task, length, path and what it was made from."""
    path = tmp_path / "out.jsonl"
    _written(path, "--task=niah_single_2", "--samples=2")
    said = capsys.readouterr()
    assert not said.out
    corpus = f"embedded essays {EMBEDDED.essays.fingerprint[:16]}"
    assert said.err == f"2 examples of niah_single_2 at 256 tokens (corpus {corpus}): {path}\n"


@pytest.mark.parametrize(
    ("task", "change", "changed"),
    [
        ("vt", "hops=2", lambda line: len(line["outputs"]) == 3),
        ("vt", "demonstrations=0", lambda line: line["input"].count("Question: Find all variables") == 1),
        ("niah_single_1", "keys=3", lambda line: line["input"].count("One of the special magic") == 3),
        ("niah_single_1", "haystack=essay", lambda line: "The grass is green." not in line["input"]),
        ("niah_single_1", 'value="uuid"', lambda line: re.fullmatch(r"[0-9a-f-]{36}", line["outputs"][0])),
    ],
)
def test_parameters_of_a_task_are_set(tmp_path, task, change, changed):
    """A changed parameter changes the prompts, in TOML's spelling or as a bare word, and only then."""
    options = [f"--task={task}", "--length=640", "--samples=3"]
    assert not any(map(changed, _written(tmp_path / "plain.jsonl", *options)))
    assert all(map(changed, _written(tmp_path / "set.jsonl", *options, f"--set={change}")))


def test_several_parameters_are_set_together(tmp_path):
    """Every --set counts, and the longer chain it makes is answered by all of its names."""
    lines = _written(
        tmp_path / "out.jsonl", "--task=vt", "--length=800", "--samples=3", "--set=hops=6", "--set=demonstrations=0"
    )
    for line in lines:
        assert len(line["outputs"]) == 7
        names = re.findall(r"VAR ([A-Z]+) =", line["input"])
        assert names == line["outputs"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--set=hops=6"], "task niah_single_1 has no parameter hops; there are haystack, key"),
        (["--set=keys=many"], "keys must be of the kind of 1, not 'many'"),
        (["--set=keys=true"], "keys must be of the kind of 1, not True"),
        (["--set=keys=2.5"], "keys must be of the kind of 1, not 2.5"),
        (["--set=haystack=3"], "haystack must be of the kind of 'noise', not 3"),
        (["--set=haystack=nowhere"], "haystack must be one of noise, essay, needles, not 'nowhere'"),
        (["--set=keys=0"], "keys must be at least 1, not 0"),
        (["--set=keys"], "--set: NAME=VALUE is expected, not 'keys'"),
        (["--task=niah_single_9"], "--task: unknown task niah_single_9; there are "),
        (["--task=niah_single_1,niah_single_9", "--out={}/folder"], "--task: unknown task niah_single_9; there are "),
        (["--task=niah_single_1,vt"], "--out: 2 files are to be written, so a folder is expected, not "),
        (["--length=256,512"], "--out: 2 files are to be written, so a folder is expected, not "),
        (["--depth=101"], "--depth: between 0 and 100 percent, not 101"),
        (["--depth=-1"], "--depth: between 0 and 100 percent, not -1"),
        (["--depth=nan"], "--depth: between 0 and 100 percent, not nan"),
        (["--task=vt", "--depth=50"], "--depth: task vt has none"),
        (["--depth=middle"], "--depth: invalid float value: 'middle'"),
        (["--length=0"], "--length: a whole number of at least 1 is expected, not '0'"),
        (["--length=x"], "--length: a whole number of at least 1 is expected, not 'x'"),
        (["--length=²"], "--length: a whole number of at least 1 is expected, not '²'"),
        (["--length=256,"], "--length: a whole number of at least 1 is expected, not ''"),
        (["--samples=0"], "--samples: a whole number of at least 1 is expected, not '0'"),
        (["--samples=x"], "--samples: a whole number of at least 1 is expected, not 'x'"),
        (["--workers=0"], "--workers: a whole number of at least 1 is expected, not '0'"),
        (["--tokens-to-generate=0"], "--tokens-to-generate: a whole number of at least 1 is expected, not '0'"),
        (["--seed=x"], "--seed: invalid int value: 'x'"),
        (["--corpus=imagined"], "--corpus: invalid choice: 'imagined'"),
        (["--tokenizer={}/none.json"], "no tokenizer at {}/none.json"),
        (["--tokenizer={}"], "no tokenizer at {}/tokenizer.json"),
        (["--tokenizer={}/none"], "--tokenizer: {}/none is no file here and cannot be had from the hub"),
        (["--beginning-of-sequence=<first>"], "the tokenizer has no token '<first>'"),
        (["--chat-template={}/none.jinja"], "no chat template at {}/none.jinja"),
    ],
    ids=lambda given: given[-1].removeprefix("--") if isinstance(given, list) else "",
)
def test_mistakes_are_refused_in_one_line(tmp_path, capsys, wrong, said):
    """A mistake is named in one line with status 2 before anything is made, and leaves nothing behind."""
    options = [option.replace("{}", str(tmp_path)) for option in wrong]
    line = _refusal(capsys, *WRITE, f"--out={tmp_path / 'out.jsonl'}", *options)
    assert said.replace("{}", str(tmp_path)) in line
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_tokenizer_is_named(tmp_path, capsys):
    """A file that is no tokenizer is refused by its name."""
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    line = _refusal(capsys, *WRITE, f"--out={tmp_path / 'out.jsonl'}", f"--tokenizer={tmp_path / 'other.json'}")
    assert f"{tmp_path / 'other.json'} is not a readable tokenizer.json" in line
    assert _files(tmp_path) == ["other.json"]


def test_a_place_that_cannot_be_written_is_named(tmp_path, capsys):
    """A folder below a file is refused by its name."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    line = _refusal(capsys, *WRITE, "--samples=1", f"--out={tmp_path / 'file' / 'out.jsonl'}")
    assert str(tmp_path / "file") in line
    assert _files(tmp_path) == ["file"]


@pytest.mark.parametrize("depth", ["0", "100"])
def test_the_depth_says_where_the_needle_is(tmp_path, depth):
    """At depth 0 the needle is the haystack's first line, at depth 100 its last."""
    for line in _written(tmp_path / "out.jsonl", f"--depth={depth}", "--samples=5"):
        lines = line["input"].split("\n")
        # The first line is the introduction, the last the question.
        needle = lines[1] if depth == "0" else lines[-2]
        assert needle.startswith("One of the special magic numbers for ")
        assert line["outputs"][0] in needle
        assert line["input"].count(line["outputs"][0]) == 1


def test_a_beginning_of_sequence_takes_one_token(tmp_path):
    """The token counts in the length but is no part of the text, and prompts stay within their length."""
    lines = _written(tmp_path / "out.jsonl", "--beginning-of-sequence=<|endoftext|>", "--samples=5")
    for line in lines:
        ids = TOKENIZER.encode(line["input"] + line["answer_prefix"]).ids
        assert line["length"] == 1 + len(ids) + 48 <= 256
        assert "<|endoftext|>" not in line["input"]


@pytest.mark.parametrize("begin", ["", "<|endoftext|>"], ids=["none", "spelled"])
def test_a_chat_template_wraps_every_prompt(tmp_path, begin):
    """Prompts stand in the template's words, which take their own part of the length."""
    (tmp_path / "chat.jinja").write_text(CHAT, encoding="utf-8")
    options = [f"--beginning-of-sequence={begin}"] if begin else []
    lines = _written(tmp_path / "out.jsonl", f"--chat-template={tmp_path / 'chat.jinja'}", "--samples=5", *options)
    around = sum(len(TOKENIZER.encode(part).ids) for part in ("<user>", "</user>")) + bool(begin)
    for line in lines:
        before, found, rest = line["input"].partition("<user>")
        assert (before, found) == (begin, "<user>")
        prompt, found, after = rest.partition("</user>")
        assert (found, after) == ("</user>", "")
        assert prompt.startswith("A special magic number is hidden within the following text.")
        ids = TOKENIZER.encode(prompt + line["answer_prefix"]).ids
        # The template's words and the prompt's may share a token or part one, so the sum is near.
        assert abs(line["length"] - (len(ids) + around + 48)) <= 2
        assert line["length"] <= 256


def test_a_chat_template_that_loses_the_prompt_is_refused(tmp_path, capsys):
    """A template without the user's words is refused, and no file is written."""
    (tmp_path / "chat.jinja").write_text("<user></user>", encoding="utf-8")
    line = _refusal(capsys, *WRITE, f"--out={tmp_path / 'out.jsonl'}", f"--chat-template={tmp_path / 'chat.jinja'}")
    assert "holds the user's turn 0 times" in line
    assert _files(tmp_path) == ["chat.jinja"]


def test_a_tokenizer_without_boundaries_still_writes(tmp_path, capsys, monkeypatch):
    """A tokenizer without proven token boundaries is called slower in one line, and fills its length as well."""
    monkeypatch.setenv("COLUMNS", "40")
    backend = Backend.from_file(str(POCKET))
    backend.normalizer = normalizers.Lowercase()
    (tmp_path / "lower").mkdir()
    backend.save(str(tmp_path / "lower" / "tokenizer.json"))
    lines = _written(tmp_path / "out.jsonl", f"--tokenizer={tmp_path / 'lower'}", "--samples=3")
    notice = "this tokenizer may merge across any border, so prompts are tokenized whole: slower"
    assert capsys.readouterr().err.splitlines()[0] == notice
    tokenizer = load_tokenizer(tmp_path / "lower" / "tokenizer.json")
    sentence = tokenizer.count(
        "\nThe grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
    )
    for line in lines:
        taken = len(tokenizer.encode(line["input"] + line["answer_prefix"]).ids) + 48
        assert line["length"] == taken
        assert 256 - sentence < taken <= 256

    _written(tmp_path / "out.jsonl", "--samples=1")
    assert "tokenized whole" not in capsys.readouterr().err


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's cache with nothing in it."""
    monkeypatch.setenv("LONGWATCH_CACHE", str(tmp_path / "cache"))
    corpora.cache_clear()
    yield tmp_path / "cache"
    corpora.cache_clear()


def test_real_corpora_that_are_not_there_are_named(empty_cache, tmp_path, capsys):
    """A task that needs a set that was never fetched names it and both ways out; one that needs none is written."""
    out = tmp_path / "out.jsonl"
    line = _refusal(capsys, *WRITE, "--task=niah_single_2", "--corpus=real", f"--out={out}")
    for part in ("(essays) is not in the cache", "`python -m generators fetch essays`", "--corpus embedded"):
        assert part in line
    assert _files(tmp_path) == []
    assert len(_written(out, "--corpus=real", "--samples=2")) == 2


def test_the_command_runs_as_a_module(tmp_path):
    """Started as a user starts it, the command writes the same file, scores nothing of it, and ends with its status."""

    def started(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "generators", *arguments]
        return subprocess.run(
            command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=120, check=False
        )

    done = started(*WRITE, "--samples=3", f"--out={tmp_path / 'a' / 'niah_single_1.jsonl'}")
    assert (done.returncode, done.stdout) == (0, "")
    _written(tmp_path / "b.jsonl", "--samples=3")
    assert (tmp_path / "a" / "niah_single_1.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()

    refused = started("score", str(tmp_path / "a" / "niah_single_1.jsonl"))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"error: {tmp_path / 'a' / 'niah_single_1.jsonl'}, line 1: the field pred is missing\n"


def _predictions(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def _answered(prediction: str, *references: str, **others: object) -> dict[str, object]:
    return {"pred": prediction, "outputs": list(references), **others}


def _printed(*arguments: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["score", *arguments]) == 0
    return out.getvalue()


answers = st.tuples(
    st.text(st.sampled_from("abAB \n\t\x00\x1c\u2028é"), max_size=8),
    st.lists(st.text(st.sampled_from("abAB é"), min_size=1, max_size=3), min_size=1, max_size=4),
)


@given(st.lists(answers, min_size=1, max_size=12), st.sampled_from(["vt", "niah_single_1", "cwe", "qa_1", "qa_2"]))
def test_scores_are_rulers(given_answers, task):
    """The score is RULER's to two decimals, by all references or, for questions, by the best, and counts nulls."""
    expected, nulls = 0.0, 0
    for prediction, references in given_answers:
        read = re.sub(r"[\x00-\x1f]", "\n", prediction.strip()).strip()
        found = [reference.lower() in read.lower() for reference in references]
        expected += any(found) if task.startswith("qa") else sum(found) / len(found)
        nulls += read == ""
    expected = round(expected / len(given_answers) * 100, 2)
    with tempfile.TemporaryDirectory() as folder:
        path = _predictions(Path(folder) / f"{task}.jsonl", *(_answered(p, *r) for p, r in given_answers))
        assert _printed(str(path)) == f"{task}: score {expected:.2f}, nulls {nulls}/{len(given_answers)}\n"


def test_json_lists_every_example(tmp_path):
    """In JSON every example has its score and number: RULER's, else the line's own, else its place."""
    path = _predictions(
        tmp_path / "vt.jsonl",
        _answered("A B", "A", "B", index=5, others={"id": 17}),
        _answered("A", "A", "B", index=6, others={"more": 1}),
        _answered(" \n", "A", others=None),
        _answered("B", "A", index=0, others={"id": 0}),
    )
    assert json.loads(_printed(str(path), "--json")) == {
        "task": "vt",
        "score": 37.5,
        "nulls": 1,
        "count": 4,
        "examples": [
            {"index": 17, "score": 1.0},
            {"index": 6, "score": 0.5},
            {"index": 2, "score": 0.0},
            {"index": 0, "score": 0.0},
        ],
    }


def test_the_task_is_given_or_named_by_the_file(tmp_path, capsys):
    """A task that is given wins over the file's name; where neither is one, that is said."""
    lines = [_answered("one", "one", "two"), _answered("", "one")]
    by_name, other = _predictions(tmp_path / "vt.jsonl", *lines), _predictions(tmp_path / "mine.jsonl", *lines)
    assert _printed(str(by_name)) == "vt: score 25.00, nulls 1/2\n"
    assert _printed(str(by_name), "--task=qa_1") == "qa_1: score 50.00, nulls 1/2\n"
    assert _printed(str(other), "--task=vt") == "vt: score 25.00, nulls 1/2\n"
    assert f"{other}: 'mine' is no task; name one with --task: " in _refusal(capsys, "score", str(other))
    assert "--task: 'tv' is no task" in _refusal(capsys, "score", str(by_name), "--task=tv")


def test_a_single_output_is_read_too(tmp_path):
    """A line with one answer under RULER's older name is scored like one with a list."""
    path = _predictions(tmp_path / "vt.jsonl", {"pred": "it is one", "output": "one"}, {"pred": "it", "output": "one"})
    assert _printed(str(path)) == "vt: score 50.00, nulls 0/2\n"


GOOD = json.dumps(_answered("a", "a"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{GOOD}\nnothing\n{GOOD}\n", ", line 2: not JSON"),
        (f"{GOOD}\n{GOOD}\n{GOOD[:-5]}", ", line 3: not JSON, the file may be cut short"),
        (f"{GOOD}\n\n[]\n", ", line 3: an object is expected"),
        (f'{GOOD}\n{{"outputs": ["a"]}}\n', ", line 2: the field pred is missing"),
        (f'{GOOD}\n{{"pred": null, "outputs": ["a"]}}\n', ", line 2: pred must be of type str, not None"),
        (f'{GOOD}\n{{"pred": "a"}}\n', ", line 2: the field outputs is missing"),
        ('{"pred": "a", "outputs": []}\n', ", line 1: outputs must be a list of at least one text"),
        ('{"pred": "a", "outputs": "a"}\n', ", line 1: outputs must be a list of at least one text"),
        ('{"pred": "a", "outputs": [1]}\n', ", line 1: outputs must be a list of at least one text"),
        ("", " is empty"),
        ("\n \n", " is empty"),
        (b"\xff\xfe", " is not UTF-8"),
        (None, " cannot be read: No such file or directory"),
    ],
)
def test_files_that_cannot_be_scored_are_named(tmp_path, capsys, content, said):
    """A malformed, cut, empty or missing file is refused with its name and the line at fault."""
    path = tmp_path / "vt.jsonl"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for options in ([], ["--json"]):
        assert _refusal(capsys, "score", str(path), *options).startswith(f"error: {path}{said}")


@pytest.mark.parametrize("index", [0, 7])
def test_a_prompt_is_shown_with_what_answers_it(capsys, index):
    """The prompt is shown word for word, then its references, and its needle's token and percent."""
    assert main([*SHOW, "--task=niah_single_2", "--length=512", "--seed=3", f"--index={index}"]) == 0
    said = capsys.readouterr().out
    example = _source("niah_single_2", 512, 48, seed=3).example(index)
    assert said.startswith(example.text + "\n")
    facts = said.removeprefix(example.text)
    assert f"task niah_single_2, length 512, example {index}, seed 3\n" in facts
    assert f"\nreferences: {example.references[0]}\n" in facts
    assert f"\nneedles at token {example.needle_tokens[0]} ({example.depths[0]:.1f}%)\n" in facts
    used = len(example.ids)
    assert f"\n{used} tokens of prompt and 48 for the answer: {100 * (used + 48) / 512:.1f}% of the length\n" in facts
    assert f"prompt hash {example.digest}, corpus embedded essays" in facts


def test_references_are_highlighted(capsys, monkeypatch):
    """On a terminal the references stand out wherever they occur, and nothing else does."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main([*SHOW, "--task=vt", "--length=640", "--set=demonstrations=0"]) == 0
    prompt = capsys.readouterr().out.partition("Question:")[0]
    marked = re.findall(r"\x1b\[[\d;]*43m(\w+)\x1b\[0m", prompt)
    references = (
        ExampleSource(tasks()["vt"].variant("vt", {"demonstrations": 0}), 640, TOKENIZER, EMBEDDED, 48)
        .example(0)
        .references
    )
    # All but the last name of a chain are read once more.
    assert sorted(marked) == sorted([*references, *references[:-1]])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--task=ruler"], "one --task and one --length are expected here"),
        (["--length=256,512"], "one --task and one --length are expected here"),
        (["--index=x"], "--index: a whole number of at least 0 is expected, not 'x'"),
        (["--index", "-1"], "--index: a whole number of at least 0 is expected, not '-1'"),
        (["--length=100"], "task niah_single_1 does not fit a length of 100 tokens; the smallest that fits is 1"),
    ],
)
def test_what_cannot_be_shown_is_refused(capsys, wrong, said):
    """More than one prompt, or one that does not fit, is refused in one line."""
    assert said in _refusal(capsys, *SHOW, *wrong)


def test_an_unknown_set_is_refused_before_any_is_fetched(tmp_path, capsys):
    """A set that does not exist is named with those that do, and none of the others is asked for."""
    line = _refusal(capsys, "fetch", "words", "wrods", f"--cache={tmp_path}")
    assert line == f"error: unknown set wrods; there are {', '.join(downloads.SETS)}"
    assert _files(tmp_path) == []


def _listed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Sets of one small file each, at an address where nobody listens."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    mirror = Mirror("http://127.0.0.1:1/file.txt", hashlib.sha256(content).hexdigest())
    sources = {name: CorpusSource(name, f"The {name}", (File("file.txt", (mirror,)),)) for name in downloads.SETS}
    monkeypatch.setattr(downloads, "sources", lambda: sources)


@pytest.mark.parametrize("sets", [["words"], []], ids=["one", "all"])
def test_without_a_network_both_ways_out_are_named(tmp_path, capsys, monkeypatch, sets):
    """A set that cannot be fetched is named in one line with what to do instead, and leaves no file."""
    _listed(monkeypatch, b"content")
    first = (sets or downloads.SETS)[0]
    line = _refusal(capsys, "fetch", *sets, f"--cache={tmp_path}")
    assert line.startswith(f"error: The {first} ({first}) cannot be fetched (http://127.0.0.1:1/file.txt: no answer")
    assert f"run `python -m generators fetch {first}` where there is a network" in line
    assert f"copy {tmp_path / first} here" in line
    assert "--corpus embedded" in line
    assert _files(tmp_path) == []


def test_what_is_in_the_cache_is_not_fetched_again(tmp_path, capsys, monkeypatch):
    """Sets that are there already need no network, and each is told with its folder."""
    _listed(monkeypatch, b"content")
    for name in downloads.SETS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file.txt").write_bytes(b"content")
    assert main(["fetch", f"--cache={tmp_path}"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"{name}: 1 files in {tmp_path / name} (0 fetched now)" for name in downloads.SETS
    ]
