"""How fast models of a published size read and write, with random weights: ours, and transformers' own classes.

The share of the peak is that of the matrix products alone: 2 operations for each weight of a layer and token, and 4
for each channel of attention and pair of tokens that it looks at. Embeddings and the output layer, of which a prompt
needs one position, are left out.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

from models.cards import Card
from models.families import family_named
from zoo.shapes import configuration_of, made

__all__ = ["PEERS", "Measured", "cut", "measured"]

# Dense bfloat16 products on an H100 or H200 (SXM), operations a second.
PEAK: Final = 989e12
# Tokens read at once, whatever their length.
TOKENS: Final = 16384
DECODED: Final = 32
REPEATS: Final = 3
# A reading that takes longer is not repeated.
_LONG: Final = 5.0


@dataclass(frozen=True)
class Measured:
    """One model at one length.

    Attributes:
        rows: Prompts read side by side.
        read: Tokens a second while reading prompts, the median of some runs.
        share: Of the peak, in percent.
        written: Tokens a second while decoding, all rows together.
        peak_bytes: The most memory that tensors took; None on a processor.
    """

    model: str
    implementation: str
    length: int
    rows: int
    read: float
    share: float
    written: float
    peak_bytes: int | None


class _Reader(Protocol):
    def prefill(self, ids: Tensor) -> Any:
        """Reads prompts [rows, time]; returns the state."""

    def step(self, ids: Tensor, state: Any) -> Any:
        """Reads one token [rows, 1] each."""


class _Ours:
    def __init__(self, model: Any) -> None:
        self._model = model

    def prefill(self, ids: Tensor) -> Any:
        rows, length = ids.shape
        lengths = torch.full((rows,), length, device=ids.device)
        return self._model.prefill(ids, lengths, self._model.empty_state(rows, length + DECODED))[1]

    def step(self, ids: Tensor, state: Any) -> Any:
        return self._model.step(ids[:, 0], state)[1]


class _Theirs:
    """A class of transformers; `cache` is what it calls its state. Without a name it keeps the state to itself."""

    def __init__(self, model: Any, cache: str | None) -> None:
        self._model, self._cache, self._read = model, cache, 0

    def prefill(self, ids: Tensor) -> Any:
        self._read = ids.shape[1]
        output = self._model(ids, use_cache=True, logits_to_keep=1)
        return output[self._cache] if self._cache else None

    def step(self, ids: Tensor, state: Any) -> Any:
        given = {} if self._cache is None else {self._cache: state}
        if self._cache is None:
            given["position_ids"] = torch.full_like(ids, self._read)
        self._read += 1
        output = self._model(ids, use_cache=True, logits_to_keep=1, **given)
        return output[self._cache] if self._cache else None


def _their_mamba2(c: Mapping[str, Any]) -> _Theirs:
    from transformers import Mamba2Config, Mamba2ForCausalLM

    padded = -(-c["vocab_size"] // c["pad_vocab_size_multiple"]) * c["pad_vocab_size_multiple"]
    configuration = Mamba2Config(
        vocab_size=padded,
        hidden_size=c["d_model"],
        num_hidden_layers=c["n_layer"],
        num_heads=2 * c["d_model"] // 64,
        head_dim=64,
        state_size=128,
        expand=2,
        conv_kernel=4,
        n_groups=1,
        use_bias=False,
        tie_word_embeddings=True,
    )
    return _Theirs(Mamba2ForCausalLM(configuration), "cache_params")


def _their_llama(c: Mapping[str, Any]) -> _Theirs:
    from transformers import LlamaConfig, LlamaForCausalLM

    return _Theirs(LlamaForCausalLM(LlamaConfig(**c)), "past_key_values")


def _their_recurrent_gemma(c: Mapping[str, Any]) -> _Theirs:
    from transformers import RecurrentGemmaConfig, RecurrentGemmaForCausalLM

    fields = {("block_types" if name == "_block_types" else name): value for name, value in c.items()}
    return _Theirs(RecurrentGemmaForCausalLM(RecurrentGemmaConfig(**fields)), None)


# By card: the class of transformers that has the same architecture.
PEERS: Mapping[str, Callable[[Mapping[str, Any]], _Theirs]] = {
    "mamba2": _their_mamba2,
    "sl": _their_llama,
    "rg": _their_recurrent_gemma,
}


def cut(configuration: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """A configuration of so many layers and a small vocabulary, of all kinds of layers if there are enough."""
    made_of = dict(configuration)
    made_of["n_layer" if "n_layer" in made_of else "num_hidden_layers"] = layers
    made_of["vocab_size"] = min(made_of["vocab_size"], 4096)
    if attention := made_of.get("attn_layer_idx"):
        made_of["attn_layer_idx"] = [i for i in attention if i < layers] or [layers - 1]
    return made_of


def measured(
    card: Card, implementation: str, device: str, lengths: list[int], layers: int | None, left: Callable[[], float]
) -> Iterator[Measured | str]:
    """Makes a model and measures it at each length; a length that cannot be measured gives the reason.

    Args:
        card: A published card of the paper zoo.
        implementation: `longwatch` or `transformers`.
        device: As torch names it.
        lengths: Tokens a prompt.
        layers: How many to make; None for all.
        left: The seconds there are left.
    """
    configuration = configuration_of(str(card.hub))
    if layers is not None:
        configuration = cut(configuration, layers)
    reader: _Reader
    if implementation == "longwatch":
        model = made(card.family, configuration, device).to(torch.bfloat16)
        reader = _Ours(model)
    else:
        with torch.device(device):
            reader = theirs = PEERS[card.name](configuration)
        model = theirs._model.to(torch.bfloat16).eval().requires_grad_(False)
    for length in lengths:
        if left() <= 0:
            yield f"{length}: no time is left"
            continue
        try:
            rows = max(TOKENS // length, 1) if layers is None else 2
            yield _measured(reader, model, card, implementation, configuration, (rows, length))
        except torch.OutOfMemoryError:
            yield f"{length}: does not fit into memory"
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()


@torch.inference_mode()
def _measured(
    reader: _Reader,
    model: nn.Module,
    card: Card,
    implementation: str,
    configuration: Mapping[str, Any],
    size: tuple[int, int],
) -> Measured:
    rows, length = size
    device = next(model.parameters()).device
    ids = torch.randint(configuration["vocab_size"], size, device=device)
    # The first reading chooses among variants of kernels and compiles them.
    reading, _ = _timed(lambda: reader.step(ids[:, :1], reader.prefill(ids)), device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times: list[float] = []
    while len(times) < (1 if reading > _LONG else REPEATS):
        # Let go of the state before: two would be counted as one.
        state = None
        reading, state = _timed(lambda: reader.prefill(ids), device)
        times.append(reading)

    def decode() -> None:
        after = state
        for t in range(DECODED - 1):
            after = reader.step(ids[:, t % length : t % length + 1], after)

    writing, _ = _timed(decode, device)
    reading = statistics.median(times)
    operations = rows * operations_of(model, card.family, configuration, length)
    return Measured(
        card.name,
        implementation,
        length,
        rows,
        rows * length / reading,
        100 * operations / reading / PEAK,
        rows * (DECODED - 1) / writing,
        torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    )


def _timed(call: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds until a call's work is done, and its result."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began, result


def operations_of(model: nn.Module, family: str, configuration: Mapping[str, Any], length: int) -> float:
    """Of the matrix products of one prompt."""
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    vocabularies = {module.num_embeddings for module in embeddings}
    outputs = [module for module in model.modules() if isinstance(module, nn.Linear)]
    apart = [*embeddings, *(module for module in outputs if module.out_features in vocabularies)]
    left_out = {id(module.weight) for module in apart}
    weights = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in left_out)
    attention = family_named(family).attention(configuration)
    window = length if attention.window is None else attention.window
    pairs = sum(min(i, window) for i in range(1, length + 1))
    return 2.0 * weights * length + 4.0 * attention.layers * attention.channels * pairs
