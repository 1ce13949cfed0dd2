"""What the tests of decoders measured is one table at the end of a run."""

from __future__ import annotations

import re
import subprocess

import pytest

from suites.support.equality_table import Equality, equality_table
from suites.support.runs import run


def section(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """The rows of the table that a run printed, without what is drawn around them."""
    _, _, below = done.stdout.partition(" decoder equalities ")
    return [re.split(r"\s*[│┃]\s*", line.strip("│┃ ")) for line in below.splitlines() if line.startswith(("│", "┃"))]


# Cases that record what such tests record, without the models.
RECORDING = """
import pytest
from suites.support.equality_table import EQUALITY, Equality

@pytest.mark.parametrize("decoder", ["b", "a"])
@pytest.mark.parametrize("measured", [{"check": "one", "difference": 2e-7}, {"check": "two", "same": 3, "compared": 4}])
def test_recording(decoder, measured, record_property):
    record_property(EQUALITY, Equality(decoder, **measured).to_json())
    assert "difference" in measured
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_table_shows_what_was_measured(workers, tmp_path, pytestconfig):
    """A run, in one process or in several, ends in a table of a row a decoder and a column a check, failed or not."""
    plugin = "suites.support.equality_table"
    assert pytestconfig.pluginmanager.has_plugin(plugin)
    (tmp_path / "test_recording.py").write_text(RECORDING, encoding="utf-8")
    done = run(str(tmp_path), "-p", plugin, "-n", workers)
    assert "2 failed, 2 passed" in done.stdout, done.stdout
    assert section(done) == [
        ["decoder", "one", "two"],
        ["a", "2.0e-07", "3 of 4"],
        ["b", "2.0e-07", "3 of 4"],
    ]


def test_a_check_that_did_not_run_is_a_gap():
    """Decoders need not have been put to the same checks."""
    table = equality_table([Equality("a", "one", 1e-7), Equality("b", "two", same=3, compared=4)])
    columns = [list(column.cells) for column in table.columns]
    assert columns == [["a", "b"], ["1.0e-07", "·"], ["·", "3 of 4"]]
