"""A model of the transformers library gives its own answers, however its input is batched, cut or cached."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.checkpoints.errors import CheckpointError
from models.decoding.greedy import GreedySettings, greedy
from models.families.transformers.model import load_transformers
from suites.support.families.transformers import ATTENTION_SIZES, CONFIGURATIONS, published
from suites.support.tiny_models import TOLERANCE, difference, random_ids, tiny

CPU = torch.device("cpu")
CONFIGURATION, SAFE, PICKLED = "config.json", "model.safetensors", "pytorch_model.bin"
STEPS = 24


ATTENTION = ("llama", "gpt-neox", "mistral", "gemma2", "gpt2", "bloom")

every_kind = pytest.mark.parametrize("kind", CONFIGURATIONS)


def expected_logits(kind: str, ids: Tensor) -> Tensor:
    """The library's logits for one row read whole, [time, vocabulary]."""
    return published(kind)(ids[None], use_cache=False).logits[0]


@every_kind
@given(st.data())
@settings(max_examples=4)
def test_pieces_of_batches_equal_the_library(kind, data):
    """Unequal rows in padded pieces, then steps, then forks and dropped rows, give the library's logits for each."""
    made = tiny("transformers", kind)
    batch = data.draw(st.integers(1, 4))
    pieces = data.draw(st.lists(st.lists(st.integers(1, 18), min_size=batch, max_size=batch), min_size=1, max_size=3))
    forks = data.draw(st.lists(st.integers(0, batch - 1), min_size=1, max_size=5))
    whole = random_ids(batch, sum(map(max, pieces)) + 4, seed=1)
    expected = [expected_logits(kind, row) for row in whole]
    done, who = [0] * batch, list(range(batch))
    state = made.empty_state(batch, whole.shape[1])
    for piece in pieces:
        ids = random_ids(batch, max(piece) + 1, seed=77)
        for i, length in enumerate(piece):
            ids[i, :length] = whole[i, done[i] : done[i] + length]
            done[i] += length
        logits, state = made.prefill(ids, torch.tensor(piece), state)
        for i in range(batch):
            assert difference(logits[i], expected[i][done[i] - 1]) < TOLERANCE
    for step in range(4):
        if step == 2:
            state, who, done = state.select(torch.tensor(forks)), forks, [done[i] for i in forks]
        ids = torch.stack([whole[row, at] for row, at in zip(who, done, strict=True)])
        logits, state = made.step(ids, state)
        for i, (row, at) in enumerate(zip(who, done, strict=True)):
            assert difference(logits[i], expected[row][at]) < TOLERANCE
        done = [at + 1 for at in done]


@every_kind
def test_cached_steps_equal_a_full_forward(kind):
    """Each step from the first token on, past any window and any block of a scan, gives the full forward's logits."""
    made, ids = tiny("transformers", kind), random_ids(2, 40)
    logits, state = made.prefill(ids[:, :1], torch.tensor([1, 1]), made.empty_state(2, 40))
    found = [logits]
    for token in ids[:, 1:].unbind(1):
        logits, state = made.step(token, state)
        found.append(logits)
    assert difference(torch.stack(found, 1), made(ids)) < TOLERANCE
    assert difference(made(ids), torch.stack([expected_logits(kind, row) for row in ids])) < TOLERANCE


@every_kind
def test_greedy_tokens_are_those_of_generate(kind):
    """Batched decoding of unequal prompts takes the tokens that the library's `generate` takes for each alone."""
    prompts = [random_ids(length, seed=length).tolist() for length in (3, 1, 41)]
    found = greedy(tiny("transformers", kind), prompts, GreedySettings(STEPS, batch_tokens=1000))
    for prompt, new in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt])
        whole = published(kind).generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=STEPS, pad_token_id=0
        )
        assert new == whole[0, len(prompt) :].tolist()


