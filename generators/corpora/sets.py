"""The sets of corpora a run can use: embedded, always there, or real, fetched on request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

from generators.corpora import downloads
from generators.corpora.essays import Corpus, embedded_essays
from generators.corpora.questions import CorpusError, QuestionSet, read_hotpotqa, read_squad

__all__ = ["CORPORA", "Corpora", "CorpusName", "EmbeddedCorpora", "RealCorpora", "WordList", "corpora", "fingerprint"]

CorpusName = Literal["essays", "single_hop", "two_hop", "words"]


@dataclass(frozen=True, eq=False)
class WordList:
    """Words to go on with where the wonderwords package's are used up."""

    words: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the words, in hexadecimal."""
        return hashlib.sha256(" ".join(self.words).encode()).hexdigest()


class Corpora(Protocol):
    """Everything that prompts are made from.

    Attributes:
        name: What options and reports call the set.
        essays: The text of essay haystacks.
        single_hop: Questions that one document answers.
        two_hop: Questions that need two.
        words: More words than the wonderwords package has.
    """

    @property
    def name(self) -> str: ...
    @property
    def essays(self) -> Corpus: ...
    @property
    def single_hop(self) -> QuestionSet: ...
    @property
    def two_hop(self) -> QuestionSet: ...
    @property
    def words(self) -> WordList: ...
    def __hash__(self) -> int:
        """By identity: what was tokenized once is remembered with it."""


def fingerprint(corpora: Corpora, corpus: CorpusName | None) -> str:
    """The name of the set and the beginning of the hash of one of its corpora."""
    if corpus is None:
        return "none"
    content: Corpus | QuestionSet | WordList = getattr(corpora, corpus)
    return f"{corpora.name} {corpus} {content.fingerprint[:16]}"


class EmbeddedCorpora:
    """What was written for this project; its people, places and events are invented."""

    name: Final = "embedded"

    @property
    def essays(self) -> Corpus:
        return embedded_essays()

    @cached_property
    def single_hop(self) -> QuestionSet:
        return read_squad(Path(__file__).with_name("questions") / "single_hop.json")

    @cached_property
    def two_hop(self) -> QuestionSet:
        return read_hotpotqa(Path(__file__).with_name("questions") / "two_hop.json")

    @cached_property
    def words(self) -> WordList:
        return WordList(())


class RealCorpora:
    """What RULER uses, from the user's cache.

    Each corpus raises CorpusError where it has not been fetched or is damaged.

    Args:
        folder: The cache; None takes the user's.
    """

    name: Final = "real"

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = downloads.cache_folder() if folder is None else folder

    @cached_property
    def essays(self) -> Corpus:
        # Nothing between them: RULER joins its files so.
        texts = [path.read_text(encoding="utf-8") for path in downloads.fetched("essays", self._folder)]
        return Corpus.from_text("real", "".join(texts))

    @cached_property
    def single_hop(self) -> QuestionSet:
        (path,) = downloads.fetched("single_hop", self._folder)
        return read_squad(path)

    @cached_property
    def two_hop(self) -> QuestionSet:
        (path,) = downloads.fetched("two_hop", self._folder)
        return read_hotpotqa(path)

    @cached_property
    def words(self) -> WordList:
        (path,) = downloads.fetched("words", self._folder)
        return WordList(_word_list(path))


def _word_list(path: Path) -> tuple[str, ...]:
    """RULER's list of English words: a JSON object of numbers to words."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, Mapping) or not content or not all(isinstance(word, str) for word in content.values()):
        raise CorpusError(f"{path}: an object of numbers to words is expected")
    return tuple(content.values())


CORPORA: Final = ("embedded", "real")


@cache
def corpora(name: str) -> Corpora:
    """The set of a name.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in CORPORA:
        raise ValueError(f"unknown corpus {name!r}; there are {', '.join(CORPORA)}")
    return EmbeddedCorpora() if name == "embedded" else RealCorpora()


assert set(get_args(CorpusName)) == set(downloads.SETS)
