"""The run file: it comes back as it was, belongs to one run alone, and is refused when it is damaged."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cells import Cell
from drift.records.results import ResultFolder
from drift.records.run_file import (
    RUN_FILE,
    Ending,
    Problem,
    Purpose,
    RunFileError,
    RunRecord,
    merged_problems,
    new_run_id,
)
from drift.statistics.thresholds import DEFAULT, Thresholds, ThresholdTable, load_thresholds
from suites.support.nights import run_record
from suites.support.sample_results import sample_result

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
cells = st.builds(
    Cell,
    st.sampled_from(["m2a", "a.b"]),
    st.sampled_from(["vt", "essay-word-uuid"]),
    st.integers(1, 4096),
    st.none() | st.integers(0, 100),
)
tables = st.builds(
    ThresholdTable,
    st.builds(
        Thresholds,
        error_rate=st.floats(0.001, 0.5),
        stages=st.sets(st.integers(1, 1000), min_size=1, max_size=3).map(lambda stages: tuple(sorted(stages))),
        samples=st.none() | st.integers(1, 250),
        pooled_correction=st.sampled_from(["bh", "by"]),
        warning_smallest_scatter=st.dictionaries(st.sampled_from(["float32", "bfloat16"]), st.floats(0.01, 1)),
        warning_fails=st.booleans(),
    ),
    models=st.dictionaries(st.just("m2a"), st.fixed_dictionaries({"gates": st.lists(st.floats(0, 1)).map(tuple)})),
    tasks=st.dictionaries(st.just("vt"), st.fixed_dictionaries({"smallest_effect": st.floats(0, 100)})),
)
records = st.builds(
    RunRecord,
    id=texts,
    started=texts,
    command=texts,
    zoo=texts,
    purpose=st.sampled_from(Purpose),
    snapshots=texts,
    history=texts,
    thresholds=st.just({}),
    repeat=st.lists(texts, max_size=3).map(tuple),
    declared=st.lists(cells, max_size=4).map(tuple),
    selected=st.lists(cells, max_size=4).map(tuple),
    revision=st.none() | texts,
    problems=st.lists(st.builds(Problem, texts, texts), max_size=3).map(tuple),
    ended=st.none() | st.builds(Ending, texts, st.integers(0, 9), st.integers(0, 9), texts),
)

RECORD = run_record(DEFAULT.parent / "run", [sample_result([1.0])])


@given(records, tables)
def test_a_run_file_comes_back(tmp_path_factory, record, table):
    """A run file is read as it was written, and its thresholds are the same table again."""
    folder = tmp_path_factory.mktemp("run")
    record = replace(record, thresholds=table.content())
    record.write(folder)
    found = RunRecord.read(folder)
    assert ThresholdTable.of_content(found.thresholds) == table
    assert replace(found, thresholds={}) == replace(record, thresholds={})


def test_the_default_thresholds_come_back(tmp_path):
    """The thresholds that a run is judged by without a word are those that its run file tells."""
    table = load_thresholds(DEFAULT, ["m2a"], ["vt"]).asked(64, 886)
    replace(RECORD, thresholds=table.content()).write(tmp_path)
    assert ThresholdTable.of_content(RunRecord.read(tmp_path).thresholds) == table


def test_a_run_file_has_a_line_for_each_field(tmp_path):
    """A run file can be read by a person: one field a line, and cells as the values of their axes."""
    RECORD.write(tmp_path)
    lines = (tmp_path / RUN_FILE).read_text(encoding="utf-8").splitlines()
    content = json.loads("\n".join(lines))
    assert len(lines) == len(content) + 2
    assert content["axes"] == ["model", "task", "length", "depth"]
    assert content["declared"] == [["m2a", "niah_single_1", 256, None]]


def test_text_that_is_no_unicode_costs_no_night(tmp_path):
    """Half a surrogate pair, as of a path in another encoding or a server's answer, is a question mark in the file."""
    problem = Problem("m2a-vt-256", "answered \ud83d, naïve 答")
    replace(RECORD, command="pytest caf\udce9", problems=(problem,)).begin(tmp_path)
    found = RunRecord.read(tmp_path)
    assert (found.command, found.problems) == ("pytest caf?", (Problem("m2a-vt-256", "answered ?, naïve 答"),))


def test_a_folder_without_one_has_no_run(tmp_path):
    """A folder that has no run file, or is not there, has none to read."""
    assert RunRecord.read(tmp_path) is None
    assert RunRecord.read(tmp_path / "missing") is None


