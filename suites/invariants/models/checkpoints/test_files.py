"""Checkpoints are written as the published ones, read back the same, and refused in one clear paragraph."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoints.errors import CheckpointError
from models.checkpoints.files import configuration_fingerprint, read_tensors, weights_files
from models.families.state_spaces.checkpoint import load_state_spaces, write_state_spaces
from models.families.state_spaces.model import StateSpacesModel
from suites.support.families.state_spaces import HYBRID, changed, tiny_model
from suites.support.tiny_models import random_ids

CPU = torch.device("cpu")
CONFIGURATION, PICKLED, SAFE = "config.json", "pytorch_model.bin", "model.safetensors"

# A Mamba2 layer and an attention layer, each with a gated MLP.
M2A = changed(HYBRID, n_layer=2)


def rounded(configuration: Any) -> StateSpacesModel:
    """A model whose weights are float16 numbers, so that a file of float16 holds them exactly."""
    return tiny_model(configuration).half().float()


def load(directory: Path) -> StateSpacesModel:
    """The model of a directory, in float32 on the CPU."""
    return load_state_spaces(directory, CPU, torch.float32)


def as_safetensors(directory: Path, tensors: dict[str, Tensor]) -> None:
    """Puts the weights of a checkpoint into a safetensors file instead."""
    (directory / PICKLED).unlink(missing_ok=True)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, directory / SAFE)


def refusal(directory: Path) -> str:
    """The message of the error that loading must raise: one paragraph."""
    with pytest.raises(CheckpointError) as caught:
        load(directory)
    message = str(caught.value)
    assert message == message.strip()
    assert "\n" not in message
    assert "\r" not in message
    return message


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A good checkpoint directory."""
    write_state_spaces(tmp_path / "m2a", rounded(M2A))
    return tmp_path / "m2a"


@pytest.fixture(scope="module")
def damageable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint directory for tests that put their own weights file into it."""
    directory = tmp_path_factory.mktemp("checkpoint")
    write_state_spaces(directory, rounded(M2A))
    return directory


def test_safetensors_is_preferred(written):
    """Where both files are there, the one that cannot hold code is read."""
    as_safetensors(written, read_tensors(written))
    (written / PICKLED).write_bytes(b"not read")
    assert weights_files(written) == [written / SAFE]
    assert torch.equal(load(written)(random_ids(1, 9)), rounded(M2A)(random_ids(1, 9)))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "has no config.json"),
        ("", "not readable as JSON"),
        ("{'d_model': 32}", "not readable as JSON"),
        ('{\n"d_model": 32,\n', "not readable as JSON"),
        ("[1, 2]", "must hold a JSON object, not list"),
        ("3", "must hold a JSON object, not int"),
        (json.dumps({**M2A, "n_layers": 2}), "config.json: unknown field n_layers"),
        (json.dumps(changed(M2A, ssm_cfg={"state": 2})), "config.json: ssm_cfg: unknown field state"),
        (json.dumps(changed(M2A, attn_cfg={"heads": 2})), "config.json: attn_cfg: unknown field heads"),
        (json.dumps({**M2A, "ssm_cfg": {}}), "only 'Mamba2' is supported"),
    ],
)
def test_a_bad_configuration_is_named(written, text, fault):
    """A configuration that is missing, not JSON, no object, or not this family's is refused by file and fault."""
    (written / CONFIGURATION).unlink()
    if text is not None:
        (written / CONFIGURATION).write_text(text, encoding="utf-8")
    message = refusal(written)
    assert str(written) in message
    assert CONFIGURATION in message or "ssm_cfg" in message
    assert fault in message


@pytest.mark.parametrize(
    ("configuration", "field"),
    [
        ({**M2A, "d_model": "32"}, "d_model"),
        ({**M2A, "n_layer": None}, "n_layer"),
        ({**M2A, "attn_layer_idx": 1}, "attn_layer_idx"),
        ({**M2A, "pad_vocab_size_multiple": 0}, "pad_vocab_size_multiple"),
        ({**M2A, "ssm_cfg": None}, "ssm_cfg"),
        ({**M2A, "ssm_cfg": ["Mamba2"]}, "ssm_cfg"),
        ({**M2A, "attn_cfg": None}, "attn_cfg"),
        (changed(M2A, ssm_cfg={"headdim": 0}), "headdim"),
        (changed(M2A, attn_cfg={"num_heads": 0}), "num_heads"),
        (changed(M2A, attn_cfg={"rotary_emb_dim": 10}), "rotary_emb_dim"),
        (changed(M2A, attn_cfg={"rotary_emb_dim": 3}), "rotary_emb_dim"),
    ],
)
def test_a_value_without_meaning_is_named(written, configuration, field):
    """A configuration with a value of the wrong type, or one that no layer can have, is refused by the field's name."""
    (written / CONFIGURATION).write_text(json.dumps(configuration), encoding="utf-8")
    message = refusal(written)
    assert str(written) in message
    assert field in message


def test_a_configuration_in_another_encoding_is_named(written):
    """A configuration that is not UTF-8 is refused as unreadable, by its path."""
    (written / CONFIGURATION).write_bytes(b"\xff\xfe{\x00")
    message = refusal(written)
    assert message.startswith(f"{written / CONFIGURATION} is not readable as JSON")


