"""A night as an alert: short enough to be read on a phone, and whole as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final

from drift.changes import change_fields
from drift.fallen import FallenCell
from drift.night import Night
from drift.reports.rendering import rendered
from drift.statistics.findings import Severity
from drift.statistics.likelihoods import LikelihoodDrift
from drift.statistics.numeric_drift import NumericDrift
from drift.statistics.pooled_scores import PooledVerdict

__all__ = ["as_json", "as_markdown", "whole_json"]

SCHEMA: Final = 1

# What the message shows of each; the file alert.json has everything.
_CELLS_SHOWN: Final = 10
_FLIPS_SHOWN: Final = 5
_PROBLEMS_SHOWN: Final = 5


def as_markdown(night: Night) -> str:
    """The night as a short Markdown text, title included."""
    flips = [(each.cell, flip) for each in night.fallen for flip in each.flips if flip.score < flip.score_before]
    return rendered(
        "alert.md.jinja",
        night=night,
        cells=night.fallen[:_CELLS_SHOWN],
        pools=night.fallen_pools,
        warnings=night.found(Severity.WARNING),
        flips=flips[:_FLIPS_SHOWN],
        more_flips=len(flips[_FLIPS_SHOWN:]),
        problems=night.without_verdict[:_PROBLEMS_SHOWN],
        several_models=len({each.cell.model for each in night.fallen}) > 1,
    )


def as_json(night: Night) -> str:
    """What there is to tell of the night, as JSON."""
    return json.dumps(_content(night), indent=1) + "\n"


def whole_json(night: Night) -> str:
    """The same, and every cell."""
    cells = [
        {
            "name": str(each.cell),
            **each.cell.axes,
            "outcome": each.outcome,
            "accuracy": each.result.accuracy,
            "before": each.verdict.before,
            "examples": len(each.result.scores),
            "p_value": each.verdict.p_value,
            "message": each.verdict.message,
        }
        for each in night.cells
    ]
    return json.dumps({**_content(night), "cells": cells}, indent=1) + "\n"


def _content(night: Night) -> dict[str, Any]:
    coverage = night.coverage
    details = [finding.details for finding in night.found(Severity.FAILURE)]
    return {
        "schema": SCHEMA,
        "title": night.title,
        "failed": night.failed,
        "status": int(night.status),
        "judged": coverage.judged,
        "declared": coverage.declared,
        "selected": coverage.selected,
        "missing": list(map(str, coverage.missing)),
        "cut": coverage.cut,
        "cautions": night.cautions,
        "fallen": [_fallen(each) for each in night.fallen],
        "pools": [
            {**asdict(each.pool), **asdict(each.shift), "adjusted": each.adjusted, "cells": each.cells}
            for each in details
            if isinstance(each, PooledVerdict)
        ],
        "findings": [
            {
                "statistic": findings.statistic,
                "severity": finding.severity.name.lower(),
                "pool": asdict(finding.pool),
                "message": finding.message,
            }
            for findings in night.findings
            for finding in findings.of(Severity.FAILURE, Severity.WARNING, Severity.IMPROVEMENT)
        ],
        "improved": night.improved,
        "early_warnings": [
            {"kind": finding.details.kind, **asdict(finding.details)}
            for finding in night.found(Severity.FAILURE, Severity.WARNING)
            if isinstance(finding.details, (LikelihoodDrift, NumericDrift))
        ],
        "problems": [asdict(each) for each in night.without_verdict],
        "suspects": [
            {
                "model": each.model,
                "since_accepted": [change_fields(change) for change in each.since_accepted],
                "since_good": None
                if each.since_good is None
                else [change_fields(change) for change in each.since_good],
            }
            for each in night.suspects
        ],
        "rerun": night.rerun,
        "history": night.past,
        "results": " ".join(night.results),
    }


def _fallen(each: FallenCell) -> dict[str, Any]:
    content = asdict(each)
    return {**content.pop("cell"), **content, "key": each.cell.key, "since": each.since}
