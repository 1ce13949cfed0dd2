"""Answering prompts, beside transformers' `generate`: speed, memory, the same scores; and cost by length.

    python benchmarks/decoding.py --zoo pocket --models sl mamba2 [--samples 40] [--quick]

Both sides have the same checkpoint, prompts, generation budget, end of sequence and machine, one thread,
and a process of their own for every line of the tables. Ours answers cell by cell as the suite does, and
stops where a score cannot change any more; transformers is given batches of several sizes, across cells, and
for a Mamba2 several sizes of its chunks. Seconds are the processor's, so that other work on the machine
counts little, with wall time beside them; loading and making prompts is left out. Memory is the largest
resident set of the process, interpreter and libraries included, and how much of it came after loading.

The second part reads one prompt of 1K to 64K tokens with each recurrent model (--recurrent).
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_REPOSITORY))

from benchmarks.decoding_sides import (  # noqa: E402
    OURS,
    THEIRS,
    Answered,
    ReadingCost,
    Request,
    Workload,
    measured_answers,
    measured_reading,
)
from core.names import unknown_name  # noqa: E402
from models.families import family_named  # noqa: E402
from models.layers.kernels import CHUNK_SCAN  # noqa: E402
from zoo.cards import Zoo, ZooError, load_zoo  # noqa: E402

SWEEP = "essay-word-number"
SWEEP_LENGTHS = (512, 1024)
SINGLE = Workload("niah_single_2", 2048)
BATCHES = (1, 8, 20, 40, 80)
CHUNKS = (32, 64, 128, 256)
READ_LENGTHS = tuple(1024 * 2**power for power in range(7))


@dataclass(frozen=True)
class Line:
    """One line of a model's table."""

    request: Request
    answered: Answered


def different(ours: Answered, theirs: Answered) -> tuple[list[int], list[int]]:
    """The examples whose scores differ, and those whose predictions do before ours ends, by number.

    Ours may end earlier, where nothing that follows could change the score.

    Raises:
        ValueError: They have answered unequally many examples.
    """
    scores = [i for i, (a, b) in enumerate(zip(ours.scores, theirs.scores, strict=True)) if a != b]
    pairs = enumerate(zip(ours.predictions, theirs.predictions, strict=True))
    return scores, [i for i, (a, b) in pairs if not b.startswith(a)]


def main() -> None:
    """Measures, and writes the tables as Markdown, all numbers as JSON, and the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", default="pocket", help="zoo by name or file")
    parser.add_argument("--models", nargs="*", default=["sl", "mamba2"], help="cards to compare with transformers")
    parser.add_argument("--recurrent", nargs="*", default=["mamba2", "rwkv6", "rg"], help="cards to read long with")
    parser.add_argument("--samples", type=int, help="examples a cell; the zoo's number unless given")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES), help="of transformers; 1 is added")
    parser.add_argument("--out", type=Path, default=_REPOSITORY / "benchmarks" / "results", help="folder of results")
    parser.add_argument("--quick", action="store_true", help="4 examples a cell, few settings, up to 8K tokens")
    given = parser.parse_args()
    try:
        zoo = load_zoo(given.zoo)
        for name in (*given.models, *given.recurrent):
            if name not in zoo.models:
                raise ZooError(f"zoo {zoo.name}: {unknown_name('model', name, list(zoo.models))}")
    except ZooError as error:
        parser.error(str(error))
    samples = given.samples or (4 if given.quick else zoo.samples)
    if samples < 1 or min(given.batches) < 1:
        parser.error("--samples and --batches must be at least 1")
    given.out.mkdir(parents=True, exist_ok=True)
    stem = given.out / f"{datetime.datetime.now(datetime.UTC).date()}-decoding"
    batches = sorted({1, 8} if given.quick else {1, *given.batches})
    tables, numbers = [_heading(given, samples)], []
    for model in given.models:
        lines = _compared(given, zoo, model, samples, batches)
        tables.append(_table(model, lines))
        numbers += lines
        _written(stem, tables, numbers, {})
    lengths = [length for length in READ_LENGTHS if not given.quick or length <= 8192]
    readings = {
        model: [_told(measured_reading(given.zoo, model, n), model) for n in lengths] for model in given.recurrent
    }
    if readings:
        _plotted(readings, stem.with_suffix(".png"))
        tables.append(_reading_tables(readings, stem.with_suffix(".png").name))
    _written(stem, tables, numbers, readings)
    print("\n\n".join(tables))


def _told(reading: ReadingCost, model: str) -> ReadingCost:
    print(f"{time.strftime('%H:%M:%S')} {model} {reading}", file=sys.stderr)
    return reading


def _compared(given: argparse.Namespace, zoo: Zoo, model: str, samples: int, batches: Sequence[int]) -> list[Line]:
    """Ours and every setting of transformers on each workload."""
    depths = zoo.sweeps["niah_position"].depths
    workloads = [*(Workload(SWEEP, length, depths) for length in SWEEP_LENGTHS), SINGLE]
    in_chunks = CHUNK_SCAN in family_named(zoo.models[model].family).kernels
    chunk = _best_chunk(given, model, samples) if in_chunks else CHUNKS[0]
    lines: list[Line] = []
    for workload in workloads:
        ours = Request(given.zoo, model, OURS, workload, samples)
        theirs = [replace(ours, side=THEIRS, batch=batch, chunk=chunk) for batch in batches]
        for request in (ours, *theirs):
            lines.append(Line(request, measured_answers(request)))
            answered = lines[-1].answered
            setting = "ours" if request.side == OURS else f"transformers, batch {request.batch}"
            print(
                f"{time.strftime('%H:%M:%S')} {model}, {workload}, {setting}: {answered.processor_seconds:.1f} s",
                file=sys.stderr,
            )
    return lines


def _best_chunk(given: argparse.Namespace, model: str, samples: int) -> int:
    """The fastest of transformers' chunk sizes on a few prompts of the sweep."""
    probe = Request(given.zoo, model, THEIRS, Workload(SWEEP, SWEEP_LENGTHS[0], (50,)), min(samples, 8), batch=8)
    seconds = {
        chunk: measured_answers(replace(probe, chunk=chunk)).processor_seconds
        for chunk in (CHUNKS[1:2] if given.quick else CHUNKS)
    }
    print(f"{model}: seconds by chunk of transformers {seconds}", file=sys.stderr)
    return min(seconds, key=lambda chunk: seconds[chunk])


