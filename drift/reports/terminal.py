"""The night for a terminal: tables, what statistics found, what is missing, and the verdict last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Final, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.cells import Cell
from drift.acceptance import Acceptance, Decision
from drift.exit_statuses import ExitStatus
from drift.judging import JudgedCell
from drift.night import Night
from drift.records.run_file import Purpose
from drift.replay import replayed_examples
from drift.statistics.findings import Findings, Severity
from drift.statistics.outcomes import Outcome

__all__ = [
    "OUTCOME_STYLES",
    "SEVERITY_STYLES",
    "acceptance_lines",
    "acceptance_markdown",
    "night_console",
    "print_night",
]

OUTCOME_STYLES: Final = {
    Outcome.PASSED: "",
    Outcome.IMPROVED: "bold green",
    Outcome.REGRESSED: "bold red",
    Outcome.NOT_COMPARABLE: "magenta",
    Outcome.INCOMPLETE: "yellow",
    Outcome.NO_SNAPSHOT: "yellow",
}
SEVERITY_STYLES: Final = {
    Severity.FAILURE: "red",
    Severity.WARNING: "yellow",
    Severity.IMPROVEMENT: "green",
}
_WITHIN_NOISE: Final = "yellow"

_FINDINGS_SHOWN: Final = 5
_NAMED_AT_MOST: Final = 10
# What the tables show has one decimal.
_VISIBLE: Final = 0.05
_NARROWEST: Final = 80

Row = TypeVar("Row", str, int)


def night_console(file: IO[str], *, colours: bool, width: int) -> Console:
    """Where a night is printed.

    Args:
        file: The terminal, or a log.
        colours: Whether it shows any.
        width: Its columns; tables that are wider than a narrow one fold.
    """
    return Console(
        file=file, force_terminal=colours, no_color=not colours, width=max(width, _NARROWEST), highlight=False
    )


def print_night(night: Night, console: Console) -> None:
    """Prints everything that a person at a terminal is to know of a night.

    Args:
        night: The night.
        console: Where to, as `night_console` makes it.
    """
    _section("longwatch", console)
    for title, table in _tables(night.cells):
        # Printed apart: a table's own title wraps at the table's width.
        _line(title, console, "bold")
        console.print(table)
    for findings in night.findings:
        _print_findings(findings, console)
    _print_accepted(night, console)
    if night.purpose is Purpose.REPLAY:
        _print_replayed(night.cells, console)
    _print_gaps(night, console)
    for folder in night.results:
        _line(f"results: {folder}", console)
    _print_verdict(night, console)


def _section(title: str, console: Console) -> None:
    # As pytest draws its own.
    sides = max((console.width - len(title) - 2) // 2, 1) * "="
    line = f"{sides} {title} {sides}"
    _line(line + ("=" if len(line) < console.width else ""), console, "bold")


def _line(text: str, console: Console, style: str = "") -> None:
    console.print(text, style=style, soft_wrap=True, markup=False, highlight=False)


def _tables(cells: Sequence[JudgedCell]) -> Iterator[tuple[str, Table]]:
    """The titles and tables of a night, model by model."""
    for model in dict.fromkeys(each.cell.model for each in cells):
        own = [each for each in cells if each.cell.model == model]
        without_depth = [each for each in own if each.cell.depth is None]
        if without_depth:
            title = f"{model}: accuracy by task and length"
            yield title, _table("task", without_depth, lambda cell: cell.task, lambda cell: cell.length)
        for task in dict.fromkeys(each.cell.task for each in own if each.cell.depth is not None):
            placed = [each for each in own if each.cell.depth is not None and each.cell.task == task]
            title = f"{model}: {task}, accuracy by length and depth of the needle"
            yield title, _table("length", placed, lambda cell: cell.length, lambda cell: f"{cell.depth}%")


def _table(
    corner: str,
    cells: Sequence[JudgedCell],
    row: Callable[[Cell], str | int],
    column: Callable[[Cell], str | int],
) -> Table:
    table = Table()
    columns = sorted({column(each.cell) for each in cells}, key=lambda name: int(str(name).removesuffix("%")))
    table.add_column(corner)
    for name in columns:
        table.add_column(str(name), justify="right")
    by_place = {(row(each.cell), column(each.cell)): each for each in cells}
    rows = dict.fromkeys(row(each.cell) for each in cells)
    for each in rows if corner == "task" else sorted(rows):
        table.add_row(str(each), *(_entry(by_place.get((each, name))) for name in columns))
    return table


def _entry(judged: JudgedCell | None) -> Text:
    if judged is None:
        return Text("·", style="dim")
    moved = abs(judged.moved) >= _VISIBLE
    fell = judged.outcome is Outcome.PASSED and moved and judged.moved < 0
    text = Text(f"{judged.result.accuracy:.1f}", style=_WITHIN_NOISE if fell else OUTCOME_STYLES[judged.outcome])
    if moved:
        text.append(f" {'↑' if judged.moved > 0 else '↓'}{abs(judged.moved):.1f}")
    return text


def _print_findings(findings: Findings, console: Console) -> None:
    told = findings.of(*SEVERITY_STYLES)
    if not told and not findings.closing:
        return
    _section(findings.statistic, console)
    shown = [each for each in told if each.severity is not Severity.WARNING]
    warnings = findings.of(Severity.WARNING)
    for each in (*shown, *warnings[:_FINDINGS_SHOWN]):
        _line(each.message, console, SEVERITY_STYLES[each.severity])
    if len(warnings) > _FINDINGS_SHOWN:
        _line(f"and {len(warnings) - _FINDINGS_SHOWN} more pools", console)
    for line in findings.closing:
        _line(line, console)


def _print_accepted(night: Night, console: Console) -> None:
    failed = {problem.name for problem in night.problems}
    updates = {cell: each for cell, each in night.acceptances.items() if str(cell) not in failed}
    if updates:
        _section("accepted snapshots", console)
        for line in acceptance_lines(updates, night.snapshots):
            _line(line, console)


def acceptance_lines(updates: Mapping[Cell, Acceptance], snapshots: str) -> list[str]:
    """What became of snapshots: each that was written, with the old and the new accuracy and why.

    Args:
        updates: By cell.
        snapshots: The folder of the zoo's snapshots.
    """
    written = {cell: each for cell, each in updates.items() if each.decision is Decision.WRITTEN}
    lines = []
    for model in dict.fromkeys(cell.model for cell in written):
        own = {cell: update for cell, update in written.items() if cell.model == model}
        lines += [_acceptance_line(cell, update) for cell, update in own.items()]
        changed = dict.fromkeys(change for update in own.values() for change in update.environment)
        lines += [f"{model}, environment: {change}" for change in changed]
    shared = [each for each in updates.values() if each.decision is Decision.SHARED]
    unchanged = len(updates) - len(written) - len(shared)
    if unchanged:
        lines.append(f"unchanged: {_cells(unchanged)} measured as accepted")
    if shared:
        widest = max(shared, key=lambda each: abs(each.now - (each.before or 0.0)))
        lines.append(f"left as accepted on another accelerator: {_cells(len(shared))}; {widest.reasons[0]} at most")
    if written:
        return [*lines, f"accepted: {_cells(len(written))}, in {snapshots}"]
    return [*lines, "nothing changed: no snapshot was written"]


def acceptance_markdown(updates: Mapping[Cell, Acceptance], snapshots: str) -> str:
    """The same as Markdown: a table of the snapshots that were written, and the other lines as a list.

    Args:
        updates: By cell.
        snapshots: The folder of the zoo's snapshots.
    """
    written = {cell: each for cell, each in updates.items() if each.decision is Decision.WRITTEN}
    before = {cell: "" if each.before is None else f"{each.before:.2f}" for cell, each in written.items()}
    rows = [
        f"| {cell} | {before[cell]} | {each.now:.2f} | {'; '.join(each.reasons)} |" for cell, each in written.items()
    ]
    table = ["| cell | was | is | why |", "|---|---:|---:|---|", *rows, ""] if rows else []
    in_table = {_acceptance_line(cell, each) for cell, each in written.items()}
    others = [f"* {line}" for line in acceptance_lines(updates, snapshots) if line not in in_table]
    return "\n".join([*table, *others]) + "\n"


def _acceptance_line(cell: Cell, update: Acceptance) -> str:
    before = "none" if update.before is None else f"{update.before:.2f}"
    own = "" if update.accelerator is None else f" (for {update.accelerator} alone)"
    return f"{cell!s:<34} {before:>6} → {update.now:6.2f}  {'; '.join(update.reasons)}{own}"


def _print_replayed(cells: Sequence[JudgedCell], console: Console) -> None:
    if not cells:
        return
    _section("replayed examples", console)
    for judged in sorted(cells, key=lambda each: str(each.cell)):
        _line(f"{judged.cell}:", console, "bold")
        for example in replayed_examples(judged.result, judged.baseline):
            _line(f"  {example}", console, OUTCOME_STYLES[example.outcome].removeprefix("bold "))


def _print_gaps(night: Night, console: Console) -> None:
    """What could not be judged, and what a reader must know before any number."""
    new = night.without_baseline
    if new and night.purpose is Purpose.JUDGE:
        _line(
            f"no baseline yet: {_named([each.cell for each in new])}; look at the accuracies above, then accept them "
            f"with: python -m drift accept {' '.join(night.results)}",
            console,
            "yellow",
        )
    for problem in night.without_verdict[:_NAMED_AT_MOST]:
        _line(f"{problem.name}: {problem.reason}", console, "yellow")
    if len(night.without_verdict) > _NAMED_AT_MOST:
        _line(f"and {_cells(len(night.without_verdict) - _NAMED_AT_MOST)} more without a verdict", console, "yellow")
    if night.coverage.missing:
        _line(f"missing: {_named(night.coverage.missing)}", console, "yellow")
    for caution in night.cautions:
        _line(caution, console, "yellow")


def _print_verdict(night: Night, console: Console) -> None:
    coverage, status = night.coverage, night.status
    style = {ExitStatus.QUIET: "bold green", ExitStatus.SHIFTED: "bold red", ExitStatus.INTERNAL_ERROR: "bold red"}
    _section("verdict", console)
    _line(night.title.removeprefix("longwatch: "), console, style.get(status, "bold yellow"))
    gaps = [f"{len(coverage.missing)} missing"] if coverage.missing else []
    gaps += [f"{len(night.problems)} ended in an error"] if night.problems else []
    partly = f", {', '.join(gaps)}" if gaps else ""
    _line(
        f"{coverage.judged} of {coverage.selected} selected cells have a result{partly}; "
        f"the zoo declares {coverage.declared}",
        console,
    )
    others = sorted(night.statuses - {status})
    also = f"; also {', '.join(_status(each) for each in others)}" if others else ""
    _line(f"exit status {_status(status)}{also}", console)


def _status(status: ExitStatus) -> str:
    return f"{int(status)} ({status.name.lower().replace('_', ' ')})"


def _named(cells: Sequence[Cell]) -> str:
    shown = ", ".join(map(str, cells[:_NAMED_AT_MOST]))
    rest = len(cells) - _NAMED_AT_MOST
    return f"{_cells(len(cells))}: {shown}" + (f" and {rest} more" if rest > 0 else "")


def _cells(count: int) -> str:
    return f"{count} cell{'' if count == 1 else 's'}"
