"""The diagonal linear recurrence inside gated recurrent units, computed in two ways.

For each channel on its own, with a decay a in [0, 1] that may differ from token to token:

    h_t = a_t * h_{t-1} + x_t

Shapes throughout: decay and x [batch, time, channels], state [batch, channels]; the results are of
their dtype. Source: De et al., "Griffin" (2024), section 2.4 and appendix D.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["recurrence_chunked", "recurrence_naive"]


def recurrence_naive(decay: Tensor, x: Tensor, state: Tensor) -> Tensor:
    """The definition, token by token: the reference for `recurrence_chunked`.

    Returns:
        h after each token, shaped like x; the last one is the state to go on from.
    """
    outputs = []
    for t in range(x.shape[1]):
        state = decay[:, t] * state + x[:, t]
        outputs.append(state)
    return torch.stack(outputs, 1)


def recurrence_chunked(decay: Tensor, x: Tensor, state: Tensor, chunk: int | None = None) -> Tensor:
    """The same with about 2 sqrt(time) dependent steps: all chunks side by side, then from chunk to chunk.

    No decay is ever divided by, so that decays of 0, and products of decays that underflow, are harmless.

    Args:
        decay, x, state: As in the module's docstring.
        chunk: Tokens a chunk; by default the square root of the time, which makes the fewest steps.

    Returns:
        h after each token, shaped like x; the last one is the state to go on from.
    """
    batch, time, channels = x.shape
    chunk = chunk or math.isqrt(time - 1) + 1
    padding = -time % chunk
    if padding:
        decay, x = (functional.pad(tensor, (0, 0, 0, padding)) for tensor in (decay, x))
    decays, inputs = (tensor.view(batch, -1, chunk, channels).unbind(2) for tensor in (decay, x))

    # Within each chunk: h as if nothing had been before it, and how much is left of what had been.
    own, kept = [inputs[0]], [decays[0]]
    for a, added in zip(decays[1:], inputs[1:], strict=True):
        own.append(torch.addcmul(added, a, own[-1]))
        kept.append(kept[-1] * a)

    before = []
    for a, added in zip(kept[-1].unbind(1), own[-1].unbind(1), strict=True):
        before.append(state)
        state = torch.addcmul(added, a, state)
    hidden = torch.addcmul(torch.stack(own, 2), torch.stack(kept, 2), torch.stack(before, 1)[:, :, None])
    return hidden.view(batch, time + padding, channels)[:, :time]
