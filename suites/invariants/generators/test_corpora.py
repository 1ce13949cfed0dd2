"""Corpora: sentences that join to the very words, and the essays shipped with the project."""

from __future__ import annotations

import re
from collections import Counter
from itertools import cycle, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.corpora.essays import Corpus, embedded_essays

# White space is what separates words, so none is left in them.
any_words = st.text(max_size=6).map(lambda text: "".join(text.split())).filter(bool)
words = st.one_of(st.text("ab.!?\"')]", min_size=1, max_size=4), any_words)
texts = st.lists(words, min_size=1, max_size=12)
SENTENCE_END = re.compile(r"[.!?][\"')\]]*$")


def _corpus(given_words: list[str]) -> Corpus:
    return Corpus.from_text("under test", " ".join(given_words))


@given(texts, st.integers(0, 45))
def test_sentences_join_to_the_first_words(given_words, count):
    """Sentences joined by blanks are exactly the first n words, begun again past the end."""
    expected = list(islice(cycle(given_words), count))
    corpus = _corpus(given_words)
    assert " ".join(corpus.sentences(count)) == " ".join(expected)
    assert [corpus.word(index) for index in range(count)] == expected


@given(texts, st.integers(0, 45))
def test_no_sentence_is_empty(given_words, count):
    """No sentence is empty, and no words at all are no sentences."""
    sentences = _corpus(given_words).sentences(count)
    assert all(sentences)
    assert bool(sentences) == (count > 0)


@given(texts, st.integers(1, 45))
def test_sentences_end_where_sentences_end(given_words, count):
    """A sentence runs to the first word that ends one, or to where the corpus or the n words end."""
    end = 0
    for sentence in _corpus(given_words).sentences(count):
        *inner, last = sentence.split(" ")
        end += len(inner) + 1
        assert not any(SENTENCE_END.search(word) for word in inner)
        assert SENTENCE_END.search(last) or end == count or end % len(given_words) == 0
    assert end == count


@given(texts, st.integers(0, 60), st.integers(0, 30))
def test_longer_begins_alike(given_words, count, more):
    """More words leave every sentence but the last as it was, and that one is only continued."""
    corpus = _corpus(given_words)
    shorter, longer = corpus.sentences(count), corpus.sentences(count + more)
    *whole, cut = shorter or [""]
    assert longer[: len(whole)] == whole
    assert "".join(longer[len(whole) :][:1]).startswith(cut)


@given(texts, st.lists(st.sampled_from([" ", "\n", "\t", "\n\n  ", "\u3000"]), min_size=12, max_size=12))
def test_all_white_space_is_one_blank(given_words, gaps):
    """However words are separated, the corpus is the same."""
    text = "".join(word + gap for word, gap in zip(given_words, gaps, strict=False))
    corpus = Corpus.from_text("under test", text)
    assert corpus.words == tuple(given_words)
    assert corpus.fingerprint == _corpus(given_words).fingerprint


@pytest.mark.parametrize("text", ["", " ", "\n\t\n"])
def test_an_empty_corpus_is_refused(text):
    """A corpus without words is refused by its name."""
    with pytest.raises(ValueError, match="'nothing' is empty"):
        Corpus.from_text("nothing", text)


@given(texts, st.data())
def test_the_fingerprint_changes_with_any_word(given_words, data):
    """The fingerprint changes when a word is replaced, added or removed, and with nothing else."""
    before = _corpus(given_words)
    place = data.draw(st.integers(0, len(given_words) - 1))
    other = data.draw(words.filter(lambda word: word != given_words[place]))
    replaced = [*given_words[:place], other, *given_words[place + 1 :]]
    added = [*given_words[:place], other, *given_words[place:]]
    assert Corpus.from_text("another name", " ".join(given_words)).fingerprint == before.fingerprint
    assert len({_corpus(each).fingerprint for each in (given_words, replaced, added)}) == 3
    # What was added is removed again.
    assert _corpus(added[:place] + added[place + 1 :]).fingerprint == before.fingerprint


def test_the_essays_are_long_enough():
    """The essays hold at least 60,000 characters."""
    assert len(" ".join(embedded_essays().words)) >= 60_000


def test_no_sentence_of_the_essays_occurs_twice():
    """No sentence of the essays occurs twice, so that no place in them looks like another."""
    corpus = embedded_essays()
    counts = Counter(corpus.sentences(len(corpus.words)))
    assert [sentence for sentence, count in counts.items() if count > 1] == []


def test_the_essays_hold_no_needle():
    """The essays do not hold the words that every needle does."""
    assert "special magic" not in " ".join(embedded_essays().words).lower()


def test_the_essays_are_read_once():
    """The essays are read once, and are the same words whenever they are asked for."""
    assert embedded_essays() is embedded_essays()
