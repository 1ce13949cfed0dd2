"""A causal depthwise convolution that carries its last inputs from one call to the next."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["causal_convolution", "last_inputs"]


def causal_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, history: Tensor) -> Tensor:
    """Convolves each channel with its own filter.

    Args:
        x: [batch, time, channels].
        weight: [channels, 1, width].
        bias: [channels].
        history: The width - 1 inputs before x, [batch, width - 1, channels]; zeros at the start.

    Returns:
        [batch, time, channels].
    """
    inputs = torch.cat([history, x], 1).transpose(1, 2)
    return functional.conv1d(inputs, weight, bias, groups=weight.shape[0]).transpose(1, 2)


def last_inputs(x: Tensor, lengths: Tensor, history: Tensor) -> Tensor:
    """The history after x, where only the first `lengths` [batch] steps of each row are real.

    The inputs themselves are kept, not the convolution's outputs: a decoder that keeps the outputs
    reads garbage from the second token on.
    """
    inputs = torch.cat([history, x], 1)
    steps = lengths[:, None] + torch.arange(history.shape[1], device=x.device)
    return inputs.gather(1, steps[..., None].expand(-1, -1, x.shape[2]))
