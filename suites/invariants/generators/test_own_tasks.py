"""Tasks of a user's own: one file outside the repository is all they take."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drift.records.results import ResultFolder
from generators.__main__ import main
from generators.scoring import all_references
from generators.tasks import registry
from suites.support.runs import REPOSITORY, command, environment

POCKET = REPOSITORY / "zoo" / "pocket" / "tokenizer.json"

TASK = '''
"""The pass key: repeat a number from a line of its own."""

import re
from dataclasses import dataclass

from generators.assembly import Piece
from generators.budget import PromptBuilder, Rendered
from generators.haystacks import NoiseHaystack
from generators.insertion import insert_sentences
from generators.scoring import all_references
from generators.tasks.registry import task


@dataclass(frozen=True)
class PassKey:
    digits: int = 5


def oracle(text, corpora):
    if not text.rstrip().endswith("What is the pass key? The pass key is"):
        return None
    found = re.search(r"The pass key is (\\d+)\\.", text)
    return found[1] if found else ""


@task("passkey", PassKey(), tokens_to_generate=16, score=all_references, oracle=oracle)
def pass_key(parameters, random, context):
    haystack = NoiseHaystack(context.tokenizer)
    key = random.stream("key").digits(parameters.digits)
    depth = 100 * random.stream("depth").fraction() if context.depth is None else context.depth

    def render(units):
        hidden = insert_sentences(haystack, units, [f"The pass key is {key}. Remember it."], [depth])
        return Rendered(
            pieces=(Piece("Find the pass key.\\n"), *hidden.pieces, Piece("What is the pass key?")),
            answer_prefix=" The pass key is",
            needles=(1 + hidden.where[0],),
            depths=hidden.depths,
        )

    return PromptBuilder((key,), haystack.tokens, render, haystack.constant)
'''

ZOO = """
samples = 4
batch_tokens = 16384

[tasks.longer_passkey]
like = "passkey"
digits = 9

[sweeps.ruler]
tasks = ["passkey", "longer_passkey", "niah_single_1"]
lengths = [400]

[sweeps.niah_position]
tasks = ["passkey"]
lengths = [400]
depths = [0, 100]

[models.oracle]
family = "oracle"
tokenizer = "tokenizer.json"
end_of_sequence = "<|endoftext|>"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder outside the repository with a module that registers a task."""
    (tmp_path / "my_tasks.py").write_text(TASK, encoding="utf-8")
    return tmp_path


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Path]:
    """The folder on the path of imports, and a registry that forgets what is added."""
    monkeypatch.setattr(registry, "_registry", dict(registry.tasks()))
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("my_tasks", None)


def test_a_task_outside_the_repository_is_asked_and_answered(folder):
    """Under `-p my_tasks` a zoo file names the task and a variant in its sweeps, and the oracle answers both right."""
    shutil.copy(POCKET, folder)
    (folder / "small.toml").write_text(ZOO, encoding="utf-8")
    options = ["-p", "my_tasks", "suites/evaluation", f"--zoo={folder / 'small.toml'}", f"--results={folder / 'out'}"]
    done = subprocess.run(
        command(*options, "--snapshot-update"),
        cwd=REPOSITORY,
        env={**environment(), "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = {each.key: each for each in ResultFolder(folder / "out").read()}
    keys = {"passkey-400", "longer_passkey-400", "niah_single_1-400", "passkey-400-d0", "passkey-400-d100"}
    assert set(results) == keys
    assert all(each.scores == (1.0,) * 4 for each in results.values())
    lengths = {key: {len(prediction.strip()) for prediction in results[key].predictions} for key in keys}
    assert (lengths["passkey-400"], lengths["longer_passkey-400"]) == ({5}, {9})


def test_the_command_writes_a_task_outside_the_repository(own_registry, tmp_path):
    """`python -m generators -p my_tasks` writes the task's prompts, in other processes too, and scores answers."""
    options = ["write", "--task=passkey", "--length=400", f"--tokenizer={POCKET}", "--samples=3", "--set=digits=7"]
    files = [tmp_path / f"{workers}" / "passkey.jsonl" for workers in (1, 2)]
    for workers, file in enumerate(files, 1):
        assert main(["-p", "my_tasks", *options, f"--out={file}", f"--workers={workers}"]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    lines = [json.loads(line) for line in files[0].read_text(encoding="utf-8").splitlines()]
    assert {len(line["outputs"][0]) for line in lines} == {7}
    answered = [{**line, "pred": line["outputs"][0]} for line in lines]
    files[0].write_text("".join(json.dumps(line) + "\n" for line in answered), encoding="utf-8")
    assert main(["-p", "my_tasks", "score", str(files[0])]) == 0


def test_a_module_that_cannot_be_imported_is_named(capsys):
    """A module that is not there is refused in one line that says what to look at."""
    assert main(["-p", "no_such_tasks", "score", "vt.jsonl"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: -p: no_such_tasks cannot be imported (No module named")
    assert said.endswith("is its folder on PYTHONPATH?\n")


def test_a_name_that_is_taken_is_refused(own_registry):
    """A second task of a name is refused with the modules of both, and the first one stays."""
    first = registry.tasks()["vt"]
    register = registry.task("vt", first.parameters, tokens_to_generate=1, score=all_references, oracle=first.oracle)

    def another() -> None:
        """A function of this module."""

    with pytest.raises(ValueError, match=f"^{another.__module__}: .*'vt' .*, by generators.tasks.variable_tracking$"):
        register(another)
    assert registry.tasks()["vt"] is first


@pytest.mark.parametrize("parameters", [None, {"hops": 4}, type(registry.tasks()["vt"].parameters)])
def test_parameters_that_are_no_dataclass_are_refused(parameters):
    """Parameters are an instance of a dataclass, whose fields a zoo file can change."""
    with pytest.raises(ValueError, match=r"^the parameters of task 'mine' must be an instance of a dataclass"):
        registry.task("mine", parameters, tokens_to_generate=1, score=all_references, oracle=lambda text, corpora: None)
