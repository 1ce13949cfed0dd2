"""Models of the transformers library, made to decode many prompts of unequal length at once.

The library's caches assume one length for the whole batch. Here each row is kept flush right: its last token
lies in the last slot, and what lies left of its first token is masked. So one more token for every row is one
more slot, and distances between tokens, which sliding windows and relative positions measure in slots, are right.

Models of pure attention read unequal rows padded at the right, where no token can see the padding, and each
layer moves the new keys and values to the right edge as it stores them. The other models keep recurrent states,
through which padding would run; of them rows of equal length are read together, and the caches joined after.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import (
    DummyLayer,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING
from transformers.utils import logging

from models.checkpoints.errors import CheckpointError
from models.checkpoints.files import read_configuration
from models.decoding.drafts import stepped_logits
from models.decoding.memory import tensor_bytes

__all__ = ["TransformersModel", "TransformersState", "load_transformers"]

_ATTENTION = (DynamicLayer, DynamicSlidingWindowLayer)
_KNOWN = (
    *_ATTENTION,
    DummyLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)
# What the published configurations call the longest input.
_LONGEST = ("max_position_embeddings", "max_seq_len", "max_sequence_length")
# Kinds that keep more than plain keys and values and are known to continue from it when they read several tokens
# at once. Others, the first Mamba among them, begin anew then and continue with one token only; they get one.
_CONTINUING = (
    "bamba",
    "falcon_h1",
    "gemma3n_text",
    "gemma4_text",
    "granitemoehybrid",
    "lfm2",
    "mamba2",
    "nemotron_h",
    "olmo_hybrid",
    "qwen3_5_text",
    "qwen3_next",
    "zamba2",
)
_NAMED_AT_MOST = 6


@dataclass
class _CacheTokens:
    """What the layers of one cache need to know of the tokens being read.

    Attributes:
        slots: How many slots there are after them: the most tokens that any row has read.
        padding: How many tokens at the right of each row are not real, [batch]; None where all are.
    """

    slots: int = 0
    padding: Tensor | None = None

    def flush_right(self, x: Tensor) -> Tensor:
        """Moves each row's padding from its right to its left, in x [batch, heads, slots, width]."""
        if self.padding is None:
            return x
        source = (torch.arange(x.shape[2], device=x.device) - self.padding[:, None]) % x.shape[2]
        return x.gather(2, source[:, None, :, None].expand_as(x))


def _stored(layer: DynamicLayer) -> tuple[Tensor, Tensor]:
    return cast("tuple[Tensor, Tensor]", (layer.keys, layer.values))


