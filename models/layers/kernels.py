"""Kernels of optional packages that take the place of the plain path on CUDA.

Each operation that has one asks `fitting` for it and takes its plain path, the readable reference, where there is
none: elsewhere than on CUDA, without the package, while gradients are wanted, or where everything is to be plain.
This module imports neither torch nor any of the packages before one of them is asked for.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CHUNK_SCAN",
    "CONVOLUTION",
    "KERNELS",
    "PACKAGES",
    "STATE_UPDATE",
    "VARIABLE",
    "WKV",
    "Kernel",
    "Package",
    "fitting",
    "missing",
    "plain_only",
    "used",
]

# The environment variable that says which path to take: auto (the default), or plain for no kernel at all.
VARIABLE: Final = "LONGWATCH_KERNELS"
_CHOICES: Final = ("auto", "plain")

# The kernels count elements in 32 bits.
_LARGEST: Final = 2**31

# Read by Triton. Products of float32 would be rounded to 10 bits by default, unlike torch's own. And a kernel is
# timed in several variants that round differently: the choice is kept on disk, so that every night makes the same.
_SETTINGS: Final = {"TRITON_F32_DEFAULT": "ieee", "TRITON_CACHE_AUTOTUNING": "1"}


@dataclass(frozen=True)
class Package:
    """An optional package with kernels.

    Attributes:
        name: What is to be installed.
        parts: The top-level modules it needs, its own first; an installation made without a CUDA compiler lacks some.
    """

    name: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Kernel:
    """One function of such a package."""

    package: Package
    module: str
    function: str


_MAMBA_SSM: Final = Package("mamba-ssm", ("mamba_ssm", "selective_scan_cuda", "triton", "einops"))
_CAUSAL_CONV1D: Final = Package("causal-conv1d", ("causal_conv1d", "causal_conv1d_cuda"))
_FLASH_LINEAR_ATTENTION: Final = Package("flash-linear-attention", ("fla", "triton", "einops"))
PACKAGES: Final = (_MAMBA_SSM, _CAUSAL_CONV1D, _FLASH_LINEAR_ATTENTION)

CHUNK_SCAN: Final = Kernel(_MAMBA_SSM, "mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined")
STATE_UPDATE: Final = Kernel(_MAMBA_SSM, "mamba_ssm.ops.triton.selective_state_update", "selective_state_update")
CONVOLUTION: Final = Kernel(_CAUSAL_CONV1D, "causal_conv1d", "causal_conv1d_fn")
WKV: Final = Kernel(_FLASH_LINEAR_ATTENTION, "fla.ops.rwkv6", "chunk_rwkv6")
KERNELS: Final = (CHUNK_SCAN, STATE_UPDATE, CONVOLUTION, WKV)

_forced: list[str] = []


def fitting(kernel: Kernel, *tensors: Tensor) -> Callable[..., Any] | None:
    """The kernel's function, where it can take the place of the plain path for these tensors.

    Raises:
        ValueError: The environment variable `VARIABLE` has an unknown value.
    """
    import torch

    if not all(tensor.is_cuda and _reach(tensor) <= _LARGEST for tensor in tensors) or _is_plain():
        return None
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return None
    return _imported(kernel)


@contextmanager
def plain_only() -> Iterator[None]:
    """Within it no kernel is used, to compare the two paths."""
    _forced.append("plain")
    try:
        yield
    finally:
        _forced.pop()


def missing(kernels: Iterable[Kernel] = KERNELS) -> dict[str, str]:
    """By package of some kernels, why it cannot be used; found without importing any of them.

    Raises:
        ValueError: The environment variable `VARIABLE` has an unknown value.
    """
    reasons = {kernel.package.name: _lacking(kernel.package) for kernel in kernels}
    if _is_plain():
        return dict.fromkeys(reasons, f"{VARIABLE}=plain")
    return {name: reason for name, reason in reasons.items() if reason is not None}


def used(kernels: Iterable[Kernel] = KERNELS) -> str:
    """The packages of some kernels that run on CUDA, for the record of a run: their names, or `plain`.

    Raises:
        ValueError: The environment variable `VARIABLE` has an unknown value.
    """
    if _is_plain():
        return "plain"
    return ", ".join(dict.fromkeys(each.package.name for each in kernels if _imported(each))) or "plain"


def _is_plain() -> bool:
    choice = _forced[-1] if _forced else os.environ.get(VARIABLE, _CHOICES[0])
    if choice not in _CHOICES:
        raise ValueError(f"{VARIABLE} is {choice!r}; it must be {' or '.join(_CHOICES)}")
    return choice == "plain"


def _lacking(package: Package) -> str | None:
    """Why a package cannot be used, as far as that can be told without importing it."""
    lacking = [part for part in package.parts if importlib.util.find_spec(part) is None]
    if package.parts[0] in lacking:
        return "not installed"
    return f"installed without {', '.join(lacking)}" if lacking else None


@functools.cache
def _imported(kernel: Kernel) -> Callable[..., Any] | None:
    """The function, where its package is usable."""
    if _lacking(kernel.package):
        return None
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        return getattr(importlib.import_module(kernel.module), kernel.function)
    except Exception as error:  # a package built for another torch or Triton raises almost anything
        warnings.warn(
            f"{kernel.function} of {kernel.package.name} cannot be imported, so the plain path is taken: {error!r}",
            stacklevel=3,
        )
        return None


def _reach(tensor: Tensor) -> int:
    """How many elements lie from a tensor's first to its last, those between its own included."""
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size)
