"""What families of stacked layers share: the state of all layers, and which tokens a call reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, Protocol, Self, TypeVar, cast

import torch
from torch import Tensor

from models.decoding.memory import tensor_bytes

__all__ = ["Block", "LayeredState", "Span", "read_layers"]


class _LayerState(Protocol):
    """A dataclass of tensors, each with the batch first; None stands for what a layer has not."""

    def select(self, rows: Tensor) -> Self: ...


LayerState = TypeVar("LayerState", bound=_LayerState)


@dataclass
class LayeredState(Generic[LayerState]):
    """What a model remembers.

    Attributes:
        layers: The state of each layer.
        positions: How many tokens each row has read, [batch].
        empty: Whether no row has read any.
    """

    layers: list[LayerState]
    positions: Tensor
    empty: bool = False

    def select(self, rows: Tensor) -> LayeredState[LayerState]:
        """The state of some rows of the batch."""
        return LayeredState([layer.select(rows) for layer in self.layers], self.positions[rows], self.empty)

    def joined(self, others: Sequence[LayeredState[LayerState]]) -> LayeredState[LayerState]:
        """The rows of this state, then those of others."""
        states = [self, *others]
        layers = [_joined(parts) for parts in zip(*[state.layers for state in states], strict=True)]
        positions = torch.cat([state.positions for state in states])
        return LayeredState(layers, positions, all(state.empty for state in states))

    @property
    def bytes(self) -> int:
        """The memory it takes."""
        return sum(tensor_bytes(tensor) for layer in self.layers for tensor in _tensors(layer) if tensor is not None)


def _tensors(layer: object) -> Iterator[Tensor | None]:
    for each in fields(cast("Any", layer)):
        yield getattr(layer, each.name)


def _joined(parts: Sequence[LayerState]) -> LayerState:
    """One layer's state of several batches."""
    together = zip(*map(_tensors, parts), strict=True)
    return type(parts[0])(*(None if tensors[0] is None else torch.cat(tensors) for tensors in together))


@dataclass(frozen=True)
class Span:
    """Which tokens a call reads, and of which it wants the output.

    Attributes:
        positions: The position of each row's first token, [batch].
        lengths: How many tokens of each row are real, [batch].
        fresh: Whether no row has read any token before.
        last_only: Whether only the output at each row's last real token is wanted; true in the last
            layer of a prefill, where the other outputs would be thrown away.
    """

    positions: Tensor
    lengths: Tensor
    fresh: bool
    last_only: bool = False

    def last(self, x: Tensor) -> Tensor:
        """The part of x [batch, time, ...] at each row's last real token, [batch, 1, ...]."""
        last = (self.lengths - 1).view(-1, *[1] * (x.ndim - 1))
        return x.gather(1, last.expand(-1, 1, *x.shape[2:]))

    def wanted(self, x: Tensor) -> Tensor:
        """The wanted part of x [batch, time, ...]: all of it, or [batch, 1, ...]."""
        return self.last(x) if self.last_only else x


class Block(Protocol[LayerState]):
    """One layer of a model, with its residual."""

    def __call__(self, residual: Tensor, state: LayerState, span: Span) -> tuple[Tensor, LayerState]:
        """The residual stream after it, [batch, time or 1, width], and its state."""


def read_layers(
    blocks: Sequence[Block[LayerState]],
    x: Tensor,
    lengths: Tensor,
    state: LayeredState[LayerState],
    *,
    last_only: bool,
) -> tuple[Tensor, LayeredState[LayerState]]:
    """Reads tokens with all layers, one after the other.

    Args:
        blocks: The layers.
        x: The embedded tokens, [batch, time, width].
        lengths: How many tokens of each row are real, [batch].
        state: The state before them.
        last_only: Whether only the output at each row's last real token is wanted.

    Returns:
        The last layer's output, [batch, time or 1, width], and the state after the tokens.
    """
    span = Span(state.positions, lengths, fresh=state.empty)
    layers = []
    for i, (block, before) in enumerate(zip(blocks, state.layers, strict=True), 1):
        if last_only and i == len(blocks):
            span = replace(span, last_only=True)
        x, after = block(x, before, span)
        layers.append(after)
    return x, LayeredState(layers, state.positions + lengths)
