"""A pytest plugin (`-p`) that notes each load of a model, and how many earlier ones live, in the file `LOAD_LOG`."""

from __future__ import annotations

import os
import weakref
from pathlib import Path


def pytest_collection_finish() -> None:
    """Wraps the loader once collection is over: collecting imports no torch."""
    import models.loading

    load = models.loading.load
    decoders = weakref.WeakSet()

    def noted(card, *others):
        with Path(os.environ["LOAD_LOG"]).open("a", encoding="utf-8") as file:
            file.write(f"{card.name} {len(decoders)}\n")
        loaded = load(card, *others)
        decoders.add(loaded.decoder)
        return loaded

    models.loading.load = noted
