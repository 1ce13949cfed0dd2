"""A night in the pages of GitHub Actions: annotations keep their form, and the summary is the alert."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cells import Cell
from drift.records.run_file import Problem
from drift.reports.alert_text import as_markdown
from drift.reports.github import GitHubPages, annotation_lines
from suites.support.nights import judged_results
from suites.support.sample_results import sample_result

GOOD = sample_result([1.0] * 40)
FELL = sample_result([0.0] * 40)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A night in which nothing was measured."""
    return judged_results(tmp_path_factory.mktemp("empty"), [], selected=[Cell("m2a", "vt", 256)])


@given(reason=st.text(), name=st.text(min_size=1), count=st.integers(1, 30))
def test_annotations_keep_their_form(empty, name, reason, count):
    """Each annotation is one workflow command on one line, whatever is in it, and there are ten at most."""
    lines = annotation_lines(replace(empty, problems=(Problem(name, reason),) * count))
    assert len(lines) == min(count, 10)
    for line in lines:
        title, message = re.fullmatch(r"::error title=([^:,\r\n]*)::([^\r\n]*)", line).groups()
        if count <= 10:
            assert [unquote(title, errors="strict"), unquote(message, errors="strict")] == [name, reason]


def test_annotations_name_cells_pools_and_what_cut_the_run(tmp_path):
    """Fallen cells, fallen pools, errors and an interruption have an annotation each."""
    fell = [sample_result([0.0] * 40, length=length) for length in (256, 512)]
    night = judged_results(
        tmp_path,
        fell,
        [sample_result([1.0] * 40, length=length) for length in (256, 512)],
        problems=[Problem("m2a-niah_single_1-1024", "no logits")],
        selected=[*(each.cell for each in fell), *(Cell("m2a", "niah_single_1", length) for length in (1024, 2048))],
        cause="SIGTERM",
    )
    titles = [line.removeprefix("::error title=").partition("::")[0] for line in annotation_lines(night)]
    assert titles[:2] == [f"m2a-niah_single_1-{length} fell 100.0 points" for length in (256, 512)]
    assert titles[-2:] == ["m2a-niah_single_1-1024", "incomplete"]
    assert len(titles) == 4 + len(night.fallen_pools) > 4


@pytest.mark.parametrize("annotations", [False, True])
def test_the_summary_of_the_job_gets_the_alert(tmp_path, annotations):
    """The alert is added to the summary of the job, and printed as annotations where these are read; quiet ones not."""
    file = tmp_path / "summary.md"
    file.write_text("before\n", encoding="utf-8")
    variables = {"GITHUB_STEP_SUMMARY": str(file), "GITHUB_ACTIONS": "true" if annotations else "false"}
    loud, quiet = (judged_results(tmp_path / name, [result], [GOOD]) for name, result in (("1", FELL), ("2", GOOD)))
    pages = GitHubPages.of_environment(variables)
    assert pages.night_judged(quiet) == ()
    assert file.read_text(encoding="utf-8") == "before\n"
    assert pages.night_judged(loud) == (annotation_lines(loud) if annotations else [])
    assert file.read_text(encoding="utf-8") == f"before\n{as_markdown(loud)}\n"
    assert GitHubPages.of_environment({}).night_judged(loud) == []


def test_a_summary_that_cannot_be_written_is_said(tmp_path):
    """A summary that cannot be written is one line."""
    night = judged_results(tmp_path, [FELL], [GOOD])
    (line,) = GitHubPages(annotations=False, summary=tmp_path).night_judged(night)
    assert line.startswith("alert not added to the summary of the job: ")
