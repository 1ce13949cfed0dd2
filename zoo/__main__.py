"""`python -m zoo`: lists models, checks that one loads and decodes, trains the pocket models."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from generators.corpora.essays import embedded_essays
from generators.tokenization import load_tokenizer
from zoo.cards import FOLDER, load_zoo, unknown_name
from zoo.inspection import facts, listed
from zoo.training.recipes import load_recipe, recipe_names

if TYPE_CHECKING:
    from zoo.training.trainer import Trainer

_TOKENIZER = FOLDER / "pocket" / "tokenizer.json"
_LINE_EVERY = 50
_CHECKED = ("niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m zoo", description="The zoo's models.")
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser(
        "train", help="train a pocket model; a run that was stopped goes on where it was", description=_train.__doc__
    )
    train.add_argument("name", metavar="NAME", help=f"one of {', '.join(recipe_names())}, or a recipe's .toml file")
    train.add_argument("--device", default="cpu", help="as torch names it (default: cpu)")
    train.add_argument("--threads", type=int, default=1, help="processor threads (default: 1)")
    train.add_argument("--run", type=Path, help="folder of the run's state and log (default: training-runs/NAME)")
    train.add_argument("--out", type=Path, help="folder of the finished checkpoint (default: zoo/pocket/NAME)")
    train.add_argument("--samples", type=int, default=40, help="examples a task and length of the closing check")
    train.set_defaults(act=_train)
    for name, act, text in (
        ("list", _list, "list the models of a zoo"),
        ("check", _check, "load a model, let it decode ten tokens, and say what it is made of"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        if name == "check":
            command.add_argument("name", metavar="CARD", help="the model's name")
            command.add_argument("--device", default="cpu", help="as torch names it (default: cpu)")
        command.add_argument("--zoo", default="pocket", help="paper, pocket (default), sanity, or a zoo's .toml file")
        command.set_defaults(act=act)
    given = parser.parse_args(arguments)
    try:
        given.act(given)
    except (ValueError, ArithmeticError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _list(given: argparse.Namespace) -> None:
    Console().print(listed(load_zoo(given.zoo)))


def _check(given: argparse.Namespace) -> None:
    zoo = load_zoo(given.zoo)
    if given.name not in zoo.models:
        raise ValueError(unknown_name("model", given.name, list(zoo.models)))
    console = Console(highlight=False)
    for name, value in facts(zoo.models[given.name], zoo, given.device):
        console.print(f"[bold]{escape(name)}[/]: {escape(value)}", soft_wrap=True)


def _train(given: argparse.Namespace) -> None:
    """Train a pocket model on the project's own generators, then write its checkpoint."""
    import torch

    from models.checkpoints import write_checkpoint
    from zoo.training.tokenizer import END_OF_TEXT, train_tokenizer
    from zoo.training.trainer import Trainer

    torch.set_num_threads(given.threads)
    recipe = load_recipe(given.name)
    name = Path(given.name).stem
    corpus = embedded_essays()
    if not _TOKENIZER.exists():
        train_tokenizer(corpus, recipe.vocabulary, _TOKENIZER)
    tokenizer = load_tokenizer(_TOKENIZER, end_of_sequence=END_OF_TEXT)
    trainer = Trainer(recipe, tokenizer, corpus, given.run or Path("training-runs") / name, given.device)
    console = Console()
    if trainer.step:
        console.print(f"going on at step {trainer.step} of {recipe.steps}, from {trainer.folder}")
    _show(trainer, console)
    out = given.out or FOLDER / "pocket" / name
    write_checkpoint(out, trainer.model)
    console.print(f"checkpoint: {out}")
    budgets = load_zoo("pocket")
    for task in _CHECKED:
        scores = {
            length: trainer.evaluate(task, length, given.samples, budgets.budget(task)) for length in (256, 512, 1024)
        }
        console.print(f"{task}: " + ", ".join(f"{score:.1f} at {length}" for length, score in scores.items()))


def _show(trainer: Trainer, console: Console) -> None:
    bar = Progress(
        TextColumn("step {task.completed} of {task.total}"),
        BarColumn(),
        TextColumn("{task.fields[now]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=trainer.recipe.steps, completed=trainer.step, now="")
        for progress in trainer.run():
            now = (
                f"context {trainer.recipe.context(progress.step - 1)}, loss {progress.loss:.3f}, "
                f"answer tokens right {progress.accuracy:.1f}%, {progress.tokens_per_second:,.0f} tokens/s, "
                f"{progress.seconds_left / 60:.1f} min left"
            )
            bar.update(task, completed=progress.step, now=now)
            if progress.step % _LINE_EVERY == 0:
                trainer.log(progress)
                if not console.is_terminal:
                    console.print(f"step {progress.step} of {trainer.recipe.steps}: {now}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
