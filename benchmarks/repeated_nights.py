"""Ten nights on an unchanged zoo, with other threads, batches and workers each: no alert may come of it.

    python benchmarks/repeated_nights.py --zoo pocket --models m2a sl --out benchmarks/results

The first night is accepted; every other one is compared with it. Counted are the examples whose score, answer or
log-likelihood is not the first night's to the last digit that is kept.

The exit status is 1 if any night raises an alert or warns of anything, otherwise 0.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.copied_zoos import ZooCopy
from benchmarks.suite_nights import (
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

# Threads, tokens a batch and workers of a night, which keep to two cores.
_SETTINGS: Final = (
    (1, None, 0),
    (2, None, 0),
    (1, 1024, 0),
    (2, 8192, 0),
    (1, None, 2),
    (1, 512, 2),
    (2, 2048, 0),
    (1, 4096, 1),
    (2, 512, 0),
    (1, 16384, 2),
)


@dataclass(frozen=True)
class Repetition:
    """What a night was beside the accepted one.

    Attributes:
        threads, batch_tokens, workers: How it ran.
        status: Its exit status.
        seconds: Its wall time.
        title: Of its alert.
        warnings: How many pools it warned of.
        examples: That both nights have.
        scores: Examples with another score.
        predictions: Examples with another answer.
        log_likelihoods: Examples with another log-likelihood of the expected answer.
        largest: The largest difference of a log-likelihood, in nats.
    """

    threads: int
    batch_tokens: int | None
    workers: int
    status: int
    seconds: float
    title: str
    warnings: int
    examples: int
    scores: int
    predictions: int
    log_likelihoods: int
    largest: float

    @property
    def quiet(self) -> bool:
        """Whether nothing was said."""
        return not self.status and not self.warnings


def repetition(first: SuiteNight, again: SuiteNight, setting: tuple[int, int | None, int]) -> Repetition:
    """Counts what differs between two nights.

    Args:
        first: The accepted night.
        again: The night to compare with it; of the same cells.
        setting: Its threads, tokens a batch and workers.
    """
    pairs = [(result, again.results[cell]) for cell, result in first.results.items()]
    nats = [
        abs(now - before)
        for old, new in pairs
        for before, now in zip(old.log_likelihoods, new.log_likelihoods, strict=True)
    ]

    def differing(name: str) -> int:
        return sum(a != b for old, new in pairs for a, b in zip(getattr(old, name), getattr(new, name), strict=True))

    return Repetition(
        *setting,
        status=again.status,
        seconds=again.seconds,
        title=again.alert["title"],
        warnings=len(again.alert["early_warnings"]),
        examples=sum(len(old.scores) for old, _ in pairs),
        scores=differing("scores"),
        predictions=differing("predictions"),
        log_likelihoods=sum(each > 0 for each in nats),
        largest=max(nats, default=0.0),
    )


def table(nights: Sequence[Repetition]) -> str:
    """All nights as Markdown."""
    lines = [
        f"Nights that raised an alert or warned: {sum(not each.quiet for each in nights)} of {len(nights)}.",
        "",
        "| threads | tokens a batch | workers | seconds | examples | other scores | other answers "
        "| other log-likelihoods | largest, nats | alert |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    return "\n".join([*lines, *(_row(each) for each in nights)])


def _row(each: Repetition) -> str:
    batch = "zoo's" if each.batch_tokens is None else f"{each.batch_tokens:,}"
    told = "none" if each.quiet else f"**{each.title}; {each.warnings} early warnings**"
    return (
        f"| {each.threads} | {batch} | {each.workers} | {each.seconds:.0f} | {each.examples:,} | {each.scores} "
        f"| {each.predictions} | {each.log_likelihoods} | {each.largest:.3f} | {told} |"
    )


def main() -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--nights", type=int, default=10, metavar="N", help="repeated nights (default: 10)")
    given = parser.parse_args()
    zoo, plain = zoo_of(parser, given), asked(given)
    stem = stem_of(given.out, "repeated-nights")
    nights: list[Repetition] = []
    with working_folder(given.work) as folder:
        copy = ZooCopy(zoo, folder / "zoo")
        copy.write()
        first = night(plain, copy, "accepted", accept=True)
        said(f"accepted {len(first.results)} cells in {first.seconds:.0f} s")
        head = heading("Repeated nights", plain, zoo, first)
        for number, setting in enumerate(islice(cycle(_SETTINGS), given.nights), 1):
            threads, batch_tokens, workers = setting
            one = replace(plain, threads=threads, batch_tokens=batch_tokens, workers=workers)
            nights.append(repetition(first, night(one, copy, f"night-{number}"), setting))
            said(_row(nights[-1]))
            stem.with_suffix(".md").write_text(f"{head}\n\n{table(nights)}\n", encoding="utf-8")
            content = json.dumps([asdict(each) for each in nights], indent=1)
            stem.with_suffix(".json").write_text(content + "\n", encoding="utf-8")
    print(table(nights))
    return int(not all(each.quiet for each in nights))


if __name__ == "__main__":
    sys.exit(main())
