"""A RecurrentGemma model is transformers' own, and gives one answer however its input is batched, cut or cached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from models.checkpoints.errors import ConfigurationError
from models.decoding.greedy import GreedySettings, greedy
from models.families.recurrent_gemma.checkpoint import load_recurrent_gemma, write_recurrent_gemma
from models.families.recurrent_gemma.configuration import RecurrentGemmaConfiguration
from models.families.recurrent_gemma.linear_recurrence import recurrence_chunked, recurrence_naive
from models.families.recurrent_gemma.model import (
    GriffinAttentionState,
    LocalAttention,
    RecurrentGemmaModel,
    RecurrentGemmaState,
)
from suites.support.checkpoint_files import change, refused, transformers_reads
from suites.support.decoder_equalities import read_alone
from suites.support.families.recurrent_gemma import CONFIGURATIONS, GRIFFIN, WIDE, tiny_model
from suites.support.tiny_models import TOLERANCE, difference, random_ids, tiny

ROUNDING = 1e-11
STEPS = 24
CPU = torch.device("cpu")


every_kind = pytest.mark.parametrize("kind", CONFIGURATIONS)


def tensors_of(state: RecurrentGemmaState) -> list[Tensor]:
    """All that a state holds of its layers."""
    return [tensor for layer in state.layers for tensor in vars(layer).values()]


# The recurrence.


def recurrence(batch: int, time: int, channels: int, seed: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Decays of all sizes, 0 and almost 1 among them, inputs, and a nonzero state before them."""
    draw = torch.Generator().manual_seed(seed)
    decay = torch.rand(batch, time, channels, generator=draw, dtype=dtype) ** 0.2
    kind = torch.randint(4, decay.shape, generator=draw)
    decay = decay.masked_fill(kind == 0, 0.0).masked_fill(kind == 1, 1 - 1e-7)
    normal = [torch.randn(shape, generator=draw, dtype=dtype) for shape in (decay.shape, (batch, channels))]
    return [decay, *normal]


@given(st.integers(1, 3), st.integers(1, 70), st.integers(1, 5), st.integers(0, 999), st.none() | st.integers(1, 80))
@example(1, 1, 1, 0, None)
@example(2, 64, 3, 0, 8)
@example(2, 65, 3, 0, None)
def test_chunked_recurrence_equals_the_naive_one(batch, time, channels, seed, chunk):
    """For any shape, chunk size and state before it, the chunked recurrence gives what the definition gives."""
    decay, x, state = recurrence(batch, time, channels, seed)
    found = recurrence_chunked(decay, x, state, chunk)
    assert difference(found, recurrence_naive(decay, x, state)) < ROUNDING


def test_a_long_recurrence_in_single_precision():
    """Over 4,096 tokens in float32, of slow and of fully underflowing decay, the two forms stay close and finite."""
    _, x, state = recurrence(2, 4096, 8, 0, torch.float32)
    for decay in (0.9999, 0.9, 1e-30, 0.0):
        decays = torch.full_like(x, decay)
        found = recurrence_chunked(decays, x, state)
        assert difference(found, recurrence_naive(decays, x, state)) < 1e-5


# Local attention.


def naive_attention(made: LocalAttention, u: Tensor) -> Tensor:
    """One row [time, width], position by position and head by head."""
    c = made.configuration
    turned = c.rotary_dim // 2

    def rotated(x: Tensor, position: int) -> Tensor:
        x = x.clone()
        for i in range(turned):
            angle = torch.tensor(position / c.rope_theta ** (2 * i / c.rotary_dim), dtype=x.dtype)
            one, two = x[i].clone(), x[i + turned].clone()
            x[i] = one * angle.cos() - two * angle.sin()
            x[i + turned] = one * angle.sin() + two * angle.cos()
        return x

    outputs = []
    for t in range(len(u)):
        window = range(max(0, t - c.attention_window_size + 1), t + 1)
        heads = []
        for h in range(c.num_attention_heads):
            own = slice(h * c.head_dim, (h + 1) * c.head_dim)
            group = h // (c.num_attention_heads // c.num_key_value_heads)
            shared = slice(group * c.head_dim, (group + 1) * c.head_dim)
            query = rotated(made.q_proj(u[t])[own], t)
            scores = torch.stack([query @ rotated(made.k_proj(u[s])[shared], s) for s in window])
            weights = torch.softmax(scores / c.head_dim**0.5, 0)
            heads.append(sum(w * made.v_proj(u[s])[shared] for w, s in zip(weights, window, strict=True)))
        outputs.append(made.o_proj(torch.cat(heads)))
    return torch.stack(outputs)


@pytest.mark.parametrize("kind", ["attention-last", "narrow-window"])
def test_attention_equals_a_naive_one(kind):
    """Local attention gives what loops over positions and heads give, in float64."""
    made, seen = tiny_model(CONFIGURATIONS[kind]).double(), []
    layer = made.configuration.layer_types.index("attention")
    attention = made.model.layers[layer].temporal_block
    attention.register_forward_hook(lambda module, given, found: seen.append((given[0][0], found[0][0])))
    made(random_ids(1, 24))
    u, found = seen[0]
    # The rotation's angles are in float32.
    assert difference(found, naive_attention(attention, u)) < 1e-6


