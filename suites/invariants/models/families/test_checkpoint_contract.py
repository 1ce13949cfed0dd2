"""Every family's checkpoints are read back as they were written, in any form, and refused in one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoints.files import read_tensors
from models.families import families
from suites.support.checkpoint_files import refused
from suites.support.tiny_models import random_ids, tiny, tiny_families

CONFIGURATION, SAFE, PICKLED = "config.json", "model.safetensors", "pytorch_model.bin"

KINDS = [(name, kind) for name, each in tiny_families().items() for kind in each.kinds]
OURS = [name for name, each in tiny_families().items() if each.ours]
WRITERS = [name for name, each in tiny_families().items() if each.published_dtype is not None]

every_family = pytest.mark.parametrize("family", tiny_families())
every_own_family = pytest.mark.parametrize("family", OURS)


@pytest.fixture
def written(family: str, tmp_path: Path) -> Path:
    """A good checkpoint of the family."""
    each = tiny_families()[family]
    each.write(tmp_path / "checkpoint", tiny(family, each.written))
    return tmp_path / "checkpoint"


def rewrite(directory: Path, tensors: dict[str, Tensor], form: str = "safetensors") -> None:
    """Replaces the weights of a checkpoint by tensors in some form."""
    for old in (SAFE, PICKLED):
        (directory / old).unlink(missing_ok=True)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    if form == "pickled":
        torch.save(tensors, directory / PICKLED)
        return
    names = sorted(tensors)
    parts = {SAFE: names}
    if form == "sharded":
        parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
        weight_map = {key: file for file, keys in parts.items() for key in keys}
        index = {"metadata": {}, "weight_map": weight_map}
        (directory / f"{SAFE}.index.json").write_text(json.dumps(index), encoding="utf-8")
    for file, keys in parts.items():
        save_file({key: tensors[key] for key in keys}, directory / file, metadata={"format": "pt"})


@pytest.mark.parametrize(("family", "kind"), KINDS)
def test_a_written_model_is_read_back_the_same(family, kind, tmp_path):
    """A model written and loaded again gives bit for bit the same logits, ready for inference, and is as tied."""
    each, made, ids = tiny_families()[family], tiny(family, kind), random_ids(2, 20)
    each.write(tmp_path, made)
    loaded = each.load(tmp_path)
    assert type(loaded) is type(made)
    assert torch.equal(loaded(ids), made(ids))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert sum(each.numel() for each in loaded.parameters()) == sum(each.numel() for each in made.parameters())
    if each.ours:
        assert loaded.configuration == made.configuration


@every_family
@pytest.mark.parametrize("form", ["safetensors", "sharded", "pickled"])
def test_every_form_of_file_holds_the_same_model(family, written, form):
    """Weights in one safetensors file, in several under an index, or pickled make the same model."""
    each = tiny_families()[family]
    rewrite(written, read_tensors(written), form)
    assert torch.equal(each.load(written)(random_ids(1, 20)), tiny(family, each.written)(random_ids(1, 20)))


@every_family
def test_the_weights_have_the_dtype_asked_for(family, written):
    """Every weight of a loaded model has the dtype that was asked for, none is on the meta device, and it reads."""
    loaded = tiny_families()[family].load(written, torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert {parameter.device.type for parameter in loaded.parameters()} == {"cpu"}
    assert loaded.prefill(random_ids(1, 9), torch.tensor([9]), loaded.empty_state(1, 9))[0].isfinite().all()


@pytest.mark.parametrize("family", WRITERS)
def test_the_weights_are_written_as_published(family, tmp_path):
    """If nothing is said, weights are written in the dtype that the published ones have."""
    each = tiny_families()[family]
    families()[family].operations().write(tmp_path, tiny(family, each.written))
    assert {tensor.dtype for tensor in read_tensors(tmp_path).values()} == {each.published_dtype}
    told = json.loads((tmp_path / CONFIGURATION).read_text(encoding="utf-8")).get("torch_dtype")
    assert told in (None, str(each.published_dtype).removeprefix("torch."))


@every_own_family
@pytest.mark.parametrize("repeated", [True, False])
def test_the_tied_output_layer_may_be_repeated(family, tmp_path, repeated):
    """A file may repeat the tied embedding as the output layer or leave it out; the model is the same, and tied."""
    each = tiny_families()[family]
    kind, output, embedding = each.tied
    each.write(tmp_path, tiny(family, kind))
    tensors = read_tensors(tmp_path)
    tensors.pop(output, None)
    if repeated:
        tensors[output] = tensors[embedding]
    rewrite(tmp_path, tensors)
    loaded = each.load(tmp_path)
    assert torch.equal(loaded(random_ids(1, 9)), tiny(family, kind)(random_ids(1, 9)))
    own = dict(loaded.named_parameters(remove_duplicate=False))
    assert own.get(output, own[embedding]) is own[embedding]


@every_own_family
def test_another_output_layer_than_the_tied_one_is_refused(family, tmp_path):
    """Where the output layer is the embedding, a file with another one is refused, by both names."""
    each = tiny_families()[family]
    kind, output, embedding = each.tied
    each.write(tmp_path, tiny(family, kind))
    tensors = read_tensors(tmp_path)
    rewrite(tmp_path, {**tensors, output: tensors[embedding] + 1})
    assert f"{output} differs from {embedding}" in refused(each.load, tmp_path)


@every_family
def test_wrong_tensors_are_named(family, written):
    """Tensors missing, left over and misshapen are all named in one error, with both shapes."""
    each, tensors = tiny_families()[family], read_tensors(written)
    tensors["extra.weight"] = tensors.pop(each.lost)
    right = tensors[each.misshapen]
    tensors[each.misshapen] = right[:-1]
    rewrite(written, tensors)
    message = refused(each.load, written)
    assert f"missing {each.lost}" in message
    assert "not part of the model extra.weight" in message
    shape = [right.shape[0] - 1, *right.shape[1:]]
    assert f"misshapen {each.misshapen} is {shape}, config.json makes it {list(right.shape)}" in message


@every_own_family
def test_each_tensor_is_needed(family, written):
    """Each tensor is named when it is missing or has another shape."""
    each, tensors = tiny_families()[family], read_tensors(written)
    if each.written == each.tied[0]:
        tensors.pop(each.tied[1], None)
    names = list(tensors)
    # An error names at most so many.
    for some in (names[first : first + 6] for first in range(0, len(names), 6)):
        rewrite(written, {name: tensor for name, tensor in tensors.items() if name not in some})
        message = refused(each.load, written)
        assert "missing " in message
        assert all(name in message for name in some)
        rewrite(written, {**tensors, **{name: tensors[name][..., :-1] for name in some}})
        message = refused(each.load, written)
        assert "misshapen " in message
        assert all(f"{name} is " in message for name in some)


def weights(directory: Path) -> Path:
    """The file of the weights."""
    return next(path for path in (directory / SAFE, directory / PICKLED) if path.exists())


def harmful(directory: Path) -> None:
    """Replaces the weights by a pickle of more than tensors."""
    weights(directory).unlink()
    torch.save({"weight": Path("x")}, directory / PICKLED)


def indexed(text: str) -> Callable[[Path], object]:
    """Replaces the weights by an index."""

    def damage(directory: Path) -> None:
        weights(directory).unlink()
        (directory / f"{SAFE}.index.json").write_text(text, encoding="utf-8")

    return damage


def safe(content: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Damages the weights in a safetensors file."""

    def damage(directory: Path) -> None:
        rewrite(directory, read_tensors(directory))
        (directory / SAFE).write_bytes(content((directory / SAFE).read_bytes()))

    return damage


