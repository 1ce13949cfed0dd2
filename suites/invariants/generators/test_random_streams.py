"""Draws: addressed by a path alone, independent of each other, and uniform."""

from __future__ import annotations

import uuid
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from generators.random_streams import EVALUATION, TRAINING, RandomStream

# Parts that look alike once joined or printed, among others.
parts = st.one_of(
    st.sampled_from(["a", "b", "1", 1, "a', 'b", "", 0, "0", EVALUATION, TRAINING]), st.integers(), st.text(max_size=5)
)
paths = st.lists(parts, min_size=1, max_size=4).map(tuple)
fixed_paths = pytest.mark.parametrize("path", [(EVALUATION, "niah_single_1", 1024), (TRAINING, "uniform", 7)], ids=str)
RUNS = 6000
# Some twenty tests of uniformity share this error rate; at 0.001 each, one in fifty sets of paths fails by chance.
CHANCE = 1e-6
FIRST_VERSION = [
    2743849300608874926,
    129,
    0.31100760236658087,
    "e",
    [13, 30, 2, 34, 5],
    "6830462",
    "1b511ba9-2fc6-489a-900e-224978cba2c7",
]
FIRST_VERSION_BELOW = [11262599665893628486, 689]
FIRST_VERSION_DISTINCT = [810, 514, 630, 441, 351, 532, 146, 969]
FIRST_VERSION_ORDER = [4, 1, 2, 0, 3, 5]
FIRST_VERSION_NUMBERS = [8946416335598846554, 3284294790005186227]


def _some(draw: RandomStream) -> list[object]:
    """Draws of every kind."""
    return [
        draw.bits(64),
        draw.below(1000),
        draw.fraction(),
        draw.choice("abcdefgh"),
        draw.sample(range(50), 5),
        draw.digits(7),
        draw.uuid(),
    ]


@given(paths)
def test_the_same_path_gives_the_same_draws(path):
    """Two streams of one path give the same draws, of every kind."""
    assert _some(RandomStream(*path)) == _some(RandomStream(*path))


def test_draws_are_those_of_the_first_version():
    """Draws of fixed paths never change: every accepted snapshot rests on them."""
    draw = RandomStream(EVALUATION, "niah_single_1", 1024, 17)
    assert _some(draw) == FIRST_VERSION
    assert _some(draw.stream("needles", 0))[:2] == FIRST_VERSION_BELOW


@given(paths, paths)
def test_different_paths_give_different_draws(one, other):
    """Paths that differ in any part, if only in its type, give different draws."""
    assume(one != other)
    assert RandomStream(*one).bits(512) != RandomStream(*other).bits(512)


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a", 1), ("a", "1")), (("a", "b"), ("a, b",)), (("a", "b"), ("a', 'b",)), (("ab",), ("a", "b"))],
)
def test_paths_that_look_alike_differ(one, other):
    """Paths that differ only in types or in where their parts end give different draws."""
    assert RandomStream(*one).bits(512) != RandomStream(*other).bits(512)


@given(paths, paths)
def test_namespaces_never_meet(one, other):
    """No stream of the evaluation is a stream of the training."""
    assert RandomStream(EVALUATION, *one).bits(512) != RandomStream(TRAINING, *other).bits(512)


@given(paths, paths)
def test_a_stream_is_its_path(first, rest):
    """A stream below another is the stream of the two paths joined, however much was drawn before."""
    parent = RandomStream(*first)
    _some(parent)
    stream = parent.stream(*rest)
    assert stream.path == first + rest
    assert _some(stream) == _some(RandomStream(*first, *rest))


@given(paths, paths, st.integers(1, 5))
def test_streams_do_not_move_each_other(path, other, used):
    """What a stream gives does not depend on the use of streams above, below or beside it."""
    undisturbed, draw = RandomStream(*path), RandomStream(*path)
    expected = [undisturbed.bits(64) for _ in range(3)]
    given_draws = []
    for _ in range(3):
        for i in range(used):
            _some(draw.stream(*other, i))
            _some(RandomStream(*other))
            _some(RandomStream(*path))
        given_draws.append(draw.bits(64))
    assert given_draws == expected


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_examples_do_not_depend_on_order(order):
    """An example's draws are the same in whatever order examples are made."""
    made = {index: _some(RandomStream(EVALUATION, "niah_single_1", 1024, index)) for index in order}
    assert made == {index: _some(RandomStream(EVALUATION, "niah_single_1", 1024, index)) for index in range(3)}
    assert len({str(each) for each in made.values()}) == 3


@given(paths, st.one_of(st.integers(1, 20), st.integers(1, 10**100)))
def test_below_is_in_range(path, limit):
    """A number below a limit is a whole number in [0, limit)."""
    number = RandomStream(*path).below(limit)
    assert isinstance(number, int)
    assert 0 <= number < limit


@fixed_paths
@pytest.mark.parametrize("limit", [2, 3, 10, 40])
def test_below_is_uniform(path, limit):
    """Every number below the limit is as likely, and so is every pair of successive ones."""
    draw = RandomStream(*path)
    numbers = [draw.below(limit) for _ in range(RUNS)]
    counts = Counter(numbers)
    assert scipy.stats.chisquare([counts[i] for i in range(limit)]).pvalue > CHANCE
    if limit <= 10:
        pairs = Counter(zip(numbers[::2], numbers[1::2], strict=True))
        assert scipy.stats.chisquare([pairs[i, j] for i in range(limit) for j in range(limit)]).pvalue > CHANCE


def test_first_draws_of_successive_streams_are_uniform():
    """The first draws of examples that follow each other are as uniform as those of one stream."""
    counts = Counter(RandomStream(EVALUATION, "niah_single_1", index).below(20) for index in range(RUNS))
    assert scipy.stats.chisquare([counts[i] for i in range(20)]).pvalue > CHANCE