# One answer, whatever the way.


def test_a_long_second_piece():
    """A second piece longer than a block of attention, after a row shorter than the window, is read as in one piece."""
    made, ids = tiny_model(WIDE), random_ids(2, 340)
    _, state = made.prefill(ids[:, :40], torch.tensor([40, 20]), made.empty_state(2, 1))
    second = torch.stack([ids[0, 40:], ids[1, 20:320]])
    logits, _ = made.prefill(second, torch.tensor([300, 290]), state)
    for i, length in enumerate([340, 310]):
        assert difference(logits[i], read_alone(made, ids[i, :length])[0][0]) < TOLERANCE


@every_kind
def test_memory_does_not_grow(kind):
    """A state holds as many numbers after 200 tokens as before any, for any capacity: the window's keys and values."""
    made = tiny("recurrent-gemma", kind)
    state = made.empty_state(2, 8)
    before = [tensor.shape for tensor in tensors_of(state)]
    assert before == [tensor.shape for tensor in tensors_of(made.empty_state(2, 10**9))]
    _, state = made.prefill(random_ids(2, 199), torch.tensor([199, 3]), state)
    assert [tensor.shape for tensor in tensors_of(state)] == before
    _, state = made.step(random_ids(2), state)
    assert [tensor.shape for tensor in tensors_of(state)] == before
    for layer in state.layers:
        if isinstance(layer, GriffinAttentionState):
            assert layer.keys.shape[2] == made.configuration.attention_window_size - 1


# transformers.


def theirs(made: RecurrentGemmaModel) -> Any:
    """The model of transformers with the same weights."""
    from transformers import RecurrentGemmaConfig, RecurrentGemmaForCausalLM

    fields = {name: value for name, value in made.configuration.to_json().items() if name != "architectures"}
    model = RecurrentGemmaForCausalLM(RecurrentGemmaConfig(**fields, eos_token_id=None, pad_token_id=None))
    model.load_state_dict({**made.state_dict(), "lm_head.weight": made.model.embed_tokens.weight}, strict=True)
    return model.eval()


@pytest.mark.parametrize("kind", [*CONFIGURATIONS, "wide-window"])
@pytest.mark.parametrize("time", [1, 16, 17, 300])
def test_logits_equal_transformers(kind, time):
    """The same weights give the same logits in transformers' class at every position, within and past the window."""
    made = tiny_model({**CONFIGURATIONS, "wide-window": WIDE}[kind])
    ids = random_ids(1, time)
    with torch.inference_mode():
        expected = theirs(made)(ids, use_cache=False).logits
    assert difference(made(ids), expected) < TOLERANCE


@every_kind
def test_long_logits_equal_transformers_in_double_precision(kind):
    """Over 600 tokens, our float32 is as close to transformers in float64, where its 1 - a * a loses nothing."""
    made, ids = tiny("recurrent-gemma", kind), random_ids(1, 600, seed=600)
    with torch.inference_mode():
        expected = theirs(made).double()(ids, use_cache=False).logits
    assert difference(made(ids).double(), expected) < TOLERANCE


@every_kind
@pytest.mark.parametrize("time", [5, 40])
def test_greedy_tokens_equal_transformers(kind, time):
    """The same weights give the same greedy tokens in transformers' own generation."""
    made, prompt = tiny("recurrent-gemma", kind), random_ids(1, time, seed=time)
    with torch.inference_mode():
        expected = theirs(made).generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=STEPS
        )
    found = greedy(made, prompt.tolist(), GreedySettings(STEPS, batch_tokens=100))
    assert found == expected[:, time:].tolist()


def test_the_embedding_is_scaled_as_in_training():
    """The root of the width that scales embeddings is rounded to bfloat16: 50.5 for 50.596 at the published width."""
    made = tiny_model(
        {**GRIFFIN, "hidden_size": 2560, "num_hidden_layers": 1, "num_attention_heads": 40, "lru_width": 40}
    )
    assert made.model.scale == 50.5


# Checkpoints.


def load(directory: Path) -> RecurrentGemmaModel:
    """The model of a directory, in float32 on the CPU."""
    return load_recurrent_gemma(directory, CPU, torch.float32)


