"""The RecurrentGemma family (Griffin): gated linear recurrences with local attention between them.

Module names equal the keys of the published `RecurrentGemmaForCausalLM` checkpoints. A token attends to
`attention_window_size` tokens, itself included, as in transformers; Google's own code has one more.
Sources: De et al., "Griffin" (2024); Botev et al., "RecurrentGemma" (2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.families.recurrent_gemma.configuration import ATTENTION, RecurrentGemmaConfiguration
from models.families.recurrent_gemma.linear_recurrence import recurrence_chunked
from models.layers.convolution import causal_convolution, last_inputs
from models.layers.states import LayeredState, Span, read_layers

__all__ = ["RecurrentGemmaModel", "RecurrentGemmaState"]

# The constant c of the decay a^(c r), section 2.4 of the Griffin paper.
_DECAY_SCALE: Final = 8.0

# Queries that attend at once, at least: fewer make more calls, more read more keys outside the window.
_BLOCK: Final = 128


@dataclass
class RecurrentState:
    """history [batch, conv1d_width - 1, lru_width]; hidden [batch, lru_width], float32."""

    history: Tensor
    hidden: Tensor

    def select(self, rows: Tensor) -> RecurrentState:
        return RecurrentState(self.history[rows], self.hidden[rows])


@dataclass
class GriffinAttentionState:
    """keys and values [batch, heads, slots, head dimension]: the last tokens in order, the latest last.

    A row that has read fewer tokens than there are slots has anything in the first ones.
    """

    keys: Tensor
    values: Tensor

    def select(self, rows: Tensor) -> GriffinAttentionState:
        return GriffinAttentionState(self.keys[rows], self.values[rows])


RecurrentGemmaState = LayeredState[RecurrentState | GriffinAttentionState]


class GriffinRMSNorm(nn.Module):
    """Root-mean-square normalization, computed in float32; the weight is what the scale has beyond 1."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self._epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        normed = functional.rms_norm(x.float(), (x.shape[-1],), eps=self._epsilon)
        return (normed * (1 + self.weight.float())).to(x.dtype)


