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

from core.names import unknown_name
from zoo.cards import FOLDER, Zoo, load_zoo
from zoo.inspection import facts, listed
from zoo.training.recipes import load_recipe, recipe_names

if TYPE_CHECKING:
    from zoo.training.trainer import Trainer

_LINE_EVERY = 50
_CHECKED = (
    "niah_single_1",
    "niah_single_2",
    "niah_single_3",
    "niah_multikey_1",
    "niah_multivalue",
    "niah_multiquery",
    "vt",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m zoo", description="The zoo's models.")
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser(
        "train", help="train a pocket model; a run that was stopped goes on where it was", description=_train.__doc__
    )
    train.add_argument(
        "names", metavar="NAME", nargs="*", help=f"cards of the zoo; recipes: {', '.join(recipe_names())}"
    )
    train.add_argument("--all", action="store_true", help="every model that has a recipe, tuned ones after their bases")
    train.add_argument("--recipe", type=Path, help="a recipe's .toml file (default: the one of the model's name)")
    train.add_argument("--device", default="cpu", help="as torch names it (default: cpu)")
    train.add_argument("--threads", type=_count, default=1, help="processor threads (default: 1)")
    train.add_argument(
        "--run",
        type=Path,
        default=Path("training-runs"),
        help="folder of the runs' states and logs, one folder a model (default: training-runs)",
    )
    train.add_argument("--out", type=Path, help="folder of the finished checkpoint (default: the path on its card)")
    train.add_argument("--samples", type=_count, default=40, help="examples a task and length of the closing check")
    train.add_argument("--zoo", default="pocket", help="pocket (default), or a zoo's .toml file")
    train.set_defaults(act=_train)
    for name, act, text in (
        ("list", _list, "list the models of a zoo"),
        ("check", _check, "load a model, let it decode ten tokens, and say what it is made of"),
        ("shapes", _shapes, "make the published models without their weights, and count their parameters"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        if name == "check":
            command.add_argument("name", metavar="CARD", help="the model's name")
            command.add_argument("--device", default="cpu", help="as torch names it (default: cpu)")
        default = "paper" if name == "shapes" else "pocket"
        command.add_argument("--zoo", default=default, help=f"paper, pocket, sanity, or a .toml file ({default})")
        command.set_defaults(act=act)
    report = commands.add_parser("report", help="write the pocket zoo's page from its snapshots")
    report.set_defaults(act=_report)
    given = parser.parse_args(arguments)
    try:
        given.act(given)
    except (ValueError, ArithmeticError) as error:
        told = str(error)
    except OSError as error:
        told = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    else:
        return 0
    print(f"error: {' '.join(told.split())}", file=sys.stderr)
    return 2


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return number


def _check_device(name: str) -> None:
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}") from None


def _list(given: argparse.Namespace) -> None:
    Console().print(listed(load_zoo(given.zoo)))


def _shapes(given: argparse.Namespace) -> None:
    from zoo.shapes import shapes

    Console().print(shapes(load_zoo(given.zoo)))


def _check(given: argparse.Namespace) -> None:
    zoo = load_zoo(given.zoo)
    if given.name not in zoo.models:
        raise ValueError(unknown_name("model", given.name, list(zoo.models)))
    _check_device(given.device)
    console = Console(highlight=False)
    for name, value in facts(zoo.models[given.name], zoo, given.device):
        console.print(f"[bold]{escape(name)}[/]: {escape(value)}", soft_wrap=True)


def _report(_: argparse.Namespace) -> None:
    from zoo.report import draw_pictures, page

    zoo = load_zoo("pocket")
    snapshots = FOLDER.parent / "snapshots" / zoo.name
    draw_pictures(zoo, snapshots, FOLDER / "pictures")
    (FOLDER / "README.md").write_text(page(zoo, snapshots), encoding="utf-8")


def _train(given: argparse.Namespace) -> None:
    """Train pocket models on the project's own generators, then write their checkpoints."""
    import torch

    torch.set_num_threads(given.threads)
    _check_device(given.device)
    zoo = load_zoo(given.zoo)
    names = given.names
    if given.all:
        names = sorted(set(recipe_names()) & set(zoo.models), key=lambda name: (bool(load_recipe(name).base), name))
    if not names or (len(names) > 1 and (given.out or given.recipe)):
        raise ValueError("name one model, or several or --all without --out and --recipe")
    for name in names:
        if name not in zoo.models:
            raise ValueError(unknown_name("model", name, list(zoo.models)))
    for name in names:
        _train_one(name, zoo, given)


def _train_one(name: str, zoo: Zoo, given: argparse.Namespace) -> None:
    from zoo.training.curve import CURVE, draw_curve
    from zoo.training.families import publish
    from zoo.training.records import write_record
    from zoo.training.tokenizer import make_tokenizer
    from zoo.training.trainer import Trainer

    card = zoo.models[name]
    recipe = load_recipe(str(given.recipe or name))
    make_tokenizer(zoo.folder / card.tokenizer)
    trainer = Trainer(recipe, zoo, name, given.run / name, given.device)
    console = Console()
    if trainer.step:
        console.print(f"{name}: going on at step {trainer.step} of {recipe.steps}, from {trainer.folder}")
    _show(trainer, console)
    out = given.out or zoo.folder / str(card.path)
    publish(card.family, out, trainer.model)
    write_record(out, trainer.record)
    draw_curve(trainer.log_file, out / CURVE)
    console.print(f"{name}: checkpoint {out}")
    for task in _CHECKED:
        scores = {length: trainer.evaluate(task, length, given.samples, zoo.budget(task)) for length in (512, 1024)}
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
                f"context {trainer.recipe.stage(progress.step - 1).context}, loss {progress.loss:.3f}, "
                f"answer tokens right {progress.accuracy:.1f}%, {progress.tokens_per_second:,.0f} tokens/s, "
                f"{progress.seconds_left / 60:.1f} min left"
            )
            bar.update(task, completed=progress.step, now=now)
            if progress.step % _LINE_EVERY == 0 or progress.step == trainer.recipe.steps:
                trainer.log(progress)
                if not console.is_terminal:
                    console.print(f"step {progress.step} of {trainer.recipe.steps}: {now}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