def refusal(directory: Path) -> str:
    """The message of the error that loading must raise."""
    return refused(load, directory)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A good checkpoint directory."""
    write_recurrent_gemma(tmp_path / "griffin", tiny("recurrent-gemma", "griffin"), torch.float32)
    return tmp_path / "griffin"


@every_kind
def test_transformers_reads_what_is_written(tmp_path, kind):
    """A written directory is loaded by transformers as its own, and gives the same logits."""
    transformers_reads(
        tmp_path, tiny("recurrent-gemma", kind), write_recurrent_gemma, "RecurrentGemmaForCausalLM", TOLERANCE
    )


@every_kind
@pytest.mark.parametrize("shard", ["50GB", "20KB"], ids=["one file", "many files"])
def test_what_transformers_writes_is_read(tmp_path, kind, shard):
    """A directory that transformers saved, in one file or in many, is the same model."""
    theirs(tiny("recurrent-gemma", kind)).save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "20KB")
    assert torch.equal(load(tmp_path)(random_ids(1, 20)), tiny("recurrent-gemma", kind)(random_ids(1, 20)))


def test_a_published_configuration_is_read():
    """The fields that the published models have, as transformers 4 wrote them, make their sizes."""
    published = {
        "_block_types": ["recurrent", "recurrent", "attention"],
        "architectures": ["RecurrentGemmaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attention_window_size": 2048,
        "bos_token_id": 2,
        "conv1d_width": 4,
        "embeddings_scale_by_sqrt_dim": True,
        "eos_token_id": 1,
        "final_w_init_variance_scale": 0.07692307692307693,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 2560,
        "intermediate_size": 15360,
        "logits_soft_cap": 30.0,
        "lru_width": 2560,
        "model_type": "recurrent_gemma",
        "num_attention_heads": 10,
        "num_hidden_layers": 26,
        "num_key_value_heads": 1,
        "pad_token_id": 0,
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.40.0.dev0",
        "use_cache": True,
        "vocab_size": 256000,
        "w_init_variance_scale": 0.01,
    }
    read = RecurrentGemmaConfiguration.from_json(published)
    assert read == RecurrentGemmaConfiguration(intermediate_size=15360, num_key_value_heads=1)
    assert (read.head_dim, read.rotary_dim, read.layer_types.count("attention")) == (256, 128, 8)
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in RecurrentGemmaModel(read).parameters())
    # The model card: 2.7 billion parameters with the embedding.
    assert round(count / 1e9, 1) == 2.7


def test_what_a_file_leaves_out_is_as_in_transformers():
    """Missing and null fields have the values that transformers gives them."""
    from transformers import RecurrentGemmaConfig

    read = RecurrentGemmaConfiguration.from_json({"model_type": "recurrent_gemma", "lru_width": None})
    default = RecurrentGemmaConfig()
    rotary = default.rope_parameters
    for name in RecurrentGemmaConfiguration.__dataclass_fields__:
        expected = rotary[name] if name in rotary else getattr(default, name)
        assert getattr(read, name) == (tuple(expected) if isinstance(expected, list) else expected), name


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"model_type": "gemma"}, "model_type is 'gemma'"),
        ({"model_type": None}, "model_type is None"),
        ({"architectures": ["GriffinForCausalLM"]}, "architectures is ['GriffinForCausalLM']"),
        ({"window": 8}, "unknown field window"),
        ({"quantization_config": {}}, "unknown field quantization_config"),
        ({"hidden_activation": "silu"}, "hidden_activation is 'silu'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"embeddings_scale_by_sqrt_dim": False}, "embeddings_scale_by_sqrt_dim is False"),
        ({"block_types": ["recurrent", "mamba"]}, "block_types[1] must be one of recurrent, attention, not 'mamba'"),
        ({"block_types": "recurrent"}, "block_types must be a list of types of layers, not 'recurrent'"),
        ({"head_dim": 16}, "head_dim is 16"),
        ({"hidden_size": 30}, "hidden_size, 30, is no multiple of num_attention_heads, 4"),
        ({"lru_width": 50}, "lru_width, 50, is no multiple of num_attention_heads, 4"),
        ({"num_key_value_heads": 3}, "num_attention_heads, 4, is no multiple of num_key_value_heads, 3"),
        ({"num_key_value_heads": 8}, "num_attention_heads, 4, is no multiple of num_key_value_heads, 8"),
        ({"intermediate_size": 97}, "intermediate_size, 97, is no multiple of 2"),
        ({"vocab_size": 0}, "vocab_size must be a whole number"),
        ({"conv1d_width": "4"}, "conv1d_width must be a whole number"),
        ({"num_attention_heads": 0}, "num_attention_heads must be a whole number"),
        ({"logits_soft_cap": 0}, "logits_soft_cap must be a positive number"),
        ({"rope_theta": True}, "rope_theta must be a positive number"),
        ({"attention_bias": 1}, "attention_bias must be true or false, not 1"),
        ({"partial_rotary_factor": 0.4}, "partial_rotary_factor makes 3 rotary dimensions"),
        ({"partial_rotary_factor": 2.0}, "partial_rotary_factor makes 16 rotary dimensions"),
        ({"rope_parameters": 8}, "rope_parameters must be a table"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type must be default, not 'yarn'"),
        ({"rope_parameters": {"factor": 8}}, "rope_parameters: unknown field factor"),
    ],
    ids=str,
)
def test_other_configurations_are_refused(written, fields, fault):
    """A configuration of another architecture, or one that makes no model, is refused by the field at fault."""
    change(written, **fields)
    assert fault in refusal(written)
    with pytest.raises(ConfigurationError):
        RecurrentGemmaConfiguration.from_json(json.loads((written / "config.json").read_text()))
