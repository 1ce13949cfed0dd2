"""Alerts: what they say, whom they reach, and that they change no verdict."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
from drift.reports.alerts import Alert, FallenCell, Problem, Suspects, as_json, as_markdown
from drift.statistics.pooled import Pool, PooledVerdict
from fixtures.alerts import RunAlert, pytest_report_header
from fixtures.history import HISTORY, RunHistory
from fixtures.progress import RECORD, CellRecord
from fixtures.rerun import rerun_command
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.cells import Cell
from drift.changes import changes
from drift.flips import Flip
from drift.records.history import History, onset
from drift.records.results import ResultFolder
from drift.records.snapshots import Baseline, SnapshotFile
from drift.reports.github import annotation_lines
from drift.reports.notifications import malformed, send
from drift.reports.rendering import quoted
from drift.statistics.outcomes import Outcome
from drift.statistics.paired import paired_shift
from drift.statistics.thresholds import Thresholds, ThresholdTable
from drift.verdicts import compare
from fixtures.options import OPTIONS
from generators.corpora.sets import corpora
from generators.examples import ExampleSource
from generators.tasks.registry import tasks
from generators.tokenizer_files import load_tokenizer
from suites.support.runs import REPOSITORY, SmallZoo, run
from suites.support.sample_results import sample_result
from zoo.cards import load_zoo

POCKET_TOKENIZER = REPOSITORY / "zoo" / "pocket" / "tokenizer.json"

quick = settings(deadline=None, derandomize=True, max_examples=60)

SHIFT = paired_shift([-1.0] * 25 + [0.0] * 15)
FLIP = Flip(7, "4fb2c29c", 1.0, 0.0, "Right.", "Wrong `x`\n# big", ("8159011",))
CELL = FallenCell("m2a", "vt", 512, None, 100.0, 37.5, SHIFT, flips=(FLIP,))
POOL = PooledVerdict(Pool("m2a", "length", 512), Outcome.REGRESSED, SHIFT, 0.001, 4, 4)
QUIET = Alert(
    judged=12,
    fallen=(),
    pools=(),
    improved=(),
    warnings=(),
    problems=(),
    suspects=(),
    rerun="",
    history="",
    results="/results/tonight",
)
LOUD = replace(
    QUIET,
    fallen=(CELL,),
    pools=(POOL,),
    suspects=(Suspects("m2a", tuple(changes({"weights": "a", "torch": "1"}, {"weights": "b", "torch": "2"})), ()),),
    rerun="pytest -m gpu --models=m2a",
    history="python -m drift history --model=m2a",
)


@pytest.mark.parametrize(
    ("alert", "title"),
    [
        (QUIET, "longwatch: no shift in 12 cells"),
        (LOUD, "longwatch: m2a fell 62.5 points on vt-512"),
        (replace(LOUD, fallen=(CELL, CELL)), "longwatch: m2a fell 62.5 points on vt-512 and on 1 more cell"),
        (replace(LOUD, fallen=(CELL, replace(CELL, model="tpp"))), "longwatch: 2 models fell: m2a, tpp"),
        (replace(LOUD, fallen=()), "longwatch: m2a, length 512 fell 62.5 points, over 4 cells"),
        (replace(QUIET, problems=(Problem("a", "b"),) * 2), "longwatch: 2 cases failed, no shift found"),
    ],
)
def test_titles(alert, title):
    """The title says in one line which model fell how far on what; or that nothing did, or what failed instead."""
    assert alert.title == title
    assert alert.failed == (alert is not QUIET)
    assert as_markdown(alert).startswith(f"# {title}\n")
    assert json.loads(as_json(alert))["title"] == title


def test_an_alert_says_everything_shortly():
    """The message holds the shift, its certainty, suspects in order, a fallen example, and the commands to go on."""
    text = as_markdown(LOUD)
    positions = [
        text.index(part)
        for part in (
            "| vt-512 | 100.0 | 37.5 | -62.5 (",
            POOL.message,
            "1. the checkpoint's weights: a → b\n1. torch: 1 → 2\n",
            "Since its last good run: nothing that is recorded.",
            'vt-512, example 7, prompt 4fb2c29c: 1 → 0; expected `"8159011"`; was `"Right."`; is ',
            "`pytest -m gpu --models=m2a`",
            "`python -m drift history --model=m2a`",
            "`/results/tonight`",
        )
    ]
    assert positions == sorted(positions)
    many = replace(LOUD, fallen=(replace(CELL, flips=(FLIP,) * 50),) * 200, problems=(Problem("x", "y"),) * 200)
    assert len(as_markdown(many)) < 5000
    assert "190 more cells fell" in as_markdown(many)
    content = json.loads(as_json(many))
    assert (len(content["fallen"]), len(content["fallen"][0]["flips"]), len(content["problems"])) == (200, 50, 200)


@quick
@given(st.text())
@example("a`b`\n")
def test_a_prediction_cannot_format_its_message(text):
    """Whatever a model wrote is quoted on one line, between the only two backticks."""
    shown = quoted(text)
    assert shown.count("`") == 2
    assert (shown[0], shown[-1]) == ("`", "`")
    assert len(shown.splitlines()) == 1
    if len(text) <= 100 and "`" not in text:
        assert json.loads(shown[1:-1]) == text


@quick
@given(st.text(min_size=1), st.text(), st.integers(1, 30))
def test_annotations_keep_their_form(name, reason, count):
    """Each annotation is one workflow command on one line, whatever is in it, and there are ten at most."""
    lines = annotation_lines(replace(QUIET, problems=(Problem(name, reason),) * count))
    assert len(lines) == min(count, 10)
    for line in lines:
        title, message = re.fullmatch(r"::error title=([^:,\r\n]*)::([^\r\n]*)", line).groups()
        if count <= 10:
            assert [unquote(title, errors="strict"), unquote(message, errors="strict")] == [name, reason]


_UNSET = dict.fromkeys(("zoo", "samples", "batch_tokens", "ruler_data", "thresholds"))
_OPTIONS = {**_UNSET, "device": "auto", "corpus": "embedded"}
_MATRIX = [
    Cell(model, task, length, depth)
    for model in ("m2a", "tpp")
    for task in ("vt", "essay-word-uuid")
    for length in (256, 512)
    for depth in (None, 0, 50)
]


@quick
@given(st.lists(st.sampled_from(_MATRIX), min_size=1, unique=True))
def test_the_rerun_selects_these_cells_and_no_others(cells):
    """The command selects exactly the cells that it was made for, by filters or by name."""
    command = rerun_command(cells, _MATRIX, SimpleNamespace(**_OPTIONS))
    filters = {name: value.split(",") for name, value in re.findall(r"--(\w+)=(\S+)", command)}
    if filters:
        chosen = [
            cell for cell in _MATRIX if all(str(getattr(cell, name[:-1])) in values for name, values in filters.items())
        ]
    else:
        (expression,) = re.fullmatch(r"pytest -m (?:'|\")(.*)(?:'|\")", command).groups()
        expression = expression.replace("'\"'\"'", "'")

        def named(cell):
            return eval(expression, {"gpu": True, "cell": lambda **values: values == vars(cell)})

        chosen = [cell for cell in _MATRIX if named(cell)]
    assert set(chosen) == set(cells)


def test_the_rerun_keeps_the_options():
    """The command repeats what the run was told about prompts and models."""
    options = SimpleNamespace(**{**_OPTIONS, "zoo": "my zoo.toml", "samples": 64, "corpus": "real"})
    command = rerun_command([Cell("m2a", "vt", 256)], [Cell("m2a", "vt", 256)], options)
    assert command == (
        "pytest -m gpu --models=m2a --tasks=vt --lengths=256 '--zoo=my zoo.toml' --samples=64 --corpus=real"
    )
    examples = {Cell("m2a", "vt", 256): [17, 3], Cell("tpp", "essay-word-uuid", 512, 50): [0]}
    assert rerun_command(list(examples), list(examples), options, examples) == (
        "pytest -m gpu --examples=m2a-vt-256:3,17 --examples=tpp-essay-word-uuid-512-d50:0 "
        "'--zoo=my zoo.toml' --corpus=real"
    )


@pytest.fixture(scope="module")
def receiver() -> Iterator[SimpleNamespace]:
    """A web server on the loopback that keeps what is posted to it, and refuses below /refusing."""
    posted: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.startswith("/refusing"):
                self.send_response(503)
            else:
                posted.append(json.loads(body))
                self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield SimpleNamespace(address=f"127.0.0.1:{server.server_port}", posted=posted)
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_message_arrives(receiver):
    """A message reaches every URL, with its title, its text and whether it is a failure."""
    receiver.posted.clear()
    urls = [f"json://{receiver.address}/one", f"json://{receiver.address}/two"]
    assert send(urls, "title", "*body*", failed=True) == []
    assert send(urls[:1], "title", "*body*", failed=False) == []
    assert [(each["title"], each["type"]) for each in receiver.posted] == [
        ("title", "failure"),
        ("title", "failure"),
        ("title", "success"),
    ]
    assert all("body" in each["message"] for each in receiver.posted)


def test_one_bad_url_keeps_no_message_from_the_others(receiver, caplog):
    """Malformed, refusing and unreachable URLs are said in a line each, without their secrets; the rest is sent."""
    receiver.posted.clear()
    urls = [
        "no-url",
        "nonsense://user:secret@host",
        "json://",
        f"json://user:secret@{receiver.address}/refusing/secret",
        "json://user:secret@127.0.0.1:9/secret",
        f"json://{receiver.address}",
    ]
    failures = send(urls, "title", "body", failed=True)
    assert len(receiver.posted) == 1
    assert failures[:3] == malformed(urls)
    assert [line.partition(" is ")[0].partition(": ")[0] for line in failures] == [
        "alert URL 1",
        "alert URL 2 (nonsense://…)",
        "alert URL 3 (json://…)",
        "alert URL 4 (json://…)",
        "alert URL 5 (json://…)",
    ]
    assert "503" in failures[3]
    assert "onnection" in failures[4]
    assert not any("secret" in line or "\n" in line for line in failures)
    assert not [record for record in caplog.records if record.name == "apprise"]


_ZOO = """
samples = 12
batch_tokens = 16384
tokens_to_generate = { niah_single_1 = 48, niah_single_2 = 48 }

