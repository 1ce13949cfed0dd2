"""The Llama family: attention with rotary positions, and gated feed-forward layers.

As in Meta's own code, the two numbers that a position turns together lie side by side, so that they are one
complex number; published files have them half a head apart. Layers that read the same are one matrix each.
`checkpoint.py` translates.
Sources: Touvron et al., "LLaMA: Open and Efficient Foundation Language Models" (2023), section 2.2;
Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021), section 3.4.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.families.llama.configuration import LlamaConfiguration
from models.layers.attention import attention, causal_attention
from models.layers.states import LayeredState, Span, read_layers

__all__ = ["LlamaModel", "LlamaState"]


@dataclass
class LlamaAttentionState:
    """keys and values [batch, shared heads, capacity, head dimension]; slot i holds position i, its key rotated."""

    keys: Tensor
    values: Tensor

    def select(self, rows: Tensor, used: int | None = None) -> LlamaAttentionState:
        """The state of some rows; slots from `used` on are not copied."""
        return LlamaAttentionState(*(_selected(cache, rows, used) for cache in (self.keys, self.values)))


def _selected(cache: Tensor, rows: Tensor, used: int | None) -> Tensor:
    made = cache.new_empty(len(rows), *cache.shape[1:])
    torch.index_select(cache[:, :, :used], 0, rows, out=made[:, :, :used])
    return made


def _joined(caches: Sequence[Tensor], used: Sequence[int]) -> Tensor:
    """The rows of several caches, in each of which so many slots are used."""
    made = caches[0].new_empty(sum(map(len, caches)), *caches[0].shape[1:])
    for part, cache, slots in zip(made.split([len(cache) for cache in caches]), caches, used, strict=True):
        part[:, :, :slots] = cache[:, :, :slots]
        part[:, :, slots : max(used)] = 0
    return made


class LlamaState(LayeredState[LlamaAttentionState]):
    """What a model remembers.

    The slots that the longest row uses hold finite numbers in every row; others hold anything, and are not copied.
    """

    @property
    def used(self) -> int:
        """How many slots the longest row uses."""
        return 0 if self.empty else int(self.positions.max())

    def select(self, rows: Tensor) -> LlamaState:
        chosen = LlamaState([], self.positions[rows], self.empty)
        used = chosen.used
        chosen.layers = [layer.select(rows, used) for layer in self.layers]
        return chosen

    def joined(self, others: Sequence[LayeredState[LlamaAttentionState]]) -> LlamaState:
        states = cast("list[LlamaState]", [self, *others])
        used = [state.used for state in states]
        layers = [
            LlamaAttentionState(
                _joined([part.keys for part in parts], used), _joined([part.values for part in parts], used)
            )
            for parts in zip(*[state.layers for state in states], strict=True)
        ]
        positions = torch.cat([state.positions for state in states])
        return LlamaState(layers, positions, all(state.empty for state in states))


@dataclass(frozen=True)
class Places:
    """Where some tokens of a call stand, and what they see; the same for every layer.

    Attributes:
        rotation: Of each position, [batch or 1, tokens, 1, head dimension / 2], complex.
        mask: Added to their scores, [batch or 1, 1, tokens, slots]: -inf where a token does not see a slot.
            None where they stand in the last slots, and see those up to their own.
    """

    rotation: Tensor
    mask: Tensor | None

    def rotated(self, x: Tensor) -> Tensor:
        """Turns x [batch, tokens, heads, head dimension] by the positions."""
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * self.rotation).flatten(-2).to(x.dtype)


@dataclass(frozen=True)
class TokensRead:
    """What one call reads, as its layers need to know it.

    Attributes:
        tokens: All tokens.
        asked: The steps of which the output is wanted, [batch, steps]; None where it is that of all.
        asking: Those, in the last layer; all tokens where all are wanted.
        slots: How many slots there are after the call: as many as the longest row has tokens.
        used: How many there were before it; the new tokens go into those that follow.
        scattered: Where rows have read unequal numbers of tokens, the row, step and slot of each new one instead.
    """

    tokens: Places
    asked: Tensor | None
    asking: Places
    slots: int
    used: int
    scattered: tuple[Tensor, Tensor, Tensor] | None

    def wanted(self, x: Tensor) -> Tensor:
        """The part of x [batch, time, width] that is wanted, [batch, steps, width]."""
        return x if self.asked is None else x.gather(1, self.asked[..., None].expand(-1, -1, x.shape[2]))

    def stored(self, cache: Tensor, new: Tensor) -> Tensor:
        """All that is in a cache after new keys or values [batch, heads, time, head dimension] are written into it."""
        if self.scattered is None:
            cache[:, :, self.used : self.used + new.shape[2]] = new
        else:
            rows, steps, slots = self.scattered
            # Some rows leave some of them empty, and what is hidden by a mask must still be a number.
            cache[:, :, self.used : self.slots] = 0
            cache[rows, :, slots] = new[rows, :, steps]
        return cache[:, :, : self.slots]


class LlamaRMSNorm(nn.Module):
    """Root-mean-square normalization, computed in float32."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self._epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x.float(), self.weight.shape, self.weight.float(), self._epsilon).to(x.dtype)


