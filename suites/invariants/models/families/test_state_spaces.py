"""A model of the state-spaces family gives one answer, however its input is batched, cut or cached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

import models.families.state_spaces.model
from models.checkpoints.errors import ConfigurationError
from models.decoding.greedy import GreedySettings, greedy
from models.families.state_spaces.checkpoint import write_state_spaces
from models.families.state_spaces.configuration import (
    AttentionConfiguration,
    Mamba2Configuration,
    StateSpacesConfiguration,
)
from models.families.state_spaces.defects import CONVOLVED_HISTORY
from models.families.state_spaces.model import StateSpacesModel
from models.layers.convolution import causal_convolution, last_inputs
from suites.support.families.state_spaces import CONFIGURATIONS, HYBRID, MAMBA2, TRANSFORMER, changed, tiny_model
from suites.support.tiny_models import TOLERANCE, difference, random_ids, tiny

STEPS = 24

every_kind = pytest.mark.parametrize("kind", CONFIGURATIONS)


def cached_difference(made: StateSpacesModel, ids: Tensor, first: int) -> float:
    """How far cached steps after a prefill of `first` tokens are from a full forward, at the worst position."""
    full = made(ids)[..., : made.configuration.vocab_size]
    lengths = torch.full(ids.shape[:1], first)
    logits, state = made.prefill(ids[:, :first], lengths, made.empty_state(*ids.shape))
    found = [logits]
    for t in range(first, ids.shape[1]):
        logits, state = made.step(ids[:, t], state)
        found.append(logits)
    return difference(torch.stack(found, 1), full[:, first - 1 :])


@pytest.mark.parametrize("kind", ["hybrid", "transformer"])
def test_padding_takes_no_room(kind):
    """A state with room for exactly the real tokens of each row takes them in padded pieces of unequal lengths."""
    made, whole = tiny("state-spaces", kind), random_ids(2, 12)
    state = made.empty_state(2, 12)
    _, state = made.prefill(whole[:, :8], torch.tensor([8, 2]), state)
    second = torch.zeros(2, 10, dtype=torch.long)
    second[0, :4], second[1] = whole[0, 8:], whole[1, 2:]
    logits, _ = made.prefill(second, torch.tensor([4, 10]), state)
    expected, _ = made.prefill(whole, torch.tensor([12, 12]), made.empty_state(2, 12))
    assert difference(logits, expected) < TOLERANCE


@every_kind
def test_padded_vocabulary_is_never_predicted(kind):
    """Embedding rows that only pad the vocabulary are never chosen, however large their logits would be."""
    made = tiny_model(CONFIGURATIONS[kind])
    vocabulary, padded = made.configuration.vocab_size, made.configuration.padded_vocabulary
    assert padded >= vocabulary + 2
    # One of two opposite directions always wins.
    made.lm_head.weight[vocabulary] = 1e3
    made.lm_head.weight[vocabulary + 1] = -1e3
    prompts = random_ids(3, 9)
    assert (made(prompts).argmax(-1) >= vocabulary).all()
    logits, state = made.prefill(prompts, torch.tensor([9, 4, 1]), made.empty_state(3, 10))
    stepped, _ = made.step(prompts[:, 0], state)
    assert logits.shape == stepped.shape == (3, vocabulary)
    found = greedy(made, prompts.tolist(), GreedySettings(8, batch_tokens=100))
    assert max(map(max, found)) < vocabulary


def forgetful(made: StateSpacesModel, *, in_steps: bool) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """`last_inputs`, except that attention remembers its convolved values (in steps too, or in prefills alone)."""
    mixers = [made.backbone.layers[i].mixer for i in made.configuration.attn_layer_idx]
    convolutions = {mixer.conv1d.weight.shape[0]: mixer.conv1d for mixer in mixers}

    def last(x: Tensor, lengths: Tensor, history: Tensor) -> Tensor:
        convolution = convolutions.get(x.shape[2])
        if convolution is not None and (in_steps or x.shape[1] > 1):
            x = causal_convolution(x, convolution.weight, convolution.bias, history)
        return last_inputs(x, lengths, history)

    return last


@pytest.mark.parametrize("in_steps", [False, True])
@pytest.mark.parametrize("kind", ["hybrid", "hybrid-attention-last", "hybrid-grouped", "hybrid-interleaved"])
def test_a_history_of_convolved_values_would_be_caught(kind, in_steps, monkeypatch):
    """Attention that remembers its convolution's outputs, not its inputs, fails the step-against-forward check."""
    made, ids = tiny("state-spaces", kind), random_ids(2, 20, seed=5)
    assert cached_difference(made, ids, 5) < TOLERANCE
    monkeypatch.setattr(models.families.state_spaces.model, "last_inputs", forgetful(made, in_steps=in_steps))
    assert cached_difference(made, ids, 5) > 100 * TOLERANCE


