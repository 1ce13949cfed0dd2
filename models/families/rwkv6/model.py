"""The RWKV-6 family (Finch): recurrences of matrix-valued states whose decay depends on the token.

Module names equal the keys of the published `Rwkv6ForCausalLM` checkpoints. The published code halves the
residual stream, and the weights that add to it, every `rescale_every` layers in half precision. That keeps
float16 in its range and changes nothing else but the share of the epsilons of normalizations; it is left out
here, so that a model for which float16 is too narrow has to run in bfloat16 or float32.
Source: Peng et al., "Eagle and Finch: RWKV with Matrix-Valued States and Dynamic Recurrence" (2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.families.rwkv6.configuration import Rwkv6Configuration
from models.families.rwkv6.time_mixing import wkv_over_time
from models.layers.states import LayeredState, Span, read_layers

__all__ = ["Rwkv6Model", "Rwkv6State"]

# What a token is mixed with the one before it for, in the order of the published weights.
_USES: Final = ("w", "k", "v", "r", "g")


@dataclass
class BlockState:
    """What one layer remembers.

    Attributes:
        attention_input: The last token's, [batch, 1, hidden size].
        wkv: [batch, heads, head size, head size] (key before value), float32.
        feed_forward_input: The last token's, [batch, 1, hidden size].
    """

    attention_input: Tensor
    wkv: Tensor
    feed_forward_input: Tensor

    def select(self, rows: Tensor) -> BlockState:
        return BlockState(self.attention_input[rows], self.wkv[rows], self.feed_forward_input[rows])


Rwkv6State = LayeredState[BlockState]


def _shifted(x: Tensor, before: Tensor) -> Tensor:
    """For each token of x [batch, time, width] the one before it; before [batch, 1, width] is the first's."""
    return torch.cat([before, x[:, :-1]], 1)


