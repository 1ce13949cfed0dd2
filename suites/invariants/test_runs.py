"""Whole runs as a user starts them: accept, pass, fail, parallel, killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from drift.results import CellResult, ResultFolder
from generators.__main__ import main as generators_command
from suites.invariants.runs import REPOSITORY, SmallZoo, command, environment, run

POCKET_TOKENIZER = REPOSITORY / "zoo" / "pocket" / "tokenizer.json"
CELLS = 8  # of the small zoo, one of them in two suites


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> SmallZoo:
    """A zoo with one model whose accuracies are accepted."""
    small = SmallZoo.make(tmp_path_factory.mktemp("zoo"), "m2a")
    accepted = small.run("--snapshot-update", results="accepted")
    assert accepted.returncode == 0, accepted.stdout
    return small


def _scores(zoo: SmallZoo, results: str) -> dict[str, tuple[tuple[float, ...], tuple[str, ...]]]:
    return {each.key: (each.scores, each.predictions) for each in ResultFolder(zoo.folder / results).read()}


def test_cells_without_a_snapshot_fail_and_say_what_to_do(tmp_path):
    """A first run fails case by case with the option that accepts its scores."""
    done = SmallZoo.make(tmp_path, "m2a").run("-k", "niah_single_1-192")
    assert done.returncode == 1
    assert "m2a-niah_single_1-192: no snapshot yet: run with --snapshot-update" in done.stdout
    assert "Traceback" not in done.stdout


def test_an_accepted_run_passes_again(zoo):
    """What was accepted passes, and leaves its snapshot as it is, byte for byte."""
    before = zoo.snapshot("m2a").read_bytes()
    done = zoo.run(results="again")
    assert done.returncode == 0, done.stdout
    assert f"{CELLS + 1} passed" in done.stdout
    assert zoo.snapshot("m2a").read_bytes() == before


def test_a_partial_update_touches_no_other_cell(zoo):
    """Updating selected cells, even to more samples, leaves the lines of all others alone."""
    path = zoo.snapshot("m2a")
    before = path.read_text(encoding="utf-8")
    try:
        done = zoo.run("--snapshot-update", "--tasks=niah_single_1", "--lengths=192", "--samples=14", results="partial")
        assert done.returncode == 0, done.stdout
        old, new = before.splitlines(), path.read_text(encoding="utf-8").splitlines()
        changed = [line for line in new if line not in old]
        assert len(old) == len(new)
        assert len(changed) == 1
        assert changed[0].startswith('"niah_single_1-192": {')
        assert '"samples": 14' in changed[0]
    finally:
        path.write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    "options", [["--batch-tokens=1024"], ["--batch-tokens=4096"], ["-n", "2"]], ids=["halved", "doubled", "two workers"]
)
def test_batches_and_workers_never_change_a_score(zoo, options):
    """Batch size and parallel workers give the same predictions and scores, to the example."""
    name = "".join(options)
    done = zoo.run(*options, results=name)
    assert done.returncode == 0, done.stdout
    assert _scores(zoo, name) == _scores(zoo, "accepted")


def test_fewer_samples_compare_with_the_first_ones(zoo):
    """A run of fewer samples makes the same first examples and passes against the whole snapshot."""
    done = zoo.run("--samples=5", results="fewer")
    assert done.returncode == 0, done.stdout
    whole = _scores(zoo, "accepted")
    for key, (scores, predictions) in _scores(zoo, "fewer").items():
        assert (scores, predictions) == (whole[key][0][:5], whole[key][1][:5])


def test_a_planted_change_fails_and_is_named(zoo, tmp_path):
    """Noise in one weight matrix fails the run with cells, flips, p-values and examples."""
    damaged = SmallZoo.make(tmp_path, "m2a")
    damaged.snapshot("m2a").parent.mkdir(parents=True)
    damaged.snapshot("m2a").write_bytes(zoo.snapshot("m2a").read_bytes())
    file = damaged.folder / "m2a" / "pytorch_model.bin"
    tensors = torch.load(file, weights_only=True)
    matrix = tensors["backbone.layers.1.mixer.in_proj.weight"]
    torch.manual_seed(0)
    matrix += 2 * matrix.std() * torch.randn_like(matrix)
    torch.save(tensors, file)

    done = damaged.run()
    assert done.returncode == 1
    verdicts = re.findall(
        r"m2a-(\S+): regressed: accuracy was ([\d.]+), is ([\d.]+) .*?; (\d+) fell, (\d+) rose; p = (\S+),", done.stdout
    )
    assert len({cell for cell, *_ in verdicts}) >= CELLS - 2
    for _, was, now, fell, rose, p in verdicts:
        assert float(now) < float(was)
        assert int(fell) > int(rose)
        assert float(p) <= 0.05 / CELLS
    assert re.search(r"Fell: examples \d+, \d+", done.stdout)
    assert re.search(r"Changed since the snapshot: the checkpoint's weights: \w+ → \w+", done.stdout)


def test_each_model_is_loaded_once(tmp_path, monkeypatch):
    """A session loads each of two models once, one after the other; of several workers each may load the last one."""
    monkeypatch.setenv("LOAD_LOG", str(tmp_path / "loads"))
    zoo = SmallZoo.make(tmp_path, "sl", "sl-it")
    plugin = ["-p", "suites.invariants.load_counter", "--samples=2", "--snapshot-update"]
    done = zoo.run(*plugin)
    assert done.returncode == 0, done.stdout
    assert sorted((tmp_path / "loads").read_text().splitlines()) == ["sl 0", "sl-it 0"]

    (tmp_path / "loads").unlink()
    parallel = zoo.run(*plugin, "-n", "2")
    assert parallel.returncode == 0, parallel.stdout
    loads = (tmp_path / "loads").read_text().splitlines()
    assert set(loads) == {"sl 0", "sl-it 0"}
    assert loads.count("sl 0") == 1
    assert loads.count("sl-it 0") <= 2


def test_a_killed_run_keeps_its_finished_cells(zoo):
    """After SIGKILL in the middle, what is in the results folder is whole and readable."""
    folder = zoo.folder / "killed"
    options = ["suites/evaluation", f"--zoo={zoo.file}", f"--results={folder}", "--samples=40"]
    process = subprocess.Popen(
        command(*options), cwd=REPOSITORY, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(list(folder.glob("cells/*/*.json"))) < 2 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    files = list((folder / "cells").rglob("*"))
    results = [CellResult.read(path) for path in files if path.is_file()]
    assert 2 <= len(results) <= CELLS
    assert all(len(result.scores) == 40 for result in results)


def test_results_say_what_produced_them(zoo):
    """A result file holds scores, prompts, positions, predictions, timings and the environment."""
    result = CellResult.read(zoo.folder / "accepted" / "cells" / "m2a" / "essay-word-number-256-d50.json")
    assert len(result.scores) == len(result.prompts) == len(result.predictions) == 12
    assert all(
        0 < position[0] < tokens for position, tokens in zip(result.needle_tokens, result.prompt_tokens, strict=True)
    )
    assert all(tokens + 20 <= 256 for tokens in result.prompt_tokens)
    assert set(result.seconds) == {"generate", "decode"}
    assert {"weights", "tokenizer", "device", "dtype", "torch", "transformers", "corpus"} <= set(result.environment)


def test_a_cell_of_two_suites_is_computed_once(zoo):
    """Both cases of a shared cell report one and the same measurement."""
    done = zoo.run("-k", "essay-word-number-256-d50", results="shared")
    speeds = re.findall(r"m2a-essay-word-number-256-d50 .* ([\d,]+) tokens/s", done.stdout)
    assert "2 passed" in done.stdout
    assert len(speeds) == 2
    assert len(set(speeds)) == 1


def test_the_terminal_shows_header_progress_and_tables(zoo):
    """A run names zoo, device, versions and corpus, then a line a cell, then tables and the results."""
    done = zoo.run(results="shown")
    for text in ("zoo small (m2a)", "device cpu", "torch 2.", "embedded corpora", "8 cells"):
        assert text in done.stdout
    assert re.search(
        r"m2a-niah_single_1-192 +accuracy +[\d.]+ \(was [\d.]+\) passed, 12 examples, [\d,]+ tokens/s, ", done.stdout
    )
    assert "m2a: accuracy by task and length" in done.stdout
    assert "m2a: essay-word-number, accuracy by length and depth of the needle" in done.stdout
    assert f"results: {zoo.folder / 'shown'}" in done.stdout


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "two workers"])
def test_a_damaged_snapshot_stops_the_run_and_stays(tmp_path, workers):
    """A hand-edited snapshot is named with its line before any model is loaded, and is not touched."""
    zoo = SmallZoo.make(tmp_path, "m2a")
    path = zoo.snapshot("m2a")
    path.parent.mkdir(parents=True)
    path.write_text('{\n"schema": 1,\n"environments": {\n},\n"cells": {\n"niah', encoding="utf-8")
    done = zoo.run("--snapshot-update", *workers)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr
    assert f"snapshot file {path}, line 6" in done.stdout + done.stderr
    assert path.read_text(encoding="utf-8").endswith('"niah')


def test_a_broken_checkpoint_is_told_in_one_paragraph(tmp_path):
    """A checkpoint without weights fails its cells with the directory's name and no traceback."""
    zoo = SmallZoo.make(tmp_path, "m2a")
    (zoo.folder / "m2a" / "pytorch_model.bin").unlink()
    done = zoo.run("-k", "niah_single_1")
    assert done.returncode == 1
    assert done.stdout.partition("short test summary")[0].count("cannot be loaded") == 1
    assert f"model m2a cannot be loaded: checkpoint {zoo.folder / 'm2a'} has neither" in done.stdout
    assert "Traceback" not in done.stdout
    assert not re.search(r"\.py:\d", done.stdout)


