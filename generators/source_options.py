"""The options that say which examples to make, and the sources of examples that they mean."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

from generators.corpora.sets import CORPORA, corpora
from generators.examples import ExampleSource
from generators.prompt_templates import chat_prompt_template, plain_template, read_chat_template
from generators.tasks.registry import RULER, Task, tasks
from generators.tokenization import Tokenizer, TokenizerError
from generators.tokenizer_files import load_tokenizer

__all__ = ["add_source_options", "example_sources", "not_negative", "positive"]


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    return _whole(text, 1)


def not_negative(text: str) -> int:
    """A whole number of at least 0, for argparse."""
    return _whole(text, 0)


def _lengths(text: str) -> list[int]:
    return [positive(each) for each in text.split(",")]


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"a whole number of at least {least} is expected, not {text!r}")
    return int(text)


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `example_sources` reads."""
    parser.add_argument("--task", required=True, metavar="T", help="niah_single_1, vt, ...; write takes T1,T2 or ruler")
    parser.add_argument(
        "--length", type=_lengths, required=True, metavar="L", help="prompt plus answer, in tokens; write takes L1,L2"
    )
    parser.add_argument(
        "--tokenizer",
        required=True,
        metavar="PATH_OR_ID",
        help="a tokenizer.json, a folder that has one, RWKV's vocabulary (.txt), or a hub id",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="other seeds give other examples (default: 0)")
    parser.add_argument("--depth", type=float, metavar="D", help="where what answers goes, in percent (default: drawn)")
    parser.add_argument(
        "--tokens-to-generate", type=positive, metavar="N", help="tokens kept free for the answer (default: RULER's)"
    )
    parser.add_argument("--corpus", choices=CORPORA, default="embedded", help="what prompts are made from")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="parameters",
        help="a parameter of the task, for example hops=8; VALUE as in TOML",
    )
    parser.add_argument("--beginning-of-sequence", metavar="TOKEN", help="put before every prompt, as an id only")
    parser.add_argument("--chat-template", type=Path, metavar="FILE", help="a .jinja file or tokenizer_config.json")


def _tokenizer(given: str) -> Tokenizer:
    path = Path(given)
    if path.is_dir():
        path /= "tokenizer.json"
    if path.exists() or path.suffix in (".json", ".txt"):
        return load_tokenizer(path)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return load_tokenizer(Path(hf_hub_download(given, "tokenizer.json")))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        reason = str(error).splitlines()[0]
        raise TokenizerError(
            f"--tokenizer: {given} is no file here and cannot be had from the hub ({reason})"
        ) from None


def _task(name: str, given: argparse.Namespace) -> Task:
    if name not in tasks():
        raise ValueError(f"--task: unknown task {name}; there are {', '.join(tasks())}")
    changes: dict[str, Any] = {}
    for entry in given.parameters:
        key, equals, value = entry.partition("=")
        if not equals:
            raise ValueError(f"--set: NAME=VALUE is expected, not {entry!r}")
        try:
            changes[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            changes[key] = value
    task = tasks()[name]
    if given.depth is not None:
        if not task.has_depth:
            raise ValueError(f"--depth: task {name} has none")
        if not 0 <= given.depth <= 100:
            raise ValueError(f"--depth: between 0 and 100 percent, not {given.depth}")
    return task.variant(name, changes) if changes else task


def example_sources(given: argparse.Namespace) -> list[ExampleSource]:
    """The sources of every task and length asked for, in that order.

    Raises:
        ValueError: An option does not fit the task or the tokenizer, or a file is none; the message names it.
    """
    tokenizer = _tokenizer(given.tokenizer)
    begin = given.beginning_of_sequence
    if given.chat_template is None:
        prompt_template = plain_template(tokenizer, begin)
    else:
        template, specials = read_chat_template(given.chat_template)
        prompt_template = chat_prompt_template(
            tokenizer, template, beginning_of_sequence=begin, end_of_sequence=None, specials=specials
        )
    names = RULER if given.task == "ruler" else given.task.split(",")
    return [
        ExampleSource(
            task,
            length,
            tokenizer,
            corpora(given.corpus),
            given.tokens_to_generate or task.tokens_to_generate,
            given.depth,
            prompt_template=prompt_template,
            seed=given.seed,
        )
        for task in [_task(name, given) for name in names]
        for length in given.length
    ]
