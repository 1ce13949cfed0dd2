"""Checkpoints on disk: written and read again by us and by transformers, and changed for the worse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from models.checkpoints.errors import CheckpointError
from suites.support.tiny_models import difference, random_ids

__all__ = ["casts", "change", "is_read_back", "refused", "transformers_reads"]


def change(directory: Path, **fields: Any) -> None:
    """Replaces fields of `config.json`."""
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def refused(load: Callable[[Path], object], directory: Path) -> str:
    """The message of the error that loading must raise: one paragraph that names the checkpoint."""
    with pytest.raises(CheckpointError) as caught:
        load(directory)
    message = str(caught.value)
    assert "\n" not in message
    assert str(directory) in message
    return message


def is_read_back(directory: Path, made: Any, write: Callable[..., None], load: Callable[[Path], Any]) -> Any:
    """Asserts that a model written and loaded gives bit for bit the same logits, ready for inference; returns it."""
    write(directory, made, torch.float32)
    loaded = load(directory)
    assert type(loaded) is type(made)
    assert torch.equal(loaded(random_ids(2, 20)), made(random_ids(2, 20)))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.configuration == made.configuration
    return loaded


def casts(directory: Path, made: nn.Module, write: Callable[..., None], load: Callable[..., nn.Module]) -> None:
    """Asserts that weights are cast to what is asked for, and written in bfloat16 if nothing is said.

    Args:
        directory: Of a checkpoint in float32.
        made: A model to write there.
        write: The writer of its family.
        load: The loader of its family, given directory, device and dtype.
    """
    loaded = load(directory, torch.device("cpu"), torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    write(directory, made)
    assert {tensor.dtype for tensor in load_file(directory / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((directory / "config.json").read_text())["torch_dtype"] == "bfloat16"


def transformers_reads(directory: Path, made: Any, write: Callable[..., None], name: str, tolerance: float) -> None:
    """Asserts that transformers loads a written directory as its own class of this name, with the same logits."""
    from transformers import AutoModelForCausalLM

    write(directory, made, torch.float32)
    model, report = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
    assert type(model).__name__ == name
    assert not any(report[each] for each in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.inference_mode():
        expected = model.eval()(random_ids(1, 40), use_cache=False).logits
    assert difference(made(random_ids(1, 40)), expected) < tolerance
