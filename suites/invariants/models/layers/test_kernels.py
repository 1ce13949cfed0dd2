"""Where kernels take the place of the plain path, the model stays the same; and it is known where they do."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.families.rwkv6.configuration import Rwkv6Configuration
from models.families.rwkv6.model import Rwkv6Model
from models.families.rwkv6.time_mixing import wkv_naive, wkv_over_time
from models.layers import kernels
from models.layers.convolution import causal_convolution
from models.layers.kernels import CHUNK_SCAN, CONVOLUTION, KERNELS, STATE_UPDATE, VARIABLE, WKV, Kernel
from suites.support.decoder_equalities import batched_difference, pieces_difference
from suites.support.families.state_spaces import CONFIGURATIONS, HYBRID, MAMBA2, changed, tiny_model
from suites.support.kernel_contracts import CONTRACTS
from suites.support.runs import REPOSITORY
from suites.support.tiny_models import difference, random_ids

TOLERANCE = 1e-4
HALF_TOLERANCE = 5e-2

FINCH = {"model_type": "rwkv6", "vocab_size": 53, "hidden_size": 32, "num_hidden_layers": 2, "head_size": 8}
# Channels in groups of eight, as the convolution's kernel wants them, and all that its sums may differ in.
KINDS = {
    "mamba2": MAMBA2,
    "mamba2-two-groups": CONFIGURATIONS["mamba2-two-groups"],
    "mamba2-narrow-state-space": CONFIGURATIONS["mamba2-narrow-state-space"],
    "mamba2-limited-dt": CONFIGURATIONS["mamba2-limited-dt"],
    "mamba2-aligned-heads": changed(MAMBA2, ssm_cfg={"ngroups": 2, "conv_bias": False, "D_has_hdim": True}),
    "hybrid": HYBRID,
    "finch": FINCH,
}


def made(kind: str) -> Any:
    """A tiny model of the kind."""
    if kind != "finch":
        return tiny_model(KINDS[kind])
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = Rwkv6Model(Rwkv6Configuration.from_json(FINCH))
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


class Watched:
    """Stands for installed kernels on any device, and knows which were asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.used: set[Kernel] = set()
        monkeypatch.setattr(kernels, "fitting", self.fitting)

    def fitting(self, kernel: Kernel, *tensors: Tensor) -> Any:
        self.used.add(kernel)
        return CONTRACTS[kernel]


def logits(model: Any) -> Tensor:
    """Of unequal rows read at once, two steps after them, and one more piece."""
    ids, later, lengths = random_ids(3, 40), random_ids(2, 3), torch.tensor([40, 17, 1])
    found, state = model.prefill(ids, lengths, model.empty_state(3, 80))
    every = [found]
    for token in later:
        found, state = model.step(token, state)
        every.append(found)
    found, _ = model.prefill(ids[:, :9], torch.tensor([9, 1, 4]), state)
    return torch.stack([*every, found])


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_on_kernels_is_the_plain_model(kind, monkeypatch):
    """With kernels a model gives the plain path's logits, unequal rows, steps and later pieces included."""
    model = made(kind)
    expected = logits(model)
    watched = Watched(monkeypatch)
    assert difference(logits(model), expected) < TOLERANCE
    assert watched.used >= ({WKV} if kind == "finch" else {CHUNK_SCAN, STATE_UPDATE})


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_on_kernels_stays_close(kind, monkeypatch):
    """In bfloat16 the logits with kernels are about as near to those of full precision as the plain path's."""
    half, full = made(kind).bfloat16(), made(kind).bfloat16().float()
    expected = logits(full)
    plain = difference(logits(half), expected)
    Watched(monkeypatch)
    assert difference(logits(half), expected) < 2 * plain < 4 * HALF_TOLERANCE


@pytest.mark.parametrize("kind", ["mamba2-aligned-heads", "hybrid", "finch"])
@given(st.lists(st.integers(1, 30), min_size=2, max_size=4), st.integers(0, 99))
@settings(max_examples=3)
def test_batches_and_pieces_on_kernels(kind, lengths, seed):
    """With kernels too, rows of unequal lengths give what each gives alone, and pieces what the whole gives."""
    model = made(kind)
    with pytest.MonkeyPatch.context() as patch:
        Watched(patch)
        assert batched_difference(model, lengths, seed) < TOLERANCE
        assert pieces_difference(model, [lengths, lengths[::-1]]) < TOLERANCE


@pytest.mark.parametrize(("channels", "width", "fits"), [(16, 4, True), (16, 2, True), (12, 4, False), (16, 5, False)])
@pytest.mark.parametrize("time", [1, 7])
def test_the_convolution_takes_its_kernel_where_that_can_load(channels, width, fits, time, monkeypatch):
    """Filters of 2 to 4 taps over channels in groups of 8 use the kernel, others do not, and all give the same."""
    draw = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(channels, 1, width, generator=draw), torch.randn(channels, generator=draw)
    history = torch.randn(2, width - 1, channels, generator=draw)
    # As a projection leaves it: a slice of wider rows.
    x = torch.randn(2, time, 3 * channels + 8, generator=draw)[..., channels : 2 * channels]
    expected = causal_convolution(x, weight, bias, history)
    watched = Watched(monkeypatch)
    assert difference(causal_convolution(x, weight, bias, history), expected) < TOLERANCE
    assert watched.used == ({CONVOLUTION} if fits else set())


