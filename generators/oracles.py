"""An oracle: answers every task by reading its prompt, as far as it sees it.

It proves that prompts hold what they ask for, and shows what the rest of the suite makes of a model
that answers right.
"""

from __future__ import annotations

import re

from generators.corpora.sets import Corpora
from generators.tasks.registry import tasks

__all__ = ["last_match", "oracle_answer"]


def oracle_answer(text: str, corpora: Corpora) -> str:
    """The right answer to a prompt, or as much of it as the text gives away; empty where no task is recognized.

    Args:
        text: The prompt with its answer prefix, or the end of it.
        corpora: Where questions about documents come from.
    """
    for oracle in dict.fromkeys(task.oracle for task in tasks().values()):
        answer = oracle(text, corpora)
        if answer is not None:
            return answer
    return ""


def last_match(expression: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match in a text: what a prompt asks stands at its end, after any demonstration."""
    return next(iter(reversed(list(expression.finditer(text)))), None)
