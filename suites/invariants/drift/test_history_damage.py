"""A history in trouble: damage of any form is set aside and said in one line, and nothing else comes out."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace

import pytest

from drift.__main__ import main
from drift.records.history import History, HistoryError, Run
from drift.statistics.outcomes import Outcome
from suites.support.sample_histories import RUN, add_night, unsynchronized
from suites.support.sample_results import sample_result

__all__ = ["unsynchronized"]

DAMAGES, PARTS = 400, 4
PAGE = 4096
FELL = sample_result([0.0] * 20)


# Eight runs of ever more cells, a few pages of each table.
RUNS = 6
CELLS = sum(10 * run for run in range(1, RUNS + 1))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A history of some runs; made once, copied by whoever wants to damage it."""
    path = tmp_path_factory.mktemp("whole") / "history.sqlite"
    for day in range(1, RUNS + 1):
        add_night(path, {256: 20}, day=day, environment={"driver": day, "weights": "0" * 300})
    with closing(sqlite3.connect(path)) as connection, connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(cells)")]
        longer = ", ".join("length + n" if name == "length" else name for name in names)
        connection.execute(
            f"WITH RECURSIVE more (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM more WHERE n < {10 * RUNS} - 1) "
            f"INSERT INTO cells SELECT {longer} FROM cells, more WHERE n < 10 * run ORDER BY run, n"
        )
    return path


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of its own for a test."""
    return shutil.copy(whole, tmp_path / "history.sqlite")


def _page(chance, content):
    return PAGE * chance.randrange(len(content) // PAGE)


def _flipped_bytes(chance, content):
    for _ in range(chance.choice([1, 2, 10, 200])):
        # Half of them in the header and in the schema, where they hurt in other ways.
        content[chance.randrange(chance.choice([100, PAGE, len(content), len(content)]))] ^= chance.randrange(1, 256)


def _truncated(chance, content):
    del content[chance.choice([chance.randrange(PAGE), chance.randrange(len(content)), _page(chance, content)]) :]


def _zeroed_pages(chance, content):
    for _ in range(chance.randint(1, 3)):
        start = _page(chance, content)
        content[start : start + PAGE] = bytes(PAGE)


def _random_page(chance, content):
    start = _page(chance, content)
    content[start : start + PAGE] = chance.randbytes(PAGE)


def _swapped_pages(chance, content):
    a, b = _page(chance, content), _page(chance, content)
    content[a : a + PAGE], content[b : b + PAGE] = content[b : b + PAGE], content[a : a + PAGE]


def _garbage_behind(chance, content):
    content += chance.randbytes(chance.choice([1, 100, PAGE, 3 * PAGE]))


def _wrong_cells(chance, connection):
    table = chance.choice(["cells", "cells", "runs", "environments"])
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    values = ["'nonsense'", "x'ff00fe'", "CAST(x'ff41fe' AS TEXT)", "-1", "1e999", "9223372036854775807", "''", "0.5"]
    values += ["'" + "[" * 100_000 + "'", "'{\"a\": 1}'", "'2026-13-45T99:00:00Z'"]
    column, value = chance.choice(columns), chance.choice(values)
    # Some values are refused for some columns; such a history stays whole.
    with suppress(sqlite3.IntegrityError):
        connection.execute(f"UPDATE OR IGNORE {table} SET {column} = {value} WHERE rowid = {chance.randint(1, RUNS)}")


def _other_schema(chance, connection):
    name, kind = chance.choice(
        [("runs", "TABLE"), ("cells", "TABLE"), ("environments", "TABLE"), ("cell_of_run", "INDEX")]
    )
    connection.execute(f"DROP {kind} {name}")
    if kind == "TABLE" and chance.random() < 0.5:
        connection.execute(f"CREATE TABLE {name} (run, other)")


def _rewritten_schema(chance, connection):
    connection.execute("PRAGMA writable_schema = ON")
    old, new = chance.choice(
        [("TEXT", "BLOB"), ("INTEGER", "TEXT"), ("cells", "cell"), ("(", "(("), ("depth", "d\udcff")]
    )
    connection.execute("UPDATE sqlite_master SET sql = replace(sql, ?, ?)", (old, new.encode("utf-8", "replace")))


OF_BYTES = [_flipped_bytes, _truncated, _zeroed_pages, _random_page, _swapped_pages, _garbage_behind]
OF_CONTENT = [_wrong_cells, _wrong_cells, _other_schema, _rewritten_schema]


def _damage(path, chance):
    way = chance.choice([*OF_BYTES, _flipped_bytes, *OF_CONTENT])
    if way in OF_BYTES:
        content = bytearray(path.read_bytes())
        way(chance, content)
        path.write_bytes(content)
    else:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            way(chance, connection)


def _set_aside(folder):
    return sorted(folder.glob("history-set-aside-*"))


def _read(history):
    entries = history.entries("m2a")
    for name in {entry.environment for entry in entries}:
        history.environment(name)
    history.names("task")
    return entries


def _said_by_a_reader(path):
    """The error that reading ends in; the path where there is none."""
    try:
        with closing(History.read_from(path)) as reader:
            _read(reader)
    except HistoryError as error:
        return str(error)
    return str(path)


@pytest.mark.parametrize("part", range(PARTS))
def test_damage_of_any_form_is_set_aside(whole, tmp_path, part):
    """However a history is damaged, it can be added to and read, and the damaged file is kept to the byte."""
    for seed in range(part, DAMAGES, PARTS):
        path = shutil.copy(whole, tmp_path / "history.sqlite")
        _damage(path, random.Random(seed))
        damaged = path.read_bytes()
        said = _said_by_a_reader(path)
        assert str(path) in said, seed
        assert "\n" not in said, seed
        assert path.read_bytes() == damaged, seed
        with closing(History.append_to(path)[0]) as history:
            aside = _set_aside(tmp_path)
            assert len(history.notices) == len(aside), seed
            for notice, file in zip(history.notices, aside, strict=True):
                assert file.name in notice
                assert "\n" not in notice
                assert file.read_bytes() == damaged, seed
            before = len(_read(history))
            history.add(history.begin(RUN), FELL, Outcome.REGRESSED, before=100.0, baseline=None)
            assert len(_read(history)) == before + 1, seed
            assert _set_aside(tmp_path) == aside, seed
        for file in tmp_path.iterdir():
            file.unlink()


@pytest.mark.parametrize("seed", range(40))
def test_damage_that_is_met_later_is_set_aside_too(copy, seed):
    """A history that is damaged while it is open goes on in a new file, with the run that was begun."""
    with closing(History.append_to(copy)[0]) as history:
        run = history.begin(RUN)
        history.add(run, FELL, Outcome.REGRESSED, before=100.0, baseline=None)
        _damage(copy, random.Random(seed))
        for length in range(3):
            result = replace(FELL, length=length)
            history.add(run, result, Outcome.REGRESSED, before=100.0, baseline=None)
        found_so_far = len(history.notices)
        added = [entry for entry in history.entries("m2a") if entry.length in range(3) and entry.started == RUN.started]
        # Damage that only reading meets takes with it what was added.
        assert len(added) == (3 if len(history.notices) == found_so_far else 0)
        history.add(run, replace(FELL, length=3), Outcome.REGRESSED, before=100.0, baseline=None)
        (last,) = (entry for entry in history.entries("m2a") if entry.length == 3)
        assert (last.started, last.results) == (RUN.started, RUN.results)
        assert len(history.notices) == len(_set_aside(copy.parent)) <= 1


def test_a_file_that_is_gone_begins_again(copy):
    """A history that somebody removes while it is open is begun again, with the run that was begun."""
    with closing(History.append_to(copy)[0]) as history:
        run = history.begin(RUN)
        copy.unlink()
        history.add(run, FELL, Outcome.REGRESSED, before=100.0, baseline=None)
        other = history.begin(Run("2026-11-25T03:00:00Z", "/results/other"))
        history.add(other, FELL, Outcome.PASSED, before=100.0, baseline=None)
        history.add(run, replace(FELL, length=512), Outcome.REGRESSED, before=100.0, baseline=None)
        found = [(entry.results, entry.length) for entry in history.entries("m2a")]
    assert sorted(found) == [("/results/other", 256), (RUN.results, 256), (RUN.results, 512)]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("PRAGMA user_version = 2", "has schema 2, this version of longwatch reads 1"),
        ("PRAGMA application_id = 0", "is a database, but no history of longwatch"),
        ("DROP TABLE runs", "is damaged: runs is missing, or not as it was made"),
        ("UPDATE cells SET outcome = 'pazzed'", "is damaged: 'pazzed' is not a valid Outcome"),
        ("UPDATE cells SET examples = 0", "is damaged: examples is 0"),
        ("UPDATE runs SET started = 'Monday'", "is damaged: Invalid isoformat string: 'Monday'"),
        ("UPDATE environments SET content = '{}'", "is not as it was written"),
        ("DELETE FROM runs", "of cells has lost what it refers to in runs"),
        (None, "is damaged: file is not a database"),
    ],
)
def test_an_unusable_history_is_set_aside(copy, spoil, reason):
    """The reason is said in one line, the content stays as it is, and a second file takes no other's name."""
    for count in (1, 2):
        add_night(copy, {256: 20}, environment={"driver": 1})
        if spoil is None:
            copy.write_bytes(b"not a database at all\n" * 100 * count)
        else:
            with closing(sqlite3.connect(copy)) as connection, connection:
                connection.execute(spoil)
        content = copy.read_bytes()
        history, notice = History.append_to(copy)
        assert reason in notice
        assert history.begin(RUN) == 1
        history.close()
        assert len(_set_aside(copy.parent)) == count
        assert sum(file.read_bytes() == content for file in _set_aside(copy.parent)) == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("UPDATE cells SET accuracy = 1e9", "cannot be read: 1000000000.0 is no accuracy"),
        ("UPDATE cells SET model = CAST(x'ff' AS TEXT)", "cannot be read: Could not decode to UTF-8 column"),
        ("DROP TABLE cells", "is damaged: cells is missing, or not as it was made"),
        ("PRAGMA user_version = 2", "has schema 2"),
    ],
)
def test_the_command_says_damage_in_one_line(copy, capsys, spoil, message):
    """`python -m drift history` of a damaged file ends in one line with status 2, and leaves the file as it is."""
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute(spoil)
    content = copy.read_bytes()
    assert main(["history", "--model=m2a", f"--database={copy}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: the history {copy} ")
    assert message in line
    assert copy.read_bytes() == content
    assert [file.name for file in copy.parent.iterdir()] == ["history.sqlite"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"length": 2**70}, "too large"),
        ({"model": "\udcff"}, "surrogates"),
        ({"scores": (float("nan"),)}, "NOT NULL"),
        ({"scores": (7.0,)}, "is no accuracy"),
        ({"environment": {"a": object()}}, "not JSON serializable"),
        ({"environment": [1]}, "is not as it was written"),
    ],
)
def test_a_value_that_cannot_be_kept_is_no_damage(copy, change, reason):
    """What is no value for a database is refused in one line; the history stays, and takes the next cell."""
    with closing(History.append_to(copy)[0]) as history:
        run = history.begin(RUN)
        entries = history.entries("m2a")
        with pytest.raises(HistoryError, match=rf"the history .* cannot be written: .*{reason}"):
            history.add(run, replace(FELL, **change), Outcome.PASSED, before=None, baseline=None)
        history.add(run, FELL, Outcome.PASSED, before=None, baseline=None)
        assert len(history.entries("m2a")) == len(entries) + 1
        assert not history.notices


