"""Tiny models of the transformers library, as its own classes and as they are loaded."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from models.families.transformers.model import TransformersModel, load_transformers
from suites.support.tiny_models import VOCABULARY, TinyFamily

__all__ = ["ATTENTION_SIZES", "CONFIGURATIONS", "TINY", "WINDOW", "published"]

_SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64}


ATTENTION_SIZES = {**_SIZES, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 160}


_GROUPED = {**ATTENTION_SIZES, "num_key_value_heads": 2}


_SCAN = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8}


WINDOW = 6


# Besides the common kinds: a window and capped logits, learned positions, positions that only the mask tells,
# a scan that cannot be continued at once, and recurrent states beside attention in alternate layers and in one.
CONFIGURATIONS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**_GROUPED, tie_word_embeddings=True),
    "gpt-neox": lambda: transformers.GPTNeoXConfig(**ATTENTION_SIZES),
    "mistral": lambda: transformers.MistralConfig(**_GROUPED, sliding_window=WINDOW),
    "gemma2": lambda: transformers.Gemma2Config(**_GROUPED, head_dim=8, sliding_window=WINDOW),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=160),
    "bloom": lambda: transformers.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4),
    "mamba": lambda: transformers.MambaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=8
    ),
    "mamba2": lambda: transformers.Mamba2Config(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=8, head_dim=8, num_heads=8, n_groups=2,
        chunk_size=8,
    ),
    "bamba": lambda: transformers.BambaConfig(**_GROUPED, **_SCAN, attn_layer_indices=[1]),
    "falcon-h1": lambda: transformers.FalconH1Config(**_GROUPED, **_SCAN, mamba_d_ssm=64, mamba_n_groups=1),
}  # fmt: skip


@functools.cache
def published(kind: str) -> Any:
    """The library's own model, with random weights none of which is at a neutral value."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # Slow but plain attention, where there is a choice.
        made = transformers.AutoModelForCausalLM.from_config(CONFIGURATIONS[kind](), attn_implementation="eager")
        made = made.float().eval().requires_grad_(False)
        embedding, head = made.get_input_embeddings().weight, made.get_output_embeddings().weight
        for name, parameter in made.named_parameters():
            if name.endswith("A_log"):
                # Slow decay: what was read long ago still counts.
                parameter.normal_(-1, 0.5)
            elif parameter.ndim == 2 and parameter is not embedding and parameter is not head:
                parameter.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
            else:
                parameter += 0.1 * torch.randn_like(parameter)
    made.generation_config.eos_token_id = None
    return made


def _loaded(kind: str) -> TransformersModel:
    """The same model, saved and loaded."""
    with tempfile.TemporaryDirectory() as directory:
        published(kind).save_pretrained(directory)
        return load_transformers(Path(directory), torch.device("cpu"), torch.float32)


def _write(directory: Path, model: TransformersModel) -> None:
    # Saving may change what a model of the library shares with others.
    copy.deepcopy(model.model).save_pretrained(directory)


TINY = TinyFamily(
    "transformers",
    {kind: functools.partial(_loaded, kind) for kind in CONFIGURATIONS},
    written="llama",
    write=_write,
    main=("llama", "mistral", "gpt2"),
    lost="model.norm.weight",
    misshapen="model.layers.0.mlp.up_proj.weight",
    # A bias added to every key changes no attention: all scores of a query move by the same amount.
    neutral=("k_proj.bias",),
    ours=False,
)