class LlamaAttention(nn.Module):
    """Causal attention with rotary positions and heads that may share their keys and values."""

    def __init__(self, configuration: LlamaConfiguration) -> None:
        super().__init__()
        c = self.configuration = configuration
        self.sizes = c.query_width, c.key_width, c.key_width
        self.in_proj = nn.Linear(c.hidden_size, sum(self.sizes), bias=c.attention_bias)
        self.o_proj = nn.Linear(c.query_width, c.hidden_size, bias=c.attention_bias)

    def empty_state(self, batch: int, capacity: int) -> LlamaAttentionState:
        c, weight = self.configuration, self.in_proj.weight
        shape = (batch, c.num_key_value_heads, capacity, c.head_dim)
        return LlamaAttentionState(weight.new_empty(shape), weight.new_empty(shape))

    def forward(
        self, u: Tensor, state: LlamaAttentionState, span: Span, reading: TokensRead
    ) -> tuple[Tensor, LlamaAttentionState]:
        places = reading.tokens
        if span.last_only:
            places = reading.asking
            queries = self._projected(reading.wanted(u), slice(self.sizes[0]))
            k, v = self._projected(u, slice(self.sizes[0], None)).split(self.sizes[1:], -1)
        else:
            queries, k, v = self.in_proj(u).split(self.sizes, -1)
        q = places.rotated(self._heads(queries)).transpose(1, 2)
        k = reading.tokens.rotated(self._heads(k)).transpose(1, 2)
        v = self._heads(v).transpose(1, 2)
        # A model in training has no room for what it reads.
        if state.keys.shape[2]:
            seen = reading.stored(state.keys, k), reading.stored(state.values, v)
            if not span.fresh:
                k, v = seen
        context = causal_attention(q, k, v) if places.mask is None else attention(q, k, v, places.mask)
        return self.o_proj(context.transpose(1, 2).flatten(-2)), state

    def _projected(self, u: Tensor, part: slice) -> Tensor:
        """Some of what `in_proj` makes of u."""
        bias = self.in_proj.bias
        return functional.linear(u, self.in_proj.weight[part], None if bias is None else bias[part])

    def _heads(self, x: Tensor) -> Tensor:
        """The heads of x [batch, time, heads x head dimension], [batch, time, heads, head dimension]."""
        return x.unflatten(-1, (-1, self.configuration.head_dim))


class LlamaGatedMLP(nn.Module):
    """A gated feed-forward layer."""

    def __init__(self, configuration: LlamaConfiguration) -> None:
        super().__init__()
        c = configuration
        self.in_proj = nn.Linear(c.hidden_size, 2 * c.intermediate_size, bias=c.mlp_bias)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=c.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.in_proj(x).chunk(2, -1)
        return self.down_proj(functional.silu(gate) * up)


class LlamaBlock(nn.Module):
    """Attention and a feed-forward layer, both with residuals."""

    def __init__(self, configuration: LlamaConfiguration) -> None:
        super().__init__()
        c = configuration
        self.input_layernorm = LlamaRMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = LlamaAttention(c)
        self.post_attention_layernorm = LlamaRMSNorm(c.hidden_size, c.rms_norm_eps)
        self.mlp = LlamaGatedMLP(c)

    def forward(
        self, residual: Tensor, state: LlamaAttentionState, span: Span, reading: TokensRead
    ) -> tuple[Tensor, LlamaAttentionState]:
        attended, state = self.self_attn(self.input_layernorm(residual), state, span, reading)
        residual = (reading.wanted(residual) if span.last_only else residual) + attended
        return residual + self.mlp(self.post_attention_layernorm(residual)), state


class LlamaBackbone(nn.Module):
    """Everything but the output layer."""

    def __init__(self, configuration: LlamaConfiguration) -> None:
        super().__init__()
        c = configuration
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(LlamaBlock(c) for _ in range(c.num_hidden_layers))
        self.norm = LlamaRMSNorm(c.hidden_size, c.rms_norm_eps)

    @property
    def blocks(self) -> list[LlamaBlock]:
        """The layers, typed."""
        return cast("list[LlamaBlock]", list(self.layers))


