"""The state-spaces family: Mamba2, Mamba2 with attention, and Transformer++ in one architecture.

Module names equal the keys of the published `MambaLMHeadModel` checkpoints, so that a file's
tensors are loaded without renaming. What a model is made of is read from its `config.json` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.families.state_spaces.configuration import (
    AttentionConfiguration,
    Mamba2Configuration,
    StateSpacesConfiguration,
)
from models.families.state_spaces.defects import CONVOLVED_HISTORY
from models.families.state_spaces.duality import ssd
from models.layers.convolution import causal_convolution, last_inputs
from models.layers.states import LayeredState, Span, read_layers

__all__ = ["StateSpacesModel", "StateSpacesState"]


@dataclass
class Mamba2State:
    """history [batch, d_conv - 1, channels]; ssm [batch, heads, head dimension, state size], float32."""

    history: Tensor
    ssm: Tensor

    def select(self, rows: Tensor) -> Mamba2State:
        return Mamba2State(self.history[rows], self.ssm[rows])


@dataclass
class StateSpacesAttentionState:
    """keys and values [batch, heads, capacity, head dimension]; slot i holds position i."""

    history: Tensor | None
    keys: Tensor
    values: Tensor

    def select(self, rows: Tensor) -> StateSpacesAttentionState:
        history = None if self.history is None else self.history[rows]
        return StateSpacesAttentionState(history, self.keys[rows], self.values[rows])


StateSpacesState = LayeredState[Mamba2State | StateSpacesAttentionState]


class StateSpacesRMSNorm(nn.Module):
    """Root-mean-square normalization, computed in float32; groups are normalized apart."""

    def __init__(self, width: int, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self._group = width // groups

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.float().unflatten(-1, (-1, self._group))
        normed = functional.rms_norm(grouped, (self._group,), eps=1e-5).flatten(-2)
        return (normed * self.weight.float()).to(x.dtype)


class Mamba2(nn.Module):
    """The Mamba2 mixer."""

    def __init__(self, d_model: int, configuration: Mamba2Configuration) -> None:
        super().__init__()
        c = self.configuration = configuration
        inner = c.expand * d_model
        self.d_ssm = inner if c.d_ssm is None else c.d_ssm
        self.d_mlp = inner - self.d_ssm
        self.heads = self.d_ssm // c.headdim
        self.d_bc = c.ngroups * c.d_state
        channels = self.d_ssm + 2 * self.d_bc
        self.in_proj = nn.Linear(d_model, 2 * inner + 2 * self.d_bc + self.heads, bias=c.bias)
        self.conv1d = nn.Conv1d(channels, channels, c.d_conv, groups=channels, bias=c.conv_bias)
        self.dt_bias = nn.Parameter(torch.zeros(self.heads))
        self.A_log = nn.Parameter(torch.zeros(self.heads))
        self.D = nn.Parameter(torch.ones(self.d_ssm if c.D_has_hdim else self.heads))
        if c.rmsnorm:
            self.norm = StateSpacesRMSNorm(self.d_ssm, c.ngroups)
        self.out_proj = nn.Linear(inner, d_model, bias=c.bias)

    def empty_state(self, batch: int, capacity: int) -> Mamba2State:
        weight = self.in_proj.weight
        history = weight.new_zeros(batch, self.configuration.d_conv - 1, self.conv1d.weight.shape[0])
        shape = (batch, self.heads, self.configuration.headdim, self.configuration.d_state)
        return Mamba2State(history, torch.zeros(shape, device=weight.device))

    def forward(self, u: Tensor, state: Mamba2State, span: Span) -> tuple[Tensor, Mamba2State]:
        c = self.configuration
        time = u.shape[1]
        mlp_gate, mlp, gate, channels, dt = self.in_proj(u).split(
            [self.d_mlp, self.d_mlp, self.d_ssm, self.d_ssm + 2 * self.d_bc, self.heads], -1
        )
        convolved = functional.silu(causal_convolution(channels, self.conv1d.weight, self.conv1d.bias, state.history))
        x, b, cc = convolved.split([self.d_ssm, self.d_bc, self.d_bc], -1)
        x = x.unflatten(-1, (self.heads, c.headdim))
        b, cc = (tensor.unflatten(-1, (c.ngroups, c.d_state)) for tensor in (b, cc))
        dt = functional.softplus(dt.float() + self.dt_bias.float()).clamp(*c.dt_limit)
        if time > 1:
            # Padding leaves the state as it is, whatever it is itself.
            real = torch.arange(time, device=u.device) < span.lengths[:, None]
            dt = dt * real[..., None]
        # Padding being without effect, the state after all tokens is the one that the last real token reads.
        y, ssm = ssd(x, dt, -torch.exp(self.A_log.float()), b, span.wanted(cc), state.ssm)
        x, gate, mlp_gate, mlp = map(span.wanted, (x, gate, mlp_gate, mlp))
        skip = self.D.float()
        y = y + x * (skip.view(self.heads, c.headdim) if c.D_has_hdim else skip[:, None])
        y = y.flatten(-2).to(u.dtype)
        if not c.rmsnorm:
            y = y * functional.silu(gate)
        elif c.norm_before_gate:
            y = self.norm(y) * functional.silu(gate)
        else:
            y = self.norm(y * functional.silu(gate))
        if self.d_mlp:
            y = torch.cat([functional.silu(mlp_gate) * mlp, y], -1)
        return self.out_proj(y), Mamba2State(last_inputs(channels, span.lengths, state.history), ssm)


class StateSpacesAttention(nn.Module):
    """Multi-head attention with an optional causal convolution over queries, keys and values."""

    def __init__(self, d_model: int, configuration: AttentionConfiguration) -> None:
        super().__init__()
        # As `CONVOLVED_HISTORY`, for those who want to see what it does.
        self.keeps_convolved = False
        c = self.configuration = configuration
        self.heads_kv = c.num_heads if c.num_heads_kv is None else c.num_heads_kv
        self.head_dim = d_model // c.num_heads if c.head_dim is None else c.head_dim
        self.d_mlp = -(-c.mlp_dim // 256) * 256
        self.d_q = c.num_heads * self.head_dim
        self.d_kv = self.heads_kv * self.head_dim
        channels = self.d_q + 2 * self.d_kv
        self.in_proj = nn.Linear(d_model, channels + self.d_mlp, bias=c.qkv_proj_bias)
        if c.d_conv:
            self.conv1d = nn.Conv1d(channels, channels, c.d_conv, groups=channels)
        self.out_proj = nn.Linear(self.d_q + self.d_mlp // 2, d_model, bias=c.out_proj_bias)

    def empty_state(self, batch: int, capacity: int) -> StateSpacesAttentionState:
        c, weight = self.configuration, self.in_proj.weight
        history = weight.new_zeros(batch, c.d_conv - 1, self.d_q + 2 * self.d_kv) if c.d_conv else None
        keys, values = (weight.new_zeros(batch, self.heads_kv, capacity, self.head_dim) for _ in range(2))
        return StateSpacesAttentionState(history, keys, values)

    def forward(
        self, u: Tensor, state: StateSpacesAttentionState, span: Span
    ) -> tuple[Tensor, StateSpacesAttentionState]:
        c = self.configuration
        time = u.shape[1]
        qkv, mlp, mlp_gate = self.in_proj(u).split([self.d_q + 2 * self.d_kv, self.d_mlp // 2, self.d_mlp // 2], -1)
        before = history = state.history
        if before is not None:
            convolved = causal_convolution(qkv, self.conv1d.weight, self.conv1d.bias, before)
            history = last_inputs(convolved if self.keeps_convolved and time > 1 else qkv, span.lengths, before)
            qkv = convolved
        positions = span.positions[:, None] + torch.arange(time, device=u.device)
        q, k, v = qkv.split([self.d_q, self.d_kv, self.d_kv], -1)
        asking = span.wanted(positions)
        q, mlp, mlp_gate = map(span.wanted, (q, mlp, mlp_gate))
        # [batch, heads, time, head dimension], contiguous: attention is ten times slower otherwise.
        q, k, v = (part.unflatten(-1, (-1, self.head_dim)).transpose(1, 2).contiguous() for part in (q, k, v))
        if c.rotary_emb_dim:
            q, k = self._rotated(q, asking), self._rotated(k, positions)
        keys, values = state.keys, state.values
        if span.fresh:
            if keys.shape[2]:
                keys[:, :, :time], values[:, :, :time] = k, v
        else:
            # Only real tokens are kept: padding may reach beyond the room there is.
            rows, steps = (torch.arange(time, device=u.device) < span.lengths[:, None]).nonzero(as_tuple=True)
            slots = positions[rows, steps]
            keys[rows, :, slots], values[rows, :, slots] = k[rows, :, steps], v[rows, :, steps]
            seen = int((span.positions + span.lengths).max())
            k, v = keys[:, :, :seen], values[:, :, :seen]
        visible = None
        if not span.fresh or span.last_only:
            visible = torch.arange(k.shape[2], device=u.device) <= asking[:, None, :, None]
        context = functional.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=visible,
            is_causal=visible is None,
            scale=c.softmax_scale,
            enable_gqa=self.heads_kv != c.num_heads,
        )
        context = context.transpose(1, 2).flatten(-2)
        if self.d_mlp:
            context = torch.cat([context, mlp * functional.silu(mlp_gate)], -1)
        return self.out_proj(context), StateSpacesAttentionState(history, keys, values)

    def _rotated(self, x: Tensor, positions: Tensor) -> Tensor:
        c = self.configuration
        exponents = torch.arange(0, c.rotary_emb_dim, 2, device=x.device, dtype=torch.float32)
        angles = positions[:, None, :, None] / c.rotary_emb_base ** (exponents / c.rotary_emb_dim)
        cosine, sine = angles.cos(), angles.sin()
        turned, kept = x[..., : c.rotary_emb_dim].float(), x[..., c.rotary_emb_dim :]
        if c.rotary_emb_interleaved:
            first, second = turned[..., ::2], turned[..., 1::2]
            pair = (first * cosine - second * sine, first * sine + second * cosine)
            turned = torch.stack(pair, -1).flatten(-2)
        else:
            first, second = turned.chunk(2, -1)
            turned = torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)
        return torch.cat([turned.to(x.dtype), kept], -1)


class StateSpacesGatedMLP(nn.Module):
    """A gated feed-forward layer; its width is rounded up to a multiple of 128."""

    def __init__(self, d_model: int, d_intermediate: int) -> None:
        super().__init__()
        hidden = -(-d_intermediate // 128) * 128
        self.fc1 = nn.Linear(d_model, 2 * hidden, bias=False)
        self.fc2 = nn.Linear(hidden, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        up, gate = self.fc1(x).chunk(2, -1)
        return self.fc2(up * functional.silu(gate))


class StateSpacesBlock(nn.Module):
    """A mixer and, where the configuration has one, a feed-forward layer, both with residuals."""

    def __init__(self, configuration: StateSpacesConfiguration, layer: int) -> None:
        super().__init__()
        d_model = configuration.d_model
        self._residual_in_fp32 = configuration.residual_in_fp32
        norm = StateSpacesRMSNorm if configuration.rms_norm else nn.LayerNorm
        self.norm = norm(d_model)
        self.mixer = (
            StateSpacesAttention(d_model, configuration.attention)
            if layer in configuration.attn_layer_idx
            else Mamba2(d_model, configuration.mamba2)
        )
        self.mlp: StateSpacesGatedMLP | None = None
        if configuration.d_intermediate:
            self.norm2 = norm(d_model)
            self.mlp = StateSpacesGatedMLP(d_model, configuration.d_intermediate)

    def forward(
        self, residual: Tensor, state: Mamba2State | StateSpacesAttentionState, span: Span
    ) -> tuple[Tensor, Mamba2State | StateSpacesAttentionState]:
        dtype = self.norm.weight.dtype
        mixed, state = self.mixer(self.norm(residual.to(dtype)), state, span)
        residual = self._added(span.wanted(residual), mixed)
        if self.mlp is not None:
            residual = self._added(residual, self.mlp(self.norm2(residual.to(dtype))))
        return residual, state

    def _added(self, residual: Tensor, update: Tensor) -> Tensor:
        total = residual + update
        return total.float() if self._residual_in_fp32 else total


class StateSpacesBackbone(nn.Module):
    """Everything but the output layer."""

    def __init__(self, configuration: StateSpacesConfiguration) -> None:
        super().__init__()
        self.embedding = nn.Embedding(configuration.padded_vocabulary, configuration.d_model)
        self.layers = nn.ModuleList(StateSpacesBlock(configuration, i) for i in range(configuration.n_layer))
        self.norm_f = (StateSpacesRMSNorm if configuration.rms_norm else nn.LayerNorm)(configuration.d_model)

    @property
    def blocks(self) -> list[StateSpacesBlock]:
        """The layers, typed."""
        return cast("list[StateSpacesBlock]", list(self.layers))


class StateSpacesModel(nn.Module):
    """A language model of the family; a `models.decoding.decoder.Decoder`."""

    def __init__(self, configuration: StateSpacesConfiguration) -> None:
        super().__init__()
        # Its states can be forked wherever a token ends.
        self.shares_prefixes = True
        self.configuration = configuration
        self.backbone = StateSpacesBackbone(configuration)
        self.lm_head = nn.Linear(configuration.d_model, configuration.padded_vocabulary, bias=False)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Makes the output layer the embedding, where the configuration says so."""
        if self.configuration.tie_embeddings:
            self.lm_head.weight = self.backbone.embedding.weight

    def emulate(self, defects: Sequence[str]) -> None:
        """Takes on known defects of other implementations; `CONVOLVED_HISTORY` is the only one.

        Raises:
            ValueError: The defect is unknown, or this model has nothing that it could show in.
        """
        mixers = [block.mixer for block in self.backbone.blocks]
        convolving = [
            mixer for mixer in mixers if isinstance(mixer, StateSpacesAttention) and mixer.configuration.d_conv
        ]
        for defect in defects:
            if defect != CONVOLVED_HISTORY:
                raise ValueError(f"unknown defect {defect!r} to emulate; there is {CONVOLVED_HISTORY}")
            if not convolving:
                raise ValueError(f"{defect} is a defect of attention with a convolution, which this model has not")
            for mixer in convolving:
                mixer.keeps_convolved = True
            # Those others read a prompt in one call, so the defect shows once.
            self.shares_prefixes = False

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    def empty_state(self, batch: int, capacity: int) -> StateSpacesState:
        layers = [block.mixer.empty_state(batch, capacity) for block in self.backbone.blocks]
        positions = torch.zeros(batch, dtype=torch.long, device=self.device)
        return StateSpacesState(layers, positions, empty=True)

    def _hidden(
        self, ids: Tensor, lengths: Tensor, state: StateSpacesState, *, last_only: bool
    ) -> tuple[Tensor, StateSpacesState]:
        """The normalized output of the last layer, [batch, time or 1, d_model], and the state after."""
        x = self.backbone.embedding(ids)
        x, state = read_layers(self.backbone.blocks, x, lengths, state, last_only=last_only)
        return self.backbone.norm_f(x.to(self.lm_head.weight.dtype)), state

    def forward(self, ids: Tensor) -> Tensor:
        """The logits at every position of whole rows, [batch, time, vocabulary]; for training."""
        lengths = torch.full(ids.shape[:1], ids.shape[1], device=ids.device)
        hidden, _ = self._hidden(ids, lengths, self.empty_state(ids.shape[0], 0), last_only=False)
        return self.lm_head(hidden)

    def prefill(self, ids: Tensor, lengths: Tensor, state: StateSpacesState) -> tuple[Tensor, StateSpacesState]:
        hidden, state = self._hidden(ids, lengths, state, last_only=True)
        return self._logits(hidden[:, 0]), state

    def step(self, ids: Tensor, state: StateSpacesState) -> tuple[Tensor, StateSpacesState]:
        hidden, state = self._hidden(ids[:, None], torch.ones_like(ids), state, last_only=False)
        return self._logits(hidden[:, 0]), state

    def logits(self, ids: Tensor, lengths: Tensor, state: StateSpacesState) -> Tensor:
        hidden, _ = self._hidden(ids, lengths, state, last_only=False)
        return self._logits(hidden)

    def _logits(self, hidden: Tensor) -> Tensor:
        # Rows that only pad the vocabulary stand for no token.
        return self.lm_head(hidden)[..., : self.configuration.vocab_size].float()
