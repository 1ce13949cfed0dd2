"""An RWKV-6 model is the `rwkv` package's own, and gives one answer however its input is batched, cut or cached."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

import models.families.rwkv6.time_mixing
from models.checkpoints.errors import ConfigurationError
from models.decoding.greedy import GreedySettings, greedy
from models.families.rwkv6.checkpoint import load_rwkv6, write_rwkv6
from models.families.rwkv6.configuration import Rwkv6Configuration
from models.families.rwkv6.model import Rwkv6Model, Rwkv6State
from models.families.rwkv6.time_mixing import wkv_chunked, wkv_naive
from suites.support.checkpoint_files import change, refused
from suites.support.decoder_equalities import (
    read_alone,
)
from suites.support.families.rwkv6 import CONFIGURATIONS, FINCH
from suites.support.tiny_models import TOLERANCE, difference, random_ids, tiny

ROUNDING = 1e-11
STEPS = 24
CPU = torch.device("cpu")
SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"

# The package has the published epsilons built in.
OF_THE_PACKAGE = ("finch", "one-wide-head")

every_kind = pytest.mark.parametrize("kind", CONFIGURATIONS)


def tensors_of(state: Rwkv6State) -> list[Tensor]:
    """All that a state holds of its layers."""
    return [tensor for layer in state.layers for tensor in vars(layer).values()]


# The recurrence.


def recurrence(
    batch: int, time: int, heads: int, seed: int, sizes: tuple[int, int] = (3, 4), dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """The arguments of the recurrence: decays of all sizes, 0, 1 and almost 1 among them, and a nonzero state."""
    draw = torch.Generator().manual_seed(seed)
    key, value = sizes
    shapes = [(batch, time, heads, key), (batch, time, heads, key), (batch, time, heads, value)]
    shapes += [(heads, key), (batch, heads, key, value)]
    r, k, v, bonus, state = (torch.randn(shape, generator=draw, dtype=dtype) for shape in shapes)
    decay = torch.rand(k.shape, generator=draw, dtype=dtype) ** 0.2
    kind = torch.randint(6, decay.shape, generator=draw)
    for number, share in enumerate((0.0, 1e-40, 1 - 1e-7, 1.0)):
        decay = decay.masked_fill(kind == number, share)
    return [r, k, v, decay, bonus, state]


@given(
    st.integers(1, 3), st.integers(1, 150), st.integers(1, 3), st.integers(0, 999), st.sampled_from([1, 2, 8, 64, 256])
)
@example(1, 1, 1, 0, 64)
@example(2, 64, 2, 0, 64)
@example(2, 65, 2, 0, 64)
@example(2, 128, 2, 0, 64)
def test_chunked_recurrence_equals_the_naive_one(batch, time, heads, seed, chunk):
    """For any shape, chunk size and state before it, the chunked recurrence gives what the definition gives."""
    arguments = recurrence(batch, time, heads, seed)
    for found, expected in zip(wkv_chunked(*arguments, chunk), wkv_naive(*arguments), strict=True):
        assert difference(found, expected) < ROUNDING


@pytest.mark.parametrize("decay", [1.0, 0.9999, 0.9, 1e-30, 0.0])
def test_a_long_recurrence_in_single_precision(decay):
    """Over 2,048 tokens in float32, of no, slow and fully underflowing decay, the two forms stay close and finite."""
    r, k, v, decays, bonus, state = recurrence(1, 2048, 2, 0, (8, 8), torch.float32)
    # Some tokens forget half of the channels at once: what follows must not suffer from it.
    decays = torch.where(decays[:, :, :, :1] < 0.1, 0.0, torch.full_like(decays, decay))
    decays[..., ::2] = decay
    arguments = (r, k, v, decays, bonus, state)
    for found, expected in zip(wkv_chunked(*arguments), wkv_naive(*arguments), strict=True):
        assert difference(found, expected) < 1e-5


# One answer.


@every_kind
def test_padding_leaves_no_trace_in_the_state(kind):
    """The state after padded rows is that of the rows alone, whatever the padding is."""
    made, ids, lengths = tiny("rwkv6", kind), random_ids(2, 70), [70, 9]
    padded = ids.clone()
    padded[1, 9:] = random_ids(61, seed=3)
    _, state = made.prefill(ids, torch.tensor(lengths), made.empty_state(2, 70))
    _, other = made.prefill(padded, torch.tensor(lengths), made.empty_state(2, 70))
    assert all(torch.equal(one, two) for one, two in zip(tensors_of(state), tensors_of(other), strict=True))
    _, alone = read_alone(made, ids[1, :9])
    for found, expected in zip(tensors_of(state), tensors_of(alone), strict=True):
        assert difference(found[1], expected[0]) < TOLERANCE


@pytest.mark.parametrize("operator", ["wkv_chunked", "wkv_step"])
def test_training_in_half_precision_spares_the_recurrence(operator, monkeypatch):
    """Where autocast computes in half precision, the recurrence is given and computes single precision."""
    made, seen = tiny("rwkv6", "finch"), []
    plain = getattr(models.families.rwkv6.time_mixing, operator)

    def watched(*given: Tensor) -> tuple[Tensor, Tensor]:
        seen.append((torch.is_autocast_enabled("cpu"), {tensor.dtype for tensor in given}))
        return plain(*given)

    monkeypatch.setattr(models.families.rwkv6.time_mixing, operator, watched)
    with torch.autocast("cpu", torch.bfloat16):
        logits = made(random_ids(1, 1 if operator == "wkv_step" else 40))
    assert logits.dtype == torch.float32
    assert seen == [(False, {torch.float32})] * 3


# The formulas of the paper.


def naive_norm(x: np.ndarray, w: Mapping[str, np.ndarray], name: str, epsilon: float, groups: int = 1) -> np.ndarray:
    """Normalization of each group of one vector."""
    grouped = x.reshape(groups, -1)
    centered = grouped - grouped.mean(1, keepdims=True)
    normed = (centered / np.sqrt((centered**2).mean(1, keepdims=True) + epsilon)).reshape(-1)
    return normed * w[f"{name}.weight"] + w[f"{name}.bias"]


def naive_time_mixing(tokens: list[np.ndarray], w: Mapping[str, np.ndarray], c: Rwkv6Configuration) -> list[np.ndarray]:
    """The paper's time mixing, token by token and head by head."""
    states = np.zeros((c.heads, c.head_size, c.head_size))
    previous, outputs = np.zeros(c.hidden_size), []
    for x in tokens:
        base = x + (previous - x) * w["time_maa_x"].reshape(-1)
        mixed = {}
        for i, use in enumerate("wkvrg"):
            rank = slice(i * c.mix_rank, (i + 1) * c.mix_rank)
            lora = np.tanh(base @ w["time_maa_w1"][:, rank]) @ w["time_maa_w2"][i]
            mixed[use] = x + (previous - x) * (w[f"time_maa_{use}"].reshape(-1) + lora)
        r, k, v = (w[f"{name}.weight"] @ mixed[name[0]] for name in ("receptance", "key", "value"))
        gate = w["gate.weight"] @ mixed["g"]
        decay = w["time_decay"].reshape(-1) + np.tanh(mixed["w"] @ w["time_decay_w1"]) @ w["time_decay_w2"]
        decay = np.exp(-np.exp(decay))
        y = np.zeros(c.hidden_size)
        for h in range(c.heads):
            own = slice(h * c.head_size, (h + 1) * c.head_size)
            added = np.outer(k[own], v[own])
            y[own] = r[own] @ (states[h] + w["time_faaaa"][h][:, None] * added)
            states[h] = decay[own][:, None] * states[h] + added
        y = naive_norm(y, w, "ln_x", 1e-5 * c.head_size_divisor**2, c.heads)
        outputs.append(w["output.weight"] @ (y * gate / (1 + np.exp(-gate))))
        previous = x
    return outputs


