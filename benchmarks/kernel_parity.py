"""Kernels on CUDA against the plain path in float32 on the processor, and against mamba-ssm's own models.

Each check gives the largest relative error: the norm of the difference over the norm of the reference.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor

from models.families.rwkv6.time_mixing import wkv_naive, wkv_over_time
from models.families.state_spaces.configuration import StateSpacesConfiguration
from models.families.state_spaces.duality import ssd, ssd_recurrent
from models.families.state_spaces.model import StateSpacesModel
from models.layers import kernels
from models.layers.convolution import causal_convolution
from models.layers.kernels import CHUNK_SCAN, CONVOLUTION, STATE_UPDATE, WKV, Kernel
from suites.support.families.state_spaces import HYBRID, MAMBA2, TRANSFORMER, changed, tiny_model
from suites.support.tiny_models import random_ids

__all__ = ["Parity", "UnusedKernel", "model_parities", "operator_parities", "upstream_parities"]

LARGEST: Final = {torch.float32: 1e-4, torch.bfloat16: 1e-2}
# Of whole models. In bfloat16 the plain path has an error of its own, and kernels may have somewhat more.
LARGEST_OF_MODELS: Final = 1e-3
_MORE_THAN_PLAIN: Final = 1.5


class UnusedKernel(RuntimeError):
    """A check that was to try a kernel has run on the plain path."""


@dataclass(frozen=True)
class Parity:
    """One comparison: its name, what was found, and the most that is right."""

    name: str
    error: float
    largest: float

    @property
    def holds(self) -> bool:
        """Whether the error is small enough; a NaN is not."""
        return self.error <= self.largest


@dataclass(frozen=True)
class _Problem:
    """One input of an operator: the kernel it is for, its name, the arguments, and which of them are weights' dtype.

    `lengths` are the real tokens of each row, so that what stands for padding is compared nowhere.
    """

    kernel: Kernel
    name: str
    arguments: tuple[Tensor | None, ...]
    halved: tuple[int, ...]
    lengths: tuple[int, ...]
    ours: Callable[..., Any]
    reference: Callable[..., Any]


def relative_error(found: Tensor, reference: Tensor) -> float:
    """The norm of the difference over that of the reference, in float64 on the processor."""
    found, reference = found.detach().cpu().double(), reference.detach().cpu().double()
    return float((found - reference).norm() / reference.norm())


def operator_parities(kernel: Kernel, device: str) -> Iterator[Parity]:
    """The kernel against its plain reference, for several shapes, in float32 and bfloat16."""
    for problem in _problems():
        if problem.kernel is not kernel:
            continue
        for dtype, largest in LARGEST.items():
            # The reference reads the very numbers that the kernel gets.
            rounded = [
                tensor.to(dtype) if tensor is not None and i in problem.halved else tensor
                for i, tensor in enumerate(problem.arguments)
            ]
            expected = problem.reference(*[None if each is None else each.float() for each in rounded])
            there = [None if each is None else each.to(device, copy=True) for each in rounded]
            with torch.inference_mode():
                found = _on_kernel(problem.kernel, problem.ours, *there)
            error = max(
                relative_error(_real(one, problem), _real(other, problem))
                for one, other in zip(_parts(found), _parts(expected), strict=True)
            )
            yield Parity(f"{problem.name}, {str(dtype).removeprefix('torch.')}", error, largest)


def _on_kernel(kernel: Kernel, call: Callable[..., Any], *arguments: Any) -> Any:
    """A call that must use a kernel."""
    found: list[Kernel] = []
    fitting = kernels.fitting

    def watched(asked: Kernel, *tensors: Tensor) -> Callable[..., Any] | None:
        function = fitting(asked, *tensors)
        found.extend([asked] if function else [])
        return function

    with mock.patch.object(kernels, "fitting", watched):
        result = call(*arguments)
    if kernel not in found:
        raise UnusedKernel(f"{kernel.function} was not used")
    return result


def _parts(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def _real(part: Tensor, problem: _Problem) -> Tensor:
    """The part of an output that belongs to real tokens; a state is one whole."""
    if part.shape[:2] != (len(problem.lengths), max(problem.lengths)):
        return part.flatten()
    return torch.cat([row[:length].flatten() for row, length in zip(part, problem.lengths, strict=True)])


class _Draw:
    """Normal numbers from one seed."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator)


def _problems() -> Iterator[_Problem]:
    yield from _convolutions(_Draw())
    yield from _scans(_Draw())
    yield from _recurrences(_Draw())


def _convolutions(normal: _Draw) -> Iterator[_Problem]:
    shapes: Sequence[tuple[tuple[int, ...], int, int]] = (((1, 1), 64, 4), ((300, 300), 5376, 4), ((77,), 256, 3))
    for lengths, channels, width in shapes:
        x = normal(len(lengths), max(lengths), 2 * channels)[..., :channels]
        arguments = (x, normal(channels, 1, width), normal(channels), normal(len(lengths), width - 1, channels))
        name = f"convolution {len(lengths)} x {max(lengths)} x {channels}, {width} taps"
        yield _Problem(
            CONVOLUTION, name, arguments, (0, 1, 2, 3), lengths, causal_convolution, _plain(causal_convolution)
        )


