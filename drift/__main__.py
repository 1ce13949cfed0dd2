"""`python -m drift`: judges a run again, accepts it, compares two, and shows the history of a model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

from rich.console import Console

from core.names import unknown_name
from drift.commands.judging import CommandParser, add_accept, add_judge
from drift.comparison import compared
from drift.records.history import Entry, History
from drift.records.sources import SourceError, merged, read_source
from drift.reports.comparison import as_json, as_markdown, print_comparison
from drift.reports.history import history_json, plot_history, print_history
from drift.statistics.thresholds import DEFAULT, load_thresholds
from drift.time_series import cell_time_series, mean_time_series

NO_SHIFT, SHIFT, BAD_INPUT = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = CommandParser(prog="python -m drift", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=CommandParser)

    compare = commands.add_parser(
        "compare",
        help="compare two runs, two models, or a run with snapshots or the paper",
        description="Compares two sides, cell by cell. Exit status: 0 no shift, 1 a shift, 2 nothing to compare.",
    )
    side = "a run's folder of results, a snapshot file or folder, or `paper`; add :MODEL to name one of its models"
    compare.add_argument("before", metavar="RUN_A", help=side)
    compare.add_argument(
        "now", metavar="RUN_B", nargs="+", help="the same, for the other side; several are the shards of one run"
    )
    compare.add_argument(
        "--unpaired", action="store_true", help="compare accuracies alone, as for different prompts; finds less"
    )
    compare.add_argument("--thresholds", type=Path, default=DEFAULT, metavar="FILE", help="when a shift is one")
    compare.add_argument("--all", action="store_true", help="list cells without a shift too")
    shown = compare.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print JSON, with every cell and flipped example")
    shown.add_argument("--markdown", action="store_true", help="print Markdown")
    compare.set_defaults(run=_compare, unusable=BAD_INPUT)

    add_judge(commands)
    add_accept(commands)

    history = commands.add_parser(
        "history", help="show a model's accuracies over all runs, and where their level changed"
    )
    history.add_argument("--model", required=True, metavar="M", help="the model's name")
    history.add_argument("--task", metavar="T", help="one task")
    history.add_argument("--length", type=int, metavar="L", help="one length, in tokens")
    history.add_argument("--depth", type=int, metavar="D", help="one depth of the needle, in percent")
    history.add_argument("--zoo", metavar="Z", help="the zoo's name, where several have the model")
    history.add_argument(
        "--database",
        type=Path,
        default=Path("results/history.sqlite"),
        metavar="FILE",
        help="the history (default: results/history.sqlite)",
    )
    history.add_argument("--plot", type=Path, metavar="FILE", help="draw it too: a .png, .svg or .pdf file")
    history.add_argument("--json", action="store_true", help="print JSON, with every night")
    history.set_defaults(run=_history, unusable=BAD_INPUT)

    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.unusable = given.unusable
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        status: int = given.run(given)
    except (ValueError, OSError, RecursionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return int(given.unusable)
    return status


def _compare(given: argparse.Namespace) -> int:
    before, now = read_source(given.before), merged([read_source(each) for each in given.now])
    # They may name any model and task, since these runs may be of any zoo.
    thresholds = load_thresholds(given.thresholds, None, None)
    comparison = compared(before, now, thresholds, unpaired=given.unpaired)
    if given.json:
        print(as_json(comparison), end="")
    elif given.markdown:
        print(as_markdown(comparison, every_cell=given.all), end="")
    else:
        print_comparison(comparison, _console(), every_cell=given.all)
    if not comparison.comparable:
        raise SourceError(
            f"nothing of {before.name} and {now.name} can be compared: they were asked different prompts; "
            "--unpaired compares their accuracies alone"
        )
    return SHIFT if comparison.shifted else NO_SHIFT


def _console() -> Console:
    # A log has no width of its own; rich would take 80 columns and cut the tables.
    console = Console()
    return console if console.is_terminal else Console(width=160)


def _history(given: argparse.Namespace) -> int:
    with closing(History.read_from(given.database)) as history:
        entries = _chosen_entries(history, given)
        environments = {name: history.environment(name) for name in {entry.environment for entry in entries}}
    cells = cell_time_series(entries)
    mean = mean_time_series(cells)
    if given.json:
        print(history_json(given.model, cells, mean), end="")
    else:
        print_history(given.model, cells, mean, environments, _console())
    if given.plot is not None:
        plot_history(given.model, cells, mean, given.plot)
        print(f"plot: {given.plot}", file=sys.stderr)
    return NO_SHIFT


def _chosen_entries(history: History, given: argparse.Namespace) -> list[Entry]:
    chosen: dict[Literal["model", "task", "zoo"], str | None]
    chosen = {"model": given.model, "task": given.task, "zoo": given.zoo}
    for column, name in chosen.items():
        names = history.names(column)
        if not names:
            raise SourceError(f"the history {given.database} is empty")
        if name is not None and name not in names:
            raise SourceError(unknown_name(column, name, names))
    entries = history.entries(given.model, given.task, given.length, given.depth, zoo=given.zoo)
    if not entries:
        raise SourceError(f"no run in {given.database} has such a cell of {given.model}")
    zoos = sorted({entry.zoo for entry in entries})
    if len(zoos) > 1:
        raise SourceError(f"the zoos {', '.join(zoos)} all have a model {given.model}; choose one with --zoo")
    return entries


if __name__ == "__main__":
    sys.exit(main())
