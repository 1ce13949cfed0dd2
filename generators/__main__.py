"""`python -m generators`: writes, scores and shows RULER's files, and fetches real corpora."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, repeat
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from generators.budget import LengthTooSmall
from generators.corpora import downloads
from generators.corpora.sets import fingerprint
from generators.examples import Example, ExampleSource
from generators.ruler_files import prompt_record, score_predictions
from generators.source_options import add_source_options, example_sources, not_negative, positive
from generators.tasks.registry import tasks

_EXAMPLES_A_PART = 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m generators", description=__doc__)
    parser.add_argument(
        "-p",
        action="append",
        default=[],
        metavar="MODULE",
        dest="task_modules",
        help="import this module first, which registers tasks of your own (as pytest's -p does)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    write = commands.add_parser("write", help="write prompts in RULER's JSON lines")
    add_source_options(write)
    write.add_argument("--samples", type=positive, default=500, metavar="N", help="examples (default: 500, RULER's)")
    write.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="PATH",
        help="where to: a .jsonl file for one task at one length, else a folder for LENGTH/TASK/validation.jsonl",
    )
    write.add_argument("--workers", type=positive, default=1, metavar="N", help="processes (default: 1)")
    write.set_defaults(run=_write)

    score = commands.add_parser("score", help="score a file of predictions as RULER does")
    score.add_argument("file", type=Path, metavar="FILE.jsonl", help="lines with the fields pred and outputs")
    score.add_argument("--task", metavar="T", help="whose score (default: by the file's name, as in RULER)")
    score.add_argument("--json", action="store_true", help="print JSON, with the score of every example")
    score.set_defaults(run=_score)

    show = commands.add_parser("show", help="show one prompt, with what answers it highlighted")
    add_source_options(show)
    show.add_argument("--index", type=not_negative, default=0, metavar="I", help="the example's number (default: 0)")
    show.set_defaults(run=_show)

    fetch = commands.add_parser("fetch", help="fetch real corpora into the cache")
    fetch.add_argument("sets", nargs="*", metavar="SET", help=f"which (default: all of {', '.join(downloads.SETS)})")
    fetch.add_argument("--cache", type=Path, metavar="DIR", help="where to (default: the user's cache)")
    fetch.set_defaults(run=_fetch)

    given = parser.parse_args(arguments)
    try:
        _import_tasks(given)
        given.run(given)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _source(given: argparse.Namespace) -> ExampleSource:
    sources = example_sources(given)
    if len(sources) > 1:
        raise ValueError("one --task and one --length are expected here")
    return sources[0]


def _import_tasks(given: argparse.Namespace) -> None:
    for module in given.task_modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(f"-p: {module} cannot be imported ({error}); is its folder on PYTHONPATH?") from None


def _lines(source: ExampleSource, indices: range) -> Iterator[str]:
    for index in indices:
        yield prompt_record(source.example(index), source.tokens_to_generate).to_json()


# What a worker makes examples from; workers are processes of their own.
_held: list[ExampleSource] = []


def _hold_sources(given: argparse.Namespace) -> None:
    _import_tasks(given)
    _held.extend(example_sources(given))


def _part(source: int, start: int, stop: int) -> list[str]:
    return list(_lines(_held[source], range(start, stop)))


def _write(given: argparse.Namespace) -> None:
    sources = example_sources(given)
    console = Console(stderr=True)
    if not sources[0].tokenizer.has_boundaries:
        notice = "this tokenizer may merge across any border, so prompts are tokenized whole: slower"
        console.print(notice, style="dim", soft_wrap=True)
    if given.out.suffix == ".jsonl" and len(sources) > 1:
        raise ValueError(f"--out: {len(sources)} files are to be written, so a folder is expected, not {given.out}")
    refused: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _progress(console, *columns) as bar:
        shown = bar.add_task("", total=given.samples * len(sources))
        for source, lines in _lines_of_sources(given, sources):
            bar.update(shown, description=f"{source.task.name} at {source.length}")
            path = given.out
            if path.suffix != ".jsonl":
                path = path / str(source.length) / source.task.name / "validation.jsonl"
            try:
                _write_file(path, _counted(lines, bar, shown))
            except LengthTooSmall:
                # What was refused first may need less than another.
                smallest = source.smallest_length(given.samples)
                refused.append(str(LengthTooSmall(source.task.name, source.length, max(smallest, source.length + 1))))
                continue
            made = fingerprint(source.corpora, source.task.corpus)
            console.print(
                f"{given.samples} examples of {source.task.name} at {source.length} tokens (corpus {made}): {path}",
                soft_wrap=True,
            )
    if refused:
        # The files that could be made are there.
        raise ValueError("; ".join(refused))


def _progress(console: Console, *columns: ProgressColumn) -> Progress:
    # In a file or a pipe a bar would leave an empty line behind.
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _lines_of_sources(
    given: argparse.Namespace, sources: Sequence[ExampleSource]
) -> Iterator[tuple[ExampleSource, Iterable[str]]]:
    if given.workers == 1:
        for source in sources:
            yield source, _lines(source, range(given.samples))
        return
    starts = range(0, given.samples, _EXAMPLES_A_PART)
    stops = [min(start + _EXAMPLES_A_PART, given.samples) for start in starts]
    with ProcessPoolExecutor(given.workers, initializer=_hold_sources, initargs=(given,)) as pool:
        for number, source in enumerate(sources):
            yield source, chain.from_iterable(pool.map(_part, repeat(number), starts, stops))


def _counted(lines: Iterable[str], bar: Progress, shown: TaskID) -> Iterator[str]:
    for line in lines:
        yield line
        bar.advance(shown)


def _write_file(path: Path, lines: Iterable[str]) -> None:
    """Writes a file that is whole or not there, nor then the folders made for it."""
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        for folder in made:
            # Another may have put something there by now.
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _score(given: argparse.Namespace) -> None:
    name = given.task or given.file.stem
    if name not in tasks():
        source = "--task" if given.task else f"{given.file}"
        raise ValueError(f"{source}: {name!r} is no task; name one with --task: {', '.join(tasks())}")
    score = score_predictions(given.file, tasks()[name])
    count = len(score.examples)
    if given.json:
        examples = [{"index": index, "score": each} for index, each in zip(score.indices, score.examples, strict=True)]
        print(
            json.dumps({"task": name, "score": score.value, "nulls": score.nulls, "count": count, "examples": examples})
        )
    else:
        print(f"{name}: score {score.value:.2f}, nulls {score.nulls}/{count}")


def _show(given: argparse.Namespace) -> None:
    source = _source(given)
    example = source.example(given.index)
    console = Console(highlight=False)
    console.print(_highlighted(example), soft_wrap=True)
    console.rule()
    used = len(example.ids)
    facts = [
        f"task {given.task}, length {source.length}, example {given.index}, seed {given.seed}",
        f"{used} tokens of prompt and {source.tokens_to_generate} for the answer: "
        f"{100 * (used + source.tokens_to_generate) / source.length:.1f}% of the length",
        f"references: {', '.join(example.references)}",
    ]
    if example.needle_tokens:
        places = zip(example.needle_tokens, example.depths, strict=True)
        facts.append("needles at " + ", ".join(f"token {token} ({depth:.1f}%)" for token, depth in places))
    facts.append(f"prompt hash {example.digest}, corpus {fingerprint(source.corpora, source.task.corpus)}")
    for fact in facts:
        console.print(fact, soft_wrap=True)


def _highlighted(example: Example) -> Text:
    text = Text(example.prompt)
    text.append(example.answer_prefix, style="bold")
    for reference in example.references:
        text.highlight_words([reference], style="bold black on yellow", case_sensitive=False)
    return text


def _fetch(given: argparse.Namespace) -> None:
    names = given.sets or list(downloads.SETS)
    for name in names:
        if name not in downloads.SETS:
            raise ValueError(f"unknown set {name}; there are {', '.join(downloads.SETS)}")
    folder = given.cache or downloads.cache_folder()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    for name in names:
        with _progress(console, *columns) as bar:
            shown = bar.add_task(name, total=None)

            def progress(file: downloads.File, done: int, total: int | None, bar=bar, shown=shown) -> None:  # type: ignore[no-untyped-def]
                bar.update(shown, description=file.name, completed=done, total=total)

            new = downloads.fetch(name, folder, progress=progress)
        files = len(downloads.sources()[name].files)
        console.print(f"{name}: {files} files in {folder / name} ({new} fetched now)", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
