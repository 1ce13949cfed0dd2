"""How a run ends where several things hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.exit_statuses import ExitStatus, first_of


@given(st.lists(st.sampled_from(ExitStatus)))
def test_the_first_of_several_is_the_documented_one(statuses):
    """Where several hold, the first of 4, 3, 1, 2, 6, 7, 5 is the status; where none does, it is 0."""
    assert first_of(statuses) == next((each for each in (4, 3, 1, 2, 6, 7, 5) if each in statuses), 0)


def test_what_pytest_ends_with_keeps_its_number():
    """The first six mean here what they mean to pytest, and no two statuses share a number."""
    first = [each for each in pytest.ExitCode if each <= pytest.ExitCode.NO_TESTS_COLLECTED]
    assert {ExitStatus(int(each)): each for each in first} == {
        ExitStatus.QUIET: pytest.ExitCode.OK,
        ExitStatus.SHIFTED: pytest.ExitCode.TESTS_FAILED,
        ExitStatus.INCOMPLETE: pytest.ExitCode.INTERRUPTED,
        ExitStatus.INTERNAL_ERROR: pytest.ExitCode.INTERNAL_ERROR,
        ExitStatus.UNUSABLE: pytest.ExitCode.USAGE_ERROR,
        ExitStatus.NOTHING_SELECTED: pytest.ExitCode.NO_TESTS_COLLECTED,
    }
    assert sorted(map(int, ExitStatus)) == list(range(8))
