"""A causal depthwise convolution that carries its last inputs from one call to the next."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models.layers import kernels

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
    kernel = kernels.fitting(kernels.CONVOLUTION, x, weight, history) if _suits_the_kernel(x, weight, history) else None
    if kernel is not None:
        # Channels before time, as it asks for, but only in the order of the axes, not in memory.
        convolved = kernel(x.transpose(1, 2), weight.squeeze(1), bias, initial_states=history.transpose(1, 2))
        return convolved.transpose(1, 2)
    inputs = torch.cat([history, x], 1)
    if x.is_cuda or x.dtype not in (torch.float32, torch.float64):
        return functional.conv1d(inputs.transpose(1, 2), weight, bias, groups=weight.shape[0]).transpose(1, 2)
    return _shifted_sum(inputs, weight.squeeze(1).T, bias)


def _shifted_sum(inputs: Tensor, taps: Tensor, bias: Tensor | None) -> Tensor:
    """The same as a sum over the filter's taps [width, channels].

    A processor's conv1d wants channels before time: copying there and back takes four times as long as this.
    """
    time = inputs.shape[1] - len(taps) + 1
    first = inputs[:, :time]
    y = first * taps[0] if bias is None else torch.addcmul(bias, first, taps[0])
    for shift in range(1, len(taps)):
        y = torch.addcmul(y, inputs[:, shift : shift + time], taps[shift])
    return y


def _suits_the_kernel(x: Tensor, weight: Tensor, history: Tensor) -> bool:
    """Whether causal-conv1d has been compiled for the filter's width, and can load 8 channels at a time."""
    strides = (x.shape[2], x.stride(0), x.stride(1), x.storage_offset())
    return (
        2 <= weight.shape[2] <= 4
        and all(stride % 8 == 0 for stride in strides)
        and x.stride(2) == 1
        and history.stride(2) == 1
        and history.dtype == x.dtype
    )


def last_inputs(x: Tensor, lengths: Tensor, history: Tensor) -> Tensor:
    """The history after x, where only the first `lengths` [batch] steps of each row are real.

    The inputs themselves are kept, not the convolution's outputs: a decoder that keeps the outputs
    reads garbage from the second token on.
    """
    width = history.shape[1]
    steps = (lengths[:, None] + torch.arange(-width, 0, device=x.device))[..., None].expand(-1, -1, x.shape[2])
    # A step before the first is one of the history's.
    of_history = history.gather(1, (steps + width).clamp(max=width - 1))
    return torch.where(steps >= 0, x.gather(1, steps.clamp(min=0)), of_history)
