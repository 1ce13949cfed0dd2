"""Changes planted into copies of a zoo, and what the suite says of them: who is named, and which suspect comes first.

    python benchmarks/planted_changes.py --zoo pocket --models m2a sl --out benchmarks/results
    python benchmarks/planted_changes.py --models m2a sl --only round-4 norm --out DIR

An unchanged copy of the zoo is run once and accepted. Then each change is planted into a copy of its own and the suite
is run on it, with another model of the list beside the changed one, which must not be named. Another release of
transformers is not installed here, but taken from a folder:

    pip install --no-deps --target FOLDER transformers==VERSION
    python benchmarks/planted_changes.py --models m2a sl --transformers FOLDER --out DIR

The exit status is 1 if a harmful change is not found, a harmless one raises an alert, or the alert names another model
or suspect first; otherwise 0.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.copied_zoos import PlantError, ZooCopy
from benchmarks.plants import PLANTS, Plant
from benchmarks.suite_nights import (
    Asked,
    NightError,
    SuiteNight,
    add_options,
    asked,
    heading,
    night,
    said,
    stem_of,
    working_folder,
    zoo_of,
)
from drift.changes import changes
from drift.records.results import CellResult
from generators.prompt_templates import PromptTemplateError
from generators.tokenization import TokenizerError
from models.checkpoints.errors import CheckpointError
from zoo.cards import Zoo


@dataclass(frozen=True)
class PlantedFinding:
    """What a night said of one model.

    Attributes:
        change: What was planted.
        model: Where.
        control: The model that ran beside it unchanged; empty where there was none.
        status: The run's exit status.
        seconds: Its wall time.
        before, now: Mean accuracy of the model's cells, in percent.
        cells: Those that fell, with by how many points.
        pools: Those that fell, with by how many points and the corrected p.
        nats: Mean change of the log-likelihood of an expected answer; None where it was not recorded.
        likelihoods: Pools whose expected answers became less or more likely, or scattered, as the run warns.
        incomparable: How many cells were asked other prompts than had been accepted, or were not run.
        named: The models that the run fails for or warns of.
        suspect: The field of the environment that the alert names first for this model; empty where it names none.
        recorded: What changed, as the results say it, by field.
        right: Whether all of it is as it should be.
    """

    change: str
    model: str
    control: str
    status: int
    seconds: float
    before: float
    now: float
    cells: tuple[str, ...]
    pools: tuple[str, ...]
    nats: float | None
    likelihoods: tuple[str, ...]
    incomparable: int
    named: tuple[str, ...]
    suspect: str
    recorded: Mapping[str, str]
    right: bool = False

    @property
    def caught(self) -> str:
        """By what."""
        ways = {
            "accuracy": bool(self.cells or self.pools),
            "log-likelihood": bool(self.likelihoods),
            "prompts": bool(self.incomparable),
        }
        return " and ".join(way for way, found in ways.items() if found) or "neither"


@dataclass(frozen=True)
class Skipped:
    """A change that was not planted into a model.

    Attributes:
        change: The change.
        model: The model.
        reason: Why.
    """

    change: str
    model: str
    reason: str


def found(
    plant: Plant, model: str, accepted: SuiteNight, run: SuiteNight, planted: Collection[str], control: str = ""
) -> PlantedFinding:
    """Reads a run's alert and results for one model.

    Args:
        plant: What was planted.
        model: The model to read them for.
        accepted: The run of the unchanged zoo.
        run: The run to read.
        planted: Every model that was changed.
        control: The model that ran beside it unchanged.

    Raises:
        NightError: A cell of the model has no result.
    """
    alert = run.alert
    cells = [cell for cell in accepted.results if cell[0] == model]
    missing = [key for name, key in cells if (name, key) not in run.results]
    if missing or not cells:
        raise NightError(f"{model}: no result of {', '.join(missing) or 'any cell'}")
    both = [(accepted.results[cell], run.results[cell]) for cell in cells]
    own = {f"{model}-{now.key}" for _, now in both}
    finding = PlantedFinding(
        change=plant.name,
        model=model,
        control=control,
        status=run.status,
        seconds=run.seconds,
        before=fmean(before.accuracy for before, _ in both),
        now=fmean(now.accuracy for _, now in both),
        cells=tuple(
            f"{each['key']} {each['shift']['points']:+.1f}" for each in alert["fallen"] if each["model"] == model
        ),
        pools=tuple(
            f"{_pool(each)} {each['points']:+.1f} (p = {each['adjusted']:.1g})"
            for each in alert["pools"]
            if each["model"] == model
        ),
        nats=_drift(both),
        likelihoods=tuple(_warned(each) for each in alert["early_warnings"] if each["pool"]["model"] == model),
        incomparable=sum(each["name"] in own for each in alert["problems"]),
        named=tuple(dict.fromkeys(_named(run))),
        suspect=_suspect(alert, model),
        recorded={change.name: str(change) for b, now in both for change in changes(b.environment, now.environment)},
    )
    return replace(finding, right=_right(plant, finding, planted))


def _drift(both: Sequence[tuple[CellResult, CellResult]]) -> float | None:
    """The mean change of a log-likelihood, in nats; None where one is not recorded."""
    if not all(before.log_likelihoods and now.log_likelihoods for before, now in both):
        return None
    return fmean(
        new - old for before, now in both for old, new in zip(before.log_likelihoods, now.log_likelihoods, strict=False)
    )


def _pool(each: Mapping[str, Any]) -> str:
    """A pool within its model, as an alert has it."""
    return "all cells" if each["by"] is None else f"{each['by']} {each['value']}"


def _warned(each: Mapping[str, Any]) -> str:
    """An early warning, as an alert has it."""
    if each["kind"] == "scatter":
        return f"{_pool(each['pool'])} scattered by {each['nats']:.3f} nats"
    return f"{_pool(each['pool'])} {each['nats']:+.3f} nats (p = {each['adjusted']:.1g})"


def _named(run: SuiteNight) -> Iterator[str]:
    """The models that a run fails for or warns of."""
    models = {f"{model}-{key}": model for model, key in run.results}
    for each in [*run.alert["fallen"], *run.alert["pools"]]:
        yield each["model"]
    for each in run.alert["problems"]:
        yield models.get(each["name"], each["name"])
    for each in run.alert["early_warnings"]:
        yield each["pool"]["model"]


def _suspect(alert: Mapping[str, Any], model: str) -> str:
    """What an alert says first of what changed for a model."""
    listed = [each["since_accepted"] for each in alert["suspects"] if each["model"] == model]
    return str(listed[0][0]["name"]) if listed and listed[0] else ""


def _right(plant: Plant, finding: PlantedFinding, planted: Collection[str]) -> bool:
    if not plant.harmful:
        # Nothing is said, though the change itself is on record.
        return not finding.status and not finding.named and bool(plant.suspects & finding.recorded.keys())
    named = finding.model in finding.named and set(finding.named) <= set(planted)
    return finding.caught != "neither" and named and finding.suspect in plant.suspects


def findings(
    plant: Plant, model: str, zoo: Zoo, base: ZooCopy, accepted: SuiteNight, given: Asked, folder: Path
) -> list[PlantedFinding | Skipped]:
    """Plants a change and runs a night on it.

    Args:
        plant: The change.
        model: Where, unless it changes every model.
        zoo: The zoo.
        base: Its copy, of which everything is accepted.
        accepted: The run that did so.
        given: What the night is asked; all models that may run.
        folder: Where the changed copy goes.

    Returns:
        What was found, for each model that was changed.
    """
    copy = ZooCopy(zoo, folder)
    others = [name for name in given.models if name != model]
    planted, control = (given.models, "") if plant.every_model else ((model,), next(iter(others), ""))
    try:
        plant.apply(copy, model)
    except (PlantError, PromptTemplateError, TokenizerError, CheckpointError) as error:
        return [Skipped(plant.name, name, str(error)) for name in planted]
    copy.write(base)
    try:
        run = night(replace(given, models=tuple(filter(None, (*planted, control)))), copy, "results")
        return [found(plant, name, accepted, run, planted, control) for name in planted]
    except NightError as error:
        return [Skipped(plant.name, name, f"the night came to no verdict: {error}") for name in planted]


def table(rows: Sequence[PlantedFinding | Skipped]) -> str:
    """All findings as Markdown, and how many of them were caught by what."""
    measured = [row for row in rows if isinstance(row, PlantedFinding)]
    harmful = {plant.name for plant in PLANTS.values() if plant.harmful}
    caught = Counter(row.caught for row in measured if row.change in harmful)
    alarms = sum(not row.right for row in measured if row.change not in harmful)
    lines = [
        f"Harmful changes, {caught.total()} nights, caught by: "
        + (", ".join(f"{way} {count}" for way, count in caught.most_common()) or "none run")
        + f". Harmless ones that were told of: {alarms} of {len(measured) - caught.total()}. "
        f"As it should be: {sum(row.right for row in measured)} of {len(measured)}.",
        "",
        "| change | model | beside | accuracy | cells that fell | pools that fell | nats | early warnings "
        "| caught by | named | first suspect | right |",
        "|---|---|---|---|---:|---|---:|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_row(row) for row in rows)])


def _row(row: PlantedFinding | Skipped) -> str:
    if isinstance(row, Skipped):
        reason = row.reason.splitlines()[0]
        return f"| {row.change} | {row.model} | | | | | | | not run: {reason} | | | |"
    return (
        "| "
        + " | ".join(
            (
                row.change,
                row.model,
                row.control or "none",
                f"{row.before:.1f} → {row.now:.1f}",
                f"{len(row.cells)}" + (f", {row.incomparable} not comparable" if row.incomparable else ""),
                _surest(row.pools),
                "not recorded" if row.nats is None else f"{row.nats:+.3f}",
                _surest(row.likelihoods),
                row.caught,
                ", ".join(row.named) or "none",
                row.recorded.get(row.suspect, row.suspect) or "none",
                "yes" if row.right else "**no**",
            )
        )
        + " |"
    )


def _surest(found: Sequence[str]) -> str:
    return f"{len(found)}: {found[0]}" if found else "0"


def main() -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--into", nargs="+", metavar="M", help="change only these of the models (default: each)")
    parser.add_argument("--only", nargs="+", choices=list(PLANTS), default=list(PLANTS), help="which changes to plant")
    parser.add_argument("--transformers", type=Path, metavar="FOLDER", help="where another release of it is")
    given = parser.parse_args()
    zoo, plain = zoo_of(parser, given), asked(given)
    into = plain.models if given.into is None else given.into
    if unknown := [name for name in into if name not in plain.models]:
        parser.error(f"--into: {', '.join(unknown)} is not among --models")
    stem = stem_of(given.out, "planted-changes")
    rows: list[PlantedFinding | Skipped] = []
    with working_folder(given.work) as folder:
        base = ZooCopy(zoo, folder / "accepted")
        base.write()
        accepted = night(plain, base, "results", accept=True)
        said(f"accepted {len(accepted.results)} cells in {accepted.seconds:.0f} s")
        for key in given.only:
            plant = PLANTS[key]
            if plant.other_library and given.transformers is None:
                rows += [Skipped(plant.name, name, "no --transformers FOLDER") for name in plain.models]
                continue
            libraries = given.transformers.absolute() if plant.other_library else None
            for model in into[:1] if plant.every_model else into:
                changed = folder / f"{key}-{model}"
                rows += findings(plant, model, zoo, base, accepted, replace(plain, libraries=libraries), changed)
                said(_row(rows[-1]))
                _written(stem, heading("Planted changes", plain, zoo, accepted), rows)
    _written(stem, heading("Planted changes", plain, zoo, accepted), rows)
    print(table(rows))
    return int(not all(row.right for row in rows if isinstance(row, PlantedFinding)))


def _written(stem: Path, head: str, rows: Sequence[PlantedFinding | Skipped]) -> None:
    """What is known so far, so that a run that ends early has lost nothing."""
    stem.with_suffix(".md").write_text(f"{head}\n\n{table(rows)}\n", encoding="utf-8")
    content = [{**asdict(row), **({"caught": row.caught} if isinstance(row, PlantedFinding) else {})} for row in rows]
    stem.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