def _scans(normal: _Draw) -> Iterator[_Problem]:
    # Heads of the published size, one group and two, rows of unequal lengths, more and less than one chunk of 256.
    shapes: Sequence[tuple[tuple[int, ...], int, int]] = (
        ((1, 1, 1), 80, 1),
        ((600, 300, 1), 8, 1),
        ((100, 256), 4, 2),
    )
    for lengths, heads, groups in shapes:
        batch, time = len(lengths), max(lengths)
        real = torch.arange(time) < torch.tensor(lengths)[:, None]
        dt = 0.1 * torch.sigmoid(normal(batch, time, heads)) * real[..., None]
        b, c = normal(batch, time, groups, 128), normal(batch, time, groups, 128)
        a = -1 - 15 * torch.sigmoid(normal(heads))
        arguments = (normal(batch, time, heads, 64), dt, a, b, c, normal(batch, heads, 64, 128))
        kernel = STATE_UPDATE if time == 1 else CHUNK_SCAN
        name = f"{'state update' if time == 1 else 'chunk scan'} {lengths}, {heads} heads, {groups} groups"
        yield _Problem(kernel, name, arguments, (0, 3, 4), lengths, ssd, ssd_recurrent)


def _recurrences(normal: _Draw) -> Iterator[_Problem]:
    shapes: Sequence[tuple[tuple[int, ...], int]] = (((300, 64, 2), 4), ((1000,), 2))
    for lengths, heads in shapes:
        batch, time = len(lengths), max(lengths)
        padding = (torch.arange(time) >= torch.tensor(lengths)[:, None])[..., None, None]
        r, k, v, spread = (normal(batch, time, heads, 64) for _ in range(4))
        # Decays from almost 1 to those that underflow.
        log_decay = -torch.exp(2 * spread - 2).masked_fill(padding, 0.0)
        arguments = (
            r,
            k.masked_fill(padding, 0.0),
            v,
            log_decay.masked_fill(padding, 0.0),
            normal(heads, 64),
            normal(batch, heads, 64, 64),
        )
        yield _Problem(WKV, f"wkv {lengths}, {heads} heads", arguments, (0, 1, 2), lengths, wkv_over_time, _wkv)


def _wkv(r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    return wkv_naive(r, k, v, log_decay.exp(), bonus, state)


def _plain(call: Callable[..., Any]) -> Callable[..., Any]:
    def plain(*arguments: Any) -> Any:
        with kernels.plain_only():
            return call(*arguments)

    return plain


# Heads of the published sizes; a few layers.
_WIDE: Mapping[str, Any] = {"d_model": 256, "n_layer": 3, "vocab_size": 1000}
_HEADS: Mapping[str, Any] = {"ssm_cfg": {"d_state": 128, "headdim": 64}}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "Mamba2": changed(MAMBA2, **_WIDE, **_HEADS),
    "Mamba2 with attention": changed(
        HYBRID, **_WIDE, **_HEADS, attn_cfg={"head_dim": 64, "num_heads": 4, "rotary_emb_dim": 32}
    ),
    "Transformer++": changed(
        TRANSFORMER, **{**_WIDE, "n_layer": 2}, attn_cfg={"head_dim": 64, "num_heads": 4, "rotary_emb_dim": 64}
    ),
}


def model_parities(name: str, device: str) -> Iterator[Parity]:
    """A model's logits on CUDA against those of float32 on the processor: unequal rows, steps, a second piece."""
    with kernels.plain_only():
        expected = _logits(tiny_model(MODELS[name]))
    found = _logits(tiny_model(MODELS[name]).to(device))
    yield Parity(f"{name}: logits, float32", relative_error(found, expected), LARGEST[torch.float32])
    half = tiny_model(MODELS[name]).to(device, torch.bfloat16)
    with kernels.plain_only():
        expected = _logits(tiny_model(MODELS[name]).bfloat16().float())
        plain = relative_error(_logits(half), expected)
    error = relative_error(_logits(half), expected)
    yield Parity(f"{name}: logits, bfloat16", error, _MORE_THAN_PLAIN * plain)


@torch.inference_mode()
def _logits(model: StateSpacesModel) -> Tensor:
    ids, later = random_ids(3, 300, vocabulary=1000), random_ids(3, 3, seed=1, vocabulary=1000)
    lengths = torch.tensor([300, 130, 1], device=model.device)
    found, state = model.prefill(ids.to(model.device), lengths, model.empty_state(3, 600))
    every = [found]
    for token in later:
        found, state = model.step(token.to(model.device), state)
        every.append(found)
    found, _ = model.prefill(ids[:, 7:107].to(model.device), torch.tensor([100, 3, 60], device=model.device), state)
    return torch.stack([*every, found])


def upstream_parities(name: str, device: str) -> Iterator[Parity]:
    """Our full forward in float32 on the processor against mamba-ssm's own model on CUDA, with the same weights."""
    # Untyped, and on most machines not there.
    config_of: Any = importlib.import_module("mamba_ssm.models.config_mamba").MambaConfig
    model_of: Any = importlib.import_module("mamba_ssm.models.mixer_seq_simple").MambaLMHeadModel
    configuration = dict(MODELS[name])
    if configuration["attn_layer_idx"] and not _has_rotary_embedding():
        # Its attention cannot turn by positions without flash-attn.
        configuration = changed(configuration, attn_cfg={"rotary_emb_dim": 0})
    model = tiny_model(configuration)
    made = StateSpacesConfiguration.from_json(configuration)
    theirs = model_of(config_of(**{field: getattr(made, field) for field in made.__dataclass_fields__}), device=device)
    theirs.load_state_dict(model.state_dict(), strict=True)
    ids = random_ids(2, 300, vocabulary=1000)
    with torch.inference_mode():
        found, expected = theirs.eval()(ids.to(device)).logits, model(ids)
    rotary = "" if configuration["attn_cfg"].get("rotary_emb_dim", 1) else ", without positions"
    yield Parity(f"{name}: mamba-ssm's own forward{rotary}", relative_error(found, expected), LARGEST_OF_MODELS)


def _has_rotary_embedding() -> bool:
    try:
        importlib.import_module("flash_attn.layers.rotary")
    except ImportError:
        return False
    return True
