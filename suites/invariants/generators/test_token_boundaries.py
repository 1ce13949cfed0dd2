"""Token boundaries: prompts put together from pieces have the ids of the whole text, whatever the tokenizer."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from generators.assembly import Ids, Piece, TokenizedTexts, assemble
from generators.corpora.essays import embedded_essays
from generators.prompt_templates import Special
from generators.tokenization import Tokenizer, TokenizerError
from generators.tokenizer_files import FileTokenizer, load_tokenizer
from suites.support.tokenizer_forms import (
    BLANK,
    FORMS,
    GREEDY,
    LEGACY,
    PROVEN,
    UNPROVEN,
    WORDS_OF_LLAMA_3,
    library,
    loaded,
    with_bytes,
)

quick = settings(max_examples=30)

each_form = pytest.mark.parametrize("form", FORMS)
each_proven_form = pytest.mark.parametrize("form", PROVEN)
each_unproven_form = pytest.mark.parametrize("form", UNPROVEN)


def _expected(form: str, text: str) -> tuple[int, ...]:
    return tuple(library(form).encode(text, add_special_tokens=False).ids)


WORDS = [
    "the",
    " the",
    "The",
    " grass",
    "word",
    " a",
    "s",
    "x",
    "I",
    "'s",
    "'LL",
    " is",
    "é",
    "e\u0301",
    "ñ",
    "naïve",
    "ß",
]
SIGNS = [
    ".",
    ",",
    "!",
    "?",
    "...",
    " (",
    '"',
    "-",
    " --",
    ":",
    "=",
    "<",
    "/",
    "~",
    "`",
    "%s",
    "<s>",
    "</s>",
    "<unk>",
    BLANK,
]
NUMBERS = ["1", "12", "345", "1990", " 7", "½", "Ⅳ"]
GAPS = [
    " ",
    "  ",
    "   ",
    "    ",
    "\n",
    "\n\n",
    "\n\n\n",
    " \n",
    "\n ",
    "\r\n",
    "\t",
    "\u00a0",
    "\u2003",
    "\u3000",
    "\x85",
]
OTHERS = [
    "\u0301",
    "a\u0301",
    "\u200b",
    "日",
    "本語",
    "。",
    "👍",
    "👨\u200d👩\u200d👧",
    "\x00",
    "\x1c",
    "ﬁ",
    "…",
    "\u0958",
    "\u212a",
]

fragments = st.one_of(*map(st.sampled_from, (WORDS, SIGNS, NUMBERS, GAPS, OTHERS)), st.text(max_size=2))
texts = st.lists(fragments, max_size=5).map("".join)
# Prompts are mostly cut before blanks and after line ends.
likely = st.one_of(
    st.builds(lambda text: " " + text, texts),
    st.builds(lambda text: text + "\n", texts),
    st.sampled_from([*WORDS, *SIGNS, *NUMBERS]),
)
pieces = st.lists(st.one_of(texts, likely), min_size=1, max_size=5)
ends = st.lists(fragments, min_size=1, max_size=2).map("".join)


def _continuations(tokenizer: Tokenizer, parts: Sequence[str]) -> list[Piece]:
    return [Piece(part, _ids(tokenizer.continued(part).ids)) for part in parts]


def _ids(ids: Sequence[int]) -> Ids:
    return np.array(ids, dtype=np.int32)


@each_form
@quick
@given(parts=pieces, given_ids=st.booleans())
def test_pieces_have_the_ids_of_the_whole(form, parts, given_ids):
    """Pieces put together, tokenized before or not, have the ids that the library gives their text."""
    tokenizer = loaded(form)
    tokenized = _continuations(tokenizer, parts) if given_ids else [Piece(part) for part in parts]
    assembly = assemble(tokenizer, tokenized)
    assert assembly.ids == _expected(form, "".join(parts))
    assert assembly.count == len(assembly.ids)


@pytest.mark.parametrize("form", PROVEN | GREEDY)
@quick
@given(before=texts, left=ends, right=ends, after=texts)
def test_a_boundary_is_one_whatever_stands_around(form, before, left, right, after):
    """Where two ends meet at a token boundary, so do all texts that end and begin with them."""
    tokenizer = loaded(form)
    if tokenizer.joins(left[-2:], right[:3]):
        left, right = before + left, right + after
        assert tokenizer.encode(left).ids + tokenizer.continued(right).ids == _expected(form, left + right)


@each_form
@settings(max_examples=15)
@given(parts=st.lists(likely.filter(str.strip), min_size=1, max_size=5))
def test_parts_start_at_their_first_visible_character(form, parts):
    """A part's start is the token that holds its first visible character in the whole text."""
    whole = loaded(form).encode("".join(parts))
    places = [end - len(part.lstrip()) for part, end in zip(parts, accumulate(map(len, parts)), strict=True)]
    starts = assemble(loaded(form), [Piece(part) for part in parts]).starts
    assert list(starts) == [max(whole.token_at(place), 0) for place in places]


