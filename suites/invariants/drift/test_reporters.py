"""Reporters: whatever one of them does, the others tell, and the verdict stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.records.run_file import Purpose
from drift.reports.junit import JUnitProperties, cell_properties
from drift.reports.reporters import heard, told
from suites.support.nights import judged_results
from suites.support.sample_results import sample_result

GOOD = sample_result([1.0] * 40)
FELL = sample_result([0.0] * 40)


class Telling:
    """A reporter that says what it was told of."""

    def __init__(self, name):
        self.name = name

    def cell_judged(self, judged):
        return [f"{self.name} heard of {judged.cell}"]

    def night_judged(self, night):
        return [f"{self.name} told of {night.title}"]


class Raising:
    """A reporter that fails."""

    name = "broken"

    def __init__(self, error):
        self.error = error

    def cell_judged(self, judged):
        raise self.error

    def night_judged(self, night):
        yield "half"
        raise self.error


ERRORS = [
    ValueError("two\nlines"),
    RecursionError(),
    SystemExit(3),
    KeyboardInterrupt("SIGTERM"),
    GeneratorExit(),
    MemoryError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    ExceptionGroup("several", [OSError("full")]),
    BaseException("anything"),
]


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A night in which a cell fell."""
    return judged_results(tmp_path_factory.mktemp("night"), [FELL], [GOOD])


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_reporter_that_raises_is_one_line(night, error):
    """Whatever a reporter raises is one line with its name, and nobody else's report is lost."""
    reporters = [Telling("first"), Raising(error), Telling("last")]
    every = [(told(reporters, night), f"told of {night.title}")]
    if not isinstance(error, KeyboardInterrupt):
        every.append((heard(reporters, night.cells[0]), f"heard of {FELL.cell}"))
    for lines, said in every:
        first, broken, last = lines
        assert (first, last) == (f"first {said}", f"last {said}")
        assert broken.startswith(f"broken failed: {type(error).__name__}")
        assert len(broken.splitlines()) == 1


def test_an_interruption_ends_the_run_all_the_same(night):
    """Ctrl-C, or a signal, that comes while a reporter hears of a cell is not taken for that reporter's failure."""
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        heard([Telling("first"), Raising(KeyboardInterrupt("SIGTERM"))], night.cells[0])


@given(st.text())
def test_a_long_reason_is_cut(night, text):
    """However long what a reporter raises is, and whatever is in it, it stays one short line."""
    (line,) = told([Raising(ValueError(text * 100))], night)
    assert len(line) <= 350
    assert "\n" not in line


def test_a_reporter_that_returns_no_lines_is_one_too(night):
    """A reporter that returns nothing at all has failed as one that raises has."""

    class Silent(Telling):
        def night_judged(self, night):
            return None

    lines = told([Silent("silent"), Telling("last")], night)
    assert lines[0].startswith("silent failed: TypeError")
    assert len(lines) == 2


def test_a_night_cannot_be_changed(night):
    """A reporter is handed what it cannot change."""
    with pytest.raises(AttributeError):
        night.cells = ()
    with pytest.raises(AttributeError):
        night.cells[0].verdict = None


def test_junit_files_know_of_the_night(tmp_path):
    """The whole run has its title, its status and its fallen pools, and each case the numbers of its cell."""
    results = [sample_result([0.0] * 40, length=length) for length in (256, 512)]
    night = judged_results(tmp_path, results, [sample_result([1.0] * 40, length=length) for length in (256, 512)])
    found = []
    assert JUnitProperties(lambda name, value: found.append((name, value))).night_judged(night) == ()
    assert found[:2] == [("longwatch_alert", night.title), ("longwatch_status", "1")]
    assert found[2:] == [("longwatch_pool", pool.message) for pool in night.fallen_pools]
    assert night.fallen_pools
    assert cell_properties(night.cells[0]) == [
        ("longwatch_outcome", "regressed"),
        ("longwatch_accuracy", 0.0),
        ("longwatch_examples", 40),
        ("longwatch_accepted_accuracy", 100.0),
    ]


def test_other_runs_leave_no_properties(tmp_path):
    """A run without a JUnit file, and one that accepts, have nothing to add; a new cell has no accepted accuracy."""
    found = []
    night = judged_results(tmp_path, [GOOD], purpose=Purpose.ACCEPT)
    assert JUnitProperties(lambda *each: found.append(each)).night_judged(night) == ()
    assert JUnitProperties(None).night_judged(night) == ()
    assert found == []
    assert dict(cell_properties(night.cells[0])) == {
        "longwatch_outcome": "no snapshot",
        "longwatch_accuracy": 100.0,
        "longwatch_examples": 40,
    }
