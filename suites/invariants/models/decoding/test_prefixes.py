"""What prompts begin with alike is read once, and nobody can tell from the answers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.decoding.greedy import GreedySettings, greedy
from models.decoding.prefix_states import PrefixStates
from models.decoding.prefix_tree import Prefix, prefix_tree
from suites.support.reciters import Recitation, Reciter, alone, scrambled

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
def test_a_prefix_is_what_its_prompts_begin_with(prompts, grain, least):
    """Every prompt leaves the tree once, after tokens that all below the prefix have in common, before its last."""
    tree = prefix_tree(prompts, grain=grain, least=least)
    assert sorted(tree.all_rows) == list(range(len(prompts)))
    for prefix in prefixes(tree):
        rows = list(prefix.all_rows)
        assert len({tuple(prompts[row][: prefix.length]) for row in rows}) == 1
        assert all(prefix.length < len(prompts[row]) for row in rows)
        # The empty prefix ends nowhere.
        assert not prefix.length or all(each.length // grain > prefix.length // grain for each in prefix.longer)


@given(related_prompts, st.integers(1, 40), st.integers(1, 100))
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
@settings(max_examples=80)
def test_shared_prefixes_change_no_answer(prompts, tokens, batch_tokens, budget):
    """Prompts that share prefixes, in one call and with earlier calls, are continued as if alone."""
    known = PrefixStates(budget)
    for part in (prompts[::2], prompts):
        found = greedy(Reciter(scrambled), part, GreedySettings(tokens, batch_tokens=batch_tokens), prefixes=known)
        assert found == [alone(prompt, tokens, None) for prompt in part]


def test_a_haystack_is_read_once():
    """Forty questions about one haystack read it once, and the next forty do not read it again."""
    haystack = [n % 7 for n in range(1024)]
    prompts = [[*haystack, row % 7, row // 7] for row in range(40)]
    decoder, known = Counter(scrambled), PrefixStates(10**6)
    for expected in (1024, 0):
        decoder.read_tokens = 0
        greedy(decoder, prompts, GreedySettings(1, batch_tokens=4096), prefixes=known)
        assert expected < decoder.read_tokens <= expected + 40 * 2 + 1


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), max_size=30), st.integers(0, 60))
def test_kept_states_stay_within_their_budget(kept, budget):
    """However many states are kept, they take no more than the budget, and the last one that fits is there."""
    states = PrefixStates(budget)
    for length, first in kept:
        ids = [first] * length
        states.keep(ids, Recitation([tuple(ids)], 99), 99)
        held = [
            state for n in range(1, 31) for t in range(1, 10) if (state := states.longest_prefix([t] * n, n - 1, 99))
        ]
        assert sum(state.bytes for _, state in held) <= budget
        assert (states.longest_prefix(ids, 0, 99) or (0, None))[0] == (
            length if length <= budget else 0
        ) or length > budget
    assert states.longest_prefix([1] * 30, 0, 98) is None
