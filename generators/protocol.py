"""The wording of RULER's needle-in-a-haystack prompts.

These strings are the measuring instrument: a model asked in other words is measured on another
scale. They are taken from RULER (Copyright (c) 2024, NVIDIA CORPORATION, Apache License 2.0; see
NOTICE), files `scripts/data/synthetic/constants.py` and `scripts/data/synthetic/niah.py`. Nothing
else in this project comes from RULER's code.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ANSWER_PREFIX",
    "DEPTHS",
    "INTRODUCTION",
    "NEEDLE",
    "NIAH_TOKENS_TO_GENERATE",
    "NOISE",
    "QUESTION",
    "joined_query",
    "singular",
]

INTRODUCTION: Final = (
    "Some special magic {values} are hidden within the following text. "
    "Make sure to memorize it. I will quiz you about the {values} afterwards.\n"
)
QUESTION: Final = "\nWhat are all the special magic {values} for {query} mentioned in the provided text?"
ANSWER_PREFIX: Final = " The special magic {values} for {query} mentioned in the provided text are"
NEEDLE: Final = "One of the special magic {values} for {key} is: {value}."
NOISE: Final = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
NIAH_TOKENS_TO_GENERATE: Final = 128

# Forty depths in percent, evenly spaced and rounded half to even.
DEPTHS: Final = tuple(round(100 * i / 39) for i in range(40))


def singular(template: str) -> str:
    """Rewords `INTRODUCTION`, `QUESTION` or `ANSWER_PREFIX` for one needle with one value.

    RULER replaces "Some" by "A", "are all" and "are" by "is", and drops the plural of the value.
    """
    template = template.replace("Some", "A").replace("are all", "is").replace("are", "is")
    return template.replace("{values}", "{value}")


def joined_query(keys: list[str]) -> str:
    """The keys as the question lists them: "a", "a, and b", "a, b, and c"."""
    return keys[0] if len(keys) == 1 else ", ".join(keys[:-1]) + ", and " + keys[-1]