def test_a_vanishing_decay_is_harmless(monkeypatch):
    """A decay that underflows to 0 reaches the kernel as a finite logarithm, and gives what the recurrence gives."""
    draw = torch.Generator().manual_seed(0)
    r, k, v, spread = (torch.randn(2, 9, 3, 4, generator=draw) for _ in range(4))
    log_decay = -torch.exp(6 * spread)
    assert (log_decay.exp() == 0).any()
    bonus, state = torch.randn(3, 4, generator=draw), torch.randn(2, 3, 4, 4, generator=draw)
    expected = wkv_naive(r, k, v, log_decay.exp(), bonus, state)
    Watched(monkeypatch)
    for found, reference in zip(wkv_over_time(r, k, v, log_decay, bonus, state), expected, strict=True):
        assert difference(found, reference) < TOLERANCE


class OnCuda:
    """As much of a tensor as the choice of a path looks at."""

    is_cuda = True

    def __init__(self, *shape: int, requires_grad: bool = False) -> None:
        self.shape, self.requires_grad = shape, requires_grad

    def stride(self) -> tuple[int, ...]:
        """Of a contiguous tensor."""
        return torch.empty(self.shape, device="meta").stride()


@pytest.fixture
def installed(monkeypatch):
    """Every kernel's package, importable and empty but for the function."""
    for kernel in KERNELS:
        module = ModuleType(kernel.module)
        setattr(module, kernel.function, CONTRACTS[kernel])
        monkeypatch.setitem(sys.modules, kernel.module, module)
    present = {part for package in kernels.PACKAGES for part in package.parts}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in present else None)
    kernels._imported.cache_clear()
    yield present
    kernels._imported.cache_clear()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_fits_on_cuda_alone(kernel, installed, monkeypatch):
    """A kernel is chosen for small enough tensors on CUDA, and not elsewhere, for training, or when all is plain."""
    fitting = kernels.fitting
    assert fitting(kernel, OnCuda(2, 3)) is CONTRACTS[kernel]
    assert fitting(kernel, OnCuda(2, 3), torch.zeros(2)) is None
    assert fitting(kernel, OnCuda(2**20, 2**12)) is None
    assert fitting(kernel, OnCuda(2, requires_grad=True)) is None
    with torch.no_grad():
        assert fitting(kernel, OnCuda(2, requires_grad=True)) is CONTRACTS[kernel]
    with kernels.plain_only():
        assert fitting(kernel, OnCuda(2)) is None
    assert fitting(kernel, OnCuda(2)) is CONTRACTS[kernel]
    monkeypatch.setenv(VARIABLE, "plain")
    assert fitting(kernel, OnCuda(2)) is None
    assert kernels.used() == "plain"


def test_missing_parts_are_told(installed, monkeypatch):
    """Packages that are absent, or were installed without their compiled part, are told with that reason."""
    assert kernels.missing() == {}
    assert kernels.used() == "mamba-ssm, causal-conv1d, flash-linear-attention"
    installed -= {"selective_scan_cuda", "causal_conv1d"}
    kernels._imported.cache_clear()
    assert kernels.missing() == {
        "mamba-ssm": "installed without selective_scan_cuda",
        "causal-conv1d": "not installed",
    }
    assert kernels.used() == "flash-linear-attention"
    assert kernels.fitting(CHUNK_SCAN, OnCuda(2)) is None
    monkeypatch.setenv(VARIABLE, "plain")
    assert set(kernels.missing().values()) == {f"{VARIABLE}=plain"}


def test_a_package_that_cannot_be_imported_is_told_once(installed, monkeypatch):
    """A package that is there but fails to import makes one warning that names it, and the plain path."""
    monkeypatch.setitem(sys.modules, WKV.module, None)
    with pytest.warns(UserWarning, match=r"chunk_rwkv6 of flash-linear-attention cannot be imported"):
        assert kernels.fitting(WKV, OnCuda(2)) is None
    assert kernels.fitting(WKV, OnCuda(2)) is None


def test_an_unknown_choice_is_refused(installed, monkeypatch):
    """A value of the environment variable that means nothing is refused with the ones that do."""
    monkeypatch.setenv(VARIABLE, "none")
    with pytest.raises(ValueError, match=f"{VARIABLE} is 'none'; it must be auto or plain"):
        kernels.fitting(WKV, OnCuda(2))


def test_asking_what_is_missing_imports_no_torch():
    """A run's header can say which kernels are missing before torch is imported."""
    code = "import sys; from models.layers.kernels import missing; missing(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0