def naive_channel_mixing(tokens: list[np.ndarray], w: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The paper's channel mixing, token by token."""
    previous, outputs = np.zeros_like(tokens[0]), []
    for x in tokens:
        key = w["key.weight"] @ (x + (previous - x) * w["time_maa_k"].reshape(-1))
        receptance = w["receptance.weight"] @ (x + (previous - x) * w["time_maa_r"].reshape(-1))
        outputs.append(w["value.weight"] @ np.maximum(key, 0) ** 2 / (1 + np.exp(-receptance)))
        previous = x
    return outputs


def naive_logits(made: Rwkv6Model, ids: list[int]) -> Tensor:
    """The logits of a whole model at every position, [time, vocabulary], in float64."""
    c = made.configuration
    w = {name: tensor.double().numpy() for name, tensor in made.state_dict().items()}
    residual = [w["rwkv.embeddings.weight"][token] for token in ids]
    for layer in range(c.num_hidden_layers):
        own = part_of(w, f"rwkv.blocks.{layer}.")
        if layer == 0:
            residual = [naive_norm(x, own, "pre_ln", c.layer_norm_epsilon) for x in residual]
        normed = [naive_norm(x, own, "ln1", c.layer_norm_epsilon) for x in residual]
        mixed = naive_time_mixing(normed, part_of(own, "attention."), c)
        residual = [x + y for x, y in zip(residual, mixed, strict=True)]
        normed = [naive_norm(x, own, "ln2", c.layer_norm_epsilon) for x in residual]
        mixed = naive_channel_mixing(normed, part_of(own, "feed_forward."))
        residual = [x + y for x, y in zip(residual, mixed, strict=True)]
    final = [naive_norm(x, w, "rwkv.ln_out", 1e-5) for x in residual]
    return torch.tensor(np.stack([w["head.weight"] @ x for x in final]))


def part_of(w: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The weights below a prefix, named without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in w.items() if name.startswith(prefix)}


@every_kind
def test_models_equal_naive_ones(kind):
    """Every kind of model gives the logits of loops over positions and heads in float64."""
    made, ids = tiny("rwkv6", kind), random_ids(1, 70)
    assert difference(made(ids)[0].double(), naive_logits(made, ids[0].tolist())) < TOLERANCE


# The package of the family's authors.


@pytest.fixture(scope="module")
def package() -> Iterator[Any]:
    """The class `rwkv.model.RWKV`, on the processor and uncompiled, with torch's global switches left as they were."""
    switches = [
        (torch.backends.cudnn, "benchmark"),
        (torch.backends.cudnn, "allow_tf32"),
        (torch.backends.cuda.matmul, "allow_tf32"),
    ]
    before = [getattr(owner, name) for owner, name in switches]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RWKV_JIT_ON", "0")
        # The package reads it at every forward.
        patch.setenv("RWKV_CUDA_ON", "0")
        patch.delenv("RWKV_V7_ON", raising=False)
        patch.delenv("RWKV_RESCALE_LAYER", raising=False)
        module = pytest.importorskip("rwkv.model")
        for (owner, name), value in zip(switches, before, strict=True):
            setattr(owner, name, value)
        yield module.RWKV


def original_name(name: str) -> str:
    """The name of a tensor in the files of the family's authors."""
    for ours, theirs in (
        ("rwkv.embeddings.", "emb."),
        ("rwkv.", ""),
        (".pre_ln.", ".ln0."),
        (".attention.", ".att."),
        (".feed_forward.", ".ffn."),
    ):
        name = name.replace(ours, theirs)
    return name


def theirs(package: Any, made: Rwkv6Model, folder: Path) -> Any:
    """The package's model with the same weights."""
    path = folder / "finch.pth"
    torch.save({original_name(name): tensor.clone() for name, tensor in made.state_dict().items()}, path)
    return package(model=str(path), strategy="cpu fp32", verbose=False)


@pytest.mark.parametrize("kind", OF_THE_PACKAGE)
@pytest.mark.parametrize("time", [2, 64, 150])
def test_logits_equal_the_package(package, tmp_path, kind, time):
    """The same weights give the same logits in the `rwkv` package at every position."""
    made, ids = tiny("rwkv6", kind), random_ids(time, seed=time)
    expected, _ = theirs(package, made, tmp_path).forward(ids.tolist(), None, full_output=True)
    assert difference(made(ids[None])[0], expected) < TOLERANCE


@pytest.mark.parametrize("kind", OF_THE_PACKAGE)
@pytest.mark.parametrize("time", [1, 40])
def test_greedy_tokens_equal_the_package(package, tmp_path, kind, time):
    """The same weights give the same greedy tokens in the `rwkv` package, and the same state after them."""
    made, prompt = tiny("rwkv6", kind), random_ids(time, seed=time).tolist()
    model = theirs(package, made, tmp_path)
    logits, state = model.forward(prompt, None)
    tokens: list[int] = []
    while len(tokens) < STEPS:
        tokens.append(int(logits.argmax()))
        logits, state = model.forward(tokens[-1:], state)
    found = greedy(made, [prompt], GreedySettings(STEPS, batch_tokens=100))
    assert found == [tokens]
    ours, after = read_alone(made, torch.tensor(prompt + tokens))
    assert difference(ours[0], logits) < TOLERANCE
    for tensor, expected in zip(tensors_of(after), state, strict=True):
        assert difference(tensor.reshape(expected.shape), expected) < TOLERANCE


# Checkpoints.


def load(directory: Path) -> Rwkv6Model:
    """The model of a directory, in float32 on the CPU."""
    return load_rwkv6(directory, CPU, torch.float32)


def refusal(directory: Path) -> str:
    """The message of the error that loading must raise."""
    return refused(load, directory)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A good checkpoint directory."""
    write_rwkv6(tmp_path / "finch", tiny("rwkv6", "finch"), torch.float32)
    return tmp_path / "finch"


def test_keys_and_shapes_are_the_published_ones(written):
    """A written model has exactly the tensors, under exactly the names and shapes, of a published one."""
    width, inner, published = 32, 96, {}
    for layer in range(3):
        block = f"rwkv.blocks.{layer}."
        for norm in (*(["pre_ln"] if layer == 0 else []), "ln1", "ln2", "attention.ln_x"):
            published |= {f"{block}{norm}.{part}": [width] for part in ("weight", "bias")}
        for name in (*(f"time_maa_{use}" for use in "xwkvrg"), "time_decay"):
            published[f"{block}attention.{name}"] = [1, 1, width]
        for name in ("receptance", "key", "value", "gate", "output"):
            published[f"{block}attention.{name}.weight"] = [width, width]
        published[f"{block}attention.time_maa_w1"] = [width, 160]
        published[f"{block}attention.time_maa_w2"] = [5, 32, width]
        published[f"{block}attention.time_decay_w1"] = [width, 64]
        published[f"{block}attention.time_decay_w2"] = [64, width]
        published[f"{block}attention.time_faaaa"] = [4, 8]
        published |= {f"{block}feed_forward.time_maa_{use}": [1, 1, width] for use in "kr"}
        published[f"{block}feed_forward.key.weight"] = [inner, width]
        published[f"{block}feed_forward.value.weight"] = [width, inner]
        published[f"{block}feed_forward.receptance.weight"] = [width, width]
    published |= {f"rwkv.ln_out.{part}": [width] for part in ("weight", "bias")}
    published |= {key: [53, width] for key in ("rwkv.embeddings.weight", "head.weight")}
    assert {name: list(tensor.shape) for name, tensor in load_file(written / SAFE).items()} == published


def test_a_published_configuration_is_read():
    """The fields that the published 3B model has make its sizes."""
    published = {
        "architectures": ["Rwkv6ForCausalLM"],
        "attention_hidden_size": 2560,
        "auto_map": {
            "AutoConfig": "configuration_rwkv6.Rwkv6Config",
            "AutoModelForCausalLM": "modeling_rwkv6.Rwkv6ForCausalLM",
        },
        "bos_token_id": 0,
        "eos_token_id": 0,
        "head_size": 64,
        "head_size_divisor": 8,
        "hidden_size": 2560,
        "intermediate_size": None,
        "layer_norm_epsilon": 1e-05,
        "model_type": "rwkv6",
        "num_attention_heads": 64,
        "num_hidden_layers": 32,
        "rescale_every": 6,
        "tie_word_embeddings": False,
        "transformers_version": "4.34.0",
        "use_cache": True,
        "vocab_size": 65536,
    }
    read = Rwkv6Configuration.from_json(published)
    assert (read.heads, read.intermediate_size, read.mix_rank, read.decay_rank) == (40, 8960, 32, 64)
    assert read.group_norm_epsilon == pytest.approx(64e-5)
    # The 1.6B model's file has this field too, which bounds nothing.
    assert Rwkv6Configuration.from_json({**published, "context_length": 4096}) == read
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in Rwkv6Model(read).parameters())
    # The paper's table of Finch models: 3.10 billion parameters.
    assert round(count / 1e9, 2) == 3.10


def test_what_a_file_leaves_out_is_as_published():
    """Missing and null fields have the published code's values; the 7B model's width alone doubles the ranks."""
    assert Rwkv6Configuration.from_json({"model_type": "rwkv6", "head_size": None}) == Rwkv6Configuration()
    widest = Rwkv6Configuration.from_json({"model_type": "rwkv6", "hidden_size": 4096})
    assert (widest.attention_hidden_size, widest.intermediate_size) == (4096, 14336)
    assert (widest.mix_rank, widest.decay_rank) == (64, 128)
    # 3.5 * 96 = 336 is no multiple of 32.
    assert Rwkv6Configuration.from_json({**FINCH, "hidden_size": 96}).intermediate_size == 320


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"model_type": "rwkv5"}, "model_type is 'rwkv5'"),
        ({"model_type": None}, "model_type is None"),
        ({"architectures": ["RWKV6ForCausalLM"]}, "architectures is ['RWKV6ForCausalLM']"),
        ({"window": 8}, "unknown field window"),
        ({"quantization_config": {}}, "unknown field quantization_config"),
        ({"vocab_size": 0}, "vocab_size must be a whole number"),
        ({"hidden_size": "32"}, "hidden_size must be a whole number"),
        ({"hidden_size": "32", "attention_hidden_size": None}, "hidden_size must be a whole number"),
        ({"hidden_size": 8, "attention_hidden_size": 8, "intermediate_size": None}, "too small"),
        ({"num_hidden_layers": True}, "num_hidden_layers must be a whole number"),
        ({"attention_hidden_size": 64}, "attention_hidden_size is 64; only hidden_size, 32,"),
        ({"head_size": 12}, "attention_hidden_size, 32, is no multiple of head_size, 12"),
        ({"intermediate_size": 0}, "intermediate_size must be a whole number"),
        ({"head_size_divisor": 0}, "head_size_divisor must be a positive number"),
        ({"head_size_divisor": True}, "head_size_divisor must be a positive number"),
        ({"layer_norm_epsilon": -1e-5}, "layer_norm_epsilon must be a positive number"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings must be true or false, not 1"),
    ],
    ids=str,
)
def test_other_configurations_are_refused(written, fields, fault):
    """A configuration of another architecture, or one that makes no model, is refused by the field at fault."""
    change(written, **fields)
    assert fault in refusal(written)
    with pytest.raises(ConfigurationError):
        Rwkv6Configuration.from_json(json.loads((written / "config.json").read_text()))
