"""What `python -m drift history` prints."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.__main__ import main
from drift.records.history import History
from drift.reports.history import sparkline
from drift.statistics.outcomes import Outcome
from suites.support.sample_histories import RUN, add_night, unsynchronized
from suites.support.sample_results import sample_result

__all__ = ["unsynchronized"]


@given(st.lists(st.floats(0, 100), max_size=40))
def test_a_sparkline_keeps_the_order(values):
    """A sparkline has a bar for each of the last 30 values, the higher the larger."""
    bars = sparkline(values, 0, 100)
    shown = values[-30:]
    assert len(bars) == len(shown)
    for (a, x), (b, y) in combinations(list(zip(shown, bars, strict=True)), 2):
        assert (a < b) <= (x <= y)


def test_the_command_shows_nights_and_changes(tmp_path, capsys):
    """The command prints cells, nights and changes of level, as JSON too, and draws them."""
    path = tmp_path / "history.sqlite"
    for day in range(1, 13):
        driver = {"driver": "550" if day < 7 else "570"}
        add_night(path, {256: 20 if day < 7 else 10, 512: 20}, day=day, environment=driver)
    command = ["history", "--model=m2a", "--task=niah_single_1", f"--database={path}"]
    assert main([*command, f"--plot={tmp_path / 'plot.png'}"]) == 0
    out = capsys.readouterr().out
    assert "2026-11-07: +0.0 → -50.0" in out
    assert "mean of 2 cells: -25.00 points" in out
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert main([*command, "--length=256"]) == 0
    out = capsys.readouterr().out
    assert "2026-11-12T03:00:00Z" in out
    assert "changed at 2026-11-07: +0.0 → -50.0: the NVIDIA driver: 550 → 570\n" in out
    assert "mean of" not in out
    assert main([*command, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [len(cell["nights"]) for cell in content["cells"]] == [12, 12]
    assert content["cells"][0]["steps"] == [
        {"run": 7, "started": "2026-11-07T03:00:00Z", "before": 0.0, "after": -50.0}
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model=m2b"], "unknown model m2b (did you mean m2a?); there are m2a"),
        (["--model=m2a", "--task=niah_single"], "unknown task niah_single (did you mean niah_single_1?)"),
        (["--model=m2a", "--length=300"], "has such a cell of m2a"),
        (["--model=m2a", "--plot=drawing.xyz"], "xyz"),
        (["--model=m2a", "--database=nowhere.sqlite"], "there is no history at nowhere.sqlite"),
    ],
)
def test_bad_input_ends_in_one_line(tmp_path, monkeypatch, capsys, options, message):
    """What is not in the history, or cannot be drawn, ends in one line that says so, with status 2."""
    monkeypatch.chdir(tmp_path)
    add_night(tmp_path / "results" / "history.sqlite", {256: 20})
    assert main(["history", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_two_zoos_are_not_mixed(tmp_path, capsys):
    """Where two zoos have a model of one name, the command asks which."""
    path = tmp_path / "history.sqlite"
    history, _ = History.append_to(path)
    for zoo in ("paper", "pocket"):
        result = replace(sample_result([1.0] * 20), zoo=zoo)
        history.add(history.begin(RUN), result, Outcome.PASSED, before=None, baseline=None)
    history.close()
    assert main(["history", "--model=m2a", f"--database={path}"]) == 2
    assert "the zoos paper, pocket all have a model m2a; choose one with --zoo" in capsys.readouterr().err
    assert main(["history", "--model=m2a", "--zoo=paper", f"--database={path}"]) == 0
