"""A needle by the format of haystack, key and value (the paper's Table 4)."""

import pytest


@pytest.mark.gpu
@pytest.mark.sweep("niah_format")
def test_niah_format(cell_result, accuracy_snapshot):
    """The accuracy in one format of needle and haystack has not shifted from its accepted snapshot."""
    assert cell_result == accuracy_snapshot