def _heading(given: argparse.Namespace, samples: int) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "numpy"))
    return "\n".join(
        [
            "# Answering prompts: transformers' generate and ours",
            "",
            f"{datetime.datetime.now(datetime.UTC).date()}, one thread of {_processor()}, Python "
            f"{platform.python_version()}, {versions}; zoo {Path(given.zoo).stem}, {samples} examples a cell.",
            "",
            f"    python benchmarks/decoding.py {' '.join(sys.argv[1:])}".rstrip(),
            "",
            "Ratios are of processor seconds to ours. Scores and texts are compared example by example: a text differs "
            "where\ntransformers' does not begin with ours, which ends as soon as its score is sure.",
        ]
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _table(model: str, lines: Sequence[Line]) -> str:
    """All lines of one model, and by workload the ratio to the best of transformers."""
    rows = [
        f"## {model}",
        "",
        "| workload | decoder | accuracy | processor, s | wall, s | ratio | peak, MiB | after loading, MiB "
        "| scores that differ | texts that differ |",
        f"|---|---|{'---:|' * 8}",
    ]
    sums: dict[str, float] = {OURS: 0.0, THEIRS: 0.0}
    for workload in dict.fromkeys(line.request.workload for line in lines):
        ours, *theirs = [line for line in lines if line.request.workload == workload]
        best = min(theirs, key=lambda line: line.answered.processor_seconds)
        for line in (ours, *theirs):
            rows.append(_row(line, ours.answered, best=line is best))
        if workload.task == SWEEP:
            sums[OURS] += ours.answered.processor_seconds
            sums[THEIRS] += best.answered.processor_seconds
    rows += ["", f"Position sweep, best of transformers over ours: {sums[THEIRS] / sums[OURS]:.1f}x."]
    return "\n".join(rows)


def _row(line: Line, ours: Answered, *, best: bool) -> str:
    answered, request = line.answered, line.request
    decoder, numbers = "ours", ["", ""]
    if request.side == THEIRS:
        decoder = f"transformers, batch {request.batch}" + (" (best)" if best else "")
        numbers = [_examples(found) for found in different(ours, answered)]
    cells = [
        str(request.workload),
        decoder,
        f"{100 * sum(answered.scores) / len(answered.scores):.1f}",
        f"{answered.processor_seconds:.2f}",
        f"{answered.wall_seconds:.2f}",
        f"{answered.processor_seconds / ours.processor_seconds:.1f}x",
        str(answered.peak),
        str(answered.peak - answered.loaded),
        *numbers,
    ]
    return f"| {' | '.join(cells)} |"


def _examples(found: Sequence[int]) -> str:
    shown = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
    return f"{len(found)}: {shown}" if found else "0"


def _reading_tables(readings: Mapping[str, Sequence[ReadingCost]], plot: str) -> str:
    lengths = [reading.length for reading in next(iter(readings.values()))]
    rows = [
        "## Cost of a token by length",
        "",
        f"One random prompt, read in pieces as the suite does ({plot} plots it).",
        "",
    ]
    rows += [f"| model | | {' | '.join(map(str, lengths))} |", f"|---|---|{'---:|' * len(lengths)}"]
    for model, found in readings.items():
        kinds = {
            "reading, µs a token": [f"{1e6 * each.prefill_seconds / each.length:.0f}" for each in found],
            "writing, ms a token": [f"{1e3 * each.step_seconds:.1f}" for each in found],
            "state, MiB": [f"{each.state:.2f}" for each in found],
            "peak after loading, MiB": [str(each.peak - each.loaded) for each in found],
        }
        rows += [f"| {model} | {kind} | {' | '.join(values)} |" for kind, values in kinds.items()]
    return "\n".join(rows)


def _plotted(readings: Mapping[str, Sequence[ReadingCost]], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (reading, writing) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for model, found in readings.items():
        lengths = [each.length for each in found]
        reading.plot(lengths, [1e6 * each.prefill_seconds / each.length for each in found], marker="o", label=model)
        writing.plot(lengths, [1e3 * each.step_seconds for each in found], marker="o", label=model)
    for axes, name in ((reading, "reading, µs a token"), (writing, "writing, ms a token")):
        axes.set_xscale("log", base=2)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("prompt, tokens")
        axes.set_ylabel(f"processor time of {name}")
        axes.legend()
    figure.savefig(path, dpi=120)


def _written(
    stem: Path, tables: Sequence[str], lines: Sequence[Line], readings: Mapping[str, Sequence[ReadingCost]]
) -> None:
    """What is known so far, so that a run that ends early has lost nothing."""
    stem.with_suffix(".md").write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    answers = [{**asdict(line.request), **asdict(line.answered)} for line in lines]
    by_length = {model: [asdict(each) for each in found] for model, found in readings.items()}
    stem.with_suffix(".json").write_text(
        json.dumps({"answers": answers, "cost_by_length": by_length}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