[sweeps.ruler]
tasks = ["niah_single_1", "niah_single_2"]
lengths = [1024]

[models.oracle]
family = "oracle"
tokenizer = "tokenizer.json"
end_of_sequence = "<|endoftext|>"

[models.window]
family = "oracle"
window = 200
tokenizer = "tokenizer.json"
end_of_sequence = "<|endoftext|>"
"""


@pytest.fixture(scope="module")
def night(tmp_path_factory, receiver) -> SimpleNamespace:
    """A run of a zoo of oracles, of which one sees less than when it was accepted."""
    folder = tmp_path_factory.mktemp("alerts")
    shutil.copy(POCKET_TOKENIZER, folder)
    (folder / "small.toml").write_text(_ZOO, encoding="utf-8")
    zoo = SmallZoo(folder)
    tokenizer = load_tokenizer(POCKET_TOKENIZER, end_of_sequence="<|endoftext|>")
    for model in ("oracle", "window"):
        for name in ("niah_single_1", "niah_single_2"):
            source = ExampleSource(tasks()[name], 1024, tokenizer, corpora("embedded"), 48)
            prompts = tuple(example.digest for example in source.examples(12))
            baseline = Baseline((1.0,) * 12, prompts, {"window": 1024, "python": "2.7"})
            SnapshotFile(zoo.snapshot(model)).update({f"{name}-1024": baseline})
    receiver.posted.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_ACTIONS", "true")
        patch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
        urls = [f"--alert-url=json://{receiver.address}", "--alert-url=json://user:secret@127.0.0.1:9/secret"]
        done = zoo.run("-n", "1", f"--junit-xml={folder / 'report.xml'}", *urls, results="nights/1")
    return SimpleNamespace(folder=folder, done=done, results=folder / "nights" / "1", posted=list(receiver.posted))


def test_a_fallen_model_raises_an_alert(night):
    """A run in which a model falls writes an alert that names it, its suspects, its flips and how to run it again."""
    assert night.done.returncode == pytest.ExitCode.TESTS_FAILED, night.done.stdout
    text = (night.results / "alert.md").read_text(encoding="utf-8")
    content = json.loads((night.results / "alert.json").read_text(encoding="utf-8"))
    assert re.match(r"# longwatch: window fell \d+\.\d points on niah_single_\d-1024 and on 1 more cell\n", text)
    assert {cell["key"] for cell in content["fallen"]} == {"niah_single_1-1024", "niah_single_2-1024"}
    (suspects,) = content["suspects"]
    known = [each["name"] for each in suspects["since_accepted"] if each["kind"] != "unknown"]
    assert known == ["window", "python"]
    measured = {each.key: each for each in ResultFolder(night.results).read() if each.model == "window"}
    for cell in content["fallen"]:
        result = measured[cell["key"]]
        fell = [i for i, score in enumerate(result.scores) if score == 0]
        assert [flip["index"] for flip in cell["flips"]] == fell
        assert all(flip["prediction"] == result.predictions[flip["index"]] for flip in cell["flips"])
        assert cell["shift"]["points"] == pytest.approx(-100 * len(fell) / 12)
    assert None in {each["by"] for each in content["pools"]}
    assert re.search(r"`pytest -m gpu (--examples=window-niah_single_[12]-1024:[\d,]+ ){2}--zoo=", text)


def test_the_rerun_asks_just_what_flipped(night):
    """An alert's command asks the examples that flipped and no others, and shows both scores, without a verdict."""
    alert = json.loads((night.results / "alert.json").read_text(encoding="utf-8"))
    program, *arguments = shlex.split(alert["rerun"])
    assert program == "pytest"
    folder = night.folder / "again"
    done = run(*arguments, f"--results={folder / '1'}")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    again = {each.key: each for each in ResultFolder(folder / "1").read()}
    assert {key: list(result.indices) for key, result in again.items()} == {
        cell["key"]: [flip["index"] for flip in cell["flips"]] for cell in alert["fallen"]
    }
    shown = done.stdout.partition("= chosen examples =")[2]
    for cell in alert["fallen"]:
        assert again[cell["key"]].accuracy == 0
        for flip in cell["flips"]:
            assert f"example {flip['index']}, prompt {flip['prompt']}: 1 → 0; expected ['" in shown
    assert [path.name for path in folder.iterdir()] == ["1"]
    assert not list((folder / "1").glob("alert.*"))


