"""Cell results and baselines to test with: made by hand, or drawn by hypothesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from drift.records.results import CellResult
from drift.records.snapshots import Baseline

__all__ = ["baselines", "cell_results", "sample_result", "shares"]

# Scores are shares of references found; RULER's tasks have up to ten of them.
shares = st.integers(1, 10).flatmap(lambda all_of_them: st.integers(0, all_of_them).map(lambda k: k / all_of_them))

_digests = st.integers(0, 2**32 - 1).map("{:08x}".format)
_numbers = st.floats(allow_nan=False, allow_infinity=False)
_environments = st.dictionaries(
    st.text(max_size=8), st.one_of(st.text(max_size=12), st.integers(), st.none(), _numbers), max_size=4
)
_cells = {
    "model": st.sampled_from(["m2a", "mamba2-2.7b"]),
    "task": st.sampled_from(["niah_single_1", "essay-word-uuid"]),
    "length": st.sampled_from([256, 1024, 16384]),
    "depth": st.sampled_from([None, 0, 20, 100]),
}


def sample_result(
    scores: Sequence[float],
    *,
    task: str = "niah_single_1",
    length: int = 256,
    depth: int | None = None,
    prediction: str = "An answer.",
    environment: Mapping[str, Any] | None = None,
    prompt: str = "{:08x}",
) -> CellResult:
    """A result of model m2a with these scores; `prompt` makes the digest of each index."""
    count = len(scores)
    return CellResult(
        zoo="pocket",
        model="m2a",
        task=task,
        length=length,
        depth=depth,
        scores=tuple(scores),
        prompts=tuple(map(prompt.format, range(count))),
        predictions=(prediction,) * count,
        references=(("1234567",),) * count,
        prompt_tokens=(length - 40,) * count,
        needle_tokens=((17,),) * count,
        reached_depths=((50.5,),) * count,
        seconds={"generate": 0.25, "decode": 1.5},
        environment={"torch": "2.8.0", "device": "cpu"} if environment is None else environment,
    )


@st.composite
def cell_results(draw: st.DrawFn) -> CellResult:
    """Any result of any cell."""
    count = draw(st.integers(1, 5))

    def of_each(values: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        return tuple(draw(st.lists(values, min_size=count, max_size=count)))

    return CellResult(
        zoo=draw(st.sampled_from(["pocket", "paper"])),
        **{name: draw(values) for name, values in _cells.items()},
        scores=of_each(shares),
        prompts=of_each(_digests),
        predictions=of_each(st.text(max_size=20)),
        references=of_each(st.lists(st.text(max_size=8), min_size=1, max_size=3).map(tuple)),
        prompt_tokens=of_each(st.integers(0, 10**6)),
        needle_tokens=of_each(st.lists(st.integers(0, 10**6), max_size=3).map(tuple)),
        reached_depths=of_each(st.lists(st.floats(0, 100), max_size=3).map(tuple)),
        seconds={"generate": draw(st.floats(0, 1e6)), "decode": draw(st.floats(0, 1e6))},
        environment=draw(_environments),
    )


@st.composite
def baselines(draw: st.DrawFn) -> Baseline:
    """Any accepted outcome."""
    pairs = draw(st.lists(st.tuples(shares, _digests), min_size=1, max_size=5))
    scores, prompts = zip(*pairs, strict=True)
    return Baseline(scores, prompts, draw(_environments))
