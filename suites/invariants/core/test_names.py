"""Names: what can be a path and a test's id, and what is said of others."""

from __future__ import annotations

import os
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.names import LONGEST_NAME, InvalidName, check_name, check_names, unknown_name
from suites.support.odd_names import ODD_NAMES


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_name_is_refused_in_one_line(name):
    """A name that is no file's on every system, or confuses ids, is refused in one short line."""
    with pytest.raises(InvalidName) as refusal:
        check_name("model", name)
    assert str(refusal.value).startswith("the name of a model ")
    assert len(str(refusal.value).splitlines()) == 1
    assert len(str(refusal.value)) < 300


@given(st.one_of(st.text(max_size=LONGEST_NAME + 2), st.from_regex(r"[A-Za-z0-9._-]{0,66}", fullmatch=True)))
def test_an_accepted_name_is_a_file_s_everywhere(name):
    """What is accepted is one plain part of a path, also on Windows, and needs no quotes in a shell."""
    try:
        check_name("model", name)
    except InvalidName:
        assume(False)
    assert PurePosixPath("folder", name).parts == PureWindowsPath("folder", name).parts == ("folder", name)
    assert name.rstrip(". ") == name
    assert not os.path.isreserved(name) if hasattr(os.path, "isreserved") else not PureWindowsPath(name).is_reserved()
    assert name.isascii()
    assert 1 <= len(name) <= LONGEST_NAME
    assert not set(name) & set("[]/\\:*?\"<>|$&; '`\n\t")


@given(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True))
def test_plain_names_are_accepted(name):
    """Letters, digits, '_' and '-' make a name, unless it is a device's."""
    assume(not PureWindowsPath(name).is_reserved())
    check_name("model", name)


@pytest.mark.parametrize("names", [["a", "A"], ["m2a", "tpp", "M2a"], ["x.y", "X.Y"]])
def test_names_that_differ_in_capital_letters_are_refused(names):
    """Two names that a file system may take for one are both named."""
    with pytest.raises(InvalidName, match=rf"the models {names[0]} and {names[-1]} differ in capital letters alone"):
        check_names("model", names)
    check_names("model", names[:-1])


@pytest.mark.parametrize(
    ("given_name", "valid", "said"),
    [
        ("mamba", ["mamba2", "m2a"], "unknown model mamba (did you mean mamba2?); there are mamba2, m2a"),
        ("1000", ["256", "1024", "4096"], "unknown model 1000 (did you mean 1024?); there are 256, 1024, 4096"),
        ("5", ["0", "50", "100"], "unknown model 5 (did you mean 50?); there are 0, 50, 100"),
        ("7", ["0", "50", "100"], "unknown model 7 (did you mean 0?); there are 0, 50, 100"),
        ("zzz", ["mamba2", "m2a"], "unknown model zzz; there are mamba2, m2a"),
        ("7", ["mamba2"], "unknown model 7; there are mamba2"),
    ],
)
def test_unknown_names(given_name, valid, said):
    """A name that does not exist is answered with the nearest by spelling, or by value, and with all that do."""
    assert unknown_name("model", given_name, valid) == said


@pytest.mark.parametrize("given_name", ["50", "middle"])
def test_unknown_names_where_there_are_none(given_name):
    """Where no name exists at all, the answer is still a sentence that holds the name given."""
    assert f"unknown depth {given_name}" in unknown_name("depth", given_name, [])
