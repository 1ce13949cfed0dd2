"""The state-space duality (SSD) operator of Mamba2: a recurrence, computed in three ways.

For each head, with state S of shape [head dimension, state size]:

    S_t = exp(dt_t * a) * S_{t-1} + dt_t * x_t b_t^T        y_t = S_t c_t

Shapes throughout: x [batch, time, heads, head dimension], dt [batch, time, heads], a [heads],
b and c [batch, time, groups, state size], state [batch, heads, head dimension, state size].
Source: Dao and Gu, "Transformers are SSMs" (2024), section 6.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ssd_chunked", "ssd_recurrent", "ssd_step"]


def ssd_step(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One token: the arguments lack the time axis.

    Returns:
        y [batch, heads, head dimension] and the state after the token.
    """
    repeats = x.shape[1] // b.shape[1]
    b, c = b.repeat_interleave(repeats, 1), c.repeat_interleave(repeats, 1)
    decay = torch.exp(dt * a)[..., None, None]
    state = decay * state + (dt[..., None] * x)[..., None] * b[..., None, :]
    return (state @ c[..., None]).squeeze(-1), state


def ssd_recurrent(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The definition, token by token: the reference for `ssd_chunked`.

    Returns:
        y, shaped like x, and the state after the last token.
    """
    outputs = []
    for t in range(x.shape[1]):
        y, state = ssd_step(x[:, t], dt[:, t], a, b[:, t], c[:, t], state)
        outputs.append(y)
    return torch.stack(outputs, 1), state


def ssd_chunked(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor, chunk: int = 64
) -> tuple[Tensor, Tensor]:
    """The same by matrix products within chunks and a recurrence between them.

    Args:
        x, dt, a, b, c, state: As in the module's docstring.
        chunk: Tokens a chunk; 64 is fastest on a CPU.

    Returns:
        y, shaped like x, and the state after the last token.
    """
    batch, time, heads, width = x.shape
    groups, size = b.shape[2:]
    padding = -time % chunk
    if padding:
        # dt = 0 leaves the state as it is, so padding at the end changes nothing.
        x, b, c = (functional.pad(tensor, (0, 0, 0, 0, 0, padding)) for tensor in (x, b, c))
        dt = functional.pad(dt, (0, 0, 0, padding))
    chunks = (time + padding) // chunk

    # Heads before time from here on: [batch, chunks, heads, chunk, ...].
    dt = dt.view(batch, chunks, chunk, heads).transpose(2, 3)
    x = x.view(batch, chunks, chunk, heads, width).transpose(2, 3)
    b = b.view(batch, chunks, chunk, groups, size).transpose(2, 3)
    c = c.view(batch, chunks, chunk, groups, size).transpose(2, 3)
    log_decay = torch.cumsum(dt * a[:, None], dim=-1)
    x = x * dt[..., None]

    # Within a chunk: token i reads token j <= i through c_i . b_j and the decay between them.
    causal = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).tril()
    between = (log_decay[..., :, None] - log_decay[..., None, :]).masked_fill(~causal, -torch.inf)
    scores = (c @ b.transpose(-1, -2)).repeat_interleave(heads // groups, 2)
    y = (scores * torch.exp(between)) @ x

    # What each chunk adds to the state, then the recurrence from chunk to chunk.
    per_head = [tensor.repeat_interleave(heads // groups, 2) for tensor in (b, c)]
    to_end = torch.exp(log_decay[..., -1:] - log_decay)
    added = (x * to_end[..., None]).transpose(-1, -2) @ per_head[0]
    kept = torch.exp(log_decay[..., -1])[..., None, None]
    before = []
    for i in range(chunks):
        before.append(state)
        state = kept[:, i] * state + added[:, i]
    carried = per_head[1] @ torch.stack(before, 1).transpose(-1, -2)
    y = y + carried * torch.exp(log_decay)[..., None]

    y = y.transpose(2, 3).reshape(batch, time + padding, heads, width)[:, :time]
    return y, state