@fixed_paths
def test_fractions_are_uniform(path):
    """Fractions lie in [0, 1) and spread over it evenly."""
    draw = RandomStream(*path)
    fractions = [draw.fraction() for _ in range(RUNS)]
    assert all(0 <= each < 1 for each in fractions)
    assert scipy.stats.kstest(fractions, "uniform").pvalue > CHANCE


@fixed_paths
def test_samples_are_uniform(path):
    """Every item is as likely at every place of a sample."""
    draw = RandomStream(*path)
    samples = [tuple(draw.sample("abcde", 2)) for _ in range(RUNS)]
    counts = Counter(samples)
    assert scipy.stats.chisquare([counts[pair] for pair in permutations("abcde", 2)]).pvalue > CHANCE


@given(paths, st.lists(st.integers(), unique=True, max_size=30), st.data())
def test_samples_are_without_replacement(path, items, data):
    """A sample holds as many items as asked, none twice, and leaves the items as they were."""
    count = data.draw(st.integers(0, len(items)))
    before = list(items)
    sample = RandomStream(*path).sample(items, count)
    assert len(sample) == len(set(sample)) == count
    assert set(sample) <= set(items)
    assert items == before


@given(paths, st.lists(st.integers(), max_size=5), st.integers(1, 3))
def test_samples_cannot_be_larger_than_what_there_is(path, items, more):
    """Asking for more items than there are is refused with both numbers."""
    with pytest.raises(ValueError, match=f"{len(items) + more} of {len(items)}"):
        RandomStream(*path).sample(items, len(items) + more)


def test_lists_of_draws_are_those_of_the_first_version():
    """Different integers, orders and numbers of fixed paths never change, nor move each other's stream."""
    draw = RandomStream(EVALUATION, "niah_single_1", 1024, 17)
    assert draw.distinct(1000, 8).tolist() == FIRST_VERSION_DISTINCT
    assert draw.order(6).tolist() == FIRST_VERSION_ORDER
    assert draw.numbers(2).tolist() == FIRST_VERSION_NUMBERS


limited = st.integers(1, 500).flatmap(lambda limit: st.tuples(st.just(limit), st.integers(0, limit // 2)))


@given(paths, limited)
def test_distinct_draws_are_the_first_of_each(path, asked):
    """Different integers are those that streams of growing numbers come to first, below the limit and none twice."""
    limit, count = asked
    found = RandomStream(*path).distinct(limit, count)
    assert found.dtype == np.int64
    first: dict[int, None] = {}
    for block in range(6):
        for number in RandomStream(*path, block).numbers(64 * 2**block).tolist():
            first.setdefault(number % limit)
    assert found.tolist() == list(first)[:count]
    assert len(found) == count


@given(paths, limited, st.data())
def test_more_distinct_draws_begin_with_the_fewer(path, asked, data):
    """Asking for more different integers gives those of asking for fewer, and then others."""
    limit, count = asked
    fewer = data.draw(st.integers(0, count))
    assert (
        RandomStream(*path).distinct(limit, fewer).tolist()
        == RandomStream(*path).distinct(limit, count)[:fewer].tolist()
    )


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (9, 5), (10, 6)])
def test_most_of_all_integers_are_not_drawn_one_by_one(limit, count):
    """More than half of all integers below a limit are refused with both numbers."""
    with pytest.raises(ValueError, match=f"cannot draw {count} different integers below {limit} "):
        RandomStream("a").distinct(limit, count)


@fixed_paths
def test_distinct_draws_are_uniform(path):
    """Every integer is as likely at every place among the different ones."""
    drawn = [tuple(RandomStream(*path, run).distinct(5, 2).tolist()) for run in range(RUNS)]
    counts = Counter(drawn)
    assert scipy.stats.chisquare([counts[pair] for pair in permutations(range(5), 2)]).pvalue > CHANCE


@given(paths, st.integers(0, 200))
def test_an_order_holds_every_number_once(path, count):
    """An order of n things has the numbers from 0 to n - 1, each once."""
    assert sorted(RandomStream(*path).order(count).tolist()) == list(range(count))


@given(paths, st.lists(st.text(), min_size=1))
def test_a_choice_is_one_of_the_items(path, items):
    """A choice is one of the items."""
    assert RandomStream(*path).choice(items) in items


@given(paths, st.integers(1, 60))
def test_digits(path, count):
    """A number of n digits has exactly n, and the first is not zero."""
    digits = RandomStream(*path).digits(count)
    assert len(digits) == count
    assert digits.isascii()
    assert digits.isdigit()
    assert digits[0] != "0"


@given(paths)
def test_uuids(path):
    """A UUID is of version 4 and written the usual way."""
    text = RandomStream(*path).uuid()
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert parsed.version == 4
    assert parsed.variant == uuid.RFC_4122


@given(paths, st.integers(1, 512))
def test_bits_are_in_range(path, count):
    """A draw of n bits has at most n."""
    assert RandomStream(*path).bits(count).bit_length() <= count


@pytest.mark.parametrize("count", [-1, 0, 513])
def test_impossible_bits_are_refused(count):
    """No draw has fewer than one or more than 512 bits."""
    with pytest.raises(ValueError, match=f"cannot draw {count} bits"):
        RandomStream("a").bits(count)


@pytest.mark.parametrize("limit", [0, -3])
def test_impossible_limits_are_refused(limit):
    """There is no number below a limit under one."""
    with pytest.raises(ValueError, match=f"below {limit};"):
        RandomStream("a").below(limit)
