"""The picture of a training run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

__all__ = ["CURVE", "draw_curve"]

# The file beside a finished checkpoint.
CURVE: Final = "training.png"


def draw_curve(log: Path, picture: Path) -> None:
    """Draws loss and accuracy on answers over the steps.

    Args:
        log: The run's `log.jsonl`.
        picture: The PNG file to write.
    """
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps = [line["step"] for line in lines]
    figure = Figure(figsize=(8, 4), layout="constrained")
    losses = figure.add_subplot()
    losses.plot(steps, [line["loss"] for line in lines], color="tab:blue")
    losses.set(xlabel="step", yscale="log")
    losses.set_ylabel("loss on answers (nats a token)", color="tab:blue")
    accuracies = losses.twinx()
    accuracies.plot(steps, [line["accuracy"] for line in lines], color="tab:orange")
    accuracies.set(ylim=(0, 100))
    accuracies.set_ylabel("answer tokens predicted (%)", color="tab:orange")
    figure.savefig(picture, dpi=80)
