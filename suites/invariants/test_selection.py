"""Which cells a command line selects, and how wrong ones are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures import devices
from fixtures.devices import chosen_device, device_of_worker
from fixtures.matrix import pytest_ignore_collect, selects_gpu_alone
from fixtures.scheduling import scope_of, shards_of
from suites.invariants.runs import FULL_CASES, REPOSITORY, environment, run, write_full_zoo
from zoo.cards import load_zoo

POSITION = "suites/evaluation/test_niah_position.py::test_niah_position"
FORMAT = "suites/evaluation/test_niah_format.py::test_niah_format"
RULER = "suites/evaluation/test_ruler.py::test_ruler"


def _collected(*options: str, folder: str = "suites/evaluation") -> set[str]:
    done = run("--collect-only", "-q", "--zoo=pocket", *options, folder)
    return {line for line in done.stdout.splitlines() if "::" in line}


def _cases(wanted) -> set[str]:
    zoo = load_zoo("pocket")
    suites = {"ruler": RULER, "niah_position": POSITION, "niah_format": FORMAT}
    return {f"{suites[sweep]}[{cell}]" for sweep in zoo.sweeps for cell in zoo.cells(sweep) if wanted(cell)}


def test_niah_by_name_selects_every_needle_cell():
    """`-m gpu -k niah` runs the needle tasks and both ablations."""
    assert _collected("-m", "gpu", "-k", "niah", folder="suites") == _cases(
        lambda cell: cell.depth is not None or cell.task.startswith("niah")
    )


@pytest.mark.parametrize(
    ("expression", "alone"),
    [
        ("gpu", True),
        ("gpu and cell(model='m2a', length=1024)", True),
        ("gpu and (cell(length=256) or cell(length=512))", True),
        ("slow and gpu or gpu and cell(depth=50)", True),
        ("", False),
        ("not gpu", False),
        ("gpu or slow", False),
        ("gpu and slow or slow", False),
        ("cell(model='m2a')", False),
        ("not (not gpu)", False),
        ("gpu and", False),
    ],
)
def test_what_needs_the_gpu_mark_is_known(expression, alone):
    """Of mark expressions without `not`, exactly those that no other mark can meet are known to need gpu."""
    assert selects_gpu_alone(expression) is alone


def test_runs_of_models_read_no_invariants():
    """`-m gpu` leaves the invariants out unread, since none of their cases is marked so; other marks do not."""
    invariants = REPOSITORY / "suites" / "invariants"
    mark = "@pytest.mark." + "gpu"
    assert not [path.name for path in invariants.glob("*.py") if mark in path.read_text(encoding="utf-8")]
    for expression, read in (("gpu", False), ("gpu or cell(depth=50)", True)):
        config = SimpleNamespace(rootpath=REPOSITORY, option=SimpleNamespace(markexpr=expression))
        assert pytest_ignore_collect(invariants, config) is (None if read else True)
        assert pytest_ignore_collect(REPOSITORY / "suites" / "evaluation", config) is None


def test_a_cell_mark_selects_exactly():
    """`cell(model=..., length=...)` in a mark expression selects the cells with both."""
    assert _collected("-m", "gpu and cell(model='m2a', length=1024)") == _cases(
        lambda cell: cell.model == "m2a" and cell.length == 1024
    )


def test_filters_select_exactly():
    """The options select the cells that match them all."""
    assert _collected("-m", "gpu", "--models", "m2a", "--lengths", "1024", "--depths", "50") == _cases(
        lambda cell: (cell.model, cell.length, cell.depth) == ("m2a", 1024, 50)
    )
    assert _collected(
        "--tasks", "niah_single_1,essay-word-uuid", "--lengths=256", "--lengths=512", "-m", "gpu"
    ) == _cases(lambda cell: cell.task in ("niah_single_1", "essay-word-uuid") and cell.length in (256, 512))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models=m2b"], "--models: unknown model m2b (did you mean m2a?); there are mamba2, m2a"),
        (["--tasks=niah_singel_1"], "--tasks: unknown task niah_singel_1 (did you mean niah_single_1?); there are"),
        (["--lengths=1000"], "--lengths: unknown length 1000 (did you mean 1024?); there are 256, 512, 1024"),
        (["--depths=55"], "--depths: unknown depth 55 (did you mean 50?); there are 0, 20, 40"),
        (["--zoo=poket"], "--zoo: unknown zoo poket (did you mean pocket?); there are paper, pocket"),
        (["--zoo=missing.toml"], "--zoo: no zoo file at"),
        (["--device=gpu"], "--device: unknown device gpu; there are auto, cpu, cuda and cuda:N"),
        (["--device=cuda"], "--device cuda: no CUDA device is visible here; use --device cpu"),
        (["--samples=0"], "--samples must be at least 1, not 0"),
        (["--batch-tokens=-5"], "--batch-tokens must be at least 1, not -5"),
    ],
)
def test_wrong_options_are_refused_with_what_would_be_right(options, message):
    """A wrong option ends the run at once with one clear error."""
    done = run("suites/evaluation", *options)
    output = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in output
    assert "Traceback" not in output


def test_the_options_have_help():
    """`pytest --help` lists every option of longwatch under its name."""
    text = run("--help").stdout
    section = text.partition("\nlongwatch:\n")[2].partition("\n\n")[0]
    for name in ("zoo", "device", "models", "tasks", "lengths", "depths", "samples", "batch-tokens", "results"):
        assert f"--{name}" in section


def test_collecting_a_full_matrix_imports_no_torch(tmp_path: Path):
    """Eight models by thirteen tasks by five lengths and the ablations are collected without torch."""
    zoo = write_full_zoo(tmp_path)
    program = (
        "import sys, pytest\n"
        f"status = pytest.main(['--collect-only', '-q', '-m', 'gpu', '--zoo={zoo}', 'suites/evaluation'])\n"
        "print('imported', 'torch' in sys.modules)\n"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert f"{FULL_CASES} tests collected" in done.stdout
    assert "imported False" in done.stdout


def test_a_device_is_chosen_by_what_is_visible():
    """By default the first accelerator is taken, else the processor; a device that is not there is refused."""
    assert chosen_device("auto", []) == "cpu"
    assert chosen_device("auto", ["3", "5"]) == "cuda:0"
    assert chosen_device("cpu", ["3"]) == "cpu"
    assert chosen_device("cuda:1", ["3", "5"]) == "cuda:1"
    with pytest.raises(pytest.UsageError, match="1 CUDA device"):
        chosen_device("cuda:1", ["3"])
    with pytest.raises(pytest.UsageError, match="unknown device"):
        chosen_device("cuda:", ["3"])


def test_workers_share_the_visible_devices_evenly():
    """Each worker gets one of the caller's devices, by its name in CUDA_VISIBLE_DEVICES."""
    assert [device_of_worker(i, "cuda:0", ["3", "5"]) for i in range(4)] == ["3", "5", "3", "5"]
    assert device_of_worker(0, "cuda:1", ["3", "5"]) == "5"
    assert device_of_worker(1, "cpu", []) is None