def test_alerts_reach_people_once(night):
    """Under xdist the controller sends one message; an unreachable URL is said in one line and changes no verdict."""
    (message,) = night.posted
    assert message["title"].startswith("longwatch: window fell ")
    assert message["type"] == "failure"
    (said,) = [line for line in night.done.stdout.splitlines() if line.startswith("alert not sent")]
    assert said.startswith("alert not sent: alert URL 2 (json://…): ")
    assert "secret" not in night.done.stdout
    assert "alert sent to 1 of 2 URLs" in night.done.stdout
    assert re.search(r"2 failed, 2 passed", night.done.stdout)


def test_junit_and_github_know_of_it(night):
    """The JUnit file has the alert, the pools and each cell's numbers; GitHub its annotations and the job's summary."""
    suite = ElementTree.parse(night.folder / "report.xml").getroot().find("testsuite")
    whole = {each.get("name"): each.get("value") for each in suite.findall("properties/property")}
    assert whole["longwatch_alert"].startswith("longwatch: window fell ")
    assert whole["longwatch_pool"].startswith("window, ")
    cells = {
        case.get("name"): {each.get("name"): each.get("value") for each in case.findall("properties/property")}
        for case in suite.findall("testcase")
    }
    oracle = cells["test_ruler[oracle-niah_single_1-1024]"]
    assert {name: value for name, value in oracle.items() if name.startswith("longwatch_")} == {
        "longwatch_outcome": "passed",
        "longwatch_accuracy": "100.0",
        "longwatch_examples": "12",
        "longwatch_accepted_accuracy": "100.0",
    }
    errors = [line for line in night.done.stdout.splitlines() if line.startswith("::error ")]
    assert any(line.startswith("::error title=window-niah_single_1-1024 fell ") for line in errors)
    alert = (night.results / "alert.md").read_text(encoding="utf-8")
    assert (night.folder / "summary.md").read_text(encoding="utf-8").strip() == alert.strip()


