"""Thresholds: what the file says is what counts, and what is wrong with it is said once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.statistics.thresholds import DEFAULT, ThresholdError, Thresholds, load_thresholds


def _loaded(tmp_path, text):
    path = tmp_path / "strict.toml"
    path.write_text(text, encoding="utf-8")
    return load_thresholds(path, ["m2a", "sl"], ["vt", "qa_1"])


def test_the_defaults_of_file_and_code_agree():
    """The default file says what the code's defaults are, but for stages and scatter, which code has none of."""
    common = load_thresholds(DEFAULT, [], []).common
    assert replace(common, stages=(), gates=(), warning_smallest_scatter={}) == Thresholds()
    assert common.stages == (250, 500, 1000)


def test_a_file_changes_what_it_names(tmp_path):
    """What a file leaves out is as in the default one."""
    usual = load_thresholds(DEFAULT, [], [])
    assert _loaded(tmp_path, "") == usual
    assert _loaded(tmp_path, "error_rate = 0.01") == replace(usual, common=replace(usual.common, error_rate=0.01))


def test_models_and_tasks_have_thresholds_of_their_own(tmp_path):
    """A table of a model or a task changes the thresholds of its cells alone; a task's counts over a model's."""
    table = _loaded(
        tmp_path,
        "smallest_effect = 3.0\n[models.m2a]\nsmallest_effect = 5.0\nstages = [100]\ngates = []\n"
        "[tasks.vt]\nsmallest_effect = 7\n",
    ).asked(64, 500)
    assert table.of("sl", "qa_1") == table.common
    assert table.of("m2a", "qa_1").smallest_effect == 5
    assert table.of("m2a").smallest_effect == 5
    assert table.of("m2a", "vt").smallest_effect == table.of("sl", "vt").smallest_effect == 7
    assert [stage.examples for stage in table.of("m2a", "vt").plan(1000, 64)] == [64, 100]
    assert [stage.examples for stage in table.of("sl", "vt").plan(1000, 64)] == [64, 250, 500, 1000]
    assert table.overrides == "m2a: smallest_effect 5.0, stages (100,), gates (); vt: smallest_effect 7"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("error_rate = 0", "error_rate must be a number above 0 and up to 0.5, not 0"),
        ("error_rate = true", "error_rate must be a number above 0 and up to 0.5, not True"),
        ('error_rate = "0.05"', "error_rate must be a number above 0 and up to 0.5, not '0.05'"),
        ("smallest_effect = inf", "smallest_effect must be a number from 0 to 100, not inf"),
        ("usual_flips = nan", "usual_flips must be a number from 0 to 0.5, not nan"),
        ("usual_flips = 1979-05-27", "usual_flips cannot be 1979-05-27, a date"),
        ("stages = [250, true]", "stages[1] must be a whole number above 0, not True"),
        ("warning_fails = 1", "warning_fails must be true or false, not 1"),
        ("smallest_effect = -1", "smallest_effect must be a number from 0 to 100, not -1"),
        ("spending = nan", "spending must be a number above 0 and up to 10, not nan"),
        ("stages = [500, 250]", "stages must be a list of growing whole numbers, not [500, 250]"),
        ("stages = []", "stages must be a list of growing whole numbers"),
        ("gates = [0.1, 2.0]", "gates[1] must be a number from 0 to 1, not 2.0"),
        ("gates = [0.1]", "gates must have one number for each of the 3 stages but the last, not [0.1]"),
        ("[models.m2a]\nstages = [9]", "models.m2a: gates must have one number for each of the 1 stages but the last"),
        ('pooled_correction = "bonferroni"', "pooled_correction must be one of bh, by, not 'bonferroni'"),
        (
            "warning_smallest_scatter = { int8 = 1 }",
            "warning_smallest_scatter.int8 is for nothing that models compute in; there are float32, ",
        ),
        ("warning_smallest_scatter = { float32 = 0 }", "warning_smallest_scatter.float32 must be a number above 0"),
        ("eror_rate = 0.1", "unknown field eror_rate (did you mean error_rate?)"),
        ("comparisons = 3", "unknown field comparisons"),
        ("[models.m2b]\nspending = 2", "unknown model m2b (did you mean m2a?); there are m2a, sl"),
        ("[tasks.m2a]\nspending = 2", "unknown task m2a"),
        ("[tasks.vt]\nspendings = 2", "tasks.vt: unknown field spendings (did you mean spending?)"),
        ("[tasks.vt]\ngates = 2", "tasks.vt.gates must be a list"),
        ("[tasks.vt]\npooled_error_rate = 0.1", "tasks.vt.pooled_error_rate belongs to the whole night"),
        (
            "[models.m2a]\nstages = [9, 10, 11]\n[tasks.vt]\nstages = [9, 10]\ngates = [0.1]\n[tasks.qa_1]\ngates = []",
            "tasks.qa_1: gates must have one number for each of the 3 stages but the last, not []",
        ),
        (
            "[models.m2a]\nstages = [9]\ngates = []\n[tasks.vt]\ngates = [0.2, 0.1]",
            "models.m2a with tasks.vt: gates must have one number for each of the 1 stages but the last",
        ),
        ("tasks = 3", "tasks must be a table, not 3"),
        ("error_rate =", "Invalid value (at end of document)"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path, text, said):
    """What is unknown or out of range is named with the file, the field, and what would be right."""
    with pytest.raises(ThresholdError) as error:
        _loaded(tmp_path, text)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'strict.toml'}: ")
    assert said in message
    assert "\n" not in message


def test_a_missing_file_is_named(tmp_path):
    """A file that is not there is named."""
    with pytest.raises(ThresholdError, match=r"none\.toml: No such file"):
        load_thresholds(tmp_path / "none.toml", [], [])


@given(st.integers(1, 1500), st.integers(1, 1500), st.integers(1, 1500))
def test_plans_keep_to_what_there_is(held, asked, samples):
    """A plan begins with the night's samples, ends with what the snapshot holds, and spends all of the error rate."""
    thresholds = Thresholds(comparisons=100, stages=(250, 500, 1000), gates=(0.1, 0.01), samples=samples)
    plan = thresholds.plan(held, asked)
    counts = [stage.examples for stage in plan]
    assert counts == sorted(set(counts))
    assert counts[0] == min(held, asked, samples)
    assert counts[-1] == max(counts[0], min(held, 1000))
    assert set(counts[1:-1]) <= {250, 500, 1000}
    assert sum(stage.significant for stage in plan) == pytest.approx(thresholds.significant)
    assert [stage.gate for stage in plan] == [0.1 if n <= 250 else 0.01 if n <= 500 else 0.0 for n in counts]
