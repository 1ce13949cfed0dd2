"""Every other sweep of a zoo's file, as `test_<sweep>`: whatever a zoo declares is run."""

import pytest


@pytest.mark.gpu
@pytest.mark.sweep("*")
def test_sweep(cell_result, accuracy_snapshot):
    """The accuracy of one cell of a sweep that has no suite of its own has not shifted from its accepted snapshot."""
    assert cell_result == accuracy_snapshot
