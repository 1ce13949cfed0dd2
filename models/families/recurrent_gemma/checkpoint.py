"""RecurrentGemma checkpoints as they are published: read, checked against the model, written."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from models.checkpoints.errors import CheckpointError, ConfigurationError
from models.checkpoints.files import (
    check_tensors,
    read_configuration,
    read_tensors,
    take_tied_output,
    write_safetensors,
)
from models.families.recurrent_gemma.configuration import RecurrentGemmaConfiguration
from models.families.recurrent_gemma.model import RecurrentGemmaModel

__all__ = ["load_recurrent_gemma", "write_recurrent_gemma"]

_EMBEDDING: Final = "model.embed_tokens.weight"
_OUTPUT: Final = "lm_head.weight"


def load_recurrent_gemma(directory: Path, device: torch.device, dtype: torch.dtype) -> RecurrentGemmaModel:
    """Loads a checkpoint of the RecurrentGemma family.

    Args:
        directory: Holds `config.json` and the weights: `model.safetensors`, `pytorch_model.bin`, or
            `model.safetensors.index.json` with the files it names.
        device: Where the model goes.
        dtype: What its weights are cast to.

    Raises:
        CheckpointError: A file is missing or damaged, the configuration is not this family's, or
            tensors are missing, left over or of another shape.
    """
    try:
        configuration = RecurrentGemmaConfiguration.from_json(read_configuration(directory))
    except ConfigurationError as error:
        raise CheckpointError(f"checkpoint {directory}: {error}") from None
    tensors = read_tensors(directory)
    take_tied_output(directory, tensors, _OUTPUT, _EMBEDDING)
    with torch.device("meta"):
        model = RecurrentGemmaModel(configuration)
    check_tensors(directory, model.state_dict(), tensors)
    model.load_state_dict({key: tensor.to(device, dtype) for key, tensor in tensors.items()}, assign=True)
    return model.eval().requires_grad_(False)


def write_recurrent_gemma(directory: Path, model: RecurrentGemmaModel, dtype: torch.dtype = torch.bfloat16) -> None:
    """Writes a model as the RecurrentGemma checkpoints are published, in one safetensors file."""
    write_safetensors(directory, model.state_dict(), model.configuration.to_json(), dtype)
