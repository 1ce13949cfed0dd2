"""The state-space duality (SSD) operator of Mamba2: a recurrence, computed in several ways and by kernels.

For each head, with state S of shape [head dimension, state size]:

    S_t = exp(dt_t * a) * S_{t-1} + dt_t * x_t b_t^T        y_t = S_t c_t

Shapes throughout: x [batch, time, heads, head dimension], dt [batch, time, heads], a [heads],
b and c [batch, time, groups, state size], state [batch, heads, head dimension, state size].
Source: Dao and Gu, "Transformers are SSMs" (2024), section 6.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from models.layers import kernels

__all__ = ["ssd", "ssd_chunked", "ssd_last", "ssd_recurrent", "ssd_step"]

# Tokens a chunk of mamba-ssm's kernel: its own models' choice, which its variants are made for.
_KERNEL_CHUNK: Final = 256


def ssd(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Any number of tokens, in the way that is fastest where they are.

    Args:
        x, b: Of any one dtype.
        c: Of that dtype; of one token, where the output of the last one alone is wanted.
        dt, a, state: float32. The state is spent: its memory may hold the one after.

    Returns:
        y, shaped like x or [batch, 1, heads, head dimension], in x's dtype or float32, and the state after the
        last token.
    """
    one = x.shape[1] == 1
    if c.shape[1] < x.shape[1]:
        y, state = ssd_last(x.float(), dt, a, b.float(), c[:, 0].float(), state)
        return y[:, None], state
    kernel = kernels.fitting(kernels.STATE_UPDATE if one else kernels.CHUNK_SCAN, x, dt, a, b, c, state)
    if kernel is not None and one:
        # It wants every argument for each element of a head; views of one number take its short way.
        heads, width, size = state.shape[1:]
        nothing = a.new_zeros(1).expand(heads, width)
        dt_of_element, a_of_element = dt[:, 0, :, None].expand(-1, -1, width), a[:, None, None].expand(-1, width, size)
        y = kernel(state, x[:, 0], dt_of_element, a_of_element, b[:, 0], c[:, 0], D=nothing, dt_bias=nothing)
        return y[:, None], state
    if kernel is not None:
        return kernel(x, dt, a, b, c, _KERNEL_CHUNK, initial_states=state, return_final_states=True)
    x, b, c = (tensor.float() for tensor in (x, b, c))
    if one:
        y, state = ssd_step(x[:, 0], dt[:, 0], a, b[:, 0], c[:, 0], state)
        return y[:, None], state
    return ssd_chunked(x, dt, a, b, c, state)


def ssd_last(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The output of the last token alone, and the state after it: each token is weighed by its decay up to there.

    Args:
        x, dt, a, b, state: As in the module's docstring.
        c: Of the last token, [batch, groups, state size].

    Returns:
        y [batch, heads, head dimension] and the state after the last token.
    """
    batch, _, heads, width = x.shape
    groups, size = b.shape[2:]
    # Added up from the end, so that what matters most is rounded least.
    log_decay = (dt * a).flip(1).cumsum(1).flip(1)
    to_end = torch.exp(functional.pad(log_decay[:, 1:], (0, 0, 0, 1)))
    weighted = (x * (dt * to_end)[..., None]).unflatten(2, (groups, -1)).flatten(3).transpose(1, 2)
    added = (weighted.mT @ b.transpose(1, 2)).view(batch, heads, width, size)
    state = torch.addcmul(added, torch.exp(log_decay[:, 0])[..., None, None], state)
    return (state * c.repeat_interleave(heads // groups, 1)[..., None, :]).sum(-1), state


def ssd_step(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One token: the arguments lack the time axis.

    Returns:
        y [batch, heads, head dimension] and the state after the token.
    """
    repeats = x.shape[1] // b.shape[1]
    b, c = (tensor.repeat_interleave(repeats, 1)[..., None, :] for tensor in (b, c))
    decay = torch.exp(dt * a)[..., None, None]
    state = torch.addcmul((dt[..., None] * x)[..., None] * b, decay, state)
    # A product with one column is slower as a matrix product.
    return (state * c).sum(-1), state


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
    each = heads // groups
    padding = -time % chunk
    if padding:
        # dt = 0 leaves the state as it is, so padding at the end changes nothing.
        x, b, c = (functional.pad(tensor, (0, 0, 0, 0, 0, padding)) for tensor in (x, b, c))
        dt = functional.pad(dt, (0, 0, 0, padding))
    chunks = (time + padding) // chunk

    # Groups before time from here on, and a group's heads side by side, so that what they share is never copied.
    dt = dt.view(batch, chunks, chunk, heads)
    x = x.view(batch, chunks, chunk, heads, width) * dt[..., None]
    b = b.view(batch, chunks, chunk, groups, size).transpose(2, 3)
    c = c.view(batch, chunks, chunk, groups, size).transpose(2, 3)
    log_decay = torch.cumsum(dt * a, dim=2)
    of_head = log_decay.transpose(2, 3)

    # Within a chunk: token i reads token j <= i through c_i . b_j and the decay between them.
    causal = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).tril()
    between = (of_head[..., :, None] - of_head[..., None, :]).masked_fill(~causal, -torch.inf).exp()
    scores = (c @ b.transpose(-1, -2))[:, :, :, None]
    read = (between.unflatten(2, (groups, each)) * scores).flatten(2, 3)
    y = read @ x.transpose(2, 3)

    # What each chunk adds to the state, then the recurrence from chunk to chunk.
    to_end = torch.exp(log_decay[:, :, -1:] - log_decay)
    weighted = (x * to_end[..., None]).view(batch, chunks, chunk, groups, each * width).transpose(2, 3)
    added = b.transpose(-1, -2) @ weighted
    kept = torch.exp(of_head[..., -1]).view(batch, chunks, groups, 1, each, 1)
    kept = kept.expand(-1, -1, -1, -1, -1, width).flatten(-2)
    state = state.view(batch, groups, each * width, size).transpose(-1, -2)
    before = []
    for kept_of_chunk, added_by_chunk in zip(kept.unbind(1), added.unbind(1), strict=True):
        before.append(state)
        state = torch.addcmul(added_by_chunk, kept_of_chunk, state)
    carried = (c @ torch.stack(before, 1)).view(batch, chunks, groups, chunk, each, width).transpose(3, 4).flatten(2, 3)
    y = torch.addcmul(y, carried, torch.exp(of_head)[..., None])

    y = y.transpose(2, 3).reshape(batch, time + padding, heads, width)[:, :time]
    return y, state.transpose(-1, -2).reshape(batch, heads, width, size)
