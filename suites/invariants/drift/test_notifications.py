"""Alerts sent to people: they arrive, one bad URL keeps none from the others, and no secret is said."""

from __future__ import annotations

import pytest

from drift.records.run_file import Purpose
from drift.reports.notifications import Notifications, malformed, send
from suites.support.nights import judged_results
from suites.support.receivers import running_receiver
from suites.support.sample_results import sample_result

GOOD = sample_result([1.0] * 40)
FELL = sample_result([0.0] * 30 + [1.0] * 10)
OTHER = sample_result([1.0] * 40, prompt="f{:07x}")


@pytest.fixture(scope="module")
def server():
    """A chat that takes what is posted to it."""
    with running_receiver() as found:
        yield found


@pytest.fixture
def receiver(server):
    """The server, with nothing posted to it yet."""
    server.posted.clear()
    return server


def test_a_message_arrives(receiver):
    """A message reaches every URL, with its title, its text and whether it is a failure."""
    urls = [f"json://{receiver.address}/one", f"json://{receiver.address}/two"]
    assert send(urls, "title", "*body*", failed=True) == []
    assert send(urls[:1], "title", "*body*", failed=False) == []
    assert [(each["title"], each["type"]) for each in receiver.posted] == [
        ("title", "failure"),
        ("title", "failure"),
        ("title", "success"),
    ]
    assert all("body" in each["message"] for each in receiver.posted)


def test_one_bad_url_keeps_no_message_from_the_others(receiver, caplog):
    """Malformed, refusing and unreachable URLs are said in a line each, without their secrets; the rest is sent."""
    urls = [
        "no-url",
        "nonsense://user:secret@host",
        "json://",
        f"json://user:secret@{receiver.address}/refusing/secret",
        "json://user:secret@127.0.0.1:9/secret",
        f"json://{receiver.address}",
    ]
    failures = send(urls, "title", "body", failed=True)
    assert len(receiver.posted) == 1
    assert failures[:3] == malformed(urls)
    assert [line.partition(" is ")[0].partition(": ")[0] for line in failures] == [
        "alert URL 1",
        "alert URL 2 (nonsense://…)",
        "alert URL 3 (json://…)",
        "alert URL 4 (json://…)",
        "alert URL 5 (json://…)",
    ]
    assert "503" in failures[3]
    assert "onnection" in failures[4]
    assert not any("secret" in line or "\n" in line for line in failures)
    assert not [record for record in caplog.records if record.name == "apprise"]


@pytest.mark.parametrize(
    ("result", "purpose", "always", "told"),
    [
        (GOOD, Purpose.JUDGE, False, None),
        (GOOD, Purpose.JUDGE, True, ("longwatch: no shift in 1 cell", "success")),
        (FELL, Purpose.JUDGE, False, ("longwatch: m2a fell 75.0 points on niah_single_1-256", "failure")),
        (FELL, Purpose.ACCEPT, True, None),
        (FELL, Purpose.REPLAY, True, None),
        (OTHER, Purpose.JUDGE, False, ("longwatch: 1 cell not comparable; no shift in 0 cells", "failure")),
    ],
)
def test_people_are_told_when_there_is_something_to_tell(tmp_path, receiver, result, purpose, always, told):
    """A night alerts when it fails, and else only where it is asked to; accepting and replaying alert nobody."""
    night = judged_results(tmp_path, [result], [GOOD], purpose=purpose)
    urls = (f"json://{receiver.address}", "json://user:secret@127.0.0.1:9/secret")
    lines = Notifications(urls, always).night_judged(night)
    assert [(each["title"], each["type"]) for each in receiver.posted] == ([] if told is None else [told])
    assert len(lines) == (0 if told is None else 2)
    if told is not None:
        assert lines[0].startswith("alert not sent: alert URL 2 (json://…): ")
        assert lines[1] == "alert sent to 1 of 2 URLs"
        assert "secret" not in "".join(lines)


def test_nobody_is_told_anything_without_a_url(tmp_path):
    """Without a URL nothing is said of alerts."""
    assert Notifications((), always=True).night_judged(judged_results(tmp_path, [FELL], [GOOD])) == ()
