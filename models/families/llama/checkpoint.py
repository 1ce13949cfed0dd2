"""Llama checkpoints as they are published: read, checked against the model, written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from models.checkpoints.errors import CheckpointError, ConfigurationError
from models.checkpoints.files import (
    check_tensors,
    read_configuration,
    read_tensors,
    take_tied_output,
    write_safetensors,
)
from models.families.llama.configuration import ARCHITECTURE, MODEL_TYPE, LlamaConfiguration
from models.families.llama.model import LlamaModel

if TYPE_CHECKING:
    from models.families.transformers.model import TransformersModel

__all__ = ["load_llama", "published_tensors", "write_llama"]

_EMBEDDING: Final = "model.embed_tokens.weight"
_OUTPUT: Final = "lm_head.weight"
# Files of old repeat in every layer what the configuration says.
_FREQUENCIES: Final = "rotary_emb.inv_freq"
# What positions turn.
_TURNED: Final = ("q_proj", "k_proj")


def load_llama(directory: Path, device: torch.device, dtype: torch.dtype) -> LlamaModel | TransformersModel:
    """Loads a Llama checkpoint: into our own model, or into transformers' where it asks for more than ours has.

    Args:
        directory: Holds `config.json` and the weights: `model.safetensors`, `pytorch_model.bin`, or
            an index with the files it names.
        device: Where the model goes.
        dtype: What its weights are cast to.

    Raises:
        CheckpointError: It is of another architecture, a file is missing or damaged, the configuration makes
            no model, or tensors are missing, left over or of another shape.
    """
    given = read_configuration(directory)
    kind, classes = given.get("model_type"), given.get("architectures") or [ARCHITECTURE]
    if kind != MODEL_TYPE or classes != [ARCHITECTURE]:
        raise CheckpointError(
            f"checkpoint {directory}: model_type {kind!r} with architectures {classes} is not a Llama language "
            'model; family = "transformers" takes other architectures'
        )
    if not LlamaConfiguration.covers(given):
        from models.families.transformers.model import load_transformers

        return load_transformers(directory, device, dtype)
    try:
        configuration = LlamaConfiguration.from_json(given)
    except ConfigurationError as error:
        raise CheckpointError(f"checkpoint {directory}: {error}") from None
    tensors = {key: tensor for key, tensor in read_tensors(directory).items() if not key.endswith(_FREQUENCIES)}
    if configuration.tie_word_embeddings:
        take_tied_output(directory, tensors, _OUTPUT, _EMBEDDING)
    with torch.device("meta"):
        model = LlamaModel(configuration)
    check_tensors(directory, published_tensors(model), tensors)
    own: dict[str, Tensor] = {}
    for key in _own_keys(model):
        # One by one: no more than a layer's matrix is there twice.
        parts = [
            _beside(name, tensors.pop(name).to(device, dtype), configuration) for name in _parts(key, configuration)
        ]
        own[key] = torch.cat(parts) if len(parts) > 1 else parts[0]
    model.load_state_dict({_OUTPUT: own[_EMBEDDING], **own}, assign=True)
    model.tie_weights()
    return model.eval().requires_grad_(False)


def write_llama(directory: Path, model: LlamaModel, dtype: torch.dtype = torch.bfloat16) -> None:
    """Writes a model as the Llama checkpoints are published, in one safetensors file."""
    write_safetensors(directory, published_tensors(model), model.configuration.to_json(), dtype)


def published_tensors(model: LlamaModel) -> dict[str, Tensor]:
    """A model's tensors by their published keys, none of them twice."""
    c, own, published = model.configuration, model.state_dict(), dict[str, Tensor]()
    for key in _own_keys(model):
        sizes = _parts(key, c)
        parts = own[key].split(list(sizes.values())) if len(sizes) > 1 else [own[key]]
        published |= {name: _apart(name, part, c) for name, part in zip(sizes, parts, strict=True)}
    return published


def _own_keys(model: LlamaModel) -> list[str]:
    """The keys of a model's tensors, none of them twice."""
    tied = model.configuration.tie_word_embeddings
    return [key for key in model.state_dict() if not (tied and key == _OUTPUT)]


def _parts(key: str, configuration: LlamaConfiguration) -> dict[str, int]:
    """The published keys of what is one tensor of ours, in order, with the rows of each; of a single one, no rows."""
    c = configuration
    for joined, parts in (
        ("self_attn.in_proj", {"q_proj": c.query_width, "k_proj": c.key_width, "v_proj": c.key_width}),
        ("mlp.in_proj", {"gate_proj": c.intermediate_size, "up_proj": c.intermediate_size}),
    ):
        before, found, after = key.partition(f"{joined}.")
        if found:
            layer = joined.partition(".")[0]
            return {f"{before}{layer}.{part}.{after}": rows for part, rows in parts.items()}
    return {key: 0}


def _beside(key: str, tensor: Tensor, configuration: LlamaConfiguration) -> Tensor:
    """A published tensor with the rows beside each other that a position turns together."""
    if key.split(".")[-2] not in _TURNED:
        return tensor
    return tensor.unflatten(0, (-1, 2, configuration.head_dim // 2)).transpose(1, 2).flatten(0, 2)


def _apart(key: str, tensor: Tensor, configuration: LlamaConfiguration) -> Tensor:
    """The inverse: the published order, with such rows half a head apart."""
    if key.split(".")[-2] not in _TURNED:
        return tensor
    return tensor.unflatten(0, (-1, configuration.head_dim // 2, 2)).transpose(1, 2).flatten(0, 2)
