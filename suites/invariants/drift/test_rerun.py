"""The commands that look again: exactly at what failed, as it was measured."""

from __future__ import annotations

import re
import shlex

from hypothesis import given
from hypothesis import strategies as st

from core.cells import Cell
from drift.records.run_file import Problem
from drift.rerun import history_command, rerun_command
from suites.support.nights import judged_results
from suites.support.sample_results import sample_result

MATRIX = [
    Cell(model, task, length, depth)
    for model in ("m2a", "tpp")
    for task in ("vt", "essay-word-uuid")
    for length in (256, 512)
    for depth in (None, 0, 50)
]


def _selected(command: str) -> set[Cell]:
    """The cells of the matrix that a command selects, as pytest and the options of longwatch read it."""
    program, *arguments = shlex.split(command)
    assert program == "pytest"
    filters = {name: value.split(",") for name, value in re.findall(r"--(\w+)=(\S+)", command)}
    if filters:
        return {
            cell for cell in MATRIX if all(str(getattr(cell, name[:-1])) in values for name, values in filters.items())
        }
    expression = arguments[arguments.index("-m") + 1]

    def named(cell):
        return eval(expression, {"gpu": True, "cell": lambda **values: values == cell.axes})

    return {cell for cell in MATRIX if named(cell)}


@given(st.lists(st.sampled_from(MATRIX), min_size=1, unique=True))
def test_the_rerun_selects_these_cells_and_no_others(cells):
    """The command selects exactly the cells that it was made for, by filters or by name."""
    assert _selected(rerun_command(cells, MATRIX, ())) == set(cells)


def test_the_rerun_keeps_the_options():
    """The command repeats what the run was told about prompts and models; chosen examples need no number of samples."""
    repeat = ["--zoo=my zoo.toml", "--samples=64", "--corpus=real"]
    assert rerun_command([Cell("m2a", "vt", 256)], [Cell("m2a", "vt", 256)], repeat) == (
        "pytest -m gpu --models=m2a --tasks=vt --lengths=256 '--zoo=my zoo.toml' --samples=64 --corpus=real"
    )
    examples = {Cell("m2a", "vt", 256): [17, 3], Cell("tpp", "essay-word-uuid", 512, 50): [0]}
    assert rerun_command(list(examples), list(examples), repeat, examples) == (
        "pytest -m gpu --examples=m2a-vt-256:3,17 --examples=tpp-essay-word-uuid-512-d50:0 "
        "'--zoo=my zoo.toml' --corpus=real"
    )


def test_the_past_of_a_cell_or_of_its_model():
    """The command names the whole cell where it fell alone, else its model, and the history that was used."""
    cell = Cell("m2a", "vt", 256, 0)
    assert history_command(cell, "a b.sqlite", alone=True) == (
        "python -m drift history --model=m2a --task=vt --length=256 --depth=0 '--database=a b.sqlite'"
    )
    assert history_command(cell, "h", alone=False) == "python -m drift history --model=m2a --database=h"


LENGTHS = (256, 512, 1024)
CELLS = [Cell("m2a", "niah_single_1", length) for length in LENGTHS]
GOOD = [sample_result([1.0] * 40, length=length) for length in LENGTHS]


def test_a_night_asks_just_the_flipped_examples_again(tmp_path):
    """Where cells fell and nothing else failed, the command names the examples that flipped and no others."""
    scores = [0.0] * 20 + [1.0] * 20
    night = judged_results(tmp_path, [sample_result(scores, length=256), *GOOD[1:]], GOOD, repeat=("--zoo=z.toml",))
    numbers = ",".join(map(str, range(20)))
    assert night.rerun == f"pytest -m gpu --examples={CELLS[0]}:{numbers} --zoo=z.toml"
    assert night.past == (
        f"python -m drift history --model=m2a --task=niah_single_1 --length=256 --database={tmp_path}/history.sqlite"
    )


def test_a_night_asks_whole_cells_again_where_more_failed(tmp_path):
    """With an error beside a fallen cell both are asked whole; with nothing failed there is no command."""
    fell = sample_result([0.0] * 40, length=256)
    problem = Problem(str(CELLS[2]), "no logits")
    night = judged_results(tmp_path / "1", [fell, GOOD[1]], GOOD, selected=CELLS, problems=[problem])
    assert night.rerun == "pytest -m gpu --models=m2a --tasks=niah_single_1 --lengths=256,1024"
    quiet = judged_results(tmp_path / "2", GOOD, GOOD)
    assert (quiet.rerun, quiet.past) == ("", "")


def test_a_night_asks_a_fallen_pool_again(tmp_path):
    """Where cells fell together alone, all cells of their pool are asked again."""
    scores = [0.0] * 2 + [1.0] * 38
    fell = [
        sample_result([*scores[i:], *scores[:i]], length=256 * (i + 1), task="vt", prompt=f"{{:06x}}{i:02x}")
        for i in range(12)
    ]
    good = [sample_result([1.0] * 40, length=256 * (i + 1), task="vt", prompt=f"{{:06x}}{i:02x}") for i in range(12)]
    night = judged_results(tmp_path, fell, good)
    assert night.fallen_pools
    assert not night.fallen
    assert night.rerun == "pytest -m gpu --models=m2a --tasks=vt --lengths=" + ",".join(
        str(256 * i) for i in range(1, 13)
    )
    assert night.past == f"python -m drift history --model=m2a --database={tmp_path}/history.sqlite"