def _borders() -> list[tuple[str, str]]:
    words = embedded_essays().words[:2000]
    return [(left, " " + right) for left, right in pairwise(words)]


@each_proven_form
def test_words_meet_at_boundaries(form):
    """The blank before every word of the essays is a token boundary in every proven form."""
    tokenizer = loaded(form)
    assert tokenizer.has_boundaries
    assert [border for border in _borders() if not tokenizer.joins(*border)] == []


@pytest.mark.parametrize("form", [form for form in PROVEN if form != "Unigram"])
@pytest.mark.parametrize("left", ["afterwards.\n", "text?\n", " is: 1234567.\n", "word\n", "1\n", '"\n'])
def test_lines_meet_at_boundaries(form, left):
    """A line end before a letter is a token boundary in every form with line ends of its own."""
    assert all(loaded(form).joins(left, right) for right in ("One", "what", "A", "Iris"))


@each_proven_form
def test_pieces_at_boundaries_are_not_tokenized_again(form):
    """The ids that a piece brings along stand in the prompt as they are, when both its ends are token boundaries."""
    brought = (7, 7, 7)
    assembly = assemble(loaded(form), [Piece("One"), Piece(" grass is", _ids(brought)), Piece(" green")])
    assert assembly.ids[assembly.starts[1] : assembly.starts[2]] == brought


@each_form
@pytest.mark.parametrize(("left", "right"), [("gra", "ss"), ("", " x"), ("x", "")])
def test_ids_brought_along_give_way_where_nothing_is_proven(form, left, right):
    """Inside a word and beside nothing, the ids that a piece brings along are not used."""
    assembly = assemble(loaded(form), [Piece("The"), Piece(left), Piece(right, _ids([7, 7, 7]))])
    assert assembly.ids == _expected(form, "The" + left + right)


@each_unproven_form
@settings(max_examples=15)
@given(left=texts, right=texts)
def test_unproven_forms_have_no_boundaries(form, left, right):
    """A tokenizer whose definition proves nothing joins nothing, and says so."""
    assert not loaded(form).has_boundaries
    assert not loaded(form).joins(left, right)


@pytest.mark.parametrize("form", ["LLaMA 2", "newer LLaMA 2", "Gemma"])
@quick
@given(parts=pieces)
def test_text_after_a_spelled_token_is_treated_as_the_library_does(form, parts):
    """After a special token that a template spells out, text has the ids that the library gives it there."""
    reading = Backend.from_str(library(form).to_str())
    text = "".join(parts)
    if any(name in text for name in ("<s>", "</s>", "<unk>")):
        return
    expected = reading.encode("<s>" + text, add_special_tokens=False).ids
    assembly = assemble(loaded(form), [Special("<s>", 1), *_continuations(loaded(form), parts)])
    assert list(assembly.ids) == expected


@each_form
@settings(max_examples=15)
@given(parts=pieces)
def test_text_after_an_added_token_begins_as_a_text_does(form, parts):
    """After a token that only the prompt template adds, text has the ids it has alone, shifted by one."""
    alone = assemble(loaded(form), [Piece(part) for part in parts])
    added = assemble(loaded(form), [Special("<s>", 1, spelled=False), *_continuations(loaded(form), parts)])
    assert added.ids == (1, *_expected(form, "".join(parts)))
    assert (added.starts[0], added.count) == (0, 1 + alone.count)