class TimeMixing(nn.Module):
    """The recurrence, with all that is made of each token and the one before it."""

    def __init__(self, configuration: Rwkv6Configuration) -> None:
        super().__init__()
        c = self.configuration = configuration
        width, inner = c.hidden_size, c.attention_hidden_size
        self.time_maa_x = nn.Parameter(torch.zeros(1, 1, width))
        for use in _USES:
            self.register_parameter(f"time_maa_{use}", nn.Parameter(torch.zeros(1, 1, width)))
        self.time_maa_w1 = nn.Parameter(torch.zeros(width, len(_USES) * c.mix_rank))
        self.time_maa_w2 = nn.Parameter(torch.zeros(len(_USES), c.mix_rank, width))
        self.time_decay = nn.Parameter(torch.zeros(1, 1, inner))
        self.time_decay_w1 = nn.Parameter(torch.zeros(width, c.decay_rank))
        self.time_decay_w2 = nn.Parameter(torch.zeros(c.decay_rank, inner))
        self.time_faaaa = nn.Parameter(torch.zeros(c.heads, c.head_size))
        self.receptance = nn.Linear(width, inner, bias=False)
        self.key = nn.Linear(width, inner, bias=False)
        self.value = nn.Linear(width, inner, bias=False)
        self.gate = nn.Linear(width, inner, bias=False)
        self.output = nn.Linear(inner, width, bias=False)
        self.ln_x = nn.GroupNorm(c.heads, inner, eps=c.group_norm_epsilon)

    def forward(self, x: Tensor, before: Tensor, wkv: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The output at every position, and the recurrence's state after the last real token.

        Args:
            x: [batch, time, hidden size].
            before: The input before them, [batch, 1, hidden size].
            wkv: The recurrence's state before them.
            lengths: How many tokens of each row are real, [batch].
        """
        decaying, keyed, valued, received, gated = self._mixed(x, _shifted(x, before))
        r, k, v = (
            projection(mixed).unflatten(-1, self.time_faaaa.shape)
            for projection, mixed in ((self.receptance, received), (self.key, keyed), (self.value, valued))
        )
        slowness = torch.tanh(decaying @ self.time_decay_w1) @ self.time_decay_w2
        log_decay = -torch.exp(self.time_decay.float() + slowness.float()).unflatten(-1, self.time_faaaa.shape)
        if x.shape[1] > 1:
            # Padding leaves the state as it is, whatever it is itself.
            padding = (torch.arange(x.shape[1], device=x.device) >= lengths[:, None])[..., None, None]
            k, log_decay = k.masked_fill(padding, 0.0), log_decay.masked_fill(padding, 0.0)
        # Where training computes in half precision, the recurrence does not.
        with torch.autocast(x.device.type, enabled=False):
            y, wkv = wkv_over_time(r, k, v, log_decay, self.time_faaaa.float(), wkv)
        y = functional.group_norm(
            y.float().flatten(0, 1).flatten(1),
            r.shape[2],
            self.ln_x.weight.float(),
            self.ln_x.bias.float(),
            self.ln_x.eps,
        )
        y = y.view_as(x).to(x.dtype) * functional.silu(self.gate(gated))
        return self.output(y), wkv

    def _mixed(self, x: Tensor, shifted: Tensor) -> list[Tensor]:
        """Each token mixed with the one before it, in shares that depend on both, once for each use."""
        change = shifted - x
        hidden = torch.tanh((x + change * self.time_maa_x) @ self.time_maa_w1)
        hidden = hidden.unflatten(-1, (len(_USES), -1)).unbind(2)
        return [
            x + change * (self.get_parameter(f"time_maa_{use}") + of_use @ weight)
            for use, of_use, weight in zip(_USES, hidden, self.time_maa_w2, strict=True)
        ]


class ChannelMixing(nn.Module):
    """The feed-forward layer, which too reads the token before."""

    def __init__(self, configuration: Rwkv6Configuration) -> None:
        super().__init__()
        width, inner = configuration.hidden_size, configuration.intermediate_size
        self.time_maa_k = nn.Parameter(torch.zeros(1, 1, width))
        self.time_maa_r = nn.Parameter(torch.zeros(1, 1, width))
        self.key = nn.Linear(width, inner, bias=False)
        self.receptance = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, shifted: Tensor) -> Tensor:
        change = shifted - x
        key = functional.relu(self.key(x + change * self.time_maa_k)).square()
        receptance = torch.sigmoid(self.receptance(x + change * self.time_maa_r))
        return receptance * self.value(key)


class Rwkv6Block(nn.Module):
    """Time mixing and channel mixing, both with residuals; the first block normalizes the embedding too."""

    def __init__(self, configuration: Rwkv6Configuration, layer: int) -> None:
        super().__init__()
        c = self.configuration = configuration
        if layer == 0:
            self.pre_ln = nn.LayerNorm(c.hidden_size, c.layer_norm_epsilon)
        self.ln1 = nn.LayerNorm(c.hidden_size, c.layer_norm_epsilon)
        self.ln2 = nn.LayerNorm(c.hidden_size, c.layer_norm_epsilon)
        self.attention = TimeMixing(c)
        self.feed_forward = ChannelMixing(c)

    def empty_state(self, batch: int) -> BlockState:
        c, weight = self.configuration, self.ln1.weight
        nothing = weight.new_zeros(batch, 1, c.hidden_size)
        wkv = torch.zeros(batch, c.heads, c.head_size, c.head_size, device=weight.device)
        return BlockState(nothing, wkv, nothing)

    def forward(self, residual: Tensor, state: BlockState, span: Span) -> tuple[Tensor, BlockState]:
        x = self.ln1(residual)
        mixed, wkv = self.attention(x, state.attention_input, state.wkv, span.lengths)
        residual = residual + mixed
        # The channel mixing of a wanted token reads the token before it, which needs not be wanted.
        h = self.ln2(residual)
        shifted = _shifted(h, state.feed_forward_input)
        residual = span.wanted(residual) + self.feed_forward(span.wanted(h), span.wanted(shifted))
        return residual, BlockState(span.last(x), wkv, span.last(h))


class Rwkv6Backbone(nn.Module):
    """Everything but the output layer."""

    def __init__(self, configuration: Rwkv6Configuration) -> None:
        super().__init__()
        c = configuration
        self.embeddings = nn.Embedding(c.vocab_size, c.hidden_size)
        self.blocks = nn.ModuleList(Rwkv6Block(c, layer) for layer in range(c.num_hidden_layers))
        # The published code gives this one norm the default epsilon, whatever the configuration says.
        self.ln_out = nn.LayerNorm(c.hidden_size)


class Rwkv6Model(nn.Module):
    """A language model of the family; a `models.decoding.decoder.Decoder`."""

    def __init__(self, configuration: Rwkv6Configuration) -> None:
        super().__init__()
        self.configuration = configuration
        self.rwkv = Rwkv6Backbone(configuration)
        self.head = nn.Linear(configuration.hidden_size, configuration.vocab_size, bias=False)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Makes the output layer the embedding, where the configuration says so."""
        if self.configuration.tie_word_embeddings:
            self.head.weight = self.rwkv.embeddings.weight

    # Its states can be forked wherever a token ends.
    shares_prefixes = True

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @property
    def blocks(self) -> list[Rwkv6Block]:
        """The layers, typed."""
        return cast("list[Rwkv6Block]", list(self.rwkv.blocks))

    def empty_state(self, batch: int, capacity: int) -> Rwkv6State:
        layers = [block.empty_state(batch) for block in self.blocks]
        return Rwkv6State(layers, torch.zeros(batch, dtype=torch.long, device=self.device), empty=True)

    def _hidden(self, ids: Tensor, lengths: Tensor, state: Rwkv6State, *, last_only: bool) -> tuple[Tensor, Rwkv6State]:
        """The normalized output of the last layer, [batch, time or 1, hidden size], and the state after."""
        x = self.blocks[0].pre_ln(self.rwkv.embeddings(ids))
        x, state = read_layers(self.blocks, x, lengths, state, last_only=last_only)
        return self.rwkv.ln_out(x), state

    def forward(self, ids: Tensor) -> Tensor:
        """The logits at every position of whole rows, [batch, time, vocabulary], float32; for training."""
        lengths = torch.full(ids.shape[:1], ids.shape[1], device=ids.device)
        hidden, _ = self._hidden(ids, lengths, self.empty_state(ids.shape[0], 0), last_only=False)
        return self.head(hidden).float()

    def prefill(self, ids: Tensor, lengths: Tensor, state: Rwkv6State) -> tuple[Tensor, Rwkv6State]:
        hidden, state = self._hidden(ids, lengths, state, last_only=True)
        return self.head(hidden[:, 0]).float(), state

    def step(self, ids: Tensor, state: Rwkv6State) -> tuple[Tensor, Rwkv6State]:
        return self.prefill(ids[:, None], torch.ones_like(ids), state)

    def logits(self, ids: Tensor, lengths: Tensor, state: Rwkv6State) -> Tensor:
        hidden, _ = self._hidden(ids, lengths, state, last_only=False)
        return self.head(hidden).float()
