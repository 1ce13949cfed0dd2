"""Checkpoint directories in the published formats: read safely, checked against the model, written."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from models.checkpoints.errors import CheckpointError

__all__ = [
    "CONFIGURATION_FILE",
    "PICKLED_WEIGHTS_FILE",
    "check_tensors",
    "configuration_fingerprint",
    "read_configuration",
    "read_tensors",
    "take_tied_output",
    "weights_files",
    "weights_fingerprint",
    "write_safetensors",
]

CONFIGURATION_FILE: Final = "config.json"
PICKLED_WEIGHTS_FILE: Final = "pytorch_model.bin"
_SAFE = "model.safetensors"
_NAMED_AT_MOST = 6


def read_configuration(directory: Path) -> dict[str, Any]:
    """The parsed `config.json`.

    Raises:
        CheckpointError: It is missing or not a JSON object.
    """
    path = directory / CONFIGURATION_FILE
    if not directory.is_dir():
        raise CheckpointError(f"no checkpoint directory at {directory}")
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {directory} has no {CONFIGURATION_FILE}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable as JSON: {error}") from error
    if not isinstance(given, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not {type(given).__name__}")
    return given


def configuration_fingerprint(directory: Path) -> str:
    """SHA-256 of what `config.json` says, in hexadecimal, however it is written.

    Raises:
        CheckpointError: It is missing or not a JSON object.
    """
    return hashlib.sha256(json.dumps(read_configuration(directory), sort_keys=True).encode()).hexdigest()


def weights_files(directory: Path) -> list[Path]:
    """The files that hold the tensors: one, or the shards that an index names; safetensors are preferred.

    Raises:
        CheckpointError: There is none, the index is not readable, or a shard is missing.
    """
    for name in (_SAFE, PICKLED_WEIGHTS_FILE):
        if (directory / name).is_file():
            return [directory / name]
        index = directory / f"{name}.index.json"
        if index.is_file():
            return _shards(index)
    raise CheckpointError(f"checkpoint {directory} has neither {_SAFE} nor {PICKLED_WEIGHTS_FILE}")


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{index} is not readable as an index of weights: {error!r}") from error
    for name in names:
        # An index may come from anywhere; it names files beside it and no others.
        kind = Path(index.name.removesuffix(".index.json")).suffix
        beside = isinstance(name, str) and Path(name).name == name and Path(name).suffix == kind
        if not beside or not (index.parent / name).is_file():
            raise CheckpointError(f"checkpoint {index.parent} has no file {name!r}, which {index.name} names")
    return [index.parent / name for name in names]


def weights_fingerprint(directory: Path) -> str:
    """SHA-256 of the weights, in hexadecimal: of the file, or of the shards' sums."""
    sums = []
    for path in weights_files(directory):
        with path.open("rb") as file:
            sums.append(hashlib.file_digest(file, "sha256").hexdigest())
    return sums[0] if len(sums) == 1 else hashlib.sha256(" ".join(sums).encode()).hexdigest()


def read_tensors(directory: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by key, on the CPU.

    A pickled file is read with torch's restricted unpickler, which builds tensors and nothing else.

    Raises:
        CheckpointError: A file is missing, damaged, or holds anything but tensors.
    """
    tensors: dict[str, Tensor] = {}
    for path in weights_files(directory):
        tensors |= _read(path)
    return tensors


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        import safetensors
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors and was refused: a pickle can run any code. "
            "Save the weights alone, or as safetensors."
        ) from None
    except Exception as error:  # a damaged file makes torch raise almost anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is not a readable PyTorch file: {reason}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path} must hold a dictionary of tensors, not {type(loaded).__name__}")
    others = [key for key, value in loaded.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if others:
        raise CheckpointError(f"{path} holds values that are no tensors: {_listed(others)}")
    return loaded


def write_safetensors(
    directory: Path, tensors: Mapping[str, Tensor], configuration: Mapping[str, Any], dtype: torch.dtype
) -> None:
    """Writes a checkpoint as transformers' own are published: `config.json`, and one safetensors file.

    Args:
        directory: Made where it is missing.
        tensors: By key, none twice: a safetensors file keeps no two names of one tensor.
        configuration: The fields of `config.json`, but for the dtype.
        dtype: What the tensors are cast to.
    """
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    cast = {key: tensor.detach().to("cpu", dtype).contiguous() for key, tensor in tensors.items()}
    # transformers refuses a file that does not say whose tensors it has.
    save_file(cast, directory / _SAFE, metadata={"format": "pt"})
    text = json.dumps({**configuration, "torch_dtype": str(dtype).removeprefix("torch.")}, indent=2, sort_keys=True)
    (directory / CONFIGURATION_FILE).write_text(text + "\n", encoding="utf-8")


def take_tied_output(directory: Path, tensors: dict[str, Tensor], output: str, embedding: str) -> None:
    """Removes the output layer, of which some files repeat the embedding.

    Raises:
        CheckpointError: It is not the embedding.
    """
    found = tensors.pop(output, None)
    tied = tensors.get(embedding, found)
    if found is None or tied is None:
        return
    alike = found.shape == tied.shape and found.dtype == tied.dtype
    # What is no number in both is the same, and is told of when the model reads.
    if not alike or not (torch.equal(found, tied) or ((found == tied) | (found.isnan() & tied.isnan())).all()):
        raise CheckpointError(f"{weights_files(directory)[0]}: {output} differs from {embedding}; they must be tied")


def check_tensors(directory: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Sees to it that tensors make a model.

    Args:
        directory: Where they were found.
        expected: The model's own, by key; only their shapes matter.
        found: The checkpoint's.

    Raises:
        CheckpointError: Tensors are missing, left over or of another shape; the error names some.
    """
    problems = []
    if missing := [key for key in expected if key not in found]:
        problems.append(f"missing {_listed(missing)}")
    if extra := [key for key in found if key not in expected]:
        problems.append(f"not part of the model {_listed(extra)}")
    shapes = [
        f"{key} is {list(found[key].shape)}, config.json makes it {list(tensor.shape)}"
        for key, tensor in expected.items()
        if key in found and found[key].shape != tensor.shape
    ]
    if shapes:
        problems.append(f"misshapen {_listed(shapes)}")
    if problems:
        raise CheckpointError(
            f"the tensors of {weights_files(directory)[0]} do not make the model: " + "; ".join(problems)
        )


def _listed(names: Sequence[object]) -> str:
    # A name may hold anything; the message stays one line.
    shown = ", ".join(" ".join(str(name).split()) for name in names[:_NAMED_AT_MOST])
    rest = len(names) - _NAMED_AT_MOST
    return shown if rest <= 0 else f"{shown} and {rest} more"
