"""Token boundaries: borders of a text that no token crosses, whatever stands around them.

A prompt is put together from pieces that are tokenized once. That gives the ids of the whole text
only where pieces meet at a token boundary, and whether a border is one is decided from the tokenizer's own
definition, for every text that ends and goes on in the characters at the border:

* GPT-2's splitting expression looks ahead by one character and never behind. Words, numbers and
  punctuation hold white space only as a first blank, so a border between something visible and white
  space is always a cut, and so is the border after a lone line end.
* Llama 3's and Qwen 2's expressions are alike, but join line ends to punctuation before them: there
  only a blank after something visible, or what follows a line end, is a token boundary.
* Without a splitting expression (SentencePiece, RWKV's vocabulary) a border is a token boundary if no token of
  the vocabulary contains the two characters in a row. Merges, most likely paths and longest matches
  of the two sides are then made without each other.

In addition, normalization must not reach over the border, and no added token may hold it. Where the
definition of a tokenizer is of another kind, nothing is a token boundary, and prompts are tokenized whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

__all__ = ["BoundaryRule", "boundary_rule", "no_boundary", "pairs"]

BoundaryRule = Callable[[str, str], bool]

# Normalizations that compose characters or take them apart, but never reach over an ASCII character.
_COMPOSING: Final = {"NFC", "NFKC", "NFD", "NFKD"}

# White space to Python, but not to the expressions.
_SEPARATORS: Final = frozenset("\x1c\x1d\x1e\x1f")

_WORDS_OF_LLAMA_3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WORDS_OF_QWEN_2: Final = _WORDS_OF_LLAMA_3.replace("{1,3}", "")


def no_boundary(left: str, right: str) -> bool:
    """Nothing is a token boundary."""
    return False


def pairs(tokens: Iterable[str]) -> frozenset[str]:
    """All pairs of neighbouring characters inside tokens."""
    return frozenset(a + b for token in tokens for a, b in pairwise(token))


def boundary_rule(definition: Mapping[str, Any]) -> BoundaryRule:
    """The rule of a tokenizer, from the content of its `tokenizer.json`; `no_boundary` where nothing is proven."""
    normalization = _normalization(definition["normalizer"])
    if normalization is None:
        return no_boundary
    added = definition["added_tokens"]
    contents = [token["content"] for token in added]
    if any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added):
        return no_boundary
    if _marks_everywhere(definition) and not all(token["special"] for token in added):
        # After an added token within a text, the tokenizer begins as if at the beginning of the text.
        return no_boundary
    if normalization.composes and not all(content.isascii() for content in contents):
        return no_boundary
    rule = _splitting_rule(definition["pre_tokenizer"], definition["model"], normalization)
    if rule is no_boundary:
        return no_boundary
    inside = pairs(contents)

    def is_boundary(left: str, right: str) -> bool:
        pair = left[-1:] + right[:1]
        return (
            len(pair) == 2
            and right[0].isascii()
            and _SEPARATORS.isdisjoint(left[-1:] + right[:2])
            and pair not in inside
            and pair.replace(" ", normalization.blank) not in inside
            and rule(left, right)
        )

    return is_boundary


def _marks_everywhere(definition: Mapping[str, Any]) -> bool:
    prepends = any(step["type"] == "Prepend" for step in _steps(definition["normalizer"], "normalizers"))
    splitters = _steps(definition["pre_tokenizer"], "pretokenizers")
    return prepends or any(step.get("prepend_scheme") == "always" for step in splitters)


@dataclass(frozen=True)
class _Normalization:
    """What a normalizer does.

    Attributes:
        blank: What a blank becomes.
        composes: Whether characters may become others together with those next to them.
    """

    blank: str
    composes: bool


def _normalization(normalizer: Mapping[str, Any] | None) -> _Normalization | None:
    """What a normalizer does, or None where it is of an unknown kind."""
    blank, composes = " ", False
    for step in _steps(normalizer, "normalizers"):
        if step["type"] == "Replace" and step["pattern"] == {"String": " "}:
            blank = step["content"]
        elif step["type"] in _COMPOSING:
            composes = True
        elif step["type"] != "Prepend":
            return None
    return _Normalization(blank, composes)


def _steps(definition: Mapping[str, Any] | None, name: str) -> list[Mapping[str, Any]]:
    if definition is None:
        return []
    return list(definition[name]) if definition["type"] == "Sequence" else [definition]


def _splitting_rule(
    pre_tokenizer: Mapping[str, Any] | None, model: Mapping[str, Any], normalization: _Normalization
) -> BoundaryRule:
    if model["type"] not in ("BPE", "Unigram") or model.get("dropout"):
        return no_boundary
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return no_boundary
    steps = _steps(pre_tokenizer, "pretokenizers")
    kinds = [step["type"] for step in steps]
    if model["type"] == "Unigram":
        # Paths of like score are told apart by rounding, which the text before decides: only a cut is a token boundary.
        return _boundary_before_blanks if kinds == ["Metaspace"] and steps[0].get("split", True) else no_boundary
    if kinds and kinds[-1] == "ByteLevel":
        *before, byte_level = steps
        if byte_level.get("add_prefix_space") or normalization.blank != " ":
            return no_boundary
        # Splitting digits, or digits by threes, only adds cuts inside numbers.
        before = [step for step in before if step["type"] != "Digits"]
        if byte_level["use_regex"]:
            return no_boundary if before else _boundary_of_gpt_2
        if len(before) == 1 and _splits_at(before[0], _WORDS_OF_LLAMA_3, _WORDS_OF_QWEN_2):
            return _boundary_of_llama_3
        return (
            no_boundary if before or model.get("ignore_merges") else _boundary_of_bytes(model["vocab"], normalization)
        )
    if kinds in ([], ["Metaspace"]) or (len(steps) == 1 and _splits_at_blanks(steps[0])):
        # What the vocabulary lacks must come out as bytes: unknown characters may fall out or run together.
        if not model.get("byte_fallback") or not _BYTES.issubset(model["vocab"]) or model.get("ignore_merges"):
            return no_boundary
        metaspace = steps[0].get("replacement") if kinds == ["Metaspace"] else None
        return _boundary_of_characters(pairs(model["vocab"]), metaspace or normalization.blank, normalization)
    return no_boundary


# How a vocabulary spells bytes to fall back on.
_BYTES: Final = frozenset(f"<0x{byte:02X}>" for byte in range(256))


def _splits_at(step: Mapping[str, Any], *expressions: str) -> bool:
    return (
        step["type"] == "Split"
        and step["behavior"] == "Isolated"
        and not step["invert"]
        and step["pattern"].get("Regex") in expressions
    )


def _splits_at_blanks(step: Mapping[str, Any]) -> bool:
    # Gemma's: by then blanks have been replaced, so it never cuts.
    return step["type"] == "Split" and step["pattern"] == {"String": " "}


def _boundary_before_blanks(left: str, right: str) -> bool:
    return right[0] == " " and not left[-1].isspace() and len(right) > 1 and not right[1].isspace()


def _boundary_of_gpt_2(left: str, right: str) -> bool:
    if right[0].isspace():
        return not left[-1].isspace() and not right[:3].isspace()
    return left[-1] == "\n" and len(left) > 1 and not left[-2].isspace()


def _boundary_of_llama_3(left: str, right: str) -> bool:
    if right[0] == "\n":
        return left[-1].isascii() and left[-1].isalnum() and not right[:3].isspace()
    return _boundary_before_blanks(left, right) or (left[-1] == "\n" and not right[0].isspace())


def _stays(left: str, right: str, normalization: _Normalization) -> bool:
    """Whether normalization leaves the characters at a border what they are."""
    return not normalization.composes or (left[-1].isascii() and len(right) > 1 and right[:2].isascii())


def _boundary_of_characters(inside: frozenset[str], blank: str, normalization: _Normalization) -> BoundaryRule:
    def is_boundary(left: str, right: str) -> bool:
        pair = (left[-1] + right[0]).replace(" ", blank)
        return pair not in inside and _stays(left, right, normalization)

    return is_boundary


def _boundary_of_bytes(vocabulary: Mapping[str, int], normalization: _Normalization) -> BoundaryRule:
    from tokenizers import pre_tokenizers

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if not set(level.alphabet()).issubset(vocabulary):
        return no_boundary
    inside = pairs(vocabulary)

    def spelled(text: str) -> str:
        return "".join(piece for piece, _ in level.pre_tokenize_str(text))

    def is_boundary(left: str, right: str) -> bool:
        pair = spelled(left[-1])[-1] + spelled(right[0])[0]
        return pair not in inside and _stays(left, right, normalization)

    return is_boundary
