"""The wording of RULER's prompts.

These strings are the measuring instrument: a model asked in other words is measured on another
scale. They are taken from RULER (Copyright (c) 2024, NVIDIA CORPORATION, Apache License 2.0; see
NOTICE), files `scripts/data/synthetic/constants.py`, `niah.py`, `variable_tracking.py` and `qa.py`. Nothing
else in this project comes from RULER's code.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ANSWER_PREFIX",
    "ASSIGNED_VALUE",
    "ASSIGNED_VARIABLE",
    "COMMON_WORDS_ANSWER_PREFIX",
    "COMMON_WORDS_INTRODUCTION",
    "COMMON_WORDS_QUESTION",
    "COMMON_WORDS_TOKENS_TO_GENERATE",
    "DEPTHS",
    "DOCUMENTS_ANSWER_PREFIX",
    "DOCUMENTS_INTRODUCTION",
    "DOCUMENTS_QUESTION",
    "DOCUMENTS_TOKENS_TO_GENERATE",
    "DOCUMENT_HEADER",
    "DOTS",
    "FREQUENT_WORDS_ANSWER_PREFIX",
    "FREQUENT_WORDS_INTRODUCTION",
    "FREQUENT_WORDS_QUESTION",
    "FREQUENT_WORDS_TOKENS_TO_GENERATE",
    "INTRODUCTION",
    "NEEDLE",
    "NIAH_TOKENS_TO_GENERATE",
    "NOISE",
    "QUESTION",
    "VARIABLES_ANSWER_PREFIX",
    "VARIABLES_INTRODUCTION",
    "VARIABLES_QUESTION",
    "VARIABLES_TOKENS_TO_GENERATE",
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

VARIABLES_INTRODUCTION: Final = (
    "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
)
VARIABLES_QUESTION: Final = "Question: Find all variables that are assigned the value {value} in the text above."
VARIABLES_ANSWER_PREFIX: Final = (
    " Answer: According to the chain(s) of variable assignment in the text above, {count} variables are assigned "
    "the value {value}, they are: "
)
ASSIGNED_VALUE: Final = "VAR {name} = {value}"
# The blank at the end is RULER's.
ASSIGNED_VARIABLE: Final = "VAR {name} = VAR {other} "
VARIABLES_TOKENS_TO_GENERATE: Final = 30

COMMON_WORDS_INTRODUCTION: Final = (
    "Below is a numbered list of words. In these words, some appear more often than others. "
    "Memorize the ones that appear most often.\n"
)
COMMON_WORDS_QUESTION: Final = "\nQuestion: What are the {count} most common words in the above list?"
COMMON_WORDS_ANSWER_PREFIX: Final = " Answer: The top {count} words that appear most often in the list are:"
COMMON_WORDS_TOKENS_TO_GENERATE: Final = 120

FREQUENT_WORDS_INTRODUCTION: Final = (
    "Read the following coded text and track the frequency of each coded word. "
    "Find the three most frequently appeared coded words."
)
FREQUENT_WORDS_QUESTION: Final = (
    "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. "
    "What are the three most frequently appeared words in the above coded text?"
)
FREQUENT_WORDS_ANSWER_PREFIX: Final = (
    " Answer: According to the coded text above, the three most frequently appeared words are:"
)
DOTS: Final = "..."
FREQUENT_WORDS_TOKENS_TO_GENERATE: Final = 50

DOCUMENTS_INTRODUCTION: Final = (
    "Answer the question based on the given documents. Only give me the answer and do not output any other words."
    "\n\nThe following are given documents.\n\n"
)
DOCUMENT_HEADER: Final = "Document {number}:\n"
DOCUMENTS_QUESTION: Final = (
    "\n\nAnswer the question based on the given documents. Only give me the answer and do not output any other words."
    "\n\nQuestion: {question}"
)
DOCUMENTS_ANSWER_PREFIX: Final = " Answer:"
DOCUMENTS_TOKENS_TO_GENERATE: Final = 32

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
