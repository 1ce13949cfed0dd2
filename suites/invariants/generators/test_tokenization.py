"""File tokenizers: text to ids and back, where tokens start, and what a file may not do."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from generators.tokenization import TokenizerError
from generators.tokenizer_files import load_tokenizer

POCKET = Path(__file__).resolve().parents[3] / "zoo" / "pocket" / "tokenizer.json"
END = "<|endoftext|>"

pocket = load_tokenizer(POCKET, end_of_sequence=END)

# The name of a special token is that token wherever it stands, and no text.
texts = st.one_of(
    st.text(),
    st.text(string.printable),
    st.text("aé日👍 \n12"),
    st.lists(st.sampled_from(["the ", "grass", " is", "1"])),
).map("".join)


BACKEND = tokenizers.Tokenizer.from_file(str(POCKET))


def _bytes_of(token: int) -> int:
    """How many bytes a token of a byte-level vocabulary stands for: one a character of its name."""
    return len(BACKEND.id_to_token(token))


def _saved(backend: tokenizers.Tokenizer, folder: Path) -> Path:
    path = folder / "tokenizer.json"
    backend.save(str(path))
    return path


def _with_template(folder: Path) -> Path:
    """A tokenizer whose own file asks for a token at the beginning and another at the end."""
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<s>": 0, "</s>": 1, "?": 2, "one": 3}, "?"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(["<s>", "</s>"])
    backend.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    assert backend.encode("one one").ids == [0, 3, 3, 1]
    return _saved(backend, folder)


@given(texts)
def test_decoding_gives_the_text_back(text):
    """Whatever text is encoded, decoding its ids gives it back."""
    assert pocket.decode(pocket.encode(text).ids) == text


@given(texts)
def test_ids_are_in_the_vocabulary(text):
    """Every id is below the vocabulary's size, and counting a piece counts its ids, the second time too."""
    ids = pocket.encode(text).ids
    assert all(0 <= each < pocket.vocabulary_size for each in ids)
    assert pocket.count(text) == pocket.count(text) == len(ids)


def test_vocabulary_size():
    """The vocabulary's size is one more than its largest id."""
    assert pocket.vocabulary_size == max(BACKEND.get_vocab().values()) + 1


@given(texts)
def test_starts_are_the_characters_that_tokens_start_at(text):
    """Starts never decrease, and each is the character that holds the token's first byte."""
    encoding = pocket.encode(text)
    characters = [index for index, character in enumerate(text) for _ in character.encode()]
    begun, expected = 0, []
    for token in encoding.ids:
        expected.append(characters[begun])
        begun += _bytes_of(token)
    assert begun == len(characters)
    assert list(encoding.starts) == expected == sorted(expected)


@given(texts.filter(bool), st.integers(min_value=0))
def test_token_at_holds_the_character(text, index):
    """The token at a character is one that starts there or before, while the next starts after it."""
    index %= len(text)
    encoding = pocket.encode(text)
    token = encoding.token_at(index)
    assert encoding.starts[token] <= index
    assert all(start > index for start in encoding.starts[token + 1 :])


@given(st.text(string.printable, min_size=1), st.integers(min_value=0))
def test_the_token_at_a_character_spells_it(text, index):
    """Where characters are one byte each, the token at a character has it at its place."""
    index %= len(text)
    encoding = pocket.encode(text)
    token = encoding.token_at(index)
    assert pocket.decode([encoding.ids[token]])[index - encoding.starts[token]] == text[index]


@pytest.mark.parametrize("text", ["", "one", "one one two"])
def test_the_files_own_special_tokens_are_left_out(tmp_path, text):
    """A file that would add a beginning and an end adds neither."""
    path = _with_template(tmp_path)
    plain, asked = load_tokenizer(path), load_tokenizer(path, end_of_sequence="</s>")
    ids = tuple({"one": 3}.get(word, 2) for word in text.split())
    assert plain.encode(text).ids == ids
    assert asked.encode(text).ids == ids
    assert asked.count(text) == plain.count(text) == len(ids)
    assert (plain.end_of_sequence, asked.end_of_sequence) == (None, 1)


