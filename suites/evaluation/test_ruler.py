"""RULER's tasks by length (the paper's Table 1 and appendix C)."""

import pytest


@pytest.mark.gpu
@pytest.mark.sweep("ruler")
def test_ruler(cell_result, accuracy_snapshot):
    """The accuracy of one RULER cell has not shifted from its accepted snapshot."""
    assert cell_result == accuracy_snapshot
