"""RWKV-6 checkpoints as they are published: read, checked against the model, written."""

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
from models.families.rwkv6.configuration import Rwkv6Configuration
from models.families.rwkv6.model import Rwkv6Model

__all__ = ["load_rwkv6", "write_rwkv6"]

_EMBEDDING: Final = "rwkv.embeddings.weight"
_OUTPUT: Final = "head.weight"


def load_rwkv6(directory: Path, device: torch.device, dtype: torch.dtype) -> Rwkv6Model:
    """Loads a checkpoint of the RWKV-6 family.

    Args:
        directory: Holds `config.json` and the weights: `model.safetensors`, `pytorch_model.bin`, or an
            index of either with the files it names.
        device: Where the model goes.
        dtype: What its weights are cast to.

    Raises:
        CheckpointError: A file is missing or damaged, the configuration is not this family's, or
            tensors are missing, left over or of another shape.
    """
    try:
        configuration = Rwkv6Configuration.from_json(read_configuration(directory))
    except ConfigurationError as error:
        raise CheckpointError(f"checkpoint {directory}: {error}") from None
    tensors = read_tensors(directory)
    with torch.device("meta"):
        model = Rwkv6Model(configuration)
    expected = model.state_dict()
    if configuration.tie_word_embeddings:
        del expected[_OUTPUT]
        take_tied_output(directory, tensors, _OUTPUT, _EMBEDDING)
    check_tensors(directory, expected, tensors)
    cast_tensors = {key: tensor.to(device, dtype) for key, tensor in tensors.items()}
    if configuration.tie_word_embeddings:
        cast_tensors[_OUTPUT] = cast_tensors[_EMBEDDING]
    model.load_state_dict(cast_tensors, assign=True)
    model.tie_weights()
    return model.eval().requires_grad_(False)


def write_rwkv6(directory: Path, model: Rwkv6Model, dtype: torch.dtype = torch.bfloat16) -> None:
    """Writes a model as the RWKV-6 checkpoints are published, in one safetensors file."""
    tensors = dict(model.state_dict())
    if model.configuration.tie_word_embeddings:
        del tensors[_OUTPUT]
    write_safetensors(directory, tensors, model.configuration.to_json(), dtype)
