"""The text of an alert: short, whole, in order, and never formatted by what a model wrote."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.cells import Cell
from drift.changes import changes
from drift.fallen import fallen_cell
from drift.flips import Flip
from drift.judging import judge_cell
from drift.night import Coverage, Night
from drift.past import NoPast
from drift.records.run_file import Problem, Purpose
from drift.records.snapshots import Baseline
from drift.reports.alert_text import as_json, as_markdown, whole_json
from drift.reports.rendering import quoted
from drift.statistics.findings import Finding, Findings, Severity
from drift.statistics.outcomes import Outcome
from drift.statistics.paired import paired_shift
from drift.statistics.pooled_scores import PooledVerdict
from drift.statistics.pools import Pool
from drift.suspects import Suspects
from suites.support.nights import THRESHOLDS
from suites.support.sample_results import sample_result

GOOD = [
    judge_cell(result, Baseline.of(result), THRESHOLDS)
    for result in (sample_result([1.0] * 40, length=256 * i) for i in range(1, 13))
]
BAD = judge_cell(
    sample_result([0.0] * 25 + [1.0] * 15, task="vt", length=512),
    Baseline.of(sample_result([1.0] * 40, task="vt", length=512)),
    THRESHOLDS,
)
OTHER_PROMPTS = judge_cell(replace(GOOD[0].result, prompts=("feedbeef",) * 40), GOOD[0].baseline, THRESHOLDS)
NEW = judge_cell(GOOD[0].result, None, THRESHOLDS)

FLIP = Flip(7, "4fb2c29c", 1.0, 0.0, "Right.", "Wrong `x`\n# big", ("8159011",))
FALLEN = replace(fallen_cell(BAD, NoPast(), ""), flips=(FLIP,))
POOL = PooledVerdict(Pool("m2a", "length", 512), Outcome.REGRESSED, paired_shift([-1.0] * 25 + [0.0] * 15), 0.001, 4, 4)
POOLS = (Findings("pooled verdicts", (Finding(Severity.FAILURE, POOL.pool, POOL.headline, POOL.message, POOL),)),)

QUIET = Night(
    purpose=Purpose.JUDGE,
    zoo="pocket",
    started="2026-01-02T03:04:05Z",
    cells=tuple(GOOD),
    findings=(),
    fallen=(),
    suspects=(),
    problems=(),
    acceptances={},
    coverage=Coverage(12, 12, 12),
    cautions=(),
    rerun="",
    past="",
    snapshots="/snapshots",
    results=("/results/tonight",),
)
LOUD = replace(
    QUIET,
    cells=(*GOOD[1:], BAD),
    fallen=(FALLEN,),
    findings=POOLS,
    suspects=(Suspects("m2a", tuple(changes({"weights": "a", "torch": "1"}, {"weights": "b", "torch": "2"})), ()),),
    rerun="pytest -m gpu --models=m2a",
    past="python -m drift history --model=m2a",
)
OF_TPP = replace(FALLEN, cell=replace(FALLEN.cell, model="tpp"))
CUT = replace(
    QUIET,
    cells=QUIET.cells[:2],
    coverage=Coverage(12, 12, 2, tuple(each.cell for each in GOOD[2:]), "interrupted by SIGTERM after 2 of 12 cells"),
)


@pytest.mark.parametrize(
    ("night", "title"),
    [
        (QUIET, "no shift in 12 cells"),
        (replace(QUIET, cells=(*GOOD[1:], NEW)), "no shift in 11 cells; 1 cell without a baseline yet"),
        (LOUD, "m2a fell 62.5 points on vt-512"),
        (replace(LOUD, fallen=(FALLEN, FALLEN)), "m2a fell 62.5 points on vt-512 and on 1 more cell"),
        (replace(LOUD, fallen=(FALLEN,) * 3), "m2a fell 62.5 points on vt-512 and on 2 more cells"),
        (replace(LOUD, fallen=(FALLEN, OF_TPP)), "2 models fell: m2a, tpp"),
        (replace(LOUD, fallen=()), "m2a, length 512 fell 62.5 points, over 4 cells"),
        (
            replace(QUIET, problems=(Problem("m2a-vt-256", "no logits"),) * 2),
            "2 cells ended in an error; no shift in 12 cells",
        ),
        (replace(QUIET, cells=(OTHER_PROMPTS, *GOOD[1:])), "1 cell not comparable; no shift in 11 cells"),
        (CUT, "interrupted by SIGTERM after 2 of 12 cells; no shift in 2 cells"),
        (replace(LOUD, coverage=CUT.coverage), f"m2a fell 62.5 points on vt-512; {CUT.coverage.cut}"),
        (replace(CUT, coverage=replace(CUT.coverage, cut="")), "10 cells missing; no shift in 2 cells"),
    ],
)
def test_titles(night, title):
    """The title says in one line which model fell how far on what, what could not be judged, or that nothing fell."""
    assert night.title == f"longwatch: {title}"
    assert night.failed == (not title.startswith("no shift"))
    assert as_markdown(night).startswith(f"# longwatch: {title}\n")
    for content in (json.loads(as_json(night)), json.loads(whole_json(night))):
        assert (content["title"], content["failed"], content["status"]) == (night.title, night.failed, night.status)


def test_an_alert_says_everything_shortly():
    """The message holds the shift, its certainty, suspects in order, a fallen example, and the commands to go on."""
    text = as_markdown(LOUD)
    positions = [
        text.index(part)
        for part in (
            "| vt-512 | 100.0 | 37.5 | -62.5 (",
            POOL.message,
            "1. the checkpoint's weights: a → b\n1. torch: 1 → 2\n",
            "Since its last good run: nothing that is recorded.",
            'vt-512, example 7, prompt 4fb2c29c: 1 → 0; expected `"8159011"`; was `"Right."`; is ',
            "`pytest -m gpu --models=m2a`",
            "`python -m drift history --model=m2a`",
            "`/results/tonight`",
        )
    ]
    assert positions == sorted(positions)


def test_an_alert_of_many_shifts_is_short_and_its_file_whole():
    """However much has shifted, the message fits a phone and says how much more there is; the JSON has all of it."""
    many = replace(
        LOUD,
        fallen=(replace(FALLEN, flips=(FLIP,) * 50),) * 200,
        findings=(replace(POOLS[0], found=POOLS[0].found * 30),),
        problems=tuple(Problem(f"m2a-vt-{i}", "y") for i in range(200)),
        coverage=replace(LOUD.coverage, missing=tuple(Cell("m2a", "vt", i) for i in range(100))),
    )
    text = as_markdown(many)
    assert len(text) < 5000
    for part in (
        "190 more cells fell",
        "27 more pools of cells fell",
        "9995 more in `alert.json`",
        "195 more\n",
        "100 of 12 selected cells are missing, m2a-vt-0, m2a-vt-1, m2a-vt-2 among them",
    ):
        assert part in text
    content = json.loads(as_json(many))
    counts = {name: len(content[name]) for name in ("fallen", "pools", "problems", "missing")}
    assert counts == {"fallen": 200, "pools": 30, "problems": 200, "missing": 100}
    assert len(content["fallen"][0]["flips"]) == 50
    assert (content["declared"], content["selected"], content["judged"]) == (12, 12, 12)
    assert "cells" not in content


def test_a_whole_night_as_json_has_every_cell():
    """Beside what there is to tell, each cell stands with its axes, its outcome and its numbers."""
    content = json.loads(whole_json(LOUD))
    assert {name: value for name, value in content.items() if name != "cells"} == json.loads(as_json(LOUD))
    assert [Cell.of_fields(each) for each in content["cells"]] == [each.cell for each in LOUD.cells]
    last = content["cells"][-1]
    assert (last["name"], last["outcome"], last["before"], last["accuracy"]) == ("m2a-vt-512", "regressed", 100, 37.5)
    assert (last["examples"], last["p_value"]) == (40, BAD.verdict.p_value)


def test_a_cut_run_is_told_as_that():
    """What was not measured is said, and so is every caution."""
    text = as_markdown(replace(CUT, cautions=("the folder is mixed",)))
    assert (
        "**Not measured:** interrupted by SIGTERM after 2 of 12 cells; 10 of 12 selected cells are missing, "
        "m2a-niah_single_1-768, m2a-niah_single_1-1024, m2a-niah_single_1-1280 among them."
    ) in text
    assert "*the folder is mixed*" in text
    content = json.loads(as_json(CUT))
    assert content["cut"] == CUT.coverage.cut
    assert content["missing"] == [str(each.cell) for each in GOOD[2:]]


@given(st.text())
@example("a`b`\n")
def test_a_prediction_cannot_format_its_message(text):
    """Whatever a model wrote is quoted on one line, between the only two backticks."""
    shown = quoted(text)
    assert shown.count("`") == 2
    assert (shown[0], shown[-1]) == ("`", "`")
    assert len(shown.splitlines()) == 1
    if len(text) <= 100 and "`" not in text:
        assert json.loads(shown[1:-1]) == text
