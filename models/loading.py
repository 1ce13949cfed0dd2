"""From a card to a model that decodes."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from generators.corpora.sets import Corpora
from generators.prompt_templates import (
    PromptTemplate,
    PromptTemplateError,
    chat_prompt_template,
    plain_template,
    read_chat_template,
)
from generators.tokenization import Tokenizer, TokenizerError
from generators.tokenizer_files import load_tokenizer
from models.checkpoints.errors import CheckpointError
from models.checkpoints.files import configuration_fingerprint, read_configuration, weights_fingerprint
from models.decoding.decoder import Decoder, EmulatingDecoder
from models.decoding.memory import free_bytes
from models.decoding.prefix_states import PrefixStates
from models.determinism import settle
from models.families import families, family_named
from models.families.endpoint.model import Endpoint
from models.families.family import Family, Surroundings
from models.layers import kernels
from models.machine import machine

if TYPE_CHECKING:
    from models.cards import Card

__all__ = ["LoadedModel", "load", "prompting"]


# Of the free memory, what states after shared prefixes may take from one cell to the next.
_SHARE_OF_PREFIXES: Final = 0.05

_TEMPLATE_FILE: Final = "tokenizer_config.json"
_TOKENIZER_FILES = ("tokenizer.json", "rwkv_vocab_*.txt")
_VERSIONS = ("torch", "transformers", "tokenizers", "mamba-ssm", "causal-conv1d", "flash-linear-attention")
_BENEATH_KERNELS = ("fla-core", "triton", "einops")
_CHECKPOINT_FILES = ("config.json", "pytorch_model*.bin", "model*.safetensors", "*.index.json")


def _prefix_states() -> PrefixStates:
    device = torch.device("cuda" if torch.cuda.is_initialized() else "cpu")
    return PrefixStates(int(_SHARE_OF_PREFIXES * free_bytes(device)))


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        card: What it was loaded from.
        decoder: The model; an endpoint decodes by itself.
        tokenizer: Its tokenizer.
        prompt_template: What it wants around every prompt.
        environment: What may change its answers: versions, device, dtype, fingerprints.
        prefixes: Its states after prefixes that prompts have shared so far.
    """

    card: Card
    decoder: Decoder[Any] | Endpoint
    tokenizer: Tokenizer
    prompt_template: PromptTemplate
    environment: Mapping[str, Any]
    prefixes: PrefixStates = field(default_factory=_prefix_states, repr=False, compare=False)

    @property
    def max_positions(self) -> int | None:
        """The largest length it is to be asked, in tokens; None where its positions or its card set no limit."""
        return None if self.card.extrapolate else getattr(self.decoder, "max_positions", None)


def load(card: Card, folder: Path, device: str, corpora: Corpora) -> LoadedModel:
    """Loads the model of a card.

    Args:
        card: The card.
        folder: What the card's paths are relative to.
        device: As torch names it.
        corpora: What its prompts are made from; only the oracle looks into it.

    Raises:
        CheckpointError: The checkpoint, tokenizer or chat template is missing, damaged or of another kind; or
            the server does not answer as the card says.
    """
    try:
        family = family_named(card.family)
    except ValueError as error:
        raise CheckpointError(f"model {card.name}: {error}") from None
    directory = _checkpoint_directory(card, folder) if family.needs_checkpoint else None
    tokenizer, prompt_template = prompting(card, folder)
    dtype = _dtype(card, device)
    if directory is None:
        decoder = family.stand_in(Surroundings(card, tokenizer, prompt_template, corpora))
        if isinstance(decoder, Endpoint):
            return LoadedModel(
                card,
                decoder,
                tokenizer,
                prompt_template,
                _environment_of_endpoint(card, decoder, tokenizer, prompt_template),
            )
        settings = settle()
    else:
        settings = settle()
        _check_architecture(card, directory, tokenizer)
        decoder = family.load(directory, torch.device(device), dtype)
        _emulate(card, decoder)
    environment = {
        "family": card.family,
        **_implementation(family, decoder),
        "weights": None if directory is None else weights_fingerprint(directory)[:16],
        "configuration": None if directory is None else configuration_fingerprint(directory)[:16],
        "revision": directory.name if directory is not None and card.hub else None,
        "tokenizer": tokenizer.fingerprint[:16],
        "frame": prompt_template.fingerprint,
        "emulate": list(card.emulate),
        **({"window": card.window} if directory is None else {}),
        "end_of_sequence": tokenizer.end_of_sequence,
        "decoding": "greedy",
        **machine(device),
        "dtype": str(dtype).removeprefix("torch."),
        **settings,
        "python": platform.python_version(),
        **{name: _version(name) for name in (*_VERSIONS, *_of_no_other(family))},
    }
    if device.startswith("cuda") and directory is not None:
        environment |= {"kernels": kernels.used(_all_kernels()), **{name: _version(name) for name in _BENEATH_KERNELS}}
    return LoadedModel(card, decoder, tokenizer, prompt_template, environment)