def test_a_history_that_cannot_be_made(tmp_path):
    """Where no file can be made the error names it, and a missing one is not made by reading."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HistoryError, match=r"history\.sqlite cannot be written"):
        History.append_to(tmp_path / "file" / "history.sqlite")
    with pytest.raises(HistoryError, match="there is no history at"):
        History.read_from(tmp_path / "history.sqlite")
    with pytest.raises(HistoryError, match="cannot be written"):
        History.append_to(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_busy_history_is_no_damaged_one(copy, monkeypatch):
    """A history that another run holds for too long is an error, and stays where it is."""
    monkeypatch.setattr("drift.records.history_file._PATIENCE_SECONDS", 0)
    open_already, _ = History.append_to(copy)
    run = open_already.begin(RUN)
    with closing(sqlite3.connect(copy)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        for use in (
            lambda: History.append_to(copy),
            lambda: History.read_from(copy),
            lambda: open_already.add(run, FELL, Outcome.PASSED, before=None, baseline=None),
            lambda: open_already.entries("m2a"),
        ):
            with pytest.raises(HistoryError, match="locked"):
                use()
        holder.rollback()
    open_already.add(run, FELL, Outcome.PASSED, before=None, baseline=None)
    open_already.close()
    assert not _set_aside(copy.parent)


def test_a_full_disk_is_no_damage(copy):
    """Where there is no room for another cell the file stays as it is."""
    with closing(History.append_to(copy)[0]) as history:
        run = history.begin(RUN)
        count = len(history.entries("m2a"))
        history._file._connection.execute("PRAGMA max_page_count = 1")
        large = replace(FELL, environment={"long": "0" * 10 * PAGE})
        with pytest.raises(HistoryError, match="full"):
            history.add(run, large, Outcome.PASSED, before=None, baseline=None)
        assert len(history.entries("m2a")) == count
        assert not history.notices


def test_reading_through_takes_bounded_time(copy, monkeypatch):
    """A history too long to be read through in time is used as far as it was read."""
    monkeypatch.setattr("drift.records.history_file._READING_SECONDS", 0)
    monkeypatch.setattr("drift.records.history_file._INSTRUCTIONS_BETWEEN_LOOKS", 10)
    with closing(History.append_to(copy)[0]) as history:
        assert not history.notices
        assert len(history.entries("m2a")) == CELLS
