"""A Llama model is transformers' own, and gives one answer however its input is batched, cut or cached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from generators.corpora.sets import EmbeddedCorpora
from models.cards import Card
from models.checkpoints.errors import ConfigurationError
from models.decoding.decoder import DraftingDecoder
from models.families.llama.checkpoint import load_llama, published_tensors, write_llama
from models.families.llama.configuration import LlamaConfiguration
from models.families.llama.model import LlamaModel
from models.families.transformers.model import TransformersModel
from models.layers.attention import attention, causal_attention
from models.loading import load
from suites.support.checkpoint_files import change, refused, transformers_reads
from suites.support.families.llama import CONFIGURATIONS, LLAMA, tiny_model
from suites.support.tiny_models import TOLERANCE, difference, random_ids, tiny
from zoo.cards import FOLDER
from zoo.training.families import new_model

CPU = torch.device("cpu")


every_kind = pytest.mark.parametrize("kind", CONFIGURATIONS)


def loaded(directory: Path) -> LlamaModel | TransformersModel:
    """The model of a directory, in float32."""
    return load_llama(directory, CPU, torch.float32)


def refusal(directory: Path) -> str:
    """What loading says of a bad checkpoint."""
    return refused(loaded, directory)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A good checkpoint."""
    write_llama(tmp_path / "llama", tiny("llama", "grouped"), torch.float32)
    return tmp_path / "llama"


# Attention.


@given(st.integers(1, 3), st.integers(1, 200), st.integers(0, 90), st.sampled_from([1, 2, 4]))
@example(2, 64, 0, 4)
@example(1, 65, 64, 2)
@settings(max_examples=40)
def test_causal_attention_sees_all_places_up_to_its_own(batch, queries, before, shared):
    """However many tokens come before and however they are cut, attention is that with the whole mask."""
    draw = torch.Generator().manual_seed(queries)
    q = torch.randn(batch, 4, queries, 8, generator=draw)
    k, v = torch.randn(2, batch, shared, before + queries, 8, generator=draw)
    hidden = torch.ones(queries, before + queries, dtype=torch.bool).triu(before + 1)
    mask = torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)
    assert difference(causal_attention(q, k, v), attention(q, k, v, mask)) < 1e-5


# One answer, whatever the way.


@every_kind
@given(st.data())
@settings(max_examples=8)
def test_a_draft_leaves_no_trace(kind, data):
    """Drafts read along with prompts have the logits of a full forward, and what follows does not know of them."""
    made, batch = tiny("llama", kind), data.draw(st.integers(1, 3))
    assert isinstance(made, DraftingDecoder)
    together = data.draw(st.booleans())
    sizes = st.lists(st.integers(1, 70), min_size=batch, max_size=batch)
    before = [data.draw(st.integers(1, 70))] * batch if together else data.draw(sizes)
    lengths = data.draw(sizes)
    drafted = data.draw(st.lists(st.integers(0, 6), min_size=batch, max_size=batch))
    ids, later = random_ids(batch, 160), random_ids(batch, 2, seed=1)
    _, state = made.prefill(ids, torch.tensor(before), made.empty_state(batch, 150))
    new = torch.stack([row[start : start + 80] for row, start in zip(ids, before, strict=True)])
    ends = torch.tensor(lengths) + torch.tensor(drafted)
    found, state = made.prefill_drafted(new, ends, torch.tensor(drafted), state)
    after, _ = made.prefill(later, torch.full((batch,), 2), state)
    for i, (start, length, count) in enumerate(zip(before, lengths, drafted, strict=True)):
        expected = made(ids[i : i + 1, : start + length + count])[0, start + length - 1 :]
        assert difference(found[i, : count + 1], expected) < TOLERANCE
        whole = torch.cat([ids[i, : start + length], later[i]])
        assert difference(after[i], made(whole[None])[0, -1]) < TOLERANCE


