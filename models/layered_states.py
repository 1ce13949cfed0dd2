"""What families of stacked layers share: the state of all layers, and which tokens a call reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from models.decoding import State

__all__ = ["LayeredState", "Span"]

LayerState = TypeVar("LayerState", bound=State)


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