def _with_stored(layer: DynamicLayer, new: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """All keys and values that new tokens may look at: the stored ones and their own."""
    if not layer.is_initialized:
        return new
    keys, values = _stored(layer)
    return torch.cat([keys, new[0]], 2), torch.cat([values, new[1]], 2)


class _FullLayer(DynamicLayer):
    """The keys and values of all tokens, in a buffer that a new token is written into."""

    def __init__(self, reading: _CacheTokens, room: int) -> None:
        super().__init__()
        self._reading, self._room = reading, room
        self.buffers: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        new = (key_states, value_states)
        used = self.get_seq_length()
        if self.buffers and self._reading.padding is None and used + new[0].shape[2] <= self.buffers[0].shape[2]:
            for buffer, states in zip(self.buffers, new, strict=True):
                buffer[:, :, used : used + states.shape[2]] = states
            self._show(used + new[0].shape[2])
            return _stored(self)
        seen = _with_stored(self, new)
        self.store([self._reading.flush_right(states)[:, :, -self._reading.slots :] for states in seen])
        return seen

    def rows(self, rows: Tensor, reading: _CacheTokens) -> _FullLayer:
        """A layer of its own memory for some rows; slots that all of them leave empty are dropped."""
        made = self.empty(reading)
        if self.is_initialized:
            made.store([states[rows, :, -reading.slots :] for states in _stored(self)])
        return made

    def empty(self, reading: _CacheTokens) -> _FullLayer:
        """A layer like this one that holds nothing yet."""
        return _FullLayer(reading, self._room)

    def store(self, states: Sequence[Tensor]) -> None:
        """Replaces what it holds by keys and values, each [batch, heads, slots, width]."""
        slots = states[0].shape[2]
        shape = [(*part.shape[:2], max(self._room, slots), part.shape[3]) for part in states]
        self.buffers = [part.new_empty(size) for part, size in zip(states, shape, strict=True)]
        for buffer, part in zip(self.buffers, states, strict=True):
            buffer[:, :, :slots] = part
        self.dtype, self.device, self.is_initialized = states[0].dtype, states[0].device, True
        self._show(slots)

    def _show(self, slots: int) -> None:
        self.keys, self.values = (buffer[:, :, :slots] for buffer in self.buffers)


class _WindowLayer(DynamicSlidingWindowLayer):
    """The keys and values of the last tokens, one fewer than a new token sees with itself."""

    def __init__(self, reading: _CacheTokens, window: int) -> None:
        super().__init__(sliding_window=window)
        self._reading = reading

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        seen = _with_stored(self, (key_states, value_states))
        self.store([self._reading.flush_right(states) for states in seen])
        return seen

    def rows(self, rows: Tensor, reading: _CacheTokens) -> _WindowLayer:
        """A layer of its own memory for some rows; slots that all of them leave empty are dropped."""
        made = self.empty(reading)
        if self.is_initialized:
            made.store([states[rows] for states in _stored(self)])
        return made

    def empty(self, reading: _CacheTokens) -> _WindowLayer:
        """A layer like this one that holds nothing yet."""
        return _WindowLayer(reading, self.sliding_window)

    def store(self, states: Sequence[Tensor]) -> None:
        """Replaces what it holds by keys and values, each [batch, heads, slots, width]."""
        self.cumulative_length = self._reading.slots
        kept = min(self._reading.slots, self.sliding_window - 1)
        # A view would keep the memory of the slots that have left the window.
        self.keys, self.values = (part[:, :, part.shape[2] - kept :].contiguous() for part in states)
        self.dtype, self.device, self.is_initialized = states[0].dtype, states[0].device, True


class _FlushCache(DynamicCache):
    """A cache of attention layers whose rows are kept flush right."""

    def __init__(self, layers: Sequence[_FullLayer | _WindowLayer], reading: _CacheTokens) -> None:
        super().__init__()
        self.layers = list(layers)
        self.reading = reading


@dataclass
class TransformersState:
    """What a model remembers.

    Attributes:
        read: How many tokens each row has read, [batch], on the CPU, where masks are decided on.
        capacity: Tokens a row that room is made for.
        cache: The library's cache, its rows flush right; None before the first token.
    """

    read: Tensor
    capacity: int
    cache: DynamicCache | None = None

    @property
    def slots(self) -> int:
        """The most tokens that any row has read."""
        return int(self.read.max()) if len(self.read) else 0

    @property
    def bytes(self) -> int:
        """The memory it takes."""
        layers = [] if self.cache is None else self.cache.layers
        return sum(tensor_bytes(tensor) for layer in layers for tensor in _tensors(layer))

    def joined(self, others: Sequence[TransformersState]) -> TransformersState:
        """The rows of this state, then those of others, of which all have read something."""
        states = [self, *others]
        read = torch.cat([state.read for state in states])
        joined = TransformersState(read, max(state.capacity for state in states))
        together = zip(*[cast("DynamicCache", state.cache).layers for state in states], strict=True)
        if isinstance(self.cache, _FlushCache):
            reading = _CacheTokens(joined.slots)
            joined.cache = _FlushCache([_flush_joined(cast("Any", layers), reading) for layers in together], reading)
        else:
            joined.cache = copy.copy(cast("DynamicCache", self.cache))
            joined.cache.layers = [_combined(layers, torch.cat, joined.slots) for layers in together]
        return joined

    def select(self, rows: Tensor) -> TransformersState:
        state = TransformersState(self.read[rows.cpu()], self.capacity)
        if isinstance(self.cache, _FlushCache):
            reading = _CacheTokens(state.slots)
            layers = cast("list[_FullLayer | _WindowLayer]", self.cache.layers)
            state.cache = _FlushCache([layer.rows(rows, reading) for layer in layers], reading)
        elif self.cache is not None:
            state.cache = copy.copy(self.cache)
            state.cache.layers = [
                _combined([layer], lambda parts: parts[0][rows], state.slots) for layer in self.cache.layers
            ]
        return state


def _tensors(layer: Any) -> Iterator[Tensor]:
    """What a cache's layer holds in memory."""
    if isinstance(layer, LinearAttentionLayer):
        for states in (layer.conv_states, layer.recurrent_states):
            yield from (state for state in states.values() if state is not None)
    if isinstance(layer, _FullLayer):
        yield from layer.buffers
    elif isinstance(layer, DynamicLayer) and layer.is_initialized:
        yield from _stored(layer)


def _flush_joined(
    layers: Sequence[_FullLayer] | Sequence[_WindowLayer], reading: _CacheTokens
) -> _FullLayer | _WindowLayer:
    """One layer of the rows of several, flush right in as many slots as the longest has."""
    made = layers[0].empty(reading)
    pairs = [_stored(layer) for layer in layers]
    slots = max(keys.shape[2] for keys, _ in pairs)
    kinds = zip(*pairs, strict=True)
    padded = ([functional.pad(part, (0, 0, slots - part.shape[2], 0)) for part in kind] for kind in kinds)
    made.store([torch.cat(parts) for parts in padded])
    return made


def _combined(layers: Sequence[Any], combine: Callable[[list[Tensor]], Tensor], slots: int) -> Any:
    """One of the library's layers made of those of several batches, with its rows flush right in so many slots."""
    made = copy.copy(layers[0])
    if isinstance(made, LinearAttentionLayer):
        for name in ("conv_states", "recurrent_states"):
            states = [getattr(layer, name) for layer in layers]
            kept = {i: None if states[0][i] is None else combine([of[i] for of in states]) for i in states[0]}
            setattr(made, name, kept)
    if isinstance(made, DynamicLayer) and made.is_initialized:
        if isinstance(made, DynamicSlidingWindowLayer):
            made.cumulative_length = slots
            slots = min(slots, made.sliding_window - 1)
        most = max(layer.keys.shape[2] for layer in layers)
        made.keys, made.values = (
            combine([functional.pad(part, (0, 0, most - part.shape[2], 0)) for part in parts])[:, :, most - slots :]
            for parts in ([layer.keys for layer in layers], [layer.values for layer in layers])
        )
    return made


class TransformersModel(nn.Module):
    """A causal language model of the transformers library; a `models.decoding.decoder.Decoder`.

    Attributes:
        model: The library's model.
        max_positions: The most tokens that its configuration allows; None where it names no limit.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Wraps a model.

        Raises:
            CheckpointError: Its class keeps its state in a way that cannot be batched here.
        """
        super().__init__()
        self.model = model
        text = model.config.get_text_config(decoder=True)
        name = type(model).__name__
        if model.config.model_type == "recurrent_gemma":
            raise CheckpointError(f"{name} keeps its state on the module; it has a family of its own")
        accepted = inspect.signature(model.forward).parameters
        arguments = [argument for argument in ("past_key_values", "cache_params") if argument in accepted]
        if not arguments:
            raise CheckpointError(f"{name} takes no cache, so it cannot be read in pieces")
        if type(model.config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(model.config, "is_decoder", True):
            raise CheckpointError(f"{name} reads in both directions (is_decoder is false in config.json)")
        lowest, highest = getattr(text, "time_step_limit", None) or (0.0, math.inf)
        if lowest > 0 or highest < math.inf:
            raise CheckpointError(f"{name} forgets time_step_limit {[lowest, highest]} when it reads one token")
        self._cache_argument = arguments[0]
        self._continues = text.model_type in _CONTINUING
        self._takes_positions = "position_ids" in accepted
        layers = DynamicCache(config=text).layers
        if unknown := sorted({type(layer).__name__ for layer in layers if type(layer) not in _KNOWN}):
            raise CheckpointError(f"{name} has cache layers of a kind not known here: {', '.join(unknown)}")
        self._pure_attention = all(type(layer) in _ATTENTION for layer in layers) and not getattr(
            # Layers that reuse the keys of others would read them after they were moved.
            text,
            "num_kv_shared_layers",
            None,
        )
        self._attends = any(isinstance(layer, DynamicLayer) for layer in layers)
        limits = [limit for name in _LONGEST if isinstance(limit := getattr(text, name, None), int)]
        self.max_positions: int | None = limits[0] if limits and self._attends else None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def shares_prefixes(self) -> bool:
        # The others read rows that have gone different ways one by one.
        return self._pure_attention

    def empty_state(self, batch: int, capacity: int) -> TransformersState:
        return TransformersState(torch.zeros(batch, dtype=torch.long), capacity)

    def forward(self, ids: Tensor) -> Tensor:
        """The logits at every position of whole rows, [batch, time, vocabulary]; for training."""
        return self.model(input_ids=ids, use_cache=False).logits

    def prefill(self, ids: Tensor, lengths: Tensor, state: TransformersState) -> tuple[Tensor, TransformersState]:
        real = lengths.cpu()
        if self._pure_attention:
            return self._read_padded(ids[:, : int(real.max())], real, state)
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, pair in enumerate(zip(state.read.tolist(), real.tolist(), strict=True)):
            groups[pair].append(row)
        if len(groups) == 1:
            return self._read_equal(ids[:, : int(real.max())], state)
        parts = []
        for (_, length), rows in groups.items():
            chosen = torch.tensor(rows, device=ids.device)
            parts.append(self._read_equal(ids[chosen, :length], state.select(chosen)))
        read = torch.cat([part.read for _, part in parts])
        joined = copy.copy(cast("DynamicCache", parts[0][1].cache))
        together = zip(*[cast("DynamicCache", part.cache).layers for _, part in parts], strict=True)
        joined.layers = [_combined(layers, torch.cat, int(read.max())) for layers in together]
        order = torch.tensor([row for rows in groups.values() for row in rows]).argsort()
        state = TransformersState(read, state.capacity, joined).select(order.to(ids.device))
        return torch.cat([logits for logits, _ in parts])[order.to(ids.device)], state

    def step(self, ids: Tensor, state: TransformersState) -> tuple[Tensor, TransformersState]:
        if self._pure_attention:
            return self._read_padded(ids[:, None], torch.ones_like(state.read), state)
        return self._read_equal(ids[:, None], state)

    def logits(self, ids: Tensor, lengths: Tensor, state: TransformersState) -> Tensor:
        # The library's caches are written into.
        state = state.select(torch.arange(len(ids), device=ids.device))
        if not self._pure_attention:
            return stepped_logits(self, ids, state)
        return self._read_padded(ids, lengths.cpu(), state, every=True)[0]

    def _read_padded(
        self, ids: Tensor, real: Tensor, state: TransformersState, *, every: bool = False
    ) -> tuple[Tensor, TransformersState]:
        """Reads rows of any lengths, padded at the right, with a model of pure attention."""
        time = ids.shape[1]
        cache = self._empty_flush_cache(state) if state.cache is None else cast("_FlushCache", state.cache)
        after = TransformersState(state.read + real, state.capacity, cache)
        padding = None if bool((real == time).all()) else (time - real).to(ids.device)
        reading = cache.reading
        reading.slots, reading.padding = after.slots, padding
        # Padding takes the position of the last real token: there may be none beyond it.
        steps = torch.minimum(torch.arange(time), real[:, None] - 1)
        logits = self._logits(ids, state.read, steps, cache, every=every)
        reading.padding = None
        return logits, after

    def _read_equal(self, ids: Tensor, state: TransformersState) -> tuple[Tensor, TransformersState]:
        """Reads as many tokens for every row; more than one only where all rows have read as many before."""
        cache = state.cache
        if cache is not None and ids.shape[1] > 1 and not self._continues:
            for token in ids.unbind(1):
                logits, state = self.step(token, state)
            return logits, state
        if cache is None:
            cache = DynamicCache(config=self.model.config.get_text_config(decoder=True))
        after = TransformersState(state.read + ids.shape[1], state.capacity, cache)
        steps = torch.arange(ids.shape[1]).expand(ids.shape)
        return self._logits(ids, state.read, steps, cache), after

    def _empty_flush_cache(self, state: TransformersState) -> _FlushCache:
        reading = _CacheTokens()
        layers: list[_FullLayer | _WindowLayer] = [
            _WindowLayer(reading, layer.sliding_window)
            if isinstance(layer, DynamicSlidingWindowLayer)
            else _FullLayer(reading, state.capacity)
            for layer in DynamicCache(config=self.model.config.get_text_config(decoder=True)).layers
        ]
        return _FlushCache(layers, reading)

    def _logits(self, ids: Tensor, read: Tensor, steps: Tensor, cache: DynamicCache, *, every: bool = False) -> Tensor:
        """The logits after the last step, [batch, vocabulary], or after every one, [batch, time, vocabulary].

        Steps [batch, time] count from the tokens read.
        """
        arguments: dict[str, Any] = {"input_ids": ids, self._cache_argument: cache, "use_cache": True}
        slots = int(read.max())
        # Without a mask the library takes the fast path; before the first token there is nothing to hide.
        if self._attends and bool((read != slots).any()):
            visible = torch.arange(slots + ids.shape[1]) >= slots - read[:, None]
            arguments["attention_mask"] = visible.long().to(ids.device)
        if self._takes_positions:
            arguments["position_ids"] = (read[:, None] + steps).to(ids.device)
        if every:
            return self.model(**arguments).logits.float()
        last = steps.argmax(1).to(ids.device)
        with self._narrowed(last):
            logits = self.model(**arguments).logits
        return (_at(logits, last) if logits.shape[1] > 1 else logits)[:, 0].float()

    @contextmanager
    def _narrowed(self, last: Tensor) -> Iterator[None]:
        """Within it, the output layer is applied to one position a row, and the class does the rest to that."""
        head = self.model.get_output_embeddings()
        if head is None:
            yield
            return

        def narrow(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
            if not inputs or inputs[0].ndim != 3:
                return None
            return (_at(inputs[0], last), *inputs[1:])

        handle = head.register_forward_pre_hook(narrow)
        try:
            yield
        finally:
            handle.remove()


def _at(x: Tensor, last: Tensor) -> Tensor:
    """One time of each row of x [batch, time, width], as [batch, 1, width]."""
    return x.gather(1, last[:, None, None].expand(-1, 1, x.shape[2]))


def load_transformers(directory: Path, device: torch.device, dtype: torch.dtype) -> TransformersModel:
    """Loads any causal language model that the installed transformers library has a class for.

    Nothing is downloaded and no code from the directory is run.

    Args:
        directory: As `save_pretrained` writes it: `config.json`, and the weights as safetensors or
            `pytorch_model.bin`, in one file or sharded.
        device: Where the model goes.
        dtype: What its weights are cast to.

    Raises:
        CheckpointError: The library has no class for the architecture, a file is missing or damaged, tensors
            are missing, left over or of another shape, or the class cannot be read in pieces.
    """
    given = read_configuration(directory)
    kind = given.get("model_type")
    if kind not in CONFIG_MAPPING:
        own = "; it brings code of its own (auto_map), which is never run" if "auto_map" in given else ""
        raise CheckpointError(f"checkpoint {directory}: transformers has no model_type {kind!r}{own}")
    with _quiet():
        try:
            configuration = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # the library lets through whatever its configuration classes raise
            raise CheckpointError(f"{directory / 'config.json'} is not usable: {_reason(error)}") from error
        if type(configuration) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise CheckpointError(f"checkpoint {directory}: transformers has no causal language model for {kind!r}")
        model = _weights(directory, configuration, dtype)
    try:
        wrapped = TransformersModel(model).to(device).eval().requires_grad_(False)
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {directory}: {error}") from None
    _try_out(directory, wrapped)
    return wrapped


def _weights(directory: Path, configuration: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    chosen = MODEL_FOR_CAUSAL_LM_MAPPING[type(configuration)]
    loader: Any = AutoModelForCausalLM
    try:
        model, found = loader.from_pretrained(
            directory,
            config=configuration,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,
            output_loading_info=True,
            # Some classes scale attention in a way that the fast path lacks, and say so.
            attn_implementation="sdpa" if getattr(chosen, "_supports_sdpa", False) else "eager",
            ignore_mismatched_sizes=True,
        )
    except Exception as error:  # a damaged file makes the library raise almost anything
        raise CheckpointError(f"the weights in {directory} are not readable: {_reason(error)}") from error
    _check(directory, found)
    return model


def _check(directory: Path, found: Mapping[str, Any]) -> None:
    problems = []
    if found["missing_keys"]:
        problems.append(f"missing {_listed(found['missing_keys'])}")
    if found["unexpected_keys"]:
        problems.append(f"not part of the model {_listed(found['unexpected_keys'])}")
    if found["mismatched_keys"]:
        shapes = [
            f"{key} is {list(read)}, config.json makes it {list(made)}" for key, read, made in found["mismatched_keys"]
        ]
        problems.append(f"misshapen {_listed(shapes)}")
    if found["error_msgs"]:
        problems.append(_listed(found["error_msgs"]))
    if problems:
        raise CheckpointError(f"the tensors in {directory} do not make the model: " + "; ".join(problems))


def _listed(names: Any) -> str:
    shown = sorted(" ".join(str(name).split()) for name in names)
    rest = len(shown) - _NAMED_AT_MOST
    return ", ".join(shown[:_NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@torch.no_grad()
def _try_out(directory: Path, model: TransformersModel) -> None:
    """Reads a few tokens, so that a class with a cache of its own is refused now and not at the first prompt."""
    ids = torch.zeros(2, 2, dtype=torch.long, device=model.device)
    try:
        _, state = model.prefill(ids, torch.tensor([2, 1], device=model.device), model.empty_state(2, 3))
        model.step(ids[:, 0], state)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        name = type(model.model).__name__
        raise CheckpointError(f"checkpoint {directory}: {name} cannot be read in pieces: {_reason(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it the library neither logs nor draws progress bars; what is wrong is raised here in one line."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