def test_slots_that_hold_no_number_are_not_seen():
    """Whatever the memory of a new state holds, also no numbers at all, leaves no trace."""
    made, ids = tiny("llama", "grouped"), random_ids(2, 12)
    lengths, more = torch.tensor([12, 5]), torch.tensor([3, 7])

    def read(filled: float) -> torch.Tensor:
        state = made.empty_state(2, 40)
        for layer in state.layers:
            layer.keys.fill_(filled)
            layer.values.fill_(filled)
        _, state = made.prefill(ids, lengths, state)
        state = state.select(torch.tensor([1, 0])).joined([state])
        for layer in state.layers:
            layer.keys[:, :, 12:] = filled
            layer.values[:, :, 12:] = filled
        logits, state = made.prefill(ids[[0, 1, 0, 1], :7], more.repeat(2), state)
        return torch.cat([logits, made.step(ids[0, :4], state)[0]])

    assert torch.equal(read(torch.nan), read(0.0))


# transformers.


def theirs(made: LlamaModel) -> Any:
    """The model of transformers with the same weights, in slow but plain attention."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(**made.configuration.to_json(), attn_implementation="eager"))
    missing, unexpected = model.load_state_dict(published_tensors(made), strict=False)
    assert missing == (["lm_head.weight"] if made.configuration.tie_word_embeddings else [])
    assert not unexpected
    model.tie_weights()
    return model.eval()


@every_kind
@pytest.mark.parametrize("time", [1, 64, 150])
def test_logits_equal_transformers(kind, time):
    """The same weights give the same logits in transformers' class at every position."""
    ids = random_ids(2, time)
    with torch.inference_mode():
        expected = theirs(tiny("llama", kind))(ids, use_cache=False).logits
    assert difference(tiny("llama", kind)(ids), expected) < TOLERANCE


def test_models_begin_as_in_transformers():
    """Freshly drawn weights have the means and deviations that transformers gives them, tensor by tensor."""
    from transformers import LlamaConfig, LlamaForCausalLM

    for fields in ({}, {"initializer_range": 0.06, "attention_bias": True}):
        given = {**CONFIGURATIONS["biases"], "hidden_size": 128, "intermediate_size": 256, **fields}
        made = published_tensors(new_model("llama", given, 0))
        for key, tensor in LlamaForCausalLM(LlamaConfig(**given)).state_dict().items():
            assert made[key].mean().item() == pytest.approx(tensor.mean().item(), abs=2e-3), key
            assert made[key].std().item() == pytest.approx(tensor.std().item(), rel=0.05), key


# Checkpoints.


@every_kind
def test_transformers_reads_what_is_written(tmp_path, kind):
    """A written directory is loaded by transformers as its own, and gives the same logits."""
    transformers_reads(tmp_path, tiny("llama", kind), write_llama, "LlamaForCausalLM", TOLERANCE)


@every_kind
@pytest.mark.parametrize("shard", ["50GB", "20KB"], ids=["one file", "many files"])
def test_what_transformers_writes_is_read(tmp_path, kind, shard):
    """A directory that transformers saved, in one file or in many, is the same model, and one of ours."""
    theirs(tiny("llama", kind)).save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "20KB")
    made = loaded(tmp_path)
    assert isinstance(made, LlamaModel)
    assert torch.equal(made(random_ids(1, 20)), tiny("llama", kind)(random_ids(1, 20)))


def test_old_files_may_repeat_the_frequencies(written):
    """The rotary frequencies that old files hold in every layer are left alone."""
    path = written / "model.safetensors"
    save_file({**load_file(path), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}, path)
    assert torch.equal(loaded(written)(random_ids(1, 9)), tiny("llama", "grouped")(random_ids(1, 9)))