class GatedRecurrentUnit(nn.Module):
    """What makes the decay and the input of the recurrence (RG-LRU) from its activations.

    The weights of both gates are block-diagonal: one square block a head.
    """

    def __init__(self, configuration: RecurrentGemmaConfiguration) -> None:
        super().__init__()
        heads = configuration.num_attention_heads
        width = configuration.lru_width // heads
        self.recurrent_param = nn.Parameter(torch.zeros(configuration.lru_width))
        self.input_gate_weight = nn.Parameter(torch.zeros(heads, width, width))
        self.input_gate_bias = nn.Parameter(torch.zeros(heads, width))
        self.recurrent_gate_weight = nn.Parameter(torch.zeros(heads, width, width))
        self.recurrent_gate_bias = nn.Parameter(torch.zeros(heads, width))

    def forward(self, x: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """The recurrence's decay and input.

        Args:
            x: [batch, time, channels].
            first: Whether a token is its sequence's first, [batch, time].

        Returns:
            Both [batch, time, channels], float32.
        """
        input_gate = torch.sigmoid(self._blockwise(x, self.input_gate_weight, self.input_gate_bias))
        recurrent_gate = torch.sigmoid(self._blockwise(x, self.recurrent_gate_weight, self.recurrent_gate_bias))
        log_decay = -_DECAY_SCALE * recurrent_gate * functional.softplus(self.recurrent_param.float())
        # 1 - a * a would lose its digits where a memory is long, and thousands of tokens add up the loss. The
        # bound changes no value that matters; at 0 the root's gradient would not be finite.
        squared = -torch.expm1(2 * log_decay)
        scale = squared.clamp(min=torch.finfo(torch.float32).tiny).sqrt()
        scale = scale.masked_fill(first[..., None], 1.0)
        return log_decay.exp(), x.float() * input_gate * scale

    def _blockwise(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        heads = x.unflatten(-1, weight.shape[:2])
        return (torch.einsum("bthi,hij->bthj", heads, weight) + bias).flatten(-2).float()


class RecurrentBlock(nn.Module):
    """A short convolution and a gated linear recurrence, beside a branch that gates them."""

    def __init__(self, configuration: RecurrentGemmaConfiguration) -> None:
        super().__init__()
        d_model, width = configuration.hidden_size, configuration.lru_width
        self.linear_y = nn.Linear(d_model, width)
        self.linear_x = nn.Linear(d_model, width)
        self.linear_out = nn.Linear(width, d_model)
        self.conv_1d = nn.Conv1d(width, width, configuration.conv1d_width, groups=width)
        self.rg_lru = GatedRecurrentUnit(configuration)

    def empty_state(self, batch: int, capacity: int) -> RecurrentState:
        weight = self.conv_1d.weight
        history = weight.new_zeros(batch, weight.shape[2] - 1, weight.shape[0])
        return RecurrentState(history, torch.zeros(batch, weight.shape[0], device=weight.device))

    def forward(self, u: Tensor, state: RecurrentState, span: Span) -> tuple[Tensor, RecurrentState]:
        x = self.linear_x(u)
        convolved = causal_convolution(x, self.conv_1d.weight, self.conv_1d.bias, state.history)
        first = span.positions[:, None] + torch.arange(u.shape[1], device=u.device) == 0
        decay, added = self.rg_lru(convolved, first)
        hidden = recurrence_chunked(decay, added, state.hidden)
        gate = functional.gelu(self.linear_y(span.wanted(u)), approximate="tanh")
        y = self.linear_out(span.wanted(hidden).to(u.dtype) * gate)
        return y, RecurrentState(last_inputs(x, span.lengths, state.history), span.last(hidden)[:, 0])


class LocalAttention(nn.Module):
    """Attention to the last tokens, with rotary positions and heads that share their keys and values."""

    def __init__(self, configuration: RecurrentGemmaConfiguration) -> None:
        super().__init__()
        c = self.configuration = configuration
        shared = c.num_key_value_heads * c.head_dim
        self.q_proj = nn.Linear(c.hidden_size, c.hidden_size, bias=c.attention_bias)
        self.k_proj = nn.Linear(c.hidden_size, shared, bias=c.attention_bias)
        self.v_proj = nn.Linear(c.hidden_size, shared, bias=c.attention_bias)
        self.o_proj = nn.Linear(c.hidden_size, c.hidden_size)

    def empty_state(self, batch: int, capacity: int) -> GriffinAttentionState:
        c = self.configuration
        # Never less than the window has: a row read beyond its capacity would lose tokens unnoticed.
        slots = c.attention_window_size - 1 if capacity else 0
        shape = (batch, c.num_key_value_heads, slots, c.head_dim)
        return GriffinAttentionState(self.k_proj.weight.new_zeros(shape), self.k_proj.weight.new_zeros(shape))

    def forward(self, u: Tensor, state: GriffinAttentionState, span: Span) -> tuple[Tensor, GriffinAttentionState]:
        time = u.shape[1]
        steps = torch.arange(time, device=u.device)
        asking = (span.lengths - 1)[:, None] if span.last_only else steps[None]
        # [batch, heads, time, head dimension], contiguous: attention is much slower otherwise.
        q, k, v = (
            part.unflatten(-1, (-1, self.configuration.head_dim)).transpose(1, 2).contiguous()
            for part in (self.q_proj(span.wanted(u)), self.k_proj(u), self.v_proj(u))
        )
        q = self._rotated(q, span.positions[:, None] + asking)
        k = self._rotated(k, span.positions[:, None] + steps)
        # From here on a token's place is its index in k and v, where what was read before comes first.
        slots = 0 if span.fresh else state.keys.shape[2]
        if not span.fresh:
            k, v = torch.cat([state.keys, k], 2), torch.cat([state.values, v], 2)
        start = None if span.fresh else slots - span.positions
        context = self._attended(q, k, v, asking + slots, start, span)
        y = self.o_proj(context.transpose(1, 2).flatten(-2))
        if time == 1 and not span.fresh:
            # The oldest slot makes room for the one token that each row has read; a view will do.
            return y, GriffinAttentionState(k[:, :, 1:], v[:, :, 1:])
        return y, self._kept(k, v, slots + span.lengths, state.keys.shape[2])

    def _attended(self, q: Tensor, k: Tensor, v: Tensor, asking: Tensor, start: Tensor | None, span: Span) -> Tensor:
        """Attention within the window, in blocks of queries that read no more keys than they have to.

        Args:
            q: [batch, heads, queries, head dimension].
            k, v: [batch, shared heads, places, head dimension].
            asking: The place of each query, [batch, 1] where only the last are wanted, else [1, queries].
            start: The place of each row's first token, [batch]; none where it is the first place.
            span: What the call reads.
        """
        window, queries, places = self.configuration.attention_window_size, q.shape[2], k.shape[2]
        groups = q.shape[1] // k.shape[1]
        block = max(window, _BLOCK)
        outputs = []
        for first in range(0, queries, block):
            last = min(first + block, queries)
            # The last real tokens of rows of unequal lengths have no places in common.
            low = 0 if span.last_only else max(0, places - queries + first - window + 1)
            high = places if span.last_only else places - queries + last
            place, query = torch.arange(low, high, device=q.device), asking[:, None, first:last, None]
            visible = (place <= query) & (place > query - window)
            if start is not None:
                visible = visible & (place >= start[:, None, None, None])
            # Kernels that take a mask take no groups of heads; where all share one this copies nothing.
            keys, values = (part[:, :, None, low:high].expand(-1, -1, groups, -1, -1).flatten(1, 2) for part in (k, v))
            outputs.append(
                functional.scaled_dot_product_attention(q[:, :, first:last], keys, values, attn_mask=visible)
            )
        return torch.cat(outputs, 2)

    @staticmethod
    def _kept(k: Tensor, v: Tensor, ends: Tensor, slots: int) -> GriffinAttentionState:
        """The last `slots` real places of each row, which ends before place `ends` [batch]."""
        # Where a row has fewer, any finite numbers stand for what no later token sees.
        places = (ends[:, None] - slots + torch.arange(slots, device=k.device)).clamp(min=0)
        places = places[:, None, :, None].expand(-1, k.shape[1], -1, k.shape[3])
        return GriffinAttentionState(k.gather(2, places), v.gather(2, places))

    def _rotated(self, x: Tensor, positions: Tensor) -> Tensor:
        c = self.configuration
        exponents = torch.arange(0, c.rotary_dim, 2, device=x.device, dtype=torch.float32)
        angles = positions[:, None, :, None] * c.rope_theta ** (-exponents / c.rotary_dim)
        cosine, sine = angles.cos(), angles.sin()
        first, second = x[..., : c.rotary_dim].float().chunk(2, -1)
        turned = torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)
        return torch.cat([turned.to(x.dtype), x[..., c.rotary_dim :]], -1)


class GriffinGatedMLP(nn.Module):
    """A gated feed-forward layer."""

    def __init__(self, configuration: RecurrentGemmaConfiguration) -> None:
        super().__init__()
        d_model, width = configuration.hidden_size, configuration.intermediate_size // 2
        self.gate_proj = nn.Linear(d_model, width)
        self.up_proj = nn.Linear(d_model, width)
        self.down_proj = nn.Linear(width, d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class GriffinBlock(nn.Module):
    """A recurrence or attention, and a feed-forward layer, both with residuals."""

    def __init__(self, configuration: RecurrentGemmaConfiguration, kind: str) -> None:
        super().__init__()
        c = configuration
        self.temporal_pre_norm = GriffinRMSNorm(c.hidden_size, c.rms_norm_eps)
        self.temporal_block = LocalAttention(c) if kind == ATTENTION else RecurrentBlock(c)
        self.channel_pre_norm = GriffinRMSNorm(c.hidden_size, c.rms_norm_eps)
        self.mlp_block = GriffinGatedMLP(c)

    def forward(
        self, residual: Tensor, state: RecurrentState | GriffinAttentionState, span: Span
    ) -> tuple[Tensor, RecurrentState | GriffinAttentionState]:
        mixed, state = self.temporal_block(self.temporal_pre_norm(residual), state, span)
        residual = span.wanted(residual) + mixed
        return residual + self.mlp_block(self.channel_pre_norm(residual)), state


class GriffinBackbone(nn.Module):
    """Everything but the output layer."""

    def __init__(self, configuration: RecurrentGemmaConfiguration) -> None:
        super().__init__()
        c = configuration
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(GriffinBlock(c, kind) for kind in c.layer_types)
        self.final_norm = GriffinRMSNorm(c.hidden_size, c.rms_norm_eps)
        # Rounded as in training, which was in bfloat16.
        self.scale = float(torch.tensor(math.sqrt(c.hidden_size), dtype=torch.bfloat16, device="cpu"))

    @property
    def blocks(self) -> list[GriffinBlock]:
        """The layers, typed."""
        return cast("list[GriffinBlock]", list(self.layers))


class RecurrentGemmaModel(nn.Module):
    """A language model of the family; a `models.decoding.decoder.Decoder`. Its output layer is the embedding."""

    def __init__(self, configuration: RecurrentGemmaConfiguration) -> None:
        super().__init__()
        self.configuration = configuration
        self.model = GriffinBackbone(configuration)

    # Its states can be forked wherever a token ends.
    shares_prefixes = True

    @property
    def device(self) -> torch.device:
        return self.model.embed_tokens.weight.device

    def empty_state(self, batch: int, capacity: int) -> RecurrentGemmaState:
        layers = [block.temporal_block.empty_state(batch, capacity) for block in self.model.blocks]
        positions = torch.zeros(batch, dtype=torch.long, device=self.device)
        return RecurrentGemmaState(layers, positions, empty=True)

    def _hidden(
        self, ids: Tensor, lengths: Tensor, state: RecurrentGemmaState, *, last_only: bool
    ) -> tuple[Tensor, RecurrentGemmaState]:
        """The normalized output of the last layer, [batch, time or 1, hidden size], and the state after."""
        x = self.model.embed_tokens(ids) * self.model.scale
        x, state = read_layers(self.model.blocks, x, lengths, state, last_only=last_only)
        return self.model.final_norm(x), state

    def forward(self, ids: Tensor) -> Tensor:
        """The logits at every position of whole rows, [batch, time, vocabulary], float32; for training."""
        lengths = torch.full(ids.shape[:1], ids.shape[1], device=ids.device)
        hidden, _ = self._hidden(ids, lengths, self.empty_state(ids.shape[0], 0), last_only=False)
        return self._logits(hidden)

    def prefill(self, ids: Tensor, lengths: Tensor, state: RecurrentGemmaState) -> tuple[Tensor, RecurrentGemmaState]:
        hidden, state = self._hidden(ids, lengths, state, last_only=True)
        return self._logits(hidden[:, 0]), state

    def step(self, ids: Tensor, state: RecurrentGemmaState) -> tuple[Tensor, RecurrentGemmaState]:
        return self.prefill(ids[:, None], torch.ones_like(ids), state)

    def logits(self, ids: Tensor, lengths: Tensor, state: RecurrentGemmaState) -> Tensor:
        hidden, _ = self._hidden(ids, lengths, state, last_only=False)
        return self._logits(hidden)

    def _logits(self, hidden: Tensor) -> Tensor:
        cap = self.configuration.logits_soft_cap
        # The cap in float32: in half precision it makes unequal large logits equal.
        return cap * torch.tanh(functional.linear(hidden, self.model.embed_tokens.weight).float() / cap)
