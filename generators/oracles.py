"""An oracle: answers every task by reading its prompt, as far as it sees it.

It proves that prompts hold what they ask for, and shows what the rest of the suite makes of a model
that answers right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Final

from generators import protocol
from generators.corpora.questions import Question
from generators.corpora.sets import Corpora

__all__ = ["oracle_answer"]

_NEEDLE: Final = re.compile(r"One of the special magic \w+ for (.+?) is: (.+?)\.(?=\s|$)")
_NEEDLE_QUESTION: Final = re.compile(
    r"What (?:is|are all) the special magic \w+ for (.+?) mentioned in the provided text\?"
)
_VARIABLES_QUESTION: Final = re.compile(
    r"Question: Find all variables that are assigned the value (\d+) in the text above\."
)
_ASSIGNMENT: Final = re.compile(r"VAR ([A-Z]+) = (?:VAR )?(\w+)")
_COMMON_WORDS_QUESTION: Final = re.compile(r"\nQuestion: What are the (\d+) most common words in the above list\?")
_NUMBER: Final = re.compile(r"(?:^| )\d+\. ")
_ANSWERS_OF_FREQUENT_WORDS: Final = 3


def oracle_answer(text: str, corpora: Corpora) -> str:
    """The right answer to a prompt, or as much of it as the text gives away.

    Args:
        text: The prompt with its answer prefix, or the end of it.
        corpora: Where questions about documents come from: the oracle knows their answers, but gives
            one only where the documents it follows from are in the text.
    """
    if question := _last(_NEEDLE_QUESTION, text):
        return _needles(text, question[1])
    if question := _last(_VARIABLES_QUESTION, text):
        return _variables(text, question[1])
    if question := _last(_COMMON_WORDS_QUESTION, text):
        return _common_words(text[: question.start()], int(question[1]))
    if protocol.FREQUENT_WORDS_QUESTION in text:
        return _frequent_words(text[: text.rindex(protocol.FREQUENT_WORDS_QUESTION)])
    return _documents(text, corpora)


def _last(expression: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(reversed(list(expression.finditer(text)))), None)


def _needles(text: str, query: str) -> str:
    keys = re.split(r", and |, ", query)
    return ", ".join(value for key, value in _NEEDLE.findall(text) if key in keys)


def _variables(text: str, value: str) -> str:
    assigned: dict[str, str] = {}
    for name, source in _ASSIGNMENT.findall(text):
        # Statements stand in the order of their chain, so what they refer to is known already.
        assigned[name] = assigned.get(source, source)
    return " ".join(name for name, reached in assigned.items() if reached == value)


def _common_words(text: str, count: int) -> str:
    _, found, listed = text.rpartition(protocol.COMMON_WORDS_INTRODUCTION)
    # A part of the list would give the wrong counts.
    return " ".join(word for word, _ in Counter(_NUMBER.split(listed)[1:]).most_common(count)) if found else ""


def _frequent_words(text: str) -> str:
    _, found, coded = text.rpartition(protocol.FREQUENT_WORDS_INTRODUCTION)
    counts = Counter(word for word in coded.split() if word != protocol.DOTS)
    return " ".join(word for word, _ in counts.most_common(_ANSWERS_OF_FREQUENT_WORDS)) if found else ""


def _documents(text: str, corpora: Corpora) -> str:
    asked = text.rpartition("\n\nQuestion: ")[2].rpartition(protocol.DOCUMENTS_ANSWER_PREFIX)[0]
    for knows in (_single_hop, _two_hop):
        documents, questions = knows(corpora)
        # A chat template's words may stand between the question and the answer prefix.
        question = questions.get(asked.strip()) or next(
            (each for words, each in questions.items() if asked.startswith(words)), None
        )
        if question is not None:
            seen = all(":\n" + documents[gold] in text for gold in question.gold)
            return min(question.answers, key=len) if seen else ""
    return _people(text, asked)


# What is asked of a person, and the sentences to follow from one name to the next, up to the answer.
_OF_PEOPLE: Final = (
    (r"Where was the teacher of (\w+) born\?", (r"The teacher of {} was (\w+)\.", r"\b{} was born in (\w+) in ")),
    (r"Where was (\w+) born\?", (r"\b{} was born in (\w+) in ",)),
    (r"In what year was (\w+) born\?", (r"\b{} was born in \w+ in (\d+)\.",)),
    (r"What did (\w+) work as\?", (r"\b{} worked as a (\w+) ",)),
    (r"What did (\w+) collect\?", (r"\b{} worked as a \w+ and was known for a collection of (\w+)\.",)),
)


def _people(text: str, asked: str) -> str:
    for question, sentences in _OF_PEOPLE:
        found = re.match(question, asked)
        if found is None:
            continue
        for sentence in sentences:
            found = re.search(sentence.format(found[1]), text)
            if found is None:
                return ""
        return found[1]
    return ""


_Known = tuple[tuple[str, ...], Mapping[str, Question]]


@cache
def _single_hop(corpora: Corpora) -> _Known:
    held = corpora.single_hop
    return held.documents, {question.text.strip(): question for question in held.questions}


@cache
def _two_hop(corpora: Corpora) -> _Known:
    held = corpora.two_hop
    return held.documents, {question.text.strip(): question for question in held.questions}
