"""The night on a terminal: each cell once, gaps in a line each, the verdict last."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cells import Cell
from drift.acceptance import AcceptanceFolder, acceptance
from drift.records.baselines import Accepted, accelerator_of
from drift.records.run_file import Problem, Purpose
from drift.records.snapshots import Baseline
from drift.reports.terminal import acceptance_lines, acceptance_markdown, night_console, print_night
from drift.statistics.thresholds import Thresholds
from suites.support.nights import accept_results, judged_folders, judged_results, write_run
from suites.support.sample_results import sample_result

GOOD = sample_result([1.0] * 40)
FELL = sample_result([0.0] * 40)


def _printed(night, *, width=120, colours=False):
    file = io.StringIO()
    print_night(night, night_console(file, colours=colours, width=width))
    return file.getvalue()


def _sections(text):
    """What is printed, by the titles of its sections."""
    found, name = {}, ""
    for line in text.splitlines():
        if line.startswith("=") and line.endswith("="):
            name = line.strip("= ")
            assert name not in found
            found[name] = []
        else:
            found[name].append(line)
    return found


LENGTHS = (256, 512, 1024, 16384)
TASKS = ("vt", "qa_1", "niah_single_1")


_places = st.tuples(
    st.sampled_from(["m2a", "tpp"]), st.sampled_from(TASKS), st.sampled_from(LENGTHS), st.sampled_from([None, 0, 50])
)


@given(st.sets(_places, min_size=1, max_size=8))
@settings(max_examples=25)
def test_each_cell_is_shown_once(tmp_path_factory, places):
    """Every cell that has a result stands once in the tables, at its row and column, and every other place is a dot."""
    results = [
        replace(sample_result([1.0] * i + [0.0] * (101 - i), task=task, length=length, depth=depth), model=model)
        for i, (model, task, length, depth) in enumerate(sorted(places, key=str), 1)
    ]
    night = judged_results(tmp_path_factory.mktemp("night"), results)
    tables = _sections(_printed(night))["longwatch"]
    shown = {}
    title = head = None
    for line in tables:
        if ": " in line:
            title = line
        elif line.startswith("┃"):
            head = [part.strip() for part in line.strip("┃").split("┃")]
        elif line.startswith("│"):
            row, *entries = (part.strip() for part in line.strip("│").split("│"))
            for column, entry in zip(head[1:], entries, strict=True):
                if entry != "·":
                    model, _, what = title.partition(": ")
                    if what == "accuracy by task and length":
                        cell = Cell(model, row, int(column))
                    else:
                        cell = Cell(model, what.partition(",")[0], int(row), int(column.removesuffix("%")))
                    assert cell not in shown
                    shown[cell] = entry
    assert shown == {result.cell: f"{result.accuracy:.1f}" for result in results}


def test_the_verdict_is_last(tmp_path):
    """The last section says what the night came to, of how many cells, and how the process ends, one line each."""
    cells = [Cell("m2a", "niah_single_1", length) for length in (256, 512, 768, 1024)]
    other = sample_result([1.0] * 40, length=512, prompt="f{:07x}")
    night = judged_results(
        tmp_path,
        [FELL, other],
        [GOOD, sample_result([1.0] * 40, length=512)],
        declared=[*cells, Cell("m2a", "vt", 256)],
        selected=cells,
        problems=[Problem(str(cells[2]), "no logits")],
    )
    sections = _sections(_printed(night))
    assert list(sections)[-1] == "verdict"
    assert sections["verdict"] == [
        night.title.removeprefix("longwatch: "),
        "2 of 4 selected cells have a result, 1 missing, 1 ended in an error; the zoo declares 5",
        "exit status 1 (shifted); also 2 (incomplete), 6 (not comparable)",
    ]
    lines = _printed(night).splitlines()
    assert f"{cells[2]}: no logits" in lines
    assert f"missing: 1 cell: {cells[3]}" in lines
    assert any(line.startswith(f"{cells[1]}: not comparable: prompts changed") for line in lines)


@pytest.mark.parametrize("count", [1, 10, 15])
def test_cells_without_a_baseline_are_one_line(tmp_path, count):
    """However many cells have no baseline yet, they are told in one line, with the command that accepts them."""
    results = [sample_result([1.0] * 20, length=256 * i) for i in range(1, count + 1)]
    text = _printed(judged_results(tmp_path, results))
    (line,) = [line for line in text.splitlines() if "no baseline yet:" in line]
    assert line.startswith(f"no baseline yet: {count} cell{'s' if count > 1 else ''}: m2a-niah_single_1-256")
    assert line.endswith(f"then accept them with: python -m drift accept {tmp_path / 'night'}")
    assert line.count("m2a-") == min(count, 10)
    assert (" and 5 more" in line) == (count == 15)
    assert "exit status 7 (no baseline)" in text


def test_a_quiet_night_says_that(tmp_path):
    """A night without a shift has its verdict in one line, and nothing that looks like a warning."""
    text = _printed(judged_results(tmp_path, [GOOD], [GOOD]))
    assert _sections(text)["verdict"] == [
        "no shift in 1 cell",
        "1 of 1 selected cells have a result; the zoo declares 1",
        "exit status 0 (quiet)",
    ]
    assert list(_sections(text)) == ["longwatch", "verdict"]


def test_a_fall_within_noise_is_yellow_in_the_table(tmp_path):
    """In colours, a cell that passed lower is yellow, one that fell is red, and what is the same has no colour."""
    results = [
        sample_result([0.0] + [1.0] * 39, length=256),
        sample_result([0.0] * 40, length=512),
        sample_result([1.0] * 40, length=1024),
    ]
    night = judged_results(tmp_path, results, [sample_result([1.0] * 40, length=each.length) for each in results])
    text = _printed(night, colours=True)
    assert "\x1b[33m97.5 ↓2.5\x1b[0m" in text
    assert "\x1b[1;31m0.0 ↓100.0\x1b[0m" in text
    assert " 100.0 " in text
    plain = _printed(night)
    assert "\x1b" not in plain
    assert "97.5 ↓2.5" in plain


def test_findings_have_a_section_of_their_own(tmp_path):
    """Fallen pools are told below the name of their statistic, and how many pools are quiet."""
    results = [sample_result([0.0] * 40, length=length) for length in (256, 512)]
    night = judged_results(tmp_path, results, [sample_result([1.0] * 40, length=length) for length in (256, 512)])
    lines = _sections(_printed(night))["pooled verdicts"]
    assert lines[: len(night.fallen_pools)] == [pool.message for pool in night.fallen_pools]
    assert lines[len(night.fallen_pools)].startswith("no shift in ")


def test_cautions_and_what_cut_the_run_are_said(tmp_path):
    """A mixed folder, and a run that was cut, are lines of their own."""
    night = judged_results(tmp_path, [GOOD], [GOOD], selected=[GOOD.cell, Cell("m2a", "vt", 256)], cause="SIGTERM")
    text = _printed(replace(night, cautions=("the folder is mixed",)))
    assert "the folder is mixed" in text.splitlines()
    assert _sections(text)["verdict"][0] == "interrupted by SIGTERM after 1 of 2 cells; no shift in 1 cell"


def test_replayed_examples_stand_beside_their_accepted_scores(tmp_path):
    """A run of chosen examples shows each of them, and no pools."""
    chosen = replace(FELL, chosen=tuple(range(40)))
    night = judged_results(tmp_path, [chosen], [GOOD], purpose=Purpose.REPLAY)
    sections = _sections(_printed(night))
    assert sections["replayed examples"][0] == f"{FELL.cell}:"
    assert sum(line.startswith("  example ") for line in sections["replayed examples"]) == 40
    assert "pooled verdicts" not in sections


@given(st.integers(1, 300))
@settings(max_examples=15)
def test_any_width_does(tmp_path_factory, width):
    """Sections are as wide as the terminal, at least 80 columns; no line of text is broken."""
    night = judged_results(tmp_path_factory.mktemp("night"), [FELL], [GOOD])
    lines = _printed(night, width=width).splitlines()
    assert {len(line) for line in lines if line.startswith("==")} <= {max(width, 80), max(width, 80) - 1}
    assert night.title.removeprefix("longwatch: ") in lines


def _accepted(folder):
    """A run that accepted: a new cell, one that changed, one as it was, and one that another accelerator shares."""
    results = {
        "new": sample_result([1.0] * 40, length=256),
        "changed": sample_result([0.5] * 40, length=512),
        "same": sample_result([1.0] * 40, length=1024),
        "shared": sample_result([1.0] * 40, length=2048, environment={"device": "NVIDIA H100"}),
    }
    held = [sample_result([1.0] * 40, length=each.length) for name, each in results.items() if name != "new"]
    accept_results(folder / "snapshots", held)
    run = write_run(folder / "night", list(results.values()), purpose=Purpose.ACCEPT)
    for result, before in zip(results.values(), [None, *held], strict=True):
        known = Accepted(None if before is None else Baseline.of(before))
        AcceptanceFolder(run).write(result.cell, acceptance(result, known, Thresholds()))
    return judged_folders(run)


def test_what_was_accepted_is_said(tmp_path):
    """Each snapshot that was written has a line with both accuracies and why; the others are counted."""
    night = _accepted(tmp_path)
    lines = acceptance_lines(night.acceptances, night.snapshots)
    assert _sections(_printed(night, width=300))["accepted snapshots"][: len(lines)] == lines
    assert [" ".join(line.split()) for line in lines] == [
        "m2a-niah_single_1-256 none → 100.00 new cell",
        "m2a-niah_single_1-512 100.00 → 50.00 40 of 40 scores changed",
        "unchanged: 1 cell measured as accepted",
        "left as accepted on another accelerator: 1 cell; NVIDIA H100 differs by no more than noise from cpu: +0.00 "
        "points, p = 1 at most",
        f"accepted: 2 cells, in {night.snapshots}",
    ]
    assert accelerator_of({"device": "NVIDIA H100"}) == "nvidia-h100"


def test_what_was_accepted_as_markdown(tmp_path):
    """As Markdown, the written snapshots are a table, and the other lines a list."""
    night = _accepted(tmp_path)
    assert acceptance_markdown(night.acceptances, night.snapshots).splitlines() == [
        "| cell | was | is | why |",
        "|---|---:|---:|---|",
        "| m2a-niah_single_1-256 |  | 100.00 | new cell |",
        "| m2a-niah_single_1-512 | 100.00 | 50.00 | 40 of 40 scores changed |",
        "",
        *(f"* {line}" for line in acceptance_lines(night.acceptances, night.snapshots)[2:]),
    ]
    assert acceptance_markdown({}, "there") == "* nothing changed: no snapshot was written\n"