class LlamaModel(nn.Module):
    """A language model of the family; a `models.decoding.decoder.Decoder`.

    Attributes:
        max_positions: How many tokens it was made to read.
    """

    # Its states can be forked wherever a token ends.
    shares_prefixes = True

    def __init__(self, configuration: LlamaConfiguration) -> None:
        super().__init__()
        self.configuration = configuration
        self.max_positions = configuration.max_position_embeddings
        self.model = LlamaBackbone(configuration)
        self.lm_head = nn.Linear(configuration.hidden_size, configuration.vocab_size, bias=False)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Makes the output layer the embedding, where the configuration says so."""
        if self.configuration.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    def empty_state(self, batch: int, capacity: int) -> LlamaState:
        layers = [block.self_attn.empty_state(batch, capacity) for block in self.model.blocks]
        positions = torch.zeros(batch, dtype=torch.long, device=self.device)
        return LlamaState(layers, positions, empty=True)

    def _hidden(
        self, ids: Tensor, lengths: Tensor, state: LlamaState, asked: Tensor | None = None
    ) -> tuple[Tensor, LlamaState]:
        """The normalized output of the last layer, and the state after.

        Args:
            ids: [batch, time].
            lengths: Of the rows, [batch].
            state: Before them.
            asked: The steps of which the output is wanted, [batch, steps]; None for all.

        Returns:
            [batch, time or steps, hidden size], and the state.
        """
        reading = self._reading(ids.shape[1], lengths, state, asked)
        blocks = [partial(block, reading=reading) for block in self.model.blocks]
        x, after = read_layers(blocks, self.model.embed_tokens(ids), lengths, state, last_only=asked is not None)
        return self.model.norm(x), LlamaState(after.layers, after.positions)

    def _reading(self, time: int, lengths: Tensor, state: LlamaState, asked: Tensor | None) -> TokensRead:
        starts, ends = state.positions, state.positions + lengths
        earliest, used, slots = torch.stack([*starts.aminmax(), ends.max()]).tolist()
        steps = torch.arange(time, device=starts.device)
        together = earliest == used
        scattered = None
        # Padding may reach beyond the room there is; without any, nothing is stored.
        if not together or used + time > state.layers[0].keys.shape[2] > 0:
            rows, real = (steps < lengths[:, None]).nonzero(as_tuple=True)
            scattered = rows, real, starts[rows] + real
        else:
            slots = used + time
        positions = (starts[:1] if together else starts)[:, None] + steps
        # Before the first token the new ones, padding included, are all there is to be seen.
        seen = time if state.empty else slots
        tokens = self._places(positions, None if state.empty or scattered is None else seen)
        asking = tokens if asked is None else self._places(starts[:, None] + asked, seen)
        return TokensRead(tokens, asked, asking, slots, used, scattered)

    def _places(self, positions: Tensor, slots: int | None) -> Places:
        """Places of positions [batch or 1, tokens], which see those of the slots that are not after them.

        Args:
            positions: As above.
            slots: None where the positions are those of the last slots.
        """
        c = self.configuration
        exponents = torch.arange(0, c.head_dim, 2, device=positions.device, dtype=torch.float32) / c.head_dim
        angles = positions[..., None, None] * (1 / c.rope_theta**exponents)
        mask = None
        if slots is not None:
            # Added rather than chosen by: kernels turn a mask of truth values into this one in every layer.
            hidden = torch.arange(slots, device=positions.device) > positions[:, None, :, None]
            zeros = torch.zeros(hidden.shape, device=positions.device, dtype=self.lm_head.weight.dtype)
            mask = zeros.masked_fill_(hidden, -math.inf)
        return Places(torch.polar(torch.ones_like(angles), angles), mask)

    def forward(self, ids: Tensor) -> Tensor:
        """The logits at every position of whole rows, [batch, time, vocabulary]; for training."""
        lengths = torch.full(ids.shape[:1], ids.shape[1], device=ids.device)
        hidden, _ = self._hidden(ids, lengths, self.empty_state(ids.shape[0], 0))
        return self.lm_head(hidden)

    def prefill(self, ids: Tensor, lengths: Tensor, state: LlamaState) -> tuple[Tensor, LlamaState]:
        hidden, state = self._hidden(ids, lengths, state, (lengths - 1)[:, None])
        return self.lm_head(hidden[:, 0]).float(), state

    def prefill_drafted(
        self, ids: Tensor, lengths: Tensor, drafted: Tensor, state: LlamaState
    ) -> tuple[Tensor, LlamaState]:
        steps = torch.arange(-1, int(drafted.max()), device=ids.device)
        asked = torch.minimum((lengths - drafted)[:, None] + steps, lengths[:, None] - 1)
        hidden, state = self._hidden(ids, lengths, state, asked)
        # The slots of drafted tokens are written anew by what follows.
        return self.lm_head(hidden).float(), replace(state, positions=state.positions - drafted)

    def step(self, ids: Tensor, state: LlamaState) -> tuple[Tensor, LlamaState]:
        hidden, state = self._hidden(ids[:, None], torch.ones_like(ids), state)
        return self.lm_head(hidden[:, 0]).float(), state

    def logits(self, ids: Tensor, lengths: Tensor, state: LlamaState) -> Tensor:
        hidden, _ = self._hidden(ids, lengths, state)
        return self.lm_head(hidden).float()