@given(st.floats(0, 1, exclude_max=True))
@example(0.0)
@settings(max_examples=60)
@pytest.mark.parametrize("safe", [False, True], ids=["pickled", "safetensors"])
def test_a_truncated_file_is_named(damageable, safe, share):
    """A weights file cut off anywhere, even at its first byte, is refused by its path."""
    tensors = {name: tensor.half() for name, tensor in rounded(M2A).state_dict().items()}
    if safe:
        as_safetensors(damageable, tensors)
    else:
        (damageable / SAFE).unlink(missing_ok=True)
        torch.save(tensors, damageable / PICKLED)
    (path,) = weights_files(damageable)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    message = refusal(damageable)
    assert message.startswith(str(path))
    assert "damaged" in message or "not a readable" in message


@functools.cache
def pickled(zipped: bool) -> bytes:
    """A good file of weights."""
    tensors = {name: tensor.half() for name, tensor in rounded(M2A).state_dict().items()}
    file = io.BytesIO()
    torch.save(tensors, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.integers(0, 10**6), st.integers(1, 255))
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "plain pickle"])
def test_a_damaged_pickle_is_never_a_crash(damageable, zipped, place, change):
    """A pickled file with any one byte changed either loads, or is refused in one paragraph by its path."""
    (damageable / SAFE).unlink(missing_ok=True)
    path = damageable / PICKLED
    damaged = bytearray(pickled(zipped))
    # Structure is at the start (and, in a zip, at the end); between them are the numbers.
    place = place % 4000 - (2000 if zipped else 0)
    damaged[place] ^= change
    path.write_bytes(damaged)
    try:
        load(damageable)
    except CheckpointError as error:
        message = str(error)
        assert str(path) in message
        assert "\n" not in message


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", b"PK\x03\x04"]
)
@pytest.mark.parametrize("name", [PICKLED, SAFE])
def test_a_file_of_something_else_is_named(written, name, content):
    """A file that is empty or holds no weights at all (a pointer to large file storage, say) is refused by its path."""
    (written / name).write_bytes(content)
    assert refusal(written).startswith(str(written / name))


class Trap:
    """An object whose unpickling runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {shlex.quote(str(self.marker))}",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "plain pickle"])
def test_a_pickle_runs_no_code(written, tmp_path, zipped):
    """A pickle that would run a command is refused by its path, and the command is not run."""
    marker = tmp_path / "marker"
    tensors: dict[str, Any] = {**read_tensors(written), "trap": Trap(marker)}
    torch.save(tensors, written / PICKLED, _use_new_zipfile_serialization=zipped)
    message = refusal(written)
    assert message.startswith(str(written / PICKLED))
    assert "a pickle can run any code" in message
    assert not marker.exists()
    # The trap is a real one.
    torch.load(written / PICKLED, weights_only=False)
    assert marker.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_bare_pickle_runs_no_code(written, tmp_path):
    """A pickle made without torch that would run a command is refused, and the command is not run."""
    (written / PICKLED).write_bytes(pickle.dumps(Trap(tmp_path / "marker")))
    assert refusal(written).startswith(str(written / PICKLED))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"step": 12}, "holds values that are no tensors: step"),
        ({"model": {"weight": torch.ones(1)}}, "holds values that are no tensors: model"),
        ([torch.ones(1)], "must hold a dictionary of tensors, not list"),
        (torch.ones(1), "must hold a dictionary of tensors, not Tensor"),
        ({7: torch.ones(1)}, "7"),
        ({"two\nlines": torch.ones(1)}, "lines"),
    ],
    ids=["a number", "a dictionary", "a list", "a tensor", "a key that is no name", "a name of two lines"],
)
def test_anything_beside_tensors_is_named(written, content, fault):
    """A pickle that holds anything beside tensors by name is refused, by its path and what it holds."""
    if isinstance(content, dict):
        content = {**read_tensors(written), **content}
    torch.save(content, written / PICKLED)
    message = refusal(written)
    assert str(written / PICKLED) in message
    assert fault in message


def test_a_missing_untied_output_layer_is_named(tmp_path):
    """Where the output layer is not tied to the embedding, a file without it is refused."""
    write_state_spaces(tmp_path, rounded(changed(M2A, tie_embeddings=False)))
    tensors = read_tensors(tmp_path)
    del tensors["lm_head.weight"]
    torch.save(tensors, tmp_path / PICKLED)
    assert "missing lm_head.weight" in refusal(tmp_path)


def test_many_faults_stay_one_paragraph(written):
    """A file of a wholly different model is refused with the first few names and a count of the rest."""
    torch.save({f"layer.{i}": torch.ones(1) for i in range(100)}, written / PICKLED)
    message = refusal(written)
    assert "and 94 more" in message
    assert len(message) < 1000


def test_a_configuration_is_known_by_what_it_says(tmp_path):
    """The fingerprint of a configuration is the same however it is written, and another for another value."""
    path = tmp_path / CONFIGURATION
    prints = []
    for text in (
        '{"n_layer": 2, "attn_cfg": {"rotary_emb_base": 1e4}}',
        '{ "attn_cfg": {"rotary_emb_base": 10000.0},\n"n_layer": 2}',
    ):
        path.write_text(text, encoding="utf-8")
        prints.append(configuration_fingerprint(tmp_path))
    path.write_text('{"n_layer": 2, "attn_cfg": {"rotary_emb_base": 2e4}}', encoding="utf-8")
    assert prints[0] == prints[1] != configuration_fingerprint(tmp_path)