# What is done to a good checkpoint, and what our own readers say of it.
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no directory": (lambda path: path.rename(path.with_name("gone")), "no checkpoint directory at"),
    "no configuration": (lambda path: (path / CONFIGURATION).unlink(), "has no config.json"),
    "configuration no JSON": (
        lambda path: (path / CONFIGURATION).write_text("{"),
        "is not readable as JSON",
    ),
    "configuration no object": (lambda path: (path / CONFIGURATION).write_text("[1]"), "must hold a JSON object"),
    "no weights": (lambda path: weights(path).unlink(), "has neither model.safetensors nor pytorch_model.bin"),
    "cut weights": (safe(lambda whole: whole[:-9]), "is not a readable safetensors file"),
    "damaged weights": (safe(lambda whole: b"damaged"), "is not a readable safetensors file"),
    "harmful weights": (harmful, "a pickle can run any code"),
    "index no JSON": (indexed("{"), "is not readable as an index"),
    "index no object": (indexed("[]"), "is not readable as an index"),
    "index of numbers": (indexed('{"weight_map": {"a": 3}}'), "has no file 3"),
    "missing shard": (indexed('{"weight_map": {"a": "model-1.safetensors"}}'), "has no file 'model-1.safetensors'"),
    "shard elsewhere": (indexed('{"weight_map": {"a": "../x/config.json"}}'), "has no file '../x/config.json'"),
    "shard of another kind": (indexed('{"weight_map": {"a": "config.json"}}'), "has no file 'config.json'"),
}


@every_family
@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_checkpoint_is_one_clear_error(family, written, fault):
    """Whatever is wrong with its files, a checkpoint is refused in one paragraph that names it and the fault."""
    damage, message = FAULTS[fault]
    damage(written)
    found = refused(tiny_families()[family].load, written)
    assert message in found or not tiny_families()[family].ours


def test_every_family_with_checkpoints_is_put_to_the_contract():
    """No family whose models are checkpoints is left out here."""
    assert set(tiny_families()) == {name for name, each in families().items() if each.needs_checkpoint}