def test_a_length_too_small_is_told_with_the_smallest_that_fits(tmp_path):
    """A cell that cannot fit its length fails and names the smallest length that does."""
    zoo = SmallZoo.make(tmp_path, "m2a")
    text = zoo.file.read_text(encoding="utf-8").replace("lengths = [192, 256]", "lengths = [100]")
    zoo.file.write_text(text, encoding="utf-8")
    done = zoo.run("-k", "niah_single_1-100")
    assert done.returncode == 1
    assert re.search(
        r"task niah_single_1 does not fit a length of 100 tokens; the smallest that fits is 1\d\d", done.stdout
    )


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "two workers"])
def test_results_that_cannot_be_written_are_told_first(tmp_path, workers):
    """A results folder below a file stops the run before any case."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = run("suites/evaluation", "--zoo=pocket", f"--results={tmp_path / 'file' / 'results'}", *workers)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "INTERNALERROR" not in done.stdout + done.stderr
    assert "--results: results cannot be written to" in done.stdout + done.stderr


_ORACLES = """
samples = 20
batch_tokens = 16384
tokens_to_generate = { niah_single_1 = 48, niah_single_2 = 48 }

[sweeps.ruler]
tasks = ["niah_single_1", "niah_single_2"]
lengths = [256, 1024]