@pytest.mark.parametrize("form", PROVEN)
@settings(max_examples=15)
@given(data=st.data())
def test_strung_texts_have_the_ids_of_their_text(form, data):
    """Texts tokenized once and strung together in any order, alone or in turn with others, keep the whole's ids."""
    tokenizer = loaded(form)
    words = st.sampled_from([" grass", " is", " 12", " (naïve)", " 日本語", " I'll", " -- ", "\t"])
    few = st.lists(words, min_size=1, max_size=6)
    own, other = (TokenizedTexts(tokenizer, data.draw(few)) for _ in range(2))
    order = data.draw(st.lists(st.integers(0, len(own.texts) - 1), min_size=1, max_size=12))
    others = data.draw(st.lists(st.integers(0, len(other.texts) - 1), min_size=len(order), max_size=len(order)))
    assert [tokenizer.count(text) for text in own.texts] == own.counts.tolist()
    chosen = [own.texts[i] for i in order]
    if own.meets_at_boundaries(own) and tokenizer.joins("x", chosen[0]):
        strung = own.strung(np.array(order)).tolist()
        assert (*tokenizer.encode("x").ids, *strung) == _expected(form, "x" + "".join(chosen))
    if own.meets_at_boundaries(other) and other.meets_at_boundaries(own) and tokenizer.joins("x", chosen[0]):
        both = own.interleaved(np.array(order), other, np.array(others)).tolist()
        text = "".join(a + other.texts[b] for a, b in zip(chosen, others, strict=True))
        assert (*tokenizer.encode("x").ids, *both) == _expected(form, "x" + text)


def _spelled(text: str) -> str:
    """The characters of a byte-level vocabulary."""
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return "".join(name for name, _ in level.pre_tokenize_str(text))


def _merging(token: str, normalizer: normalizers.Normalizer) -> Backend:
    """A vocabulary of characters, bytes and one token of two characters."""
    backend = with_bytes([*dict.fromkeys(token + "aens.\u0301" + BLANK), token], [(token[0], token[1])])
    backend.normalizer = normalizer
    return backend


def _merging_bytes(text: str, *, prefix: bool = False) -> Backend:
    """A vocabulary of bytes and one token, GPT-2's expression."""
    name = _spelled(text)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ends = range(2, len(name) + 1)
    names = [*alphabet, *(name[:end] for end in ends)]
    model = models.BPE({each: i for i, each in enumerate(names)}, [(name[: end - 1], name[end - 1]) for end in ends])
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=True)
    return backend


def _normalized_into_a_mark() -> Backend:
    backend = _merging_bytes("\u093c\n")
    backend.normalizer = normalizers.NFC()
    expression = Regex(WORDS_OF_LLAMA_3.replace("{1,3}", ""))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(expression, "isolated"), level])
    return backend


def _normalized_added_token() -> Backend:
    backend = _merging_bytes("xy")
    backend.normalizer = normalizers.NFC()
    backend.add_tokens([AddedToken("á\n", normalized=True)])
    return backend


def _replaced_blanks() -> Backend:
    backend = _merging_bytes("!_")
    backend.normalizer = normalizers.Replace(" ", "_")
    return backend


def _marks_after_added_tokens() -> Backend:
    backend = with_bytes(["x", "y", BLANK, BLANK + "y"], [(BLANK, "y")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(BLANK, "always", split=False)
    backend.add_tokens(["<t>"])
    return backend


def _blanks_after_added_tokens() -> Backend:
    backend = _merging_bytes("xy", prefix=True)
    backend.add_tokens(["<t>"])
    return backend


def _blanks_after_digits() -> Backend:
    backend = _merging_bytes("xy", prefix=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), backend.pre_tokenizer])
    return backend


def _every_neighbour_taken() -> Backend:
    merges = [("a", "="), (".", "="), ("\n", "=")]
    backend = with_bytes([*"a.=\n?x", BLANK, "a=", ".=", "\n="], merges)
    backend.normalizer = LEGACY
    return backend


def _ties() -> Backend:
    # The two ways to cut three letters into two tokens score the same, but for rounding.
    return Backend(models.Unigram([("<unk>", 0.0), ("a", -5.1), ("aa", -3.3), ("x", -6.7), ("\n", -6.1)], 0, False))


