"""A plugin: how far decoders were from the equalities they must keep, as one table at the end of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pytest
from rich.console import Console
from rich.table import Table

__all__ = ["EQUALITY", "Equality", "equality_table"]

# The name of the property that carries a measurement from a worker to the controller, and into JUnit files.
EQUALITY = "decoder equality"
GREEDY = "greedy tokens"


@dataclass(frozen=True)
class Equality:
    """One check of one decoder.

    Attributes:
        decoder: Its family and kind, or the zoo and card of a checkpoint.
        check: What was compared with what.
        difference: The largest between logits, as a share of their scale; None where tokens were compared.
        same: Of the tokens compared, those that were the same.
        compared: Tokens compared.
    """

    decoder: str
    check: str
    difference: float | None = None
    same: int = 0
    compared: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def __str__(self) -> str:
        return f"{self.same} of {self.compared}" if self.difference is None else f"{self.difference:.1e}"


def equality_table(equalities: Sequence[Equality]) -> Table:
    """A row a decoder, a column a check."""
    table = Table()
    table.add_column("decoder", no_wrap=True)
    checks = list(dict.fromkeys(each.check for each in equalities))
    for check in checks:
        table.add_column(check, justify="right")
    found = {(each.decoder, each.check): str(each) for each in equalities}
    for decoder in dict.fromkeys(each.decoder for each in equalities):
        table.add_row(decoder, *(found.get((decoder, check), "·") for check in checks))
    return table


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the table, where such tests have run."""
    reports = (report for group in terminalreporter.stats.values() for report in group)
    found = [
        Equality(**json.loads(str(value)))
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == EQUALITY
    ]
    if not found:
        return
    terminalreporter.section("decoder equalities")
    terminalreporter.write_line("largest difference between logits, as a share of their scale; greedy tokens the same")
    console = Console(
        file=terminalreporter._tw._file,
        force_terminal=terminalreporter._tw.hasmarkup,
        no_color=not terminalreporter._tw.hasmarkup,
        width=max(terminalreporter._tw.fullwidth, 120),
    )
    # Workers finish in any order.
    console.print(equality_table(sorted(found, key=lambda each: (each.decoder, each.difference is None, each.check))))