[models.oracle]
family = "oracle"
tokenizer = "tokenizer.json"
end_of_sequence = "<|endoftext|>"

[models.window-512]
family = "oracle"
window = 512
tokenizer = "tokenizer.json"
end_of_sequence = "<|endoftext|>"
"""


@pytest.fixture
def oracles(tmp_path: Path) -> SmallZoo:
    """A zoo of two oracles, one of which sees only the last 512 tokens."""
    shutil.copy(POCKET_TOKENIZER, tmp_path)
    (tmp_path / "small.toml").write_text(_ORACLES, encoding="utf-8")
    return SmallZoo(tmp_path)


def test_oracles_run_as_models_do(oracles):
    """An oracle answers everything, one with a window what it sees, and without snapshots both fail with advice."""
    done = oracles.run("--tasks=niah_single_1")
    assert done.returncode == 1, done.stdout
    for cell in ("niah_single_1-256", "niah_single_1-1024"):
        assert f"oracle-{cell}: no snapshot yet: run with --snapshot-update to accept 100.00" in done.stdout
        assert f"window-512-{cell}: no snapshot yet: run with --snapshot-update" in done.stdout
    assert not (oracles.folder / "snapshots").exists()
    results = {f"{each.model}-{each.key}": each for each in ResultFolder(oracles.folder / "results").read()}
    assert set(results["oracle-niah_single_1-1024"].scores) == {1.0}
    seen = results["window-512-niah_single_1-1024"]
    places = zip(seen.needle_tokens, seen.prompt_tokens, strict=True)
    assert seen.scores == tuple(float(needle >= tokens - 512) for (needle,), tokens in places)
    assert 0 < sum(seen.scores) < 20


@pytest.fixture
def ruler_data(tmp_path: Path) -> Path:
    """Files of prompts of two tasks, one at a length of its own."""
    folder = tmp_path / "data"
    for task, length in (("vt", "600"), ("niah_single_2", "400")):
        arguments = ["write", f"--task={task}", f"--length={length}", f"--tokenizer={POCKET_TOKENIZER}"]
        out = folder / length / "data" / task / "validation.jsonl"
        assert generators_command([*arguments, "--samples=5", "--seed=7", f"--out={out}"]) == 0
    return folder


def test_rulers_own_files_are_evaluated(oracles, ruler_data):
    """Files of prompts become cases of their tasks and lengths, whose accuracies are accepted beside them."""
    done = oracles.run("-v", f"--ruler-data={ruler_data}", "--models=oracle", "--snapshot-update")
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    for cell in ("vt-600", "niah_single_2-400"):
        assert f"test_ruler[oracle-{cell}]" in done.stdout
        assert re.search(rf"oracle-{cell} +accuracy +100\.00 .*, 5 examples, ", done.stdout)
    written = ruler_data / "snapshots" / "small" / "oracle.json"
    assert set(json.loads(written.read_text(encoding="utf-8"))["cells"]) == {"vt-600", "niah_single_2-400"}
    assert not (oracles.folder / "snapshots").exists()
    lines = (ruler_data / "600" / "data" / "vt" / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    result = CellResult.read(oracles.folder / "results" / "cells" / "oracle" / "vt-600.json")
    assert [list(references) for references in result.references] == [json.loads(line)["outputs"] for line in lines]


def test_a_malformed_file_of_prompts_stops_the_run(oracles, ruler_data):
    """A line that was cut is named with its file before any case, and nothing is written."""
    path = ruler_data / "600" / "data" / "vt" / "validation.jsonl"
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    done = oracles.run(f"--ruler-data={ruler_data}", "--snapshot-update")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = (done.stdout + done.stderr).strip().splitlines()
    assert line.startswith(f"ERROR: --ruler-data: {path}, line 5: not JSON, the file may be cut short")
    assert not (ruler_data / "snapshots").exists()
    assert not (oracles.folder / "results").exists()


def test_real_corpora_are_needed_only_where_prompts_are_made_of_them(oracles, monkeypatch):
    """Without the real corpora a run stops before any model where a selected task needs one, and only there."""
    monkeypatch.setenv("LONGWATCH_CACHE", str(oracles.folder / "cache"))
    monkeypatch.setenv("LOAD_LOG", str(oracles.folder / "loads"))
    options = ["-p", "suites.invariants.load_counter", "--corpus=real", "--models=oracle", "--lengths=256"]
    stopped = oracles.run(*options)
    assert stopped.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in (stopped.stdout + stopped.stderr).splitlines() if line.startswith("ERROR: ")]
    assert line.startswith("ERROR: --corpus real: ")
    for part in ("(essays) is not in the cache", "`python -m generators fetch essays`", "--corpus embedded"):
        assert part in line
    assert "Traceback" not in stopped.stdout + stopped.stderr
    assert not (oracles.folder / "loads").exists()

    done = oracles.run(*options, "--tasks=niah_single_1", "--snapshot-update")
    assert done.returncode == 0, done.stdout
    assert re.search(r"oracle-niah_single_1-256 +accuracy +100\.00 ", done.stdout)
    assert (oracles.folder / "loads").read_text(encoding="utf-8").split() == ["oracle", "0"]
