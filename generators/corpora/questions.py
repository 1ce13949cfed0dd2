"""Questions with the documents that answer them, in the JSON shapes of SQuAD v2 and HotpotQA."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

__all__ = ["CorpusError", "Question", "QuestionSet", "read_hotpotqa", "read_squad"]


class CorpusError(ValueError):
    """A corpus file that cannot be used; the message names the file and the place in it."""


@dataclass(frozen=True)
class Question:
    """A question.

    Attributes:
        text: Its words.
        answers: Any of them is right.
        gold: The documents that are needed to answer it.
        near: Other documents on the same subject, the first to distract from them.
    """

    text: str
    answers: tuple[str, ...]
    gold: tuple[int, ...]
    near: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class QuestionSet:
    """Questions over common documents.

    Attributes:
        documents: All documents, each once.
        questions: The answerable questions.
    """

    documents: tuple[str, ...]
    questions: tuple[Question, ...]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of documents and questions, in hexadecimal."""
        return hashlib.sha256(repr((self.documents, self.questions)).encode()).hexdigest()


def read_squad(path: Path) -> QuestionSet:
    """Reads SQuAD v2's JSON; documents are its paragraphs, unanswerable questions are left out.

    Raises:
        CorpusError: Not JSON, a field is missing or of another kind, or nothing is in it.
    """
    articles = [
        [
            (_field(path, paragraph, "context", str, place), _field(path, paragraph, "qas", list, place), place)
            for p, paragraph in enumerate(_field(path, article, "paragraphs", list, f"data[{a}]"))
            for place in [f"data[{a}].paragraphs[{p}]"]
        ]
        for a, article in enumerate(_field(path, _json(path), "data", list, "the top"))
    ]
    # In order of the text, as RULER reads them.
    documents = sorted({context for article in articles for context, _, _ in article})
    number = {document: index for index, document in enumerate(documents)}
    questions = []
    for article in articles:
        for context, entries, place in article:
            near = dict.fromkeys(number[other] for other, _, _ in article if other != context)
            for q, entry in enumerate(entries):
                where = f"{place}.qas[{q}]"
                text = _field(path, entry, "question", str, where)
                if entry.get("is_impossible", False):
                    continue
                given = _field(path, entry, "answers", list, where)
                answers = [_field(path, answer, "text", str, where) for answer in given]
                if not answers:
                    raise CorpusError(f"{path}: {where}.answers is empty, though the question is not marked impossible")
                questions.append(Question(text, tuple(dict.fromkeys(answers)), (number[context],), tuple(near)))
    return _question_set(path, documents, questions)


def read_hotpotqa(path: Path) -> QuestionSet:
    """Reads HotpotQA's JSON; a document is a paragraph below its title.

    Raises:
        CorpusError: Not JSON, a field is missing or of another kind, or nothing is in it.
    """
    items = _json(path)
    if not isinstance(items, list):
        raise CorpusError(f"{path}: a list of questions is expected at the top")
    contexts = [_paragraphs(path, item, f"[{i}]") for i, item in enumerate(items)]
    documents = sorted({document for paragraphs in contexts for document in paragraphs.values()})
    number = {document: index for index, document in enumerate(documents)}
    questions = []
    for i, (item, paragraphs) in enumerate(zip(items, contexts, strict=True)):
        where = f"[{i}]"
        facts = _field(path, item, "supporting_facts", list, where)
        if not facts or not all(isinstance(fact, list) and fact and isinstance(fact[0], str) for fact in facts):
            raise CorpusError(f"{path}: {where}.supporting_facts must be pairs of title and number, at least one")
        gold = dict.fromkeys(fact[0] for fact in facts)
        for title in gold:
            if title not in paragraphs:
                raise CorpusError(f"{path}: {where}.supporting_facts names {title!r}, which is not in its context")
        questions.append(
            Question(
                _field(path, item, "question", str, where),
                (_field(path, item, "answer", str, where),),
                tuple(number[paragraphs[title]] for title in gold),
                tuple(number[text] for title, text in paragraphs.items() if title not in gold),
            )
        )
    return _question_set(path, documents, questions)


def _paragraphs(path: Path, item: Any, where: str) -> dict[str, str]:
    """The documents of a question's context by title."""
    result: dict[str, str] = {}
    for entry in _field(path, item, "context", list, where):
        match entry:
            case [str(title), [*sentences]] if all(isinstance(each, str) for each in sentences):
                # A title may come twice; what the facts mean is then the first.
                result.setdefault(title, f"{title}\n{''.join(sentences)}")
            case _:
                raise CorpusError(f"{path}: {where}.context must be a list of pairs of title and sentences")
    return result


def _question_set(path: Path, documents: Iterable[str], questions: Iterable[Question]) -> QuestionSet:
    result = QuestionSet(tuple(documents), tuple(questions))
    if not result.questions:
        raise CorpusError(f"{path} holds no answerable question")
    return result


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} is not JSON: {error}") from None


def _field(path: Path, record: Any, name: str, kind: type, where: str) -> Any:
    if not isinstance(record, Mapping) or name not in record:
        raise CorpusError(f"{path}: {where} lacks the field {name}")
    if not isinstance(record[name], kind):
        raise CorpusError(f"{path}: {where}.{name} must be of type {kind.__name__}, not {type(record[name]).__name__}")
    return record[name]