def _fused_unknown_bytes() -> Backend:
    return Backend(models.BPE({"<unk>": 0, "a": 1}, [], unk_token="<unk>", fuse_unk=True, byte_fallback=True))


TREACHEROUS: dict[str, tuple[Callable[[], Backend], str, str]] = {
    "composed before": (lambda: _merging("és", normalizers.NFC()), "e\u0301", "s"),
    "composed after": (lambda: _merging("ná", normalizers.NFC()), "n", "a\u0301"),
    "decomposed": (lambda: _merging("\u0301s", normalizers.NFD()), "é", "s"),
    "made compatible": (lambda: _merging("..", normalizers.NFKC()), "…", "."),
    "normalized into a mark": (_normalized_into_a_mark, "\u0958", "\nx"),
    "normalized into an added token": (_normalized_added_token, "a\u0301", "\nx"),
    "replaced blanks": (_replaced_blanks, "!", " x"),
    "not white space to the expression": (lambda: _merging_bytes("!\x1c"), "!", "\x1cx"),
    "marks after added tokens": (_marks_after_added_tokens, "x<t>", "y"),
    "blanks after added tokens": (_blanks_after_added_tokens, "x<t>", "\ny"),
    "blanks after digits": (_blanks_after_digits, "1", "\nx"),
    "every neighbour taken": (_every_neighbour_taken, "?", "=x"),
    "fused unknown characters": (lambda: Backend(models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0, False)), "日", "~"),
    "fused unknown bytes": (_fused_unknown_bytes, "日", "~"),
    "dropped characters": (lambda: Backend(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])), "a日", "b"),
    "ties": (_ties, "xx\n", "aaa"),
    "whole texts": (lambda: Backend(models.BPE({"a": 0, "b": 1, "ab": 2, "c": 3}, [], ignore_merges=True)), "ab", "c"),
    "marked ends": (lambda: Backend(models.BPE({"a": 0, "b": 1, "a</w>": 2}, [], end_of_word_suffix="</w>")), "b", "a"),
}


@pytest.mark.parametrize("case", TREACHEROUS)
def test_no_token_reaches_over_a_boundary(case):
    """Where a tokenizer lets a token, a choice or a mark reach over a border, pieces are not cut there."""
    made, left, right = TREACHEROUS[case]
    backend = made()
    expected = tuple(backend.encode(left + right, add_special_tokens=False).ids)
    assert assemble(FileTokenizer(backend), [Piece(left), Piece(right)]).ids == expected


RWKV = [
    *(bytes([byte]) for byte in range(256)),
    *(b"\xe2\x80", b"\xe2\x80\x99s", b"\x80\x99", b"\xf0\x9f", b" \xe6", b"\n\n", b".\n", b"\r\n"),
    *(word.encode() for word in ("the", " the", " grass", " gr", "ass", " is", "12", "1990")),
    *(word.encode() for word in ("é", "日", "日本", "本語", "👍")),
]


def _vocabulary_lines(entries: Sequence[bytes], first: int = 1) -> list[str]:
    """Lines as RWKV's file has them: text where the bytes are UTF-8, bytes elsewhere."""

    def literal(entry: bytes) -> str:
        try:
            return repr(entry.decode())
        except UnicodeDecodeError:
            return repr(entry)

    return [f"{number} {literal(entry)} {len(entry)}" for number, entry in enumerate(entries, first)]


def _from_lines(lines: Sequence[str]) -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rwkv_vocab_small.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return load_tokenizer(path)


@cache
def rwkv() -> Tokenizer:
    """RWKV's tokenizer with a small vocabulary."""
    return _from_lines(_vocabulary_lines(RWKV))


def _longest_matches(text: str) -> list[bytes]:
    """What RWKV's tokenizer is by definition: again and again the longest entry that the rest begins with."""
    rest, found = text.encode(), []
    while rest:
        found.append(max((entry for entry in RWKV if rest.startswith(entry)), key=len))
        rest = rest[len(found[-1]) :]
    return found


