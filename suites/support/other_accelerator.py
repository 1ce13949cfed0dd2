"""A pytest plugin (`-p`): models run on the accelerator `ACCELERATOR`, where oracles see `WINDOW` tokens unsaid."""

from __future__ import annotations

import os
from dataclasses import replace


def pytest_collection_finish() -> None:
    """Wraps the loader once collection is over: collecting imports no torch."""
    import models.loading

    load = models.loading.load

    def elsewhere(card, *others):
        told = load(card, *others).environment
        loaded = load(replace(card, window=int(os.environ.get("WINDOW", 0)) or card.window), *others)
        return replace(loaded, environment={**told, "device": os.environ["ACCELERATOR"]})

    models.loading.load = elsewhere