@pytest.mark.parametrize("fields", [{}, {"head_dim": None, "num_attention_heads": 8}], ids=str)
def test_what_a_file_leaves_out_is_as_in_transformers(fields):
    """Missing and null fields have the values that transformers gives them."""
    from transformers import LlamaConfig

    read, default = LlamaConfiguration.from_json(fields), LlamaConfig(**fields)
    for name in LlamaConfiguration.__dataclass_fields__:
        expected = default.rope_parameters[name] if name == "rope_theta" else getattr(default, name)
        assert getattr(read, name) == expected, name


LLAMA_3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_parameters": {**LLAMA_3, "rope_theta": 100.0, "original_max_position_embeddings": 40}},
        {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}},
        {"hidden_act": "gelu"},
    ],
    ids=str,
)
def test_what_ours_lacks_runs_in_transformers(tmp_path, fields):
    """A Llama with scaled positions or another activation runs in transformers' class, and gives its logits."""
    theirs(tiny("llama", "grouped")).save_pretrained(tmp_path)
    change(tmp_path, **fields)
    made = loaded(tmp_path)
    assert isinstance(made, TransformersModel)
    assert difference(made(random_ids(1, 40)), tiny("llama", "grouped")(random_ids(1, 40))) > 10 * TOLERANCE


@pytest.mark.parametrize(("fields", "name"), [({}, "longwatch"), ({"hidden_act": "gelu"}, "transformers")])
def test_the_environment_tells_whose_implementation_runs(tmp_path, fields, name):
    """A card of the family records whether its model ran in our class or in transformers'."""
    write_llama(tmp_path, tiny_model({**LLAMA, "vocab_size": 1024}))
    change(tmp_path, **fields)
    card = Card("m", "llama", str(FOLDER / "pocket" / "tokenizer.json"), path=".", end_of_sequence="</s>")
    assert load(card, tmp_path, "cpu", EmbeddedCorpora()).environment["implementation"] == name


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"num_key_value_heads": 3}, "num_attention_heads, 4, is no multiple of num_key_value_heads, 3"),
        ({"num_key_value_heads": 8}, "num_attention_heads, 4, is no multiple of num_key_value_heads, 8"),
        ({"hidden_size": 30}, "hidden_size, 30, is no multiple of num_attention_heads, 4"),
        ({"head_dim": 7}, "a head is 7 wide"),
        ({"vocab_size": 0}, "vocab_size must be a whole number"),
        ({"num_attention_heads": 0}, "num_attention_heads must be a whole number"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers must be a whole number"),
        ({"rms_norm_eps": 0}, "rms_norm_eps must be a positive number"),
        ({"rope_parameters": {"rope_theta": True}}, "rope_theta must be a positive number"),
        ({"attention_bias": 1}, "attention_bias must be true or false, not 1"),
    ],
    ids=str,
)
def test_impossible_configurations_are_refused(written, fields, fault):
    """A configuration that makes no model is refused by the field at fault."""
    change(written, **fields)
    assert fault in refusal(written)


@pytest.mark.parametrize(
    "fields", [{"hidden_act": "gelu"}, {"window": 8}, {"rope_parameters": 8}, {"rope_scaling": LLAMA_3}], ids=str
)
def test_configurations_that_are_not_covered(fields):
    """What a configuration asks for beyond the family's fields is not covered, and not read over."""
    assert LlamaConfiguration.covers(LLAMA)
    assert not LlamaConfiguration.covers({**LLAMA, **fields})
    with pytest.raises(ConfigurationError, match="does not implement"):
        LlamaConfiguration.from_json({**LLAMA, **fields})


@pytest.mark.parametrize(
    "fields", [{"model_type": "mistral"}, {"model_type": None}, {"architectures": ["LlamaForSequenceClassification"]}]
)
def test_other_architectures_are_refused(written, fields):
    """A checkpoint of another architecture is refused by its name, with the family that takes it."""
    change(written, **fields)
    message = refusal(written)
    assert "is not a Llama language model" in message
    assert all(str(value) in message for value in fields.values())
