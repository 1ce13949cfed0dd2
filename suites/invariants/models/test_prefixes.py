"""What prompts begin with alike is read once, and nobody can tell from the answers."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.decoding.decoder import Decoder
from models.decoding.greedy import greedy
from models.decoding.prefix_states import PrefixStates
from models.decoding.prefix_tree import Prefix, prefix_tree
from suites.invariants.models.test_decoding import Recitation, Reciter, alone, scrambled
from suites.support.tiny_models import difference, random_ids

# Prompts over two tokens begin alike often; each ends in a part of its own.
related_prompts = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 150), st.lists(st.integers(0, 6), min_size=1, max_size=30)),
    min_size=1,
    max_size=12,
).map(lambda drawn: [[stem] * length + own for stem, length, own in drawn])


def prefixes(tree: Prefix) -> list[Prefix]:
    """A prefix and all longer ones below it."""
    return [tree, *(below for each in tree.longer for below in prefixes(each))]


@given(related_prompts, st.integers(1, 40), st.integers(1, 100))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_a_prefix_is_what_its_prompts_begin_with(prompts, grain, least):
    """Every prompt leaves the tree once, after tokens that all below the prefix have in common, before its last."""
    tree = prefix_tree(prompts, grain=grain, least=least)
    assert sorted(tree.all_rows) == list(range(len(prompts)))
    for prefix in prefixes(tree):
        rows = list(prefix.all_rows)
        assert len({tuple(prompts[row][: prefix.length]) for row in rows}) == 1
        assert all(prefix.length < len(prompts[row]) for row in rows)
        assert all(longer.length // grain > prefix.length // grain for longer in prefix.longer)


@given(related_prompts, st.integers(1, 40), st.integers(1, 100))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_every_prefix_saves_what_it_must(prompts, grain, least):
    """A prefix is kept where sharing it saves at least so many tokens, and what is saved adds up."""
    tree = prefix_tree(prompts, grain=grain, least=least)

    def read(prefix: Prefix, before: int) -> int:
        saved = (len(list(prefix.all_rows)) - 1) * (prefix.length - before)
        assert before == prefix.length == 0 or saved >= least
        own = sum(len(prompts[row]) - prefix.length for row in prefix.rows)
        return prefix.length - before + own + sum(read(longer, prefix.length) for longer in prefix.longer)

    assert read(tree, 0) <= sum(map(len, prompts))


def test_all_sharing_is_found():
    """Of prompts that leave one haystack at different depths, every token of the haystack is read once."""
    haystack = list(range(100, 612))
    prompts = [[*haystack[:depth], 1, 2, 3, number] for number, depth in enumerate((128, 256, 256, 384, 512))]
    tree = prefix_tree(prompts, grain=16, least=64)
    assert [prefix.length for prefix in prefixes(tree)] == [0, 128, 256, 384]
    assert [prefix.rows for prefix in prefixes(tree)] == [(), (0,), (1, 2), (3, 4)]


class Counter(Reciter):
    """A reciter that counts the tokens it is given to read."""

    read_tokens = 0

    def prefill(self, ids: Tensor, lengths: Tensor, state: Recitation) -> tuple[Tensor, Recitation]:
        self.read_tokens += int(lengths.sum())
        return super().prefill(ids, lengths, state)


@given(related_prompts, st.integers(0, 8), st.integers(1, 400), st.integers(0, 2000))
@settings(deadline=None, derandomize=True, max_examples=80)
def test_shared_prefixes_change_no_answer(prompts, tokens, batch_tokens, budget):
    """Prompts that share prefixes, in one call and with earlier calls, are continued as if alone."""
    known = PrefixStates(budget)
    for part in (prompts[::2], prompts):
        found = greedy(
            Reciter(scrambled),
            part,
            tokens_to_generate=tokens,
            end_of_sequence=None,
            batch_tokens=batch_tokens,
            prefixes=known,
        )
        assert found == [alone(prompt, tokens, None) for prompt in part]


def test_a_haystack_is_read_once():
    """Forty questions about one haystack read it once, and the next forty do not read it again."""
    haystack = [n % 7 for n in range(1024)]
    prompts = [[*haystack, row % 7, row // 7] for row in range(40)]
    decoder, known = Counter(scrambled), PrefixStates(10**6)
    for expected in (1024, 0):
        decoder.read_tokens = 0
        greedy(decoder, prompts, tokens_to_generate=1, end_of_sequence=None, batch_tokens=4096, prefixes=known)
        assert expected < decoder.read_tokens <= expected + 40 * 2 + 1


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), max_size=30), st.integers(0, 60))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_kept_states_stay_within_their_budget(kept, budget):
    """However many states are kept, they take no more than the budget, and the last one that fits is there."""
    states = PrefixStates(budget)
    for length, first in kept:
        ids = [first] * length
        states.keep(ids, Recitation([tuple(ids)], 99), 99)
        held = [state for n in range(1, 31) for t in range(1, 10) if (state := states.longest([t] * n, n - 1, 99))]
        assert sum(state.bytes for _, state in held) <= budget
        assert (states.longest(ids, 0, 99) or (0, None))[0] == (length if length <= budget else 0) or length > budget
    assert states.longest([1] * 30, 0, 98) is None


def made(family: str, kind: str) -> Decoder[Any]:
    """A tiny decoder of a family."""
    return importlib.import_module(FAMILIES[family]).tiny(kind)


FAMILIES = {
    "state-spaces": "suites.support.tiny_models",
    "rwkv6": "suites.invariants.models.test_rwkv6",
    "recurrent-gemma": "suites.invariants.models.test_recurrent_gemma",
    "llama": "suites.invariants.models.test_llama",
    "transformers": "suites.invariants.models.test_transformers_models",
}
DECODERS = [
    ("state-spaces", "mamba2"),
    ("state-spaces", "hybrid"),
    ("state-spaces", "transformer"),
    ("rwkv6", "finch"),
    ("recurrent-gemma", "griffin"),
    ("llama", "grouped"),
    ("transformers", "llama"),
    ("transformers", "mistral"),
    ("transformers", "gpt2"),
]


@pytest.mark.parametrize(("family", "kind"), DECODERS)
def test_models_answer_alike_with_and_without_sharing(family, kind):
    """16 greedy tokens after a shared haystack that is left at three depths are those of each prompt alone."""
    decoder = made(family, kind)
    haystack = random_ids(120, seed=5).tolist()
    prompts = [[*haystack[: 40 * (1 + row % 3)], *random_ids(3 + row, seed=row).tolist()] for row in range(6)]

    def answers(rows: Sequence[Sequence[int]]) -> list[list[int]]:
        return greedy(decoder, rows, tokens_to_generate=16, end_of_sequence=None, batch_tokens=2048)

    assert answers(prompts) == [answers([prompt])[0] for prompt in prompts]


@pytest.mark.parametrize(("family", "kind"), DECODERS)
def test_joined_states_go_on_as_each_alone(family, kind):
    """Rows that have read unequal numbers of tokens, joined and read on together, are what each is alone."""
    decoder = made(family, kind)
    texts = [random_ids(length, seed=length) for length in (5, 70, 33)]
    states = []
    for ids in texts:
        _, state = decoder.prefill(ids[None], torch.tensor([len(ids)]), decoder.empty_state(1, 96))
        states.append(state)
    order, lengths = [2, 0, 1], [6, 4, 1]
    more, later = random_ids(3, 6, seed=1), random_ids(3, seed=2)
    joined = states[0].joined(states[1:]).select(torch.tensor(order))
    logits, state = decoder.prefill(more, torch.tensor(lengths), joined)
    after, _ = decoder.step(later, state)
    for row, (text, length) in enumerate(zip([texts[i] for i in order], lengths, strict=True)):
        whole = torch.cat([text, more[row, :length]])
        expected, state = decoder.prefill(whole[None], torch.tensor([len(whole)]), decoder.empty_state(1, 96))
        assert difference(logits[row], expected[0]) < 1e-4
        expected, _ = decoder.step(later[row : row + 1], state)
        assert difference(after[row], expected[0]) < 1e-4
