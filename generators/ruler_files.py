"""RULER's files: prompts as its scripts write them, predictions as its evaluation reads them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from generators.assembly import Piece, assemble, templated
from generators.examples import Example
from generators.prompt_templates import PromptTemplate
from generators.scoring import cleaned
from generators.tasks.registry import Task, tasks
from generators.tokenization import Tokenizer

__all__ = [
    "PromptFile",
    "PromptRecord",
    "RulerFileError",
    "Score",
    "prompt_files",
    "prompt_record",
    "score_predictions",
]


class RulerFileError(ValueError):
    """A file that is not RULER's; the message names file, line and field."""


@dataclass(frozen=True)
class PromptRecord:
    """One line of a file of prompts.

    Attributes:
        index: The example's number.
        input: The prompt up to the answer prefix.
        outputs: What a right answer holds.
        length: Tokens of the prompt and kept free for the answer.
        answer_prefix: The beginning of the answer.
        token_position_answer: Tokens before what holds the first reference; None where a task hides
            it nowhere.
    """

    index: int
    input: str
    outputs: tuple[str, ...]
    length: int
    answer_prefix: str
    token_position_answer: int | None = None

    def to_json(self) -> str:
        """The line, without its line end."""
        fields = {"index": self.index, "input": self.input, "outputs": self.outputs, "length": self.length}
        fields["answer_prefix"] = self.answer_prefix
        if self.token_position_answer is not None:
            fields["token_position_answer"] = self.token_position_answer
        return json.dumps(fields)


def prompt_record(example: Example, tokens_to_generate: int) -> PromptRecord:
    """The line that RULER would write of an example."""
    return PromptRecord(
        index=example.index,
        input=example.prompt,
        outputs=example.references,
        length=example.assembly.count + tokens_to_generate,
        answer_prefix=example.answer_prefix,
        token_position_answer=example.answer_token,
    )


@dataclass(frozen=True)
class PromptFile:
    """A file of prompts: one task at one length.

    Attributes:
        task: The task's name.
        length: Prompt plus answer, in tokens.
        path: The file.
    """

    task: str
    length: int
    path: Path

    @cached_property
    def records(self) -> tuple[PromptRecord, ...]:
        """Its lines."""
        return tuple(_records(self.path, _lines(self.path)))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def examples(self, count: int, tokenizer: Tokenizer, prompt_template: PromptTemplate) -> list[Example]:
        """The first `count` lines, tokenized as a model wants them."""
        return self.chosen(range(min(count, len(self.records))), tokenizer, prompt_template)

    def chosen(self, indices: Sequence[int], tokenizer: Tokenizer, prompt_template: PromptTemplate) -> list[Example]:
        """Some lines, tokenized as a model wants them.

        Args:
            indices: Below the number of records.
            tokenizer: The model's own.
            prompt_template: What the model wants around every prompt.
        """
        result = []
        for record in map(self.records.__getitem__, indices):
            assembly = assemble(tokenizer, templated(prompt_template, [Piece(record.input)], record.answer_prefix))
            result.append(
                Example(
                    index=record.index,
                    prompt=prompt_template.around(record.input),
                    answer_prefix=record.answer_prefix,
                    references=record.outputs,
                    assembly=assembly,
                )
            )
        return result


def prompt_files(folder: Path) -> tuple[PromptFile, ...]:
    """Finds RULER's files of prompts below a folder.

    A task's file is `TASK.jsonl`, or any `.jsonl` in a folder called like the task (RULER's
    `TASK/validation.jsonl`). Files of predictions, below a folder `pred` or with the field pred, are
    left aside. A file's length is the last folder above that is called by a number (RULER's
    `16384/data/TASK/validation.jsonl`), or else the longest of its lines.

    Raises:
        RulerFileError: There is none, one is malformed, or two are of one task and length.
    """
    if not folder.is_dir():
        raise RulerFileError(f"{folder} is no folder; RULER's files, TASK/validation.jsonl or TASK.jsonl, belong there")
    found: dict[tuple[str, int], PromptFile] = {}
    for path in sorted(folder.rglob("*.jsonl")):
        names = [name for name in (path.stem, path.parent.name) if name in tasks()]
        if not names or "pred" in path.relative_to(folder).parts[:-1]:
            continue
        lines = _lines(path)
        first = next(lines, None)
        if first and "pred" in first[1]:
            continue
        records = tuple(_records(path, chain(filter(None, [first]), lines)))
        numbers = [part for part in path.relative_to(folder).parts[:-1] if part.isdigit()]
        length = int(numbers[-1]) if numbers else max(record.length for record in records)
        file = PromptFile(names[0], length, path)
        file.__dict__["records"] = records
        other = found.setdefault((file.task, length), file)
        if other is not file:
            raise RulerFileError(f"{path} and {other.path} are both of task {file.task} at length {length}")
    if not found:
        raise RulerFileError(
            f"no file of RULER's in {folder}: TASK/validation.jsonl or TASK.jsonl with prompts is expected, "
            f"TASK being one of {', '.join(tasks())}"
        )
    return tuple(found.values())


