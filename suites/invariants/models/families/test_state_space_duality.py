"""The chunked form of the state-space operator is the recurrence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.families.state_spaces.duality import ssd_chunked, ssd_last, ssd_recurrent
from suites.support.tiny_models import difference

# In float64, where two right ways differ by rounding alone.
ROUNDING = 1e-11


@dataclass(frozen=True)
class Problem:
    """The shape of one input to the operator, and the seed of its numbers."""

    batch: int = 2
    time: int = 7
    groups: int = 1
    heads_per_group: int = 2
    width: int = 3
    size: int = 4
    seed: int = 0

    def arguments(self, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """x, dt, a, b, c and a nonzero state before them."""
        draw = torch.Generator().manual_seed(self.seed)
        heads = self.groups * self.heads_per_group

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=draw, dtype=dtype)

        return [
            normal(self.batch, self.time, heads, self.width),
            normal(self.batch, self.time, heads).exp() / 4,
            -normal(heads).exp(),
            normal(self.batch, self.time, self.groups, self.size),
            normal(self.batch, self.time, self.groups, self.size),
            normal(self.batch, heads, self.width, self.size),
        ]


few = st.integers(1, 3)
problems = st.builds(
    Problem,
    batch=few,
    time=st.integers(1, 40),
    groups=few,
    heads_per_group=few,
    width=st.integers(1, 5),
    size=st.integers(1, 5),
    seed=st.integers(0, 999),
)
chunks = st.integers(1, 48)


@given(problems, chunks)
@example(Problem(time=1), 64)
@example(Problem(time=5), 8)
@example(Problem(time=32), 8)
@example(Problem(time=33, groups=2), 8)
@example(Problem(time=31, groups=2, heads_per_group=1), 8)
def test_chunked_equals_recurrent(problem, chunk):
    """For any shape, chunk size and state before it, the chunked form gives the recurrence's outputs and state."""
    y, state = ssd_chunked(*problem.arguments(), chunk=chunk)
    expected_y, expected_state = ssd_recurrent(*problem.arguments())
    assert difference(y, expected_y) < ROUNDING
    assert difference(state, expected_state) < ROUNDING


@given(problems)
def test_the_last_output_equals_recurrent(problem):
    """For any shape and state before it, the form that gives the last output alone gives the recurrence's."""
    x, dt, a, b, c, state = problem.arguments()
    y, after = ssd_last(x, dt, a, b, c[:, -1], state)
    expected_y, expected_state = ssd_recurrent(x, dt, a, b, c, state)
    assert difference(y, expected_y[:, -1]) < ROUNDING
    assert difference(after, expected_state) < ROUNDING


@given(problems, chunks, st.integers(1, 39))
@settings(max_examples=50)
def test_state_carries_over_a_cut(problem, chunk, cut):
    """A sequence cut anywhere, with the state carried over the cut, gives what the whole sequence gives."""
    x, dt, a, b, c, state = problem.arguments()
    whole_y, whole_state = ssd_chunked(x, dt, a, b, c, state, chunk=chunk)
    outputs = []
    for part in (slice(0, cut), slice(cut, None)):
        if x[:, part].shape[1]:
            y, state = ssd_chunked(x[:, part], dt[:, part], a, b[:, part], c[:, part], state, chunk=chunk)
            outputs.append(y)
    assert difference(torch.cat(outputs, 1), whole_y) < ROUNDING
    assert difference(state, whole_state) < ROUNDING


@given(problems, chunks)
@settings(max_examples=50)
def test_zero_dt_keeps_the_state(problem, chunk):
    """Tokens with dt = 0 leave every bit of the state as it was."""
    x, dt, a, b, c, state = problem.arguments()
    _, after = ssd_chunked(x, torch.zeros_like(dt), a, b, c, state, chunk=chunk)
    assert torch.equal(after, state)


@given(problems, chunks, st.lists(st.integers(0, 40), min_size=3, max_size=3))
@settings(max_examples=50)
def test_padding_with_zero_dt_leaves_no_trace(problem, chunk, lengths):
    """Rows of unequal lengths, padded at the end with anything at dt = 0, give what each gives alone."""
    x, dt, a, b, c, state = problem.arguments()
    real = [min(length, problem.time) for length in lengths[: problem.batch]]
    padded = dt * (torch.arange(problem.time) < torch.tensor(real)[:, None])[..., None]
    y, after = ssd_chunked(x, padded, a, b, c, state, chunk=chunk)
    for i, length in enumerate(real):
        row, kept = slice(i, i + 1), slice(0, length)
        if not length:
            assert torch.equal(after[row], state[row])
            continue
        alone_y, alone_state = ssd_recurrent(x[row, kept], dt[row, kept], a, b[row, kept], c[row, kept], state[row])
        assert difference(y[row, kept], alone_y) < ROUNDING
        assert difference(after[row], alone_state) < ROUNDING


def test_long_sequences_in_single_precision():
    """Over 4,096 tokens in float32 the forms stay within a ten-thousandth of each other."""
    problem = Problem(time=4096, width=8, size=16)
    x, dt, a, b, c, state = problem.arguments(torch.float32)
    # Slow decay, as trained models have it: the state sums over hundreds of tokens.
    dt = dt / 50
    y, after = ssd_chunked(x, dt, a, b, c, state)
    expected_y, expected_state = ssd_recurrent(x, dt, a, b, c, state)
    assert difference(y, expected_y) < 1e-4
    assert difference(after, expected_state) < 1e-4
    last_y, last_state = ssd_last(x, dt, a, b, c[:, -1], state)
    assert difference(last_y, expected_y[:, -1]) < 1e-4
    assert difference(last_state, expected_state) < 1e-4