@every_kind
def test_rows_that_end_leave_the_others_alone(kind):
    """With an end of sequence each prompt gets what it gets without one, up to there, also when all have ended."""
    prompts = [random_ids(length, seed=length).tolist() for length in (3, 12, 7, 20)]
    budget: dict[str, Any] = {"tokens_to_generate": 20, "batch_tokens": 1000}
    free = greedy(tiny("transformers", kind), prompts, GreedySettings(**budget))
    for end in {new[5] for new in free}:
        expected = [new[: new.index(end)] if end in new else new for new in free]
        assert greedy(tiny("transformers", kind), prompts, GreedySettings(end_of_sequence=end, **budget)) == expected
    assert greedy(tiny("transformers", kind), prompts[:1], GreedySettings(end_of_sequence=free[0][0], **budget)) == [[]]


@every_kind
def test_forks_do_not_disturb_each_other(kind):
    """Rows forked from one state, and the state itself, each continue as if alone."""
    made, whole = tiny("transformers", kind), random_ids(2, 12)
    _, state = made.prefill(whole, torch.tensor([12, 9]), made.empty_state(2, 20))
    forked = state.select(torch.tensor([0, 0, 1]))
    later = random_ids(3, 3, seed=5)
    for token in later.unbind(1):
        logits, forked = made.step(token, forked)
    plain, _ = made.prefill(later[1:], torch.tensor([3, 3]), state)
    for i, row in enumerate([whole[0], whole[0], whole[1, :9]]):
        assert difference(logits[i], expected_logits(kind, torch.cat([row, later[i]]))[-1]) < TOLERANCE
    for i, row in enumerate([whole[0], whole[1, :9]]):
        assert difference(plain[i], expected_logits(kind, torch.cat([row, later[1 + i]]))[-1]) < TOLERANCE


@pytest.mark.parametrize("kind", ATTENTION)
def test_memory_is_that_of_the_longest_row(kind):
    """The cache has a slot for each token of the longest row, or of a window, and none for what all rows lack."""
    made = tiny("transformers", kind)
    state = made.empty_state(2, 40)
    _, state = made.prefill(random_ids(2, 20), torch.tensor([20, 4]), state)
    _, state = made.prefill(random_ids(2, 20), torch.tensor([2, 20]), state)
    for rows, slots in ([0, 1], 24), ([0], 22):
        for layer in state.select(torch.tensor(rows)).cache.layers:
            window = getattr(layer, "sliding_window", slots + 1)
            assert layer.keys.shape[2] == layer.values.shape[2] == min(slots, window - 1)


def test_prefill_may_end_at_the_last_learned_position():
    """A row may fill all positions while padding of another would reach beyond them."""
    made, whole = tiny("transformers", "gpt2"), random_ids(2, 160)
    state = made.empty_state(2, 160)
    _, state = made.prefill(whole[:, :150], torch.tensor([150, 140]), state)
    second = torch.stack([torch.cat([whole[0, 150:], whole[0, :10]]), whole[1, 140:]])
    logits, _ = made.prefill(second, torch.tensor([10, 20]), state)
    for i, row in enumerate(whole):
        assert difference(logits[i], expected_logits("gpt2", row)[-1]) < TOLERANCE