def test_a_folder_holds_one_run(tmp_path):
    """A second run is refused in one line that names the first and both ways out, and the first one's file stays."""
    RECORD.begin(tmp_path)
    before = (tmp_path / RUN_FILE).read_bytes()
    with pytest.raises(RunFileError) as refusal:
        replace(RECORD, id="another").begin(tmp_path)
    assert str(refusal.value) == (
        f"{tmp_path} holds the run {RECORD.id} already; name another folder, or remove this one"
    )
    assert (tmp_path / RUN_FILE).read_bytes() == before


def test_a_folder_of_an_earlier_version_is_refused(tmp_path):
    """Results without a run file are a run too, and so is a run file that cannot be read."""
    ResultFolder(tmp_path / "old").write(sample_result([1.0]))
    with pytest.raises(RunFileError, match="holds a run of an earlier version already; name another folder"):
        RECORD.begin(tmp_path / "old")
    (tmp_path / RUN_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(RunFileError, match="holds another run already; name another folder"):
        RECORD.begin(tmp_path)


def test_of_runs_that_begin_at_once_one_wins(tmp_path):
    """However many runs begin in one folder at the same moment, exactly one of them has it."""
    for turn in range(25):
        folder = tmp_path / str(turn)
        racers = [replace(RECORD, id=f"run-{number}") for number in range(4)]
        start, won, refused = threading.Barrier(len(racers)), [], []

        def race(record, folder=folder, start=start, won=won, refused=refused):
            start.wait()
            try:
                record.begin(folder)
                won.append(record)
            except RunFileError:
                refused.append(record)

        threads = [threading.Thread(target=race, args=(record,)) for record in racers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert len(refused) == len(racers) - 1
        assert RunRecord.read(folder).id == won[0].id
        assert [path.name for path in folder.iterdir()] == [RUN_FILE]


def _content(**changes):
    def damage(whole: bytes) -> bytes:
        return json.dumps({**json.loads(whole), **changes}).encode()

    return damage


def _without(name):
    def damage(whole: bytes) -> bytes:
        return json.dumps({key: value for key, value in json.loads(whole).items() if key != name}).encode()

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        *(
            lambda _, text=text: text
            for text in (b"", b"{", b"null", b"5", b"[]", b"{}", b"\xff\xfe", b'{"schema": 2}')
        ),
        lambda _: b"[" * 100_000,
        lambda _: b'{"schema": 1, "axes": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        _content(thresholds=5),
        _content(declared=5),
        _content(declared=[["m2a", "vt"]]),
        _content(declared=[["m2a", "vt", "256", None]]),
        _content(selected=[5]),
        _content(axes=["model"]),
        _content(axes=5),
        _content(axes=["model", "task", "length", "width"]),
        _content(purpose="something"),
        _content(problems=[{"name": "x"}]),
        _content(ended={"at": "x"}),
        _content(started=5),
        *map(_without, ("schema", "axes", "id", "zoo", "purpose", "thresholds", "declared", "selected", "started")),
    ],
)
def test_a_damaged_run_file_is_refused(tmp_path, damage):
    """A run file that is damaged in any way, or of another schema, is refused in one line that names it."""
    RECORD.write(tmp_path)
    path = tmp_path / RUN_FILE
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunFileError) as refusal:
        RunRecord.read(tmp_path)
    assert str(path) in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


@given(st.data())
def test_a_run_file_cut_short_is_refused(tmp_path_factory, data):
    """A run file cut short anywhere is refused; only the last line end may be missing."""
    folder = tmp_path_factory.mktemp("run")
    RECORD.write(folder)
    path = folder / RUN_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 2))])
    with pytest.raises(RunFileError, match=r"run\.json"):
        RunRecord.read(folder)


def test_the_first_problem_of_a_cell_stays():
    """Of several problems of one cell the first is kept, in one run and over several."""
    one, other, again = Problem("a", "first"), Problem("b", "second"), Problem("a", "third")
    record = RECORD.with_problem(one).with_problem(other).with_problem(again)
    assert record.problems == (one, other)
    assert merged_problems([record, replace(RECORD, problems=(again,))]) == (one, other)


def test_an_ending_says_what_cut_the_run():
    """A run that ended by itself is whole; one that was cut says by what, and after how many cells."""
    whole, cut = Ending("now", 20, 20), Ending("now", 2, 20, "SIGTERM")
    assert (whole.whole, str(whole)) == (True, "whole, 20 of 20 cells")
    assert (cut.whole, str(cut)) == (False, "interrupted by SIGTERM after 2 of 20 cells")


def test_ids_sort_by_time_and_do_not_collide():
    """Ids of one second differ, ids of later seconds sort behind, and each is fit for the name of a folder."""
    now = 1_800_000_000
    same = [new_run_id(now) for _ in range(200)]
    assert len(set(same)) == 200
    assert max(same) < min(new_run_id(now + 1) for _ in range(200))
    assert all(each.replace("-", "").isalnum() for each in same)
