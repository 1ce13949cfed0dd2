"""The line of a cell that has ended: it fits, it is honest about noise, and about the time that is left."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.cells import Cell
from drift.judging import judge_cell
from drift.records.snapshots import Baseline
from drift.reports.progress import Pace, duration, progress_line, progress_style
from suites.support.nights import THRESHOLDS
from suites.support.sample_results import sample_result

GOOD = sample_result([1.0] * 40)


def _judged(fell, *, of=40, baseline=True, **fields):
    result = replace(sample_result([0.0] * fell + [1.0] * (of - fell)), **fields)
    accepted = Baseline.of(sample_result([1.0] * of)) if baseline else None
    return judge_cell(result, accepted, THRESHOLDS)


@given(st.floats(0, 10**7))
def test_a_duration_is_minutes_and_seconds_or_hours_and_minutes(seconds):
    """A duration reads as the time it stands for, to the second below an hour and to the minute above, never 60."""
    text = duration(seconds)
    short = re.fullmatch(r"(\d+):(\d\d)", text)
    long = re.fullmatch(r"(\d+) h (\d\d) min", text)
    assert bool(short) != bool(long)
    first, second = map(int, (short or long).groups())
    assert second < 60
    if short:
        assert abs(60 * first + second - seconds) <= 0.5
    else:
        assert first >= 1
        assert -0.5 <= seconds - (3600 * first + 60 * second) < 60


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (119.7, "2:00"), (3599.7, "1 h 00 min"), (7199.9, "2 h 00 min")],
)
def test_durations_at_the_edges(seconds, text):
    """Just below a whole minute or hour, a duration is that minute or hour."""
    assert duration(seconds) == text


@given(
    st.integers(0, 40),
    st.booleans(),
    st.integers(0, 10_000),
    st.floats(0, 10**7),
    st.integers(20, 250),
    st.sampled_from(["m2a", "recurrentgemma-2b-longer"]),
)
def test_the_line_fits(fell, baseline, left, seconds, width, model):
    """Whatever it says, the line is one line within the width, and names the cell where there is room for it."""
    judged = _judged(fell, baseline=baseline, model=model)
    line = progress_line(judged, left, seconds, width)
    assert len(line) <= width
    assert len(line.splitlines()) == 1
    assert line.startswith(str(judged.cell)[:width])
    if width >= 160:
        assert f"accuracy {judged.result.accuracy:6.2f}" in line
        assert f"{left} cell{'' if left == 1 else 's'} and {duration(seconds)} left" in line


def test_what_matters_least_is_left_out_first():
    """The narrower the line, the less it says: first without the speed, then without the number of examples."""
    judged = _judged(0)
    wide, narrower, narrow, narrowest = (progress_line(judged, 3, 100, width) for width in (200, 110, 98, 75))
    assert "40 examples, 5,760 tokens/s, 3 cells and 1:40 left" in wide
    assert "40 examples, 3 cells and 1:40 left" in narrower
    assert "tokens/s" not in narrower
    assert "examples" not in narrow
    assert "(was 100.00) passed, 3 cells" in narrow
    assert narrowest == "m2a-niah_single_1-256 100.00 passed, 3 cells and 1:40 left"


@given(st.integers(0, 40), st.booleans())
def test_a_fall_within_noise_says_so(fell, baseline):
    """A cell that passed lower is yellow and within noise, with its p-value; one that fell is red, a new one yellow."""
    judged = _judged(fell, baseline=baseline)
    line, style = progress_line(judged, 0, 0, 200), progress_style(judged)
    if not baseline:
        assert (style, "(no baseline yet) not judged" in line) == ("yellow", True)
    elif judged.outcome == "regressed":
        assert (style, ") regressed," in line) == ("red", True)
    elif fell:
        assert style == "yellow"
        assert f"(was 100.00) passed, within noise (p = {judged.verdict.p_value:.2g})" in line
    else:
        assert (style, ") passed," in line, "noise" in line) == ("green", True, False)


def test_a_rise_is_green():
    """What is better is green, within noise or beyond."""
    for more in (1, 20):
        baseline = Baseline.of(sample_result([0.0] * more + [1.0] * (40 - more)))
        assert progress_style(judge_cell(GOOD, baseline, THRESHOLDS)) == "green"


LENGTHS = (256, 512, 1024, 2048, 4096)
MATRIX = [Cell(model, task, length) for model in ("a", "b") for task in ("vt", "qa_1", "cwe") for length in LENGTHS]


@given(
    st.floats(0.01, 5),
    st.floats(1e-5, 1e-2),
    st.permutations([cell for cell in MATRIX if cell.model == "a"]),
    st.integers(1, 4),
)
def test_the_time_left_is_honest_from_the_fifth_cell_on(own, per_token, order, workers):
    """Where a cell costs something by itself and something a token, the time left is right within a fifth."""
    pace = Pace()
    for ended, cell in enumerate(order[:-1], 1):
        pace.ended(cell, own + per_token * cell.length)
        left = order[ended:]
        if ended >= 5 and len({cell.length for cell in order[:ended]}) > 1:
            expected = sum(own + per_token * cell.length for cell in left) / min(workers, len(left))
            assert pace.left(left, workers) == pytest.approx(expected, rel=0.2)


@given(st.floats(0.2, 5), st.permutations(MATRIX), st.integers(0, 29))
def test_an_earlier_run_foretells_from_the_first_cell(slower, order, ended):
    """A run whose every cell takes so many times what it took before is foretold right from its first cell on."""
    before = {str(cell): 1 + cell.length / 100 + 3 * (cell.model == "b") for cell in MATRIX}
    assume(ended < len(order))
    pace = Pace(before)
    for cell in order[:ended]:
        pace.ended(cell, slower * before[str(cell)])
    expected = (slower if ended else 1) * sum(before[str(cell)] for cell in order[ended:])
    assert pace.left(order[ended:], 1) == pytest.approx(expected)
    known = pace.seconds
    assert set(known) == set(before)
    assert known[str(order[-1])] == before[str(order[-1])]


def test_nothing_left_takes_no_time():
    """With no cell left, or none ended yet, there is nothing to wait for, and nothing to foretell from."""
    pace = Pace()
    assert pace.left(MATRIX, 2) == 0
    pace.ended(MATRIX[0], 3.0)
    assert pace.left([], 2) == 0


def test_a_model_that_was_not_asked_yet_is_as_fast_as_the_others():
    """The cells of a model that has not been asked are foretold from the mean of the other models."""
    pace = Pace()
    for cell in MATRIX:
        if cell.model == "a":
            pace.ended(cell, 2 + cell.length / 1000)
    others = [cell for cell in MATRIX if cell.model == "b"]
    assert pace.left(others, 1) == pytest.approx(sum(2 + cell.length / 1000 for cell in others))


def test_a_cell_that_took_no_time_has_a_speed():
    """A result without its times, or of no time at all, has a line all the same."""
    assert "tokens/s" in progress_line(_judged(0, seconds={}), 0, 0, 200)
    assert "tokens/s" in progress_line(_judged(0, seconds={"decode": 0.0}), 0, 0, 200)
