"""Templates of reports, and how numbers and answers are written in them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["examples", "interval", "probability", "quoted", "rendered"]

_LONGEST_QUOTE = 100


class _Counted(Protocol):
    @property
    def examples(self) -> tuple[int, int]: ...
    @property
    def paired(self) -> bool: ...


def rendered(template: str, **values: Any) -> str:
    """A template of this package, filled in."""
    return _templates().get_template(template).render(**values).strip() + "\n"


def interval(bounds: tuple[float, float] | None) -> str:
    """An interval in percentage points; a dash where there is none."""
    return "-" if bounds is None else f"{bounds[0]:+.2f} to {bounds[1]:+.2f}"


def probability(value: float | None) -> str:
    """A p-value with two digits; a dash where there is none."""
    return "-" if value is None else f"{value:.2g}"


def examples(counted: _Counted) -> str:
    """How many examples were compared: in pairs, or on either side."""
    before, now = counted.examples
    return f"{now} pairs" if counted.paired else f"{before} and {now}"


def quoted(text: str) -> str:
    """What a model wrote, short, on one line, and without the power to format what is around it."""
    short = text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"
    return "`" + json.dumps(short, ensure_ascii=not short.isprintable()).replace("`", "'") + "`"


@cache
def _templates() -> Environment:
    # Reports are Markdown, where escaping for HTML would show.
    environment = Environment(
        loader=PackageLoader("drift.reports"), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    environment.filters |= {"interval": interval, "probability": probability, "examples": examples, "quoted": quoted}
    return environment
