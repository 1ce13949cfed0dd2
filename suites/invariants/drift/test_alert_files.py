"""The alert beside the results: written when there is something to tell, gone when there is not."""

from __future__ import annotations

import json

import pytest

from drift.records.run_file import Purpose
from drift.reports.alert_files import AlertFiles
from drift.reports.alert_text import as_json, as_markdown
from suites.support.nights import judged_results
from suites.support.sample_results import sample_result

GOOD = sample_result([1.0] * 40)
FELL = sample_result([0.0] * 30 + [1.0] * 10)
OTHER = sample_result([1.0] * 40, prompt="f{:07x}")


@pytest.mark.parametrize(
    ("result", "purpose", "always", "written"),
    [
        (GOOD, Purpose.JUDGE, False, False),
        (GOOD, Purpose.JUDGE, True, True),
        (FELL, Purpose.JUDGE, False, True),
        (FELL, Purpose.ACCEPT, True, False),
        (FELL, Purpose.REPLAY, True, False),
        (OTHER, Purpose.JUDGE, False, True),
    ],
)
def test_an_alert_is_written_when_there_is_something_to_tell(tmp_path, result, purpose, always, written):
    """A night that fails has both files, a quiet one only where it is asked to; accepting and replaying have none."""
    night = judged_results(tmp_path, [result], [GOOD], purpose=purpose)
    lines = AlertFiles(tmp_path / "alerts", always).night_judged(night)
    found = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "alerts").glob("*")}
    assert found == ({"alert.md": as_markdown(night), "alert.json": as_json(night)} if written else {})
    said = f"alert: {night.title.removeprefix('longwatch: ')}; see {tmp_path / 'alerts' / 'alert.md'}"
    assert list(lines) == ([said] if written else [])


def test_an_alert_does_not_outlive_its_reason(tmp_path):
    """A night that is quiet when it is judged again removes the alert that it raised before, and nothing else."""
    files = AlertFiles(tmp_path / "alerts")
    files.night_judged(judged_results(tmp_path / "1", [FELL], [GOOD]))
    (tmp_path / "alerts" / "notes.md").write_text("kept", encoding="utf-8")
    assert len(list((tmp_path / "alerts").iterdir())) == 3
    assert files.night_judged(judged_results(tmp_path / "2", [GOOD], [GOOD])) == ()
    assert [path.name for path in (tmp_path / "alerts").iterdir()] == ["notes.md"]


def test_an_alert_that_cannot_be_written_is_said(tmp_path):
    """A folder that cannot be written to is one line, and no exception."""
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    (line,) = AlertFiles(tmp_path / "file").night_judged(judged_results(tmp_path, [FELL], [GOOD]))
    assert line.startswith(f"alert not written to {tmp_path / 'file'}: ")


def test_other_prompts_have_suspects_too(tmp_path):
    """Where prompts are not the snapshot's, the alert says what changed, once, and the reason names the cell once."""
    before, now = {"weights": "a", "torch": "1"}, {"weights": "a", "frame": "f"}
    cells = [sample_result([1.0] * 40, length=length, environment=before) for length in (256, 512)]
    asked = [
        sample_result([1.0] * 40, length=length, environment=now, prompt="f{:07x}", task=cell.task)
        for length, cell in zip((256, 512), cells, strict=True)
    ]
    content = json.loads(as_json(judged_results(tmp_path, asked, cells)))
    (suspects,) = content["suspects"]
    assert len(content["problems"]) == 2
    for problem in content["problems"]:
        assert problem["reason"].startswith("not comparable: prompts changed (40 of 40")
    assert sorted(each["name"] for each in suspects["since_accepted"]) == ["frame", "torch"]
