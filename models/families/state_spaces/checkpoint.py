"""Checkpoints of the state-spaces family as they are published: read, checked against the model, written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import torch

from models.checkpoints.errors import CheckpointError, ConfigurationError
from models.checkpoints.files import (
    CONFIGURATION_FILE,
    PICKLED_WEIGHTS_FILE,
    check_tensors,
    read_configuration,
    read_tensors,
    take_tied_output,
)
from models.families.state_spaces.configuration import StateSpacesConfiguration
from models.families.state_spaces.model import StateSpacesModel

__all__ = ["load_state_spaces", "write_state_spaces"]

_EMBEDDING: Final = "backbone.embedding.weight"
_OUTPUT: Final = "lm_head.weight"


def load_state_spaces(directory: Path, device: torch.device, dtype: torch.dtype) -> StateSpacesModel:
    """Loads a checkpoint of the state-spaces family.

    Args:
        directory: Holds `config.json` and `pytorch_model.bin` or `model.safetensors`.
        device: Where the model goes.
        dtype: What its weights are cast to.

    Raises:
        CheckpointError: A file is missing or damaged, the configuration is not this family's, or
            tensors are missing, left over or of another shape.
    """
    try:
        configuration = StateSpacesConfiguration.from_json(read_configuration(directory))
    except ConfigurationError as error:
        raise CheckpointError(f"checkpoint {directory}: {error}") from None
    tensors = read_tensors(directory)
    with torch.device("meta"):
        model = StateSpacesModel(configuration)
    expected = dict(model.state_dict())
    if configuration.tie_embeddings:
        # Some files leave the tied output layer out, others repeat the embedding.
        del expected[_OUTPUT]
        take_tied_output(directory, tensors, _OUTPUT, _EMBEDDING)
    check_tensors(directory, expected, tensors)
    own = {key: tensor.to(device, dtype) for key, tensor in tensors.items()}
    model.load_state_dict({_OUTPUT: own[_EMBEDDING], **own}, assign=True)
    model.tie_weights()
    return model.eval().requires_grad_(False)


def write_state_spaces(directory: Path, model: StateSpacesModel, dtype: torch.dtype = torch.float16) -> None:
    """Writes a model as the state-spaces checkpoints are published."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {key: tensor.detach().to("cpu", dtype) for key, tensor in model.state_dict().items()}
    if model.configuration.tie_embeddings:
        tensors[_OUTPUT] = tensors[_EMBEDDING]
    torch.save(tensors, directory / PICKLED_WEIGHTS_FILE)
    configuration = {name: getattr(model.configuration, name) for name in model.configuration.__dataclass_fields__}
    text = json.dumps(configuration, indent=4) + "\n"
    (directory / CONFIGURATION_FILE).write_text(text, encoding="utf-8")
