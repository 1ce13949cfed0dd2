"""What the kernels of the optional packages compute and demand, in plain PyTorch, for machines that have none.

Each function takes what its namesake takes, fails where that fails, and computes token by token. Written from the
packages' own documentation and checks: mamba-ssm 2.3.2, causal-conv1d 1.7.0, flash-linear-attention 0.6.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from models.layers.kernels import CHUNK_SCAN, CONVOLUTION, STATE_UPDATE, WKV, Kernel

__all__ = ["CONTRACTS"]


def causal_conv1d_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, initial_states: Tensor | None = None
) -> Tensor:
    """For x [batch, channels, time], channels last in memory; weight [channels, width]; initial_states like x."""
    channels, width = weight.shape
    assert 2 <= width <= 4
    assert x.shape[1] == channels
    assert channels % 8 == x.stride(0) % 8 == x.stride(2) % 8 == x.storage_offset() % 8 == 0
    assert x.stride(1) == 1
    assert x.stride(2) > 1
    assert bias is None or (bias.dtype == weight.dtype and bias.shape == (channels,))
    assert initial_states is not None
    assert initial_states.shape == (x.shape[0], channels, width - 1)
    assert initial_states.dtype == x.dtype
    assert initial_states.stride(1) == 1
    seen = torch.cat([initial_states, x], 2).float().unfold(2, width, 1)
    convolved = (seen * weight.float()[:, None]).sum(-1)
    return torch.empty_like(x).copy_(convolved if bias is None else convolved + bias.float()[:, None])


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    *,
    D: Tensor,  # noqa: N803
    dt_bias: Tensor,
) -> Tensor:
    """One token; every argument has all elements of a head, [.., heads, width, ..]; the state is written to."""
    batch, heads, width, size = state.shape
    assert state.dtype == torch.float32
    assert x.shape == dt.shape == (batch, heads, width)
    assert a.shape == (heads, width, size)
    assert b.shape == c.shape == (batch, b.shape[1], size)
    assert D.shape == dt_bias.shape == (heads, width)
    b, c = (part.float().repeat_interleave(heads // part.shape[1], 1)[:, :, None] for part in (b, c))
    step = (dt.float() + dt_bias)[..., None]
    state.copy_(state * torch.exp(step * a) + step * b * x.float()[..., None])
    return ((state * c).sum(-1) + D * x.float()).to(x.dtype)


def mamba_chunk_scan_combined(
    x: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    chunk_size: int,
    *,
    initial_states: Tensor,
    return_final_states: bool,
) -> tuple[Tensor, Tensor]:
    """For x [batch, time, heads, width], dt [.., heads], a [heads], b and c [batch, time, groups, state size]."""
    batch, time, heads, width = x.shape
    assert chunk_size.bit_count() == 1
    assert return_final_states
    assert dt.shape == (batch, time, heads)
    assert a.shape == (heads,)
    assert b.shape == c.shape == (batch, time, b.shape[2], b.shape[3])
    assert initial_states.shape == (batch, heads, width, b.shape[3])
    state, outputs = initial_states.clone().float(), []
    b, c = (part.float().repeat_interleave(heads // part.shape[2], 2) for part in (b, c))
    decays, added = torch.exp(dt.float() * a)[..., None, None], (dt[..., None] * x.float())[..., None]
    for t in range(time):
        state = state * decays[:, t] + added[:, t] * b[:, t, :, None]
        outputs.append((state @ c[:, t, :, :, None])[..., 0])
    return torch.stack(outputs, 1).to(x.dtype), state


def chunk_rwkv6(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    w: Tensor,
    u: Tensor,
    *,
    scale: float,
    initial_state: Tensor,
    output_final_state: bool,
) -> tuple[Tensor, Tensor]:
    """All [batch, time, heads, size] but u [heads, size]; w is the decay's logarithm; without a scale, one is made."""
    batch, time, heads, size = r.shape
    assert k.shape == w.shape == r.shape
    assert u.shape == (heads, size)
    assert initial_state.shape == (batch, heads, size, v.shape[3])
    assert w.isfinite().all()
    assert (w <= 0).all()
    assert output_final_state
    state, outputs = initial_state.clone().float(), []
    for t in range(time):
        rt, kt, vt = (part[:, t].float() for part in (r, k, v))
        added = torch.einsum("bhk,bhv->bhkv", kt, vt)
        outputs.append(scale * torch.einsum("bhk,bhkv->bhv", rt, state + u[..., None] * added))
        state = state * torch.exp(w[:, t])[..., None] + added
    return torch.stack(outputs, 1).to(v.dtype), state


CONTRACTS: Mapping[Kernel, Callable[..., Any]] = {
    CONVOLUTION: causal_conv1d_fn,
    STATE_UPDATE: selective_state_update,
    CHUNK_SCAN: mamba_chunk_scan_combined,
    WKV: chunk_rwkv6,
}