def _records(path: Path, lines: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[PromptRecord]:
    number = 0
    for number, line in lines:
        where = f"{path}, line {number}"
        outputs = _of_kind(where, line, "outputs", list)
        if not outputs or not all(isinstance(output, str) for output in outputs):
            raise RulerFileError(f"{where}: outputs must be a list of at least one text")
        length = _of_kind(where, line, "length", int)
        if length < 1:
            raise RulerFileError(f"{where}: length must be at least 1, not {length}")
        yield PromptRecord(
            index=_of_kind(where, line, "index", int),
            input=_text(where, line, "input"),
            outputs=tuple(_encodable(where, "outputs", output) for output in outputs),
            length=length,
            answer_prefix=_text(where, line, "answer_prefix") if "answer_prefix" in line else "",
            token_position_answer=line.get("token_position_answer"),
        )
    if not number:
        raise RulerFileError(f"{path} is empty")


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        # Some editors begin a file with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RulerFileError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RulerFileError(f"{path} is not UTF-8: {error}") from None
    # Only line ends end a line: a text may hold what else Python takes for one.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except json.JSONDecodeError as error:
            raise RulerFileError(f"{path}, line {number}: not JSON, the file may be cut short ({error})") from None
        if not isinstance(content, dict):
            raise RulerFileError(f"{path}, line {number}: an object is expected")
        yield number, content


def _text(where: str, line: Mapping[str, Any], name: str) -> str:
    return _encodable(where, name, _of_kind(where, line, name, str))


def _encodable(where: str, name: str, text: str) -> str:
    # JSON's escapes can spell half of a character, which no tokenizer takes.
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RulerFileError(
            f"{where}: {name} holds the lone surrogate {text[error.start]!r} at character {error.start}; "
            "surrogates must come in pairs"
        ) from None
    return text


def _of_kind(where: str, line: Mapping[str, Any], name: str, kind: type) -> Any:
    if name not in line:
        raise RulerFileError(f"{where}: the field {name} is missing")
    if not isinstance(line[name], kind) or isinstance(line[name], bool):
        raise RulerFileError(f"{where}: {name} must be of type {kind.__name__}, not {line[name]!r}")
    return line[name]


@dataclass(frozen=True)
class Score:
    """RULER's score of a file of predictions.

    Attributes:
        value: In percent, to two decimals.
        nulls: How many predictions are empty.
        indices: The examples' numbers.
        examples: Their scores, in [0, 1].
    """

    value: float
    nulls: int
    indices: tuple[Any, ...]
    examples: tuple[float, ...]


def score_predictions(path: Path, task: Task) -> Score:
    """Scores a file of predictions as RULER does.

    Raises:
        RulerFileError: A line is malformed.
    """
    indices, scores, nulls = [], [], 0
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        prediction = _of_kind(where, line, "pred", str)
        references = _references(where, line)
        others = line.get("others")
        indices.append(
            others["id"] if isinstance(others, Mapping) and "id" in others else line.get("index", number - 1)
        )
        nulls += not cleaned(prediction)
        scores.append(task.score(prediction, references))
    if not scores:
        raise RulerFileError(f"{path} is empty")
    return Score(round(sum(scores) / len(scores) * 100, 2), nulls, tuple(indices), tuple(scores))


def _references(where: str, line: Mapping[str, Any]) -> list[str]:
    if "outputs" not in line and "output" not in line:
        raise RulerFileError(f"{where}: the field outputs is missing")
    references = line.get("outputs", [line.get("output")])
    if not isinstance(references, list) or not references or not all(isinstance(each, str) for each in references):
        raise RulerFileError(f"{where}: outputs must be a list of at least one text")
    return references
