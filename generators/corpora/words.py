"""Words: the lists of the wonderwords package, as RULER uses them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from wonderwords import RandomWord

__all__ = ["WORDS_A_ROUND", "adjective_noun", "common_words", "more_words", "wonder_words"]

WORDS_A_ROUND: Final = 16384

# Coprime to the number of pairs, so that its multiples come to every pair once.
_STRIDE: Final = 2_654_435_761


@cache
def wonder_words(kind: Literal["noun", "adjective", "verb"]) -> tuple[str, ...]:
    """The words of one kind, sorted."""
    return tuple(sorted(set(_package().filter(include_categories=[kind]))))


@cache
def _package() -> RandomWord:
    from wonderwords import RandomWord

    # Only whole lists are asked for, so no index by prefix is needed.
    return RandomWord(enhanced_prefixes=False)


@cache
def common_words() -> tuple[str, ...]:
    """Nouns, adjectives and verbs, each once, sorted: what RULER's list of words is drawn from."""
    return tuple(sorted({*wonder_words("noun"), *wonder_words("adjective"), *wonder_words("verb")}))


def adjective_noun(index: int) -> str:
    """The pair of an adjective and a noun at `index`; every pair comes once before any comes again."""
    adjectives, nouns = wonder_words("adjective"), wonder_words("noun")
    adjective, noun = divmod(index * _STRIDE % (len(adjectives) * len(nouns)), len(nouns))
    return f"{adjectives[adjective]}-{nouns[noun]}"


def more_words(given: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Rounds of words that `common_words` does not have: first the given ones, then pairs without end."""
    known = set(common_words())
    rest = iter(dict.fromkeys(word for word in given if word not in known))
    while chunk := tuple(islice(rest, WORDS_A_ROUND)):
        yield chunk
    start = 0
    while True:
        pairs = (adjective_noun(index) for index in range(start, start + WORDS_A_ROUND))
        yield tuple(pair for pair in pairs if pair not in known)
        start += WORDS_A_ROUND