def test_a_run_is_in_the_history(night):
    """A run is in the history next to its results, each cell with its verdict and environment."""
    history = History.read_from(night.folder / "nights" / "history.sqlite")
    found = {
        model: [(entry.key, entry.outcome, entry.before) for entry in history.entries(model)]
        for model in ("oracle", "window")
    }
    keys = ["niah_single_1-1024", "niah_single_2-1024"]
    assert found == {
        "oracle": [(key, Outcome.PASSED, 100.0) for key in keys],
        "window": [(key, Outcome.REGRESSED, 100.0) for key in keys],
    }
    entry = history.entries("window")[0]
    assert history.environment(entry.environment)["window"] == 200
    assert entry.results == str(night.results)


GOOD = sample_result([1.0] * 40, prediction="Right.", environment={"weights": "a", "torch": "1"})
FELL = replace(GOOD, scores=(0.0,) * 30 + (1.0,) * 10, predictions=("Wrong.",) * 40)
BROKEN = replace(FELL, environment={"weights": "b", "torch": "1"})


class Night:
    """A run of one cell, without the run."""

    def __init__(self, folder, **options) -> None:
        self.results = ResultFolder(folder)
        snapshots = folder.parent / "snapshots"
        if not snapshots.exists():
            SnapshotFile(snapshots / "m2a.json").update({GOOD.key: Baseline.of(GOOD)})
        given = {"update_snapshots": False, "alert_url": [], "alert_always": False, "history": None}
        self.config = SimpleNamespace(
            option=SimpleNamespace(**_OPTIONS, **given | options), rootpath=folder.parent, stash={}
        )
        self.config.stash[OPTIONS] = SimpleNamespace(
            examples=None,
            zoo=load_zoo("pocket"),
            results=self.results,
            snapshots=snapshots,
            thresholds=ThresholdTable(Thresholds()),
        )
        self.history = self.config.stash[HISTORY] = RunHistory(self.config)
        self.alert = RunAlert(self.config)

    def measured(self, result):
        """Lets the run end with this result of its one cell; returns itself."""
        self.results.write(result)
        (baseline,) = SnapshotFile(self.results.path.parent / "snapshots" / "m2a.json").read().values()
        verdict = compare(result, baseline, Thresholds())
        record = CellRecord.of(Cell("m2a", result.task, result.length), result, verdict)
        report = SimpleNamespace(
            when="call",
            failed=not verdict.accepted,
            nodeid=f"test_ruler[m2a-{result.key}]",
            user_properties=[(RECORD, record.to_json())],
            longrepr=f"assert {verdict.message}",
        )
        for plugin in (self.history, self.alert):
            plugin.pytest_runtest_logreport(report)
        self.alert.pytest_sessionfinish()
        self.history.pytest_unconfigure()
        return self

    def files(self):
        return sorted(file.name for file in self.results.path.glob("alert.*"))