def _longest_ids(text: str) -> tuple[int, ...]:
    return tuple(1 + RWKV.index(entry) for entry in _longest_matches(text))


@quick
@given(st.one_of(texts, st.text()))
def test_rwkv_takes_the_longest_entry(text):
    """RWKV's ids are the longest matches from left to right, start where they do and decode to the text."""
    encoding = rwkv().encode(text)
    assert encoding.ids == _longest_ids(text)
    assert rwkv().decode(encoding.ids) == text
    characters = [index for index, character in enumerate(text) for _ in character.encode()]
    places = list(accumulate(map(len, _longest_matches(text)), initial=0))[:-1]
    assert list(encoding.starts) == [characters[place] for place in places]


@quick
@given(pieces, st.booleans())
def test_rwkv_pieces_have_the_ids_of_the_whole(parts, given_ids):
    """Put together from pieces, RWKV's ids are still the longest matches of the whole text."""
    tokenized = _continuations(rwkv(), parts) if given_ids else [Piece(part) for part in parts]
    assert assemble(rwkv(), tokenized).ids == _longest_ids("".join(parts))


def test_rwkv_joins_words_and_lines():
    """RWKV has token boundaries before words and after line ends, but not where an entry has both characters."""
    assert rwkv().has_boundaries
    assert rwkv().joins("grass", " is")
    assert rwkv().joins("text?\n", "What")
    assert not rwkv().joins(".", "\n")
    assert not rwkv().joins("the gr", "ass")


def test_rwkv_ends_with_number_0():
    """RWKV's number 0 ends a text and has no text; the vocabulary's size counts it."""
    assert rwkv().end_of_sequence == 0
    assert rwkv().vocabulary_size == 1 + len(RWKV)
    assert rwkv().decode([0, *rwkv().encode("the").ids, 0]) == "the"


def test_rwkv_fingerprints_tell_vocabularies_apart():
    """RWKV's fingerprint is the same for the same vocabulary, and another for one entry more or other numbers."""
    same = _from_lines(_vocabulary_lines(RWKV))
    others = [_from_lines(_vocabulary_lines([*RWKV, b" more"])), _from_lines(_vocabulary_lines(RWKV, 2))]
    assert same.fingerprint == rwkv().fingerprint
    assert len({each.fingerprint for each in (same, *others)}) == 3


@pytest.mark.parametrize("name", ["<s>", "the", "<|endoftext|>"])
def test_rwkv_has_no_special_tokens(name):
    """Whatever special token is asked for, RWKV's vocabulary refuses it by name."""
    with pytest.raises(TokenizerError, match=re.escape(repr(name))):
        rwkv().special(name)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "300",
        "300 'word'",
        "'word' 4",
        "x 'word' 4",
        "300 'word' 5",
        "300 'é' 1",
        "300 '' 0",
        "300 'word 4",
        "300 word 4",
        "300 None 4",
        "300 5 5",
        "300 [1, 2] 2",
        "300 print('word') 4",
    ],
)
@pytest.mark.parametrize("place", [0, 17])
def test_a_malformed_line_is_named(line, place, tmp_path):
    """A line that is not an id, a literal and its number of bytes is refused by file and line."""
    lines = _vocabulary_lines(RWKV)
    lines.insert(place, line)
    path = tmp_path / "rwkv_vocab_small.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(TokenizerError, match=re.escape(f"{path}, line {place + 1}:")):
        load_tokenizer(path)


def test_a_vocabulary_that_is_not_text_is_named(tmp_path):
    """A vocabulary file that is not UTF-8 is refused by its path."""
    path = tmp_path / "rwkv_vocab_small.txt"
    path.write_bytes(b"\xff\xfe1 'a' 1\n")
    with pytest.raises(TokenizerError, match=re.escape(str(path))):
        load_tokenizer(path)


@pytest.mark.parametrize("byte", [0, 65, 255])
def test_a_vocabulary_that_lacks_a_byte_is_refused(byte):
    """A vocabulary without an entry for some byte, which could not encode every text, is refused by that byte."""
    with pytest.raises(TokenizerError, match=f"byte {byte};"):
        _from_lines(_vocabulary_lines([entry for entry in RWKV if entry != bytes([byte])]))
