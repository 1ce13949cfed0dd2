"""From a card to a model that decodes."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from generators.assembly import Piece, assemble, templated
from generators.corpora.sets import Corpora
from generators.prompt_templates import (
    PromptTemplate,
    PromptTemplateError,
    Special,
    chat_prompt_template,
    plain_template,
    read_chat_template,
)
from generators.tokenization import Tokenizer, TokenizerError
from generators.tokenizer_files import load_tokenizer
from models.checkpoints.files import (
    CheckpointError,
    configuration_fingerprint,
    load_state_spaces,
    read_configuration,
    weights_fingerprint,
)
from models.decoding.decoder import Decoder
from models.decoding.memory import free_bytes
from models.decoding.prefix_states import PrefixStates
from models.determinism import settle
from models.families.endpoint.model import Endpoint, EndpointError, connect
from models.families.llama.model import LlamaModel
from models.families.oracle.model import Oracle
from models.families.state_spaces.model import StateSpacesModel
from models.layers import kernels
from models.machine import machine

if TYPE_CHECKING:
    from models.cards import Card

__all__ = ["ENDPOINT", "FAMILIES", "ORACLE", "LoadedModel", "load", "prompting"]


def _load_recurrent_gemma(directory: Path, device: torch.device, dtype: torch.dtype) -> Decoder[Any]:
    from models.families.recurrent_gemma.model import load_recurrent_gemma

    return load_recurrent_gemma(directory, device, dtype)


def _load_rwkv6(directory: Path, device: torch.device, dtype: torch.dtype) -> Decoder[Any]:
    from models.families.rwkv6.model import load_rwkv6

    return load_rwkv6(directory, device, dtype)


def _load_llama(directory: Path, device: torch.device, dtype: torch.dtype) -> Decoder[Any]:
    from models.families.llama.checkpoint import load_llama

    return load_llama(directory, device, dtype)


def _load_transformers(directory: Path, device: torch.device, dtype: torch.dtype) -> Decoder[Any]:
    # Only those who use it wait for transformers to be imported.
    from models.families.transformers.model import load_transformers

    return load_transformers(directory, device, dtype)


FAMILIES: Mapping[str, Callable[[Path, torch.device, torch.dtype], Decoder[Any]]] = {
    "state-spaces": load_state_spaces,
    "recurrent-gemma": _load_recurrent_gemma,
    "rwkv6": _load_rwkv6,
    "llama": _load_llama,
    "transformers": _load_transformers,
}

# The families that need no checkpoint here.
ORACLE: Final = "oracle"
ENDPOINT: Final = "endpoint"

# Of the free memory, what states after shared prefixes may take from one cell to the next.
_SHARE_OF_PREFIXES: Final = 0.05

_PROBE: Final = "The grass is green. The sky is blue."

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
    def longest(self) -> int | None:
        """The largest length it is to be asked, in tokens; None where its positions or its card set no limit."""
        return None if self.card.extrapolate else getattr(self.decoder, "longest", None)


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
    if card.family not in (*FAMILIES, ORACLE, ENDPOINT):
        known = ", ".join((*FAMILIES, ORACLE, ENDPOINT))
        raise CheckpointError(f"model {card.name}: unknown family {card.family!r}; there are {known}")
    directory = None if card.family in (ORACLE, ENDPOINT) else _checkpoint_directory(card, folder)
    tokenizer, prompt_template = prompting(card, folder)
    if card.family == ENDPOINT:
        return _connected(card, tokenizer, prompt_template)
    settings = settle()
    dtype = _dtype(card, device)
    _check_architecture(card, directory, tokenizer)
    decoder: Decoder[Any]
    if directory is None:
        decoder = Oracle(tokenizer, corpora, card.window)
    else:
        decoder = FAMILIES[card.family](directory, torch.device(device), dtype)
        _emulate(card, decoder)
    environment = {
        "family": card.family,
        **_implementation(card, decoder),
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
        **{name: _version(name) for name in _VERSIONS},
    }
    if device.startswith("cuda") and directory is not None:
        environment |= {"kernels": kernels.used(), **{name: _version(name) for name in _BENEATH_KERNELS}}
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


def _connected(card: Card, tokenizer: Tokenizer, prompt_template: PromptTemplate) -> LoadedModel:
    """The model of a card's server; what is installed here does not change its answers, but for the tokenizer."""
    if card.server is None:
        raise CheckpointError(f"model {card.name}: an endpoint's card needs a server")
    parts = (*prompt_template.before, *prompt_template.after)
    try:
        endpoint = connect(
            card.server,
            tokenizer,
            probe=assemble(tokenizer, templated(prompt_template, [Piece(_PROBE)], "")).ids,
            special=[part.text for part in parts if isinstance(part, Special)],
            beginning_of_sequence=card.beginning_of_sequence,
        )
    except (EndpointError, TokenizerError) as error:
        raise CheckpointError(f"model {card.name}: {error}") from None
    environment = {
        "family": card.family,
        **endpoint.environment,
        "tokenizer": tokenizer.fingerprint[:16],
        "frame": prompt_template.fingerprint,
        "python": platform.python_version(),
        "tokenizers": _version("tokenizers"),
    }
    return LoadedModel(card, endpoint, tokenizer, prompt_template, environment)


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


def _implementation(card: Card, decoder: Decoder[Any]) -> dict[str, str]:
    """Of the one family whose checkpoints run in a class of ours or of transformers', which one it is."""
    if card.family != "llama":
        return {}
    return {"implementation": "longwatch" if isinstance(decoder, LlamaModel) else "transformers"}


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