def test_the_defect_is_emulated_where_asked_for():
    """A model that emulates mamba-ssm's defect fails the check in just the way that a forgetful prefill does."""
    made, ids = tiny("state-spaces", "hybrid"), random_ids(2, 20, seed=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.families.state_spaces.model, "last_inputs", forgetful(made, in_steps=False))
        expected = cached_difference(made, ids, 5)
    emulating = tiny_model(HYBRID)
    emulating.load_state_dict(made.state_dict())
    emulating.emulate([CONVOLVED_HISTORY])
    assert cached_difference(emulating, ids, 5) == expected > 100 * TOLERANCE


@pytest.mark.parametrize(("kind", "defect"), [("hybrid", "mamba-ssm#1"), ("mamba2", CONVOLVED_HISTORY)])
def test_a_defect_that_cannot_be_emulated_is_refused(kind, defect):
    """A defect that is unknown, or that the model has no place for, is refused by its name."""
    with pytest.raises(ValueError, match=defect):
        tiny("state-spaces", kind).emulate([defect])


@pytest.mark.parametrize(
    ("ssm", "tie"),
    [
        ({}, True),
        ({"ngroups": 2}, False),
        ({"bias": True, "conv_bias": False}, True),
        ({"d_state": 16, "headdim": 16, "expand": 1}, False),
    ],
)
def test_mamba2_equals_transformers(ssm, tie):
    """The same weights give the same logits and the same greedy tokens in transformers' own Mamba2."""
    from transformers import Mamba2Config, Mamba2ForCausalLM

    made = tiny_model(changed(MAMBA2, ssm_cfg=ssm, tie_embeddings=tie))
    c, m = made.configuration, made.configuration.mamba2
    theirs = Mamba2ForCausalLM(
        Mamba2Config(
            vocab_size=c.padded_vocabulary,
            hidden_size=c.d_model,
            num_hidden_layers=c.n_layer,
            num_heads=m.expand * c.d_model // m.headdim,
            head_dim=m.headdim,
            state_size=m.d_state,
            expand=m.expand,
            conv_kernel=m.d_conv,
            n_groups=m.ngroups,
            use_bias=m.bias,
            use_conv_bias=m.conv_bias,
            layer_norm_epsilon=1e-5,
            chunk_size=16,
            tie_word_embeddings=tie,
            pad_token_id=None,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    renamed = {name.replace("embedding.", "embeddings."): tensor for name, tensor in made.state_dict().items()}
    theirs.load_state_dict(renamed, strict=True)
    theirs.eval()

    ids = random_ids(2, 75)
    with torch.inference_mode():
        assert difference(made(ids), theirs(ids).logits) < TOLERANCE
        prompt = ids[:1, :20]
        expected = theirs(prompt, use_cache=True)
        state = expected.cache_params
        tokens = []
        while len(tokens) < STEPS:
            tokens.append(int(expected.logits[0, -1, : c.vocab_size].argmax()))
            expected = theirs(torch.tensor([tokens[-1:]]), cache_params=state, use_cache=True)
    found = greedy(made, prompt.tolist(), GreedySettings(STEPS, batch_tokens=100))
    assert found == [tokens]


def silu(x: np.ndarray) -> np.ndarray:
    """The product of x and its sigmoid."""
    return x / (1 + np.exp(-x))


def naive_norm(x: np.ndarray, w: Mapping[str, np.ndarray], name: str, groups: int = 1) -> np.ndarray:
    """One token, layer-normalized where the norm has a bias, and by the root of its mean square otherwise."""
    if f"{name}.bias" in w:
        return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]
    normed = [part / np.sqrt(np.mean(part**2) + 1e-5) for part in np.split(x, groups)]
    return np.concatenate(normed) * w[f"{name}.weight"]


def naive_convolved(tokens: Sequence[np.ndarray], t: int, w: Mapping[str, np.ndarray]) -> np.ndarray:
    """The causal convolution's output at token t."""
    taps = w["conv1d.weight"].shape[2]
    total = w.get("conv1d.bias", 0.0)
    for back in range(min(taps, t + 1)):
        total = total + w["conv1d.weight"][:, 0, taps - 1 - back] * tokens[t - back]
    return total


def naive_rotated(x: np.ndarray, position: int, c: AttentionConfiguration) -> np.ndarray:
    """One head's query or key, each pair of its first dimensions turned by an angle that grows with the position."""
    turned, width = x.copy(), c.rotary_emb_dim
    for i in range(width // 2):
        one, two = (2 * i, 2 * i + 1) if c.rotary_emb_interleaved else (i, i + width // 2)
        angle = position / c.rotary_emb_base ** (2 * i / width)
        turned[one] = x[one] * np.cos(angle) - x[two] * np.sin(angle)
        turned[two] = x[one] * np.sin(angle) + x[two] * np.cos(angle)
    return turned


def naive_attention(
    tokens: Sequence[np.ndarray], w: Mapping[str, np.ndarray], c: AttentionConfiguration
) -> list[np.ndarray]:
    """The attention layer position by position."""
    heads, heads_kv = c.num_heads, c.num_heads_kv or c.num_heads
    channels = (heads + 2 * heads_kv) * c.head_dim
    scale = c.softmax_scale or 1 / np.sqrt(c.head_dim)
    projected = [w["in_proj.weight"] @ token + w.get("in_proj.bias", 0.0) for token in tokens]
    unconvolved = [token[:channels] for token in projected]
    keys, values, outputs = [], [], []
    for t in range(len(tokens)):
        qkv = naive_convolved(unconvolved, t, w) if c.d_conv else unconvolved[t]
        parts = qkv.reshape(-1, c.head_dim)
        queries = [naive_rotated(q, t, c) for q in parts[:heads]]
        keys.append([naive_rotated(k, t, c) for k in parts[heads : heads + heads_kv]])
        values.append(parts[heads + heads_kv :])
        context = []
        for h in range(heads):
            shared = h // (heads // heads_kv)
            weights = np.array([np.exp(scale * (queries[h] @ keys[s][shared])) for s in range(t + 1)])
            context.append(sum(weight * values[s][shared] for s, weight in enumerate(weights / weights.sum())))
        up, gate = np.split(projected[t][channels:], 2)
        mixed = np.concatenate([*context, up * silu(gate)])
        outputs.append(w["out_proj.weight"] @ mixed + w.get("out_proj.bias", 0.0))
    return outputs


def naive_mamba2(tokens: Sequence[np.ndarray], w: Mapping[str, np.ndarray], c: Mamba2Configuration) -> list[np.ndarray]:
    """The Mamba2 layer position by position, its state updated head by head."""
    inner = w["out_proj.weight"].shape[1]
    d_ssm, d_bc = c.d_ssm or inner, c.ngroups * c.d_state
    heads, d_mlp = d_ssm // c.headdim, inner - d_ssm
    starts = np.cumsum([d_mlp, d_mlp, d_ssm, d_ssm + 2 * d_bc])
    projected = [np.split(w["in_proj.weight"] @ token + w.get("in_proj.bias", 0.0), starts) for token in tokens]
    channels = [parts[3] for parts in projected]
    states = np.zeros((heads, c.headdim, c.d_state))
    outputs = []
    for t, (mlp_gate, mlp, gate, _, raw_dt) in enumerate(projected):
        x, b, read = np.split(silu(naive_convolved(channels, t, w)), [d_ssm, d_ssm + d_bc])
        y = np.zeros(d_ssm)
        for h in range(heads):
            own, group = slice(h * c.headdim, (h + 1) * c.headdim), h // (heads // c.ngroups)
            shared = slice(group * c.d_state, (group + 1) * c.d_state)
            dt = np.clip(np.log1p(np.exp(raw_dt[h] + w["dt_bias"][h])), *c.dt_limit)
            states[h] = np.exp(-dt * np.exp(w["A_log"][h])) * states[h] + dt * np.outer(x[own], b[shared])
            y[own] = states[h] @ read[shared] + x[own] * w["D"][own if c.D_has_hdim else h]
        if not c.rmsnorm:
            y = y * silu(gate)
        elif c.norm_before_gate:
            y = naive_norm(y, w, "norm", c.ngroups) * silu(gate)
        else:
            y = naive_norm(y * silu(gate), w, "norm", c.ngroups)
        mixed = np.concatenate([silu(mlp_gate) * mlp, y])
        outputs.append(w["out_proj.weight"] @ mixed + w.get("out_proj.bias", 0.0))
    return outputs


def naive_logits(made: StateSpacesModel, ids: Sequence[int]) -> Tensor:
    """The logits of a whole model at every position, [time, vocabulary], in float64."""
    c = made.configuration
    w = {name: tensor.double().numpy() for name, tensor in made.state_dict().items()}
    residual = [w["backbone.embedding.weight"][token] for token in ids]
    for layer in range(c.n_layer):
        prefix = f"backbone.layers.{layer}."
        own = {name.removeprefix(prefix): w[name] for name in w if name.startswith(prefix)}
        mixer = {name.removeprefix("mixer."): own[name] for name in own if name.startswith("mixer.")}
        normed = [naive_norm(x, own, "norm") for x in residual]
        if layer in c.attn_layer_idx:
            mixed = naive_attention(normed, mixer, c.attention)
        else:
            mixed = naive_mamba2(normed, mixer, c.mamba2)
        residual = [x + y for x, y in zip(residual, mixed, strict=True)]
        if c.d_intermediate:
            for t, x in enumerate(residual):
                up, gate = np.split(own["mlp.fc1.weight"] @ naive_norm(x, own, "norm2"), 2)
                residual[t] = x + own["mlp.fc2.weight"] @ (up * silu(gate))
    final = [naive_norm(x, w, "backbone.norm_f") for x in residual]
    return torch.tensor(np.stack([w["lm_head.weight"] @ x for x in final]))


@every_kind
def test_models_equal_naive_ones(kind):
    """Every kind of model gives the logits of loops over positions and heads in float64."""
    made, ids = tiny("state-spaces", kind), random_ids(1, 24)
    assert difference(made(ids)[0].double(), naive_logits(made, ids[0].tolist())) < TOLERANCE


@pytest.mark.parametrize(
    "attention",
    [
        {},
        {"rotary_emb_dim": 0},
        {"rotary_emb_dim": 4, "rotary_emb_base": 100.0},
        {"rotary_emb_dim": 6, "rotary_emb_interleaved": True},
        {"d_conv": 4, "rotary_emb_dim": 4},
        {"d_conv": 4, "rotary_emb_dim": 8, "num_heads_kv": 2},
        {"d_conv": 2, "rotary_emb_dim": 8, "rotary_emb_interleaved": True, "num_heads_kv": 1},
        {"d_conv": 4, "mlp_dim": 200, "softmax_scale": 1.5},
        {"d_conv": 4, "rotary_emb_dim": 4, "qkv_proj_bias": True, "out_proj_bias": True, "head_dim": 16},
    ],
    ids=str,
)
def test_peaked_attention_equals_a_naive_one(attention):
    """Attention far from uniform, read at once or step by step, gives the logits of loops over positions in float64."""
    made = tiny_model(changed(TRANSFORMER, attn_cfg=attention, tie_embeddings=False))
    for layer in made.backbone.layers:
        layer.mixer.in_proj.weight *= 2
    ids = random_ids(1, 24)
    assert difference(made(ids)[0].double(), naive_logits(made, ids[0].tolist())) < TOLERANCE
    assert cached_difference(made, ids, 7) < TOLERANCE


def test_widths_are_rounded_up_as_published():
    """The gated MLP's width is a multiple of 128, the attention's parallel MLP's of 256, both rounded up."""
    made = tiny_model(changed(TRANSFORMER, d_intermediate=130, attn_cfg={"mlp_dim": 257}))
    block = made.backbone.layers[0]
    assert block.mlp.fc1.weight.shape == (2 * 256, 32)
    assert block.mlp.fc2.weight.shape == (32, 256)
    assert block.mixer.in_proj.weight.shape == (3 * 32 + 512, 32)
    assert block.mixer.out_proj.weight.shape == (32, 32 + 256)


@pytest.mark.parametrize(
    ("configuration", "name", "where"),
    [
        ({**HYBRID, "n_layers": 2}, "n_layers", ""),
        (changed(HYBRID, ssm_cfg={"dstate": 8}), "dstate", "ssm_cfg: "),
        (changed(MAMBA2, ssm_cfg={"chunk": 8}), "chunk", "ssm_cfg: "),
        (changed(HYBRID, attn_cfg={"rotary_dim": 8}), "rotary_dim", "attn_cfg: "),
        (changed(TRANSFORMER, attn_cfg={"window": 8}), "window", "attn_cfg: "),
    ],
)
def test_unknown_fields_are_refused_by_name(configuration, name, where):
    """A field that no part of the model reads is refused, by its name and place."""
    with pytest.raises(ConfigurationError, match=rf"^config\.json: {where}unknown field {name}\b.*; there are "):
        StateSpacesConfiguration.from_json(configuration)


@pytest.mark.parametrize(
    ("configuration", "fault"),
    [
        ({**MAMBA2, "ssm_cfg": {"d_state": 8}}, "ssm_cfg.layer is 'Mamba1'"),
        ({**HYBRID, "ssm_cfg": {}}, "ssm_cfg.layer is 'Mamba1'"),
        (changed(MAMBA2, ssm_cfg={"layer": "Mamba1"}), "ssm_cfg.layer is 'Mamba1'"),
        (changed(MAMBA2, ssm_cfg={"layer": "Mamba3"}), "ssm_cfg.layer is 'Mamba3'"),
        (changed(HYBRID, attn_layer_idx=[0, 3]), "attn_layer_idx names layers outside 0-2"),
        (changed(HYBRID, attn_cfg={"causal": False}), "attn_cfg.causal must be true"),
        ({**HYBRID, "attn_cfg": {"causal": True}}, "lacks the field num_heads"),
    ],
)
def test_layers_of_other_kinds_are_refused(configuration, fault):
    """A configuration of layers that this family does not have (Mamba1, where none is named) is refused."""
    with pytest.raises(ConfigurationError, match=fault):
        StateSpacesConfiguration.from_json(configuration)


# Checkpoints.

# A Mamba2 layer and an attention layer, each with a gated MLP.
PUBLISHED = {
    "backbone.embedding.weight",
    "backbone.layers.0.norm.weight",
    "backbone.layers.0.mixer.in_proj.weight",
    "backbone.layers.0.mixer.conv1d.weight",
    "backbone.layers.0.mixer.conv1d.bias",
    "backbone.layers.0.mixer.dt_bias",
    "backbone.layers.0.mixer.A_log",
    "backbone.layers.0.mixer.D",
    "backbone.layers.0.mixer.norm.weight",
    "backbone.layers.0.mixer.out_proj.weight",
    "backbone.layers.0.norm2.weight",
    "backbone.layers.0.mlp.fc1.weight",
    "backbone.layers.0.mlp.fc2.weight",
    "backbone.layers.1.norm.weight",
    "backbone.layers.1.mixer.in_proj.weight",
    "backbone.layers.1.mixer.conv1d.weight",
    "backbone.layers.1.mixer.conv1d.bias",
    "backbone.layers.1.mixer.out_proj.weight",
    "backbone.layers.1.norm2.weight",
    "backbone.layers.1.mlp.fc1.weight",
    "backbone.layers.1.mlp.fc2.weight",
    "backbone.norm_f.weight",
    "lm_head.weight",
}


def test_keys_are_the_published_ones(tmp_path):
    """A written hybrid has exactly the tensors, under exactly the names, of a published one, in float16."""
    write_state_spaces(tmp_path, tiny_model(changed(HYBRID, n_layer=2)))
    tensors = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    assert set(tensors) == PUBLISHED
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert tensors["lm_head.weight"].data_ptr() == tensors["backbone.embedding.weight"].data_ptr()
