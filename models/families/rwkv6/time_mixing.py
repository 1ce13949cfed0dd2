"""The WKV operator of RWKV-6 (Finch): a recurrence with a decay for each channel and token, computed in three ways.

For each head, with state S of shape [key size, value size] and a decay w in [0, 1]:

    y_t = r_t (S_{t-1} + diag(u) k_t^T v_t)        S_t = diag(w_t) S_{t-1} + k_t^T v_t

so that a token reads itself through the bonus u in place of the decay. Shapes throughout: receptance r,
key k and decay w [batch, time, heads, key size], value v [batch, time, heads, value size], bonus u
[heads, key size], state [batch, heads, key size, value size].
Source: Peng et al., "Eagle and Finch: RWKV with Matrix-Valued States and Dynamic Recurrence" (2024).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from models.layers import kernels

__all__ = ["wkv_chunked", "wkv_naive", "wkv_over_time", "wkv_step"]

# The kernel adds the logarithms up over a chunk and subtracts the sums, whose digits larger ones would take. This
# much leaves nothing of a state that float32 could tell from nothing.
_SMALLEST_LOG_DECAY: Final = -30.0


def wkv_over_time(
    receptance: Tensor, key: Tensor, value: Tensor, log_decay: Tensor, bonus: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Any number of tokens, in the way that is fastest where they are.

    Args:
        receptance, key, value: Of any one dtype.
        log_decay: The logarithm of the decay, float32.
        bonus, state: float32.

    Returns:
        y, shaped like the value, in its dtype or float32, and the state after the last token.
    """
    one = receptance.shape[1] == 1
    kernel = None if one else kernels.fitting(kernels.WKV, receptance, key, value, log_decay, bonus, state)
    if kernel is not None:
        log_decay = log_decay.clamp(min=_SMALLEST_LOG_DECAY)
        # Without a scale the kernel makes one of its own.
        return kernel(receptance, key, value, log_decay, bonus, scale=1.0, initial_state=state, output_final_state=True)
    receptance, key, value = (tensor.float() for tensor in (receptance, key, value))
    decay = torch.exp(log_decay)
    if one:
        y, state = wkv_step(receptance[:, 0], key[:, 0], value[:, 0], decay[:, 0], bonus, state)
        return y[:, None], state
    return wkv_chunked(receptance, key, value, decay, bonus, state)


def wkv_step(
    receptance: Tensor, key: Tensor, value: Tensor, decay: Tensor, bonus: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: the arguments lack the time axis.

    Returns:
        y [batch, heads, value size] and the state after the token.
    """
    added = key[..., None] * value[..., None, :]
    y = (receptance[..., None, :] @ (state + bonus[..., None] * added)).squeeze(-2)
    return y, decay[..., None] * state + added


def wkv_naive(
    receptance: Tensor, key: Tensor, value: Tensor, decay: Tensor, bonus: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The definition, token by token: the reference for `wkv_chunked`.

    Returns:
        y, shaped like the value, and the state after the last token.
    """
    outputs = []
    for t in range(receptance.shape[1]):
        y, state = wkv_step(receptance[:, t], key[:, t], value[:, t], decay[:, t], bonus, state)
        outputs.append(y)
    return torch.stack(outputs, 1), state


def wkv_chunked(
    receptance: Tensor,
    key: Tensor,
    value: Tensor,
    decay: Tensor,
    bonus: Tensor,
    state: Tensor,
    chunk: int = 32,
) -> tuple[Tensor, Tensor]:
    """The same by matrix products within chunks and a recurrence between them.

    Blocks of one token are joined in pairs to blocks of two, of four, and so on up to a chunk. When two are
    joined, the second's tokens read the first's through decays multiplied from either side up to the border
    between them. No decay is ever divided by and no exponent is ever positive, so that decays of 0, and
    products of decays that underflow, are harmless.

    Args:
        receptance, key, value, decay, bonus, state: As in the module's docstring.
        chunk: Tokens a chunk, a power of two; 32 is fastest on a CPU.

    Returns:
        y, shaped like the value, and the state after the last token.
    """
    time = receptance.shape[1]
    chunk = min(chunk, 1 << (time - 1).bit_length())
    padding = -time % chunk
    # Blocks of one token: [batch, heads, blocks, 1, size].
    r, k, v, kept = (tensor.transpose(1, 2).unsqueeze(3) for tensor in (receptance, key, value, decay))
    if padding:
        # No key and a decay of 1 leave the state as it is, so padding at the end changes nothing.
        r, k, v = (functional.pad(tensor, (0, 0, 0, 0, 0, padding)) for tensor in (r, k, v))
        kept = functional.pad(kept, (0, 0, 0, 0, 0, padding), value=1.0)
    y = (r * bonus[:, None, None] * k).sum(-1, keepdim=True) * v

    # r is decayed from its block's start up to before its token, k from after its token up to its block's end,
    # and `kept` is what a whole block leaves of the state before it.
    while r.shape[3] < chunk:
        pairs = [tensor.unflatten(2, (-1, 2)) for tensor in (y, r, k, v, kept)]
        (y1, y2), (r1, r2), (k1, k2), (v1, _), (kept1, kept2) = (pair.unbind(3) for pair in pairs)
        y = torch.cat([y1, y2 + (r2 @ k1.mT) @ v1], 3)
        r = torch.cat([r1, r2 * kept1], 3)
        k = torch.cat([k1 * kept2, k2], 3)
        v = pairs[3].flatten(3, 4)
        kept = kept1 * kept2

    before = []
    for left, added in zip(kept.mT.unbind(2), (k.mT @ v).unbind(2), strict=True):
        before.append(state)
        state = torch.addcmul(added, left, state)
    y = y + r @ torch.stack(before, 2)
    return y.flatten(2, 3)[:, :, :time].transpose(1, 2), state