@pytest.mark.parametrize(
    ("kind", "longest"),
    [("llama", 160), ("gpt2", 160), ("mistral", 160), ("bamba", 160), ("bloom", None), ("mamba2", None)],
)
def test_the_longest_input_is_known(kind, longest):
    """The limit is the configuration's, and none where it names none."""
    assert tiny("transformers", kind).max_positions == longest


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A good Llama checkpoint."""
    published("llama").save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def edit(directory: Path, **fields: Any) -> None:
    """Changes fields of the configuration; None removes one."""
    path = directory / CONFIGURATION
    given = {**json.loads(path.read_text(encoding="utf-8")), **fields}
    path.write_text(json.dumps({name: value for name, value in given.items() if value is not None}), encoding="utf-8")


def edit_tensors(directory: Path, **tensors: Tensor | None) -> None:
    """Changes tensors of the weights; None removes one."""
    kept = {**load_file(directory / SAFE), **tensors}
    kept = {name: tensor for name, tensor in kept.items() if tensor is not None}
    save_file(kept, directory / SAFE, metadata={"format": "pt"})


def misshape(directory: Path) -> None:
    """Gives one tensor another shape."""
    edit_tensors(directory, **{"model.norm.weight": torch.ones(5)})


def harmful(directory: Path) -> None:
    """Replaces the weights by a pickle of more than tensors."""
    (directory / SAFE).unlink()
    torch.save({"model.norm.weight": Path("x")}, directory / PICKLED)


def without_a_shard(directory: Path) -> None:
    """Leaves an index whose second file is gone."""
    (directory / SAFE).unlink()
    published("llama").save_pretrained(directory, max_shard_size="20KB")
    sorted(directory.glob("*.safetensors"))[1].unlink()


def limit_time_steps(directory: Path) -> None:
    """Replaces the checkpoint by a Mamba2 whose limit the library applies to whole rows and not to single tokens."""
    for path in directory.iterdir():
        path.unlink()
    published("mamba2").save_pretrained(directory)
    edit(directory, time_step_limit=[0.0, 0.05])


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no directory": (lambda path: path.rename(path.with_name("gone")), "no checkpoint directory"),
    "no configuration": (lambda path: (path / CONFIGURATION).unlink(), "has no config.json"),
    "configuration no JSON": (lambda path: (path / CONFIGURATION).write_text("{"), "not readable as JSON"),
    "no model type": (lambda path: edit(path, model_type=None), "no model_type None"),
    "unknown model type": (lambda path: edit(path, model_type="lama"), "no model_type 'lama'"),
    "code of its own": (lambda path: edit(path, model_type="x", auto_map={"AutoConfig": "x.X"}), "never run"),
    "no language model": (lambda path: edit(path, model_type="vit"), "no causal language model for 'vit'"),
    "impossible configuration": (lambda path: edit(path, num_attention_heads="many"), "config.json is not usable"),
    "both directions": (lambda path: become(path, transformers.BertConfig), "reads in both directions"),
    "no cache": (lambda path: become(path, transformers.RwkvConfig), "takes no cache"),
    "a cache of its own": (
        lambda path: become(path, transformers.MiniMaxConfig, num_local_experts=2, head_dim=8),
        "cannot be read in pieces",
    ),
    "limited time steps": (limit_time_steps, "forgets time_step_limit"),
    "state on the module": (lambda path: become(path, transformers.RecurrentGemmaConfig, num_hidden_layers=3), "own"),
    "no weights": (lambda path: (path / SAFE).unlink(), "not readable"),
    "damaged weights": (lambda path: (path / SAFE).write_bytes(b"x" * 99), "not readable"),
    "cut weights": (lambda path: (path / SAFE).write_bytes((path / SAFE).read_bytes()[:-9]), "not readable"),
    "harmful weights": (harmful, "not readable"),
    "missing shard": (without_a_shard, "not readable"),
    "missing tensor": (
        lambda path: edit_tensors(path, **{"model.norm.weight": None}),
        "do not make the model: missing model.norm.weight",
    ),
    "tensor left over": (lambda path: edit_tensors(path, extra=torch.ones(2)), "not part of the model extra"),
    "misshapen tensor": (misshape, r"misshapen model.norm.weight is \[5\], config.json makes it \[32\]"),
}


def become(directory: Path, configuration: type, **fields: Any) -> None:
    """Replaces the checkpoint by one of another class."""
    for path in directory.iterdir():
        path.unlink()
    sizes = {name: value for name, value in {**ATTENTION_SIZES, **fields}.items() if name != "max_position_embeddings"}
    transformers.AutoModelForCausalLM.from_config(configuration(**sizes)).save_pretrained(directory)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_checkpoint_is_refused_in_one_line(written, fault):
    """Each kind of bad checkpoint raises an error of one line that says what is wrong."""
    damage, message = FAULTS[fault]
    damage(written)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_transformers(written, CPU, torch.float32)
    assert "\n" not in str(caught.value)