@pytest.mark.parametrize(
    ("visible", "device", "marks", "workers"),
    [
        (["3", "5"], "auto", "gpu", 2),
        (["3", "5"], "cpu", "gpu", None),
        (["3", "5"], "auto", "not gpu", None),
        ([], "auto", "gpu", None),
    ],
)
def test_as_many_workers_as_accelerators(monkeypatch, visible, device, marks, workers):
    """`-n auto` starts a worker an accelerator where models run on these, and leaves all else to xdist."""
    monkeypatch.setattr(devices, "accelerators", lambda: visible)
    config = SimpleNamespace(option=SimpleNamespace(device=device, markexpr=marks))
    assert devices.pytest_xdist_auto_num_workers(config) == workers


def test_cells_of_a_model_stay_on_one_worker():
    """The scope of a case is its model, the longest name that fits; shards split a model by cell, but not by depth."""
    whole, split = {"sl": 1, "sl-it": 1}, {"sl": 4, "sl-it": 1}
    assert scope_of(f"{RULER}[sl-niah_single_1-256]", whole) == "sl/0"
    assert scope_of(f"{RULER}[sl-it-niah_single_1-256]", whole) == "sl-it/0"
    assert scope_of("suites/invariants/test_draws.py::test_x[sl-1]", whole) == "suites/invariants/test_draws.py"
    placed = [f"{file}[sl-essay-word-number-1024-d{depth}]" for file in (POSITION, FORMAT) for depth in (0, 50, 100)]
    assert len({scope_of(nodeid, split) for nodeid in placed}) == 1
    shards = {scope_of(f"{RULER}[sl-niah_single_1-{length}]", split) for length in range(100)}
    assert shards == {f"sl/{i}" for i in range(4)}


@pytest.mark.parametrize(
    ("models", "workers", "split"),
    [
        (["a", "b", "c"], 1, []),
        (["a", "b", "c"], 2, ["c"]),
        (["a", "b", "c"], 3, ["c"]),
        (["a", "b", "c"], 4, ["a", "b", "c"]),
        (["a"], 2, ["a"]),
        ([], 2, []),
    ],
)
def test_models_are_split_where_workers_would_wait(models, workers, split):
    """One worker splits no model, few split the last alone, and more than there are models split all of them."""
    shards = shards_of(models, workers)
    assert list(shards) == models
    assert [name for name, count in shards.items() if count > 1] == split
