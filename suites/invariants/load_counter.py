"""A pytest plugin (`-p`) that notes each load of a model in the file named by `LOAD_LOG`."""

from __future__ import annotations

import os
from pathlib import Path


def pytest_collection_finish() -> None:
    """Wraps the loader once collection is over: collecting imports no torch."""
    import models.loading

    load = models.loading.load

    def noted(card, folder, device):
        with Path(os.environ["LOAD_LOG"]).open("a", encoding="utf-8") as file:
            file.write(f"{card.name}\n")
        return load(card, folder, device)

    models.loading.load = noted
