"""Causal attention of the last tokens of a text to all of it, whatever part of it has been read before."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.bias import causal_lower_right

__all__ = ["attention", "causal_attention"]

# Queries of one call on a processor, whose kernel reads keys in blocks of 512, also those that no query sees.
_QUERIES: Final = 64


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention.

    Args:
        q: [batch, heads, queries, head dimension].
        k, v: [batch, shared heads, places, head dimension].
        mask: Added to the scores, [batch or 1, 1, queries, places]; None where every query sees all places.

    Returns:
        [batch, heads, queries, head dimension].
    """
    grouped = q.shape[1] != k.shape[1]
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of the tokens in the last places, each to all places up to its own; shapes as for `attention`."""
    queries, places = q.shape[2], k.shape[2]
    if queries == 1:
        return attention(q, k, v)
    if q.device.type != "cpu":
        return attention(q, k, v, causal_lower_right(queries, places))
    before = places - queries
    mask = torch.full((_QUERIES, places + _QUERIES), -math.inf, dtype=q.dtype, device=q.device)
    mask = mask.triu(places + 1)
    parts = []
    for first in range(0, queries, _QUERIES):
        part = q[:, :, first : first + _QUERIES]
        seen = before + first + part.shape[2]
        # Its last column is the place of the last query.
        visible = mask[: part.shape[2], places + part.shape[2] - seen : places + part.shape[2]]
        parts.append(attention(part, k[:, :, :seen], v[:, :, :seen], visible))
    # The kernel's output has heads behind places in memory, and so has this.
    return torch.cat([part.transpose(1, 2) for part in parts], 1).transpose(1, 2)