@pytest.mark.parametrize(
    ("result", "options", "told"),
    [
        (GOOD, {}, None),
        (GOOD, {"alert_always": True}, "longwatch: no shift in 1 cells"),
        (FELL, {}, "longwatch: m2a fell 75.0 points on niah_single_1-256"),
        (FELL, {"update_snapshots": True}, None),
        (replace(GOOD, prompts=FELL.prompts[1:] + FELL.prompts[:1]), {}, "longwatch: 1 case failed, no shift found"),
    ],
)
def test_people_are_told_when_there_is_something_to_tell(tmp_path, receiver, result, options, told):
    """A run alerts when a case fails, and on passing only where it is asked to; accepting alerts nobody."""
    receiver.posted.clear()
    night = Night(tmp_path / "1", alert_url=[f"json://{receiver.address}"], **options).measured(result)
    assert [each["title"] for each in receiver.posted] == ([] if told is None else [told])
    assert night.files() == ([] if told is None else ["alert.json", "alert.md"])


def test_an_alert_does_not_outlive_its_reason(tmp_path):
    """A run that passes removes the alert of an earlier one in the same folder."""
    assert Night(tmp_path / "1").measured(FELL).files()
    assert not Night(tmp_path / "1").measured(GOOD).files()


def test_an_alert_knows_the_nights_before(tmp_path):
    """An alert says since when, what has changed since the last good run, and what was answered then."""
    for night, result in enumerate((GOOD, FELL, BROKEN), 1):
        Night(tmp_path / str(night)).measured(result)
    second, third = ((tmp_path / str(night) / "alert.json").read_text(encoding="utf-8") for night in (2, 3))
    ((cell,), (suspects,)) = (json.loads(second)[name] for name in ("fallen", "suspects"))
    assert cell["since"].startswith("this run; last good 20")
    assert (suspects["since_accepted"], suspects["since_good"]) == ([], [])
    ((cell,), (suspects,)) = (json.loads(third)[name] for name in ("fallen", "suspects"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d, 2 runs; last good \d{4}-\d\d-\d\d", cell["since"])
    assert [each["name"] for each in suspects["since_good"]] == ["weights"]
    assert {(flip["prediction_before"], flip["prediction"]) for flip in cell["flips"]} == {("Right.", "Wrong.")}
    shutil.rmtree(tmp_path / "1")
    Night(tmp_path / "4").measured(BROKEN)
    (cell,) = json.loads((tmp_path / "4" / "alert.json").read_text(encoding="utf-8"))["fallen"]
    assert {(flip["prediction_before"], flip["prediction"]) for flip in cell["flips"]} == {(None, "Wrong.")}


def test_answers_are_found_in_any_earlier_night(tmp_path):
    """Where the last good night's results are gone, the answers then are those of an earlier one; else it says so."""
    for night, result in enumerate((GOOD, GOOD, FELL), 1):
        Night(tmp_path / str(night)).measured(result)
        shutil.rmtree(tmp_path / "2", ignore_errors=True)
    assert 'was `"Right."`; is `"Wrong."`' in (tmp_path / "3" / "alert.md").read_text(encoding="utf-8")
    shutil.rmtree(tmp_path / "1")
    Night(tmp_path / "4").measured(FELL)
    text = (tmp_path / "4" / "alert.md").read_text(encoding="utf-8")
    assert 'the answer then is not kept here; is `"Wrong."`' in text


def test_other_prompts_have_suspects_too(tmp_path):
    """Where prompts are not the snapshot's, the alert says what changed, once, and the reason names the cell once."""
    asked = replace(GOOD, prompts=FELL.prompts[1:] + FELL.prompts[:1], environment={"weights": "a", "frame": "f"})
    Night(tmp_path / "1").measured(asked)
    content = json.loads((tmp_path / "1" / "alert.json").read_text(encoding="utf-8"))
    ((problem,), (suspects,)) = content["problems"], content["suspects"]
    assert problem["reason"].startswith("not comparable: prompts changed (40 of 40")
    assert {each["name"] for each in suspects["since_accepted"]} == {"frame", "torch"}


def test_what_is_accepted_is_no_night(tmp_path):
    """A run that accepts what it measures is in the history as that, and a good run for those that follow."""
    Night(tmp_path / "1", update_snapshots=True).measured(FELL)
    Night(tmp_path / "2").measured(BROKEN)
    history = History.read_from(tmp_path / "history.sqlite")
    entries = history.entries("m2a")
    assert [(entry.accepted, entry.baseline is None) for entry in entries] == [(True, True), (False, False)]
    assert onset(entries).last_good == entries[0]


def test_a_history_in_trouble_fails_no_run(tmp_path):
    """A damaged history is set aside and said in one line; one that cannot be written is said, and the alert stands."""
    (tmp_path / "history.sqlite").write_bytes(b"damaged" * 200)
    night = Night(tmp_path / "1").measured(FELL)
    (notice,) = night.history.notices
    assert re.match(r"history: the history .*history\.sqlite is damaged: .*; it is kept as history-set-aside-", notice)
    assert len(History.read_from(tmp_path / "history.sqlite").entries("m2a")) == 1
    night = Night(tmp_path / "2", history=str(tmp_path / "1" / "alert.md" / "history.sqlite")).measured(FELL)
    (notice,) = night.history.notices
    assert notice.startswith("history: nothing more of this run is recorded: the history ")
    assert night.files() == ["alert.json", "alert.md"]


def test_a_result_that_is_gone_is_still_told(tmp_path):
    """A cell that has regressed is named in the alert even where its result cannot be read any more."""
    night = Night(tmp_path / "1")
    night.alert.pytest_sessionfinish = lambda: None
    night.measured(FELL)
    shutil.rmtree(tmp_path / "1" / "cells")
    del night.alert.pytest_sessionfinish
    night.alert.pytest_sessionfinish()
    (problem,) = json.loads((tmp_path / "1" / "alert.json").read_text(encoding="utf-8"))["problems"]
    assert problem["name"] == f"m2a-{GOOD.key}"
    assert problem["reason"].startswith("regressed, but ")


def test_a_crashed_worker_is_told(tmp_path):
    """A case whose worker has died, of which nothing but its name is known, is in the alert; other suites' are not."""
    night = Night(tmp_path / "1")
    for name in (f"test_ruler[m2a-{GOOD.key}]", "test_something_else[m2a]", "test_another"):
        report = SimpleNamespace(
            nodeid=name, when="???", failed=True, user_properties=[], keywords=(), longrepr="worker 'gw0' crashed"
        )
        night.alert.pytest_runtest_logreport(report)
    night.alert.pytest_sessionfinish()
    content = json.loads((tmp_path / "1" / "alert.json").read_text(encoding="utf-8"))
    assert content["problems"] == [{"name": f"m2a-{GOOD.key}", "reason": "worker 'gw0' crashed"}]
    assert content["rerun"] == "pytest -m gpu --models=m2a --tasks=niah_single_1 --lengths=256"


def test_a_run_says_at_its_start_which_urls_are_malformed():
    """The header names each URL that no alert can be sent to, and is silent where there is none."""
    urls = ["json://127.0.0.1", "nonsense://user:secret@host"]
    heads = [pytest_report_header(SimpleNamespace(option=SimpleNamespace(alert_url=urls[:n]))) for n in range(3)]
    assert heads[:2] == [[], []]
    (line,) = heads[2]
    assert line.startswith("longwatch: alert URL 2 (nonsense://…) is malformed")
    assert "secret" not in line
