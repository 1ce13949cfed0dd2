"""From a card to a model that decodes."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from generators.corpora.sets import Corpora
from generators.frames import Frame, FrameError, chat_frame, plain_frame, read_chat_template
from generators.tokenization import Tokenizer, TokenizerError, load_tokenizer
from models.checkpoints import CheckpointError, load_state_spaces, read_configuration, weights_fingerprint
from models.decoding import Decoder
from models.oracle import Oracle
from models.state_spaces import StateSpacesModel

if TYPE_CHECKING:
    from zoo.cards import Card

__all__ = ["FAMILIES", "ORACLE", "LoadedModel", "load"]


def _load_recurrent_gemma(directory: Path, device: torch.device, dtype: torch.dtype) -> Decoder[Any]:
    from models.recurrent_gemma import load_recurrent_gemma

    return load_recurrent_gemma(directory, device, dtype)


def _load_llama(directory: Path, device: torch.device, dtype: torch.dtype) -> Decoder[Any]:
    # Only those who use it wait for transformers to be imported.
    from models.transformers_models import load_llama

    return load_llama(directory, device, dtype)


def _load_transformers(directory: Path, device: torch.device, dtype: torch.dtype) -> Decoder[Any]:
    from models.transformers_models import load_transformers

    return load_transformers(directory, device, dtype)


FAMILIES: Mapping[str, Callable[[Path, torch.device, torch.dtype], Decoder[Any]]] = {
    "state-spaces": load_state_spaces,
    "recurrent-gemma": _load_recurrent_gemma,
    "llama": _load_llama,
    "transformers": _load_transformers,
}

# The family that needs no checkpoint.
ORACLE: Final = "oracle"

_TEMPLATE_FILE: Final = "tokenizer_config.json"
_VERSIONS = ("torch", "transformers", "tokenizers", "mamba-ssm", "causal-conv1d", "flash-linear-attention")
_CHECKPOINT_FILES = ("config.json", "pytorch_model*.bin", "model*.safetensors", "*.index.json")


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        card: What it was loaded from.
        decoder: The model.
        tokenizer: Its tokenizer.
        frame: What it wants around every prompt.
        environment: What may change its answers: versions, device, dtype, fingerprints.
    """

    card: Card
    decoder: Decoder[Any]
    tokenizer: Tokenizer
    frame: Frame
    environment: Mapping[str, Any]


def load(card: Card, folder: Path, device: str, corpora: Corpora) -> LoadedModel:
    """Loads the model of a card.

    Args:
        card: The card.
        folder: What the card's paths are relative to.
        device: As torch names it.
        corpora: What its prompts are made from; only the oracle looks into it.

    Raises:
        CheckpointError: The checkpoint, tokenizer or chat template is missing, damaged or of another kind.
    """
    if card.family not in (*FAMILIES, ORACLE):
        known = ", ".join((*FAMILIES, ORACLE))
        raise CheckpointError(f"model {card.name}: unknown family {card.family!r}; there are {known}")
    directory = None if card.family == ORACLE else _checkpoint_directory(card, folder)
    try:
        tokenizer = load_tokenizer(_tokenizer_file(card, folder), end_of_sequence=card.end_of_sequence)
        frame = _frame(card, folder, tokenizer)
    except (TokenizerError, FrameError) as error:
        raise CheckpointError(f"model {card.name}: {error}") from None
    dtype = _dtype(card, device)
    _check_architecture(card, directory, tokenizer)
    decoder: Decoder[Any]
    if directory is None:
        decoder = Oracle(tokenizer, corpora, card.window)
    else:
        decoder = FAMILIES[card.family](directory, torch.device(device), dtype)
        _emulate(card, decoder)
    environment = {
        "weights": None if directory is None else weights_fingerprint(directory)[:16],
        "revision": directory.name if directory is not None and card.hub else None,
        "tokenizer": tokenizer.fingerprint[:16],
        "frame": _frame_fingerprint(frame),
        "emulate": list(card.emulate),
        "device": _device_name(device),
        "dtype": str(dtype).removeprefix("torch."),
        "python": platform.python_version(),
        **{name: _version(name) for name in _VERSIONS},
        "cuda": torch.version.cuda,
    }
    return LoadedModel(card, decoder, tokenizer, frame, environment)


def _check_architecture(card: Card, directory: Path | None, tokenizer: Tokenizer) -> None:
    """Refuses a tokenizer with more tokens than the model has rows for."""
    size = None if directory is None else read_configuration(directory).get("vocab_size")
    if isinstance(size, int) and tokenizer.vocabulary_size > max(size, _padded(size)):
        raise CheckpointError(
            f"model {card.name}: its tokenizer {card.tokenizer} has {tokenizer.vocabulary_size} tokens, "
            f"the checkpoint only {size}; they do not belong together"
        )


def _padded(size: int) -> int:
    # Checkpoints may have more rows than config.json says, up to a multiple of 16.
    return -(-size // 16) * 16


def _emulate(card: Card, decoder: Decoder[Any]) -> None:
    if not card.emulate:
        return
    if not isinstance(decoder, StateSpacesModel):
        raise CheckpointError(f"model {card.name}: family {card.family} has no defects to emulate")
    try:
        decoder.emulate(card.emulate)
    except ValueError as error:
        raise CheckpointError(f"model {card.name}: {error}") from None


def _frame(card: Card, folder: Path, tokenizer: Tokenizer) -> Frame:
    if card.chat_template is None:
        return plain_frame(tokenizer, card.beginning_of_sequence)
    local = folder / card.chat_template
    if local.suffix not in (".json", ".jinja"):
        local = _downloaded(card, card.chat_template, None, (_TEMPLATE_FILE,)) / _TEMPLATE_FILE
    template, specials = read_chat_template(local)
    return chat_frame(
        tokenizer,
        template,
        beginning_of_sequence=card.beginning_of_sequence,
        end_of_sequence=card.end_of_sequence,
        specials=specials,
    )


def _frame_fingerprint(frame: Frame) -> str | None:
    return hashlib.sha256(repr(frame).encode()).hexdigest()[:16] if frame != Frame() else None


def _checkpoint_directory(card: Card, folder: Path) -> Path:
    if card.path is not None:
        return folder / card.path
    return _downloaded(card, str(card.hub), card.revision, _CHECKPOINT_FILES)


def _tokenizer_file(card: Card, folder: Path) -> Path:
    local = folder / card.tokenizer
    if local.suffix in (".json", ".txt"):
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
