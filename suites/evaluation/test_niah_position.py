"""A needle by its position in the haystack (the paper's Tables 2 and 3)."""

import pytest


@pytest.mark.gpu
@pytest.mark.sweep("niah_position")
def test_niah_position(cell_result, accuracy_snapshot):
    """The accuracy at one depth of the needle has not shifted from its accepted snapshot."""
    assert cell_result == accuracy_snapshot