def test_truncation_and_padding_of_the_file_are_ignored(tmp_path):
    """A file's settings to cut texts short or to pad them have no effect, on the fingerprint neither."""
    backend = tokenizers.Tokenizer.from_file(str(POCKET))
    backend.enable_truncation(4)
    backend.enable_padding(length=64)
    assert len(backend.encode("The grass is green. " * 9).ids) == 64
    told = load_tokenizer(_saved(backend, tmp_path), end_of_sequence=END)
    for text in ("", "12", "The grass is green. " * 9):
        assert told.encode(text) == pocket.encode(text)
        assert told.count(text) == pocket.count(text)
    assert told.fingerprint == pocket.fingerprint


def test_the_fingerprint_tells_tokenizers_apart(tmp_path):
    """The fingerprint is the same for the same file, and another for another vocabulary or end."""
    backend = tokenizers.Tokenizer.from_file(str(POCKET))
    backend.add_tokens(["grass"])
    others = [
        load_tokenizer(_saved(backend, tmp_path), end_of_sequence=END),
        load_tokenizer(POCKET),
    ]
    assert load_tokenizer(POCKET, end_of_sequence=END).fingerprint == pocket.fingerprint
    assert len({each.fingerprint for each in (pocket, *others)}) == 3


@given(st.text(string.digits + "ab -,.\n日", max_size=20))
def test_digits_are_single_tokens(text):
    """Every digit is a token of its own in the pocket tokenizer, whatever stands around it."""
    encoding = pocket.encode(text)
    for index, character in enumerate(text):
        if character.isdigit():
            token = encoding.token_at(index)
            assert encoding.starts.count(index) == 1
            assert pocket.decode([encoding.ids[token]]) == character


@pytest.mark.parametrize("name", ["missing.json", "missing/tokenizer.json", ""])
def test_a_missing_file_is_named(tmp_path, name):
    """A tokenizer that is not there, or is a folder, is refused by its path."""
    with pytest.raises(TokenizerError) as refusal:
        load_tokenizer(tmp_path / name)
    assert str(tmp_path / name) in str(refusal.value)


@pytest.mark.parametrize(
    "damaged",
    [b"", b"{}", b"[]", b"null", b"not JSON", b"\xff\xfe\x00", b'{"model": {"type": "BPE"}}', b'{"version": "9.9"}'],
)
def test_a_damaged_file_is_named(tmp_path, damaged):
    """A file that is no tokenizer is refused by its path, whatever is in it."""
    path = tmp_path / "tokenizer.json"
    path.write_bytes(damaged)
    with pytest.raises(TokenizerError) as refusal:
        load_tokenizer(path)
    assert str(path) in str(refusal.value)


@given(st.integers(min_value=0))
def test_a_truncated_file_is_named(tmp_path_factory, cut):
    """A tokenizer file cut short anywhere is refused by its path."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    whole = POCKET.read_bytes().rstrip()
    path.write_bytes(whole[: cut % len(whole)])
    with pytest.raises(TokenizerError) as refusal:
        load_tokenizer(path)
    assert str(path) in str(refusal.value)


def test_a_token_the_vocabulary_lacks_is_named():
    """A special token that the vocabulary does not have is refused by its name."""
    with pytest.raises(TokenizerError, match="'</nowhere>'"):
        load_tokenizer(POCKET, end_of_sequence="</nowhere>")


def test_a_mark_within_a_sequence_of_splitters_is_for_beginnings_alone(tmp_path):
    """A continued text gets no blank in front, also where what puts one there is a part of a sequence."""
    vocabulary = {"?": 0, "▁": 1, "a": 2, "▁a": 3}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [("▁", "a")], unk_token="?"))
    splitters = tokenizers.pre_tokenizers
    backend.pre_tokenizer = splitters.Sequence([splitters.Digits(), splitters.Metaspace("▁", "first")])
    loaded = load_tokenizer(_saved(backend, tmp_path))
    assert loaded.encode("a").ids == (3,)
    assert loaded.continued("a").ids == (2,)
