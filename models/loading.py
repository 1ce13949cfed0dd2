"""From a card to a model that decodes."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from generators.tokenization import Tokenizer, TokenizerError, load_tokenizer
from models.checkpoints import CheckpointError, load_state_spaces, weights_fingerprint
from models.decoding import Decoder

if TYPE_CHECKING:
    from zoo.cards import Card

__all__ = ["FAMILIES", "LoadedModel", "load"]

FAMILIES: Mapping[str, Callable[[Path, torch.device, torch.dtype], Decoder[Any]]] = {
    "state-spaces": load_state_spaces,
}

_VERSIONS = ("torch", "transformers", "tokenizers", "mamba-ssm", "causal-conv1d", "flash-linear-attention")
_CHECKPOINT_FILES = ("config.json", "pytorch_model.bin", "model.safetensors")


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        card: What it was loaded from.
        decoder: The model.
        tokenizer: Its tokenizer.
        environment: What may change its answers: versions, device, dtype, fingerprints.
    """

    card: Card
    decoder: Decoder[Any]
    tokenizer: Tokenizer
    environment: Mapping[str, Any]


def load(card: Card, folder: Path, device: str) -> LoadedModel:
    """Loads the model of a card.

    Args:
        card: The card.
        folder: What the card's paths are relative to.
        device: As torch names it.

    Raises:
        CheckpointError: The checkpoint or tokenizer is missing, damaged or of another kind.
    """
    if card.family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise CheckpointError(f"model {card.name}: unknown family {card.family!r}; there are {known}")
    directory = _checkpoint_directory(card, folder)
    try:
        tokenizer = load_tokenizer(
            _tokenizer_file(card, folder),
            end_of_sequence=card.end_of_sequence,
            beginning_of_sequence=card.beginning_of_sequence,
        )
    except TokenizerError as error:
        raise CheckpointError(f"model {card.name}: {error}") from None
    dtype = _dtype(card, device)
    decoder = FAMILIES[card.family](directory, torch.device(device), dtype)
    environment = {
        "weights": weights_fingerprint(directory)[:16],
        "revision": directory.name if card.hub else None,
        "tokenizer": tokenizer.fingerprint[:16],
        "device": _device_name(device),
        "dtype": str(dtype).removeprefix("torch."),
        "python": platform.python_version(),
        **{name: _version(name) for name in _VERSIONS},
        "cuda": torch.version.cuda,
    }
    return LoadedModel(card, decoder, tokenizer, environment)


def _checkpoint_directory(card: Card, folder: Path) -> Path:
    if card.path is not None:
        return folder / card.path
    return _downloaded(card, str(card.hub), card.revision, _CHECKPOINT_FILES)


def _tokenizer_file(card: Card, folder: Path) -> Path:
    local = folder / card.tokenizer
    if local.suffix == ".json":
        return local
    return _downloaded(card, card.tokenizer, None, ("tokenizer.json",)) / "tokenizer.json"


def _downloaded(card: Card, hub_id: str, revision: str | None, files: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(files)))
    except GatedRepoError:
        reason = f"{hub_id} is gated: accept its terms on the hub, then run `hf auth login`"
    except LocalEntryNotFoundError:
        reason = f"{hub_id} is not in the cache and the hub cannot be reached: connect once, or use --zoo pocket"
    except (HfHubHTTPError, OSError) as error:
        reason = f"{hub_id} could not be downloaded: {str(error).splitlines()[0]}"
    raise CheckpointError(f"model {card.name}: {reason}")


def _dtype(card: Card, device: str) -> torch.dtype:
    if card.dtype == "auto":
        return torch.bfloat16 if device.startswith("cuda") else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[card.dtype]


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