def prompting(card: Card, folder: Path) -> tuple[Tokenizer, PromptTemplate]:
    """The tokenizer of a card's model, and what the model wants around every prompt.

    Raises:
        CheckpointError: The tokenizer or chat template is missing, damaged or lacks a token.
    """
    try:
        tokenizer = load_tokenizer(_tokenizer_file(card, folder), end_of_sequence=card.end_of_sequence)
        return tokenizer, _prompt_template(card, folder, tokenizer)
    except (TokenizerError, PromptTemplateError) as error:
        raise CheckpointError(f"model {card.name}: {error}") from None


def _environment_of_endpoint(
    card: Card, endpoint: Endpoint, tokenizer: Tokenizer, prompt_template: PromptTemplate
) -> Mapping[str, Any]:
    """What is installed here does not change the answers of a server, but for the tokenizer."""
    return {
        "family": card.family,
        **endpoint.environment,
        "tokenizer": tokenizer.fingerprint[:16],
        "frame": prompt_template.fingerprint,
        "python": platform.python_version(),
        "tokenizers": _version("tokenizers"),
    }


def _all_kernels() -> tuple[kernels.Kernel, ...]:
    """Those of the layers, then those that families bring along."""
    of_families = (kernel for family in families().values() for kernel in family.kernels)
    return tuple(dict.fromkeys((*kernels.KERNELS, *of_families)))


def _of_no_other(family: Family) -> tuple[str, ...]:
    """The libraries of a family that are not recorded for every model."""
    return tuple(name for name in family.libraries if name not in (*_VERSIONS, *_BENEATH_KERNELS))


def _check_architecture(card: Card, directory: Path, tokenizer: Tokenizer) -> None:
    """Refuses a tokenizer with more tokens than the model has rows for."""
    size = read_configuration(directory).get("vocab_size")
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
    if not isinstance(decoder, EmulatingDecoder):
        raise CheckpointError(f"model {card.name}: family {card.family} has no defects to emulate")
    try:
        decoder.emulate(card.emulate)
    except ValueError as error:
        raise CheckpointError(f"model {card.name}: {error}") from None


def _implementation(family: Family, decoder: Decoder[Any]) -> dict[str, str]:
    """Where a family's checkpoints run in a class of ours or in another, which one it is."""
    named = family.operations().implementation
    return {} if named is None else {"implementation": named(decoder)}


def _prompt_template(card: Card, folder: Path, tokenizer: Tokenizer) -> PromptTemplate:
    if card.chat_template is None:
        return plain_template(tokenizer, card.beginning_of_sequence)
    local = folder / card.chat_template
    if local.suffix not in (".json", ".jinja"):
        local = _downloaded(card, card.chat_template, None, (_TEMPLATE_FILE,)) / _TEMPLATE_FILE
    template, specials = read_chat_template(local)
    return chat_prompt_template(
        tokenizer,
        template,
        beginning_of_sequence=card.beginning_of_sequence,
        end_of_sequence=card.end_of_sequence,
        specials=specials,
    )


def _checkpoint_directory(card: Card, folder: Path) -> Path:
    if card.path is not None:
        return folder / card.path
    return _downloaded(card, str(card.hub), card.revision, _CHECKPOINT_FILES)


def _tokenizer_file(card: Card, folder: Path) -> Path:
    local = folder / card.tokenizer
    if local.suffix in (".json", ".txt"):
        return local
    directory = _downloaded(card, card.tokenizer, None, _TOKENIZER_FILES)
    found = [path for pattern in _TOKENIZER_FILES for path in sorted(directory.glob(pattern))]
    if not found:
        raise CheckpointError(
            f"model {card.name}: its tokenizer {card.tokenizer} has none of the files {', '.join(_TOKENIZER_FILES)}"
        )
    return found[0]


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


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
