"""The accuracies that the paper printed: RULER's tasks (appendix C) and needles by format (Table 4)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from drift.statistics.unpaired import Proportion

__all__ = ["paper_accuracies"]

_FILE = Path(__file__).with_suffix(".json")


def paper_accuracies() -> Mapping[str, Mapping[str, Proportion]]:
    """By the card of the paper zoo and the key of the cell.

    The paper's Tables 2 and 3 average three formats, so they are no cells and are left out.
    """
    given = json.loads(_FILE.read_text(encoding="utf-8"))
    return {
        model: {key: Proportion(accuracy, given["samples"]) for key, accuracy in cells.items()}
        for model, cells in given["models"].items()
    }
