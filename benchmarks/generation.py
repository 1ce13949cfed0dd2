"""RULER's scripts against `python -m generators write`: the same tokenizer, tasks, lengths and sample counts.

    python benchmarks/generation.py --ruler PATH --tokenizer FOLDER [--samples 250] [--out TABLE.md]
    python benchmarks/generation.py --tokenizer FOLDER     # how our memory and time grow

PATH is a checkout of RULER with its data in place (scripts/data/synthetic/json) and its requirements
installed for the Python given with --ruler-python. FOLDER holds a tokenizer that both sides can load
(tokenizer.json, tokenizer_config.json). Runs have one core. RULER makes one file a process; ours makes
all lengths of a task in one. Seconds are the processor's, so that other work on the machine does not
count; what is timed is the making and writing of the files, tokenizer, word lists and corpora included,
imports not. Ours reads the corpora that --corpus names.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from generators.corpora.sets import corpora
from generators.examples import ExampleSource
from generators.ruler_files import prompt_record
from generators.tasks.registry import tasks
from generators.tokenizer_files import load_tokenizer

REPOSITORY = Path(__file__).resolve().parents[1]

TASKS = {
    "niah_single_1": ("niah", "--type_haystack noise --type_needle_k words --type_needle_v numbers"),
    "niah_single_2": ("niah", "--type_haystack essay --type_needle_k words --type_needle_v numbers"),
    "niah_single_3": ("niah", "--type_haystack essay --type_needle_k words --type_needle_v uuids"),
    "niah_multikey_1": ("niah", "--type_haystack essay --type_needle_k words --type_needle_v numbers --num_needle_k 4"),
    "niah_multikey_2": ("niah", "--type_haystack needle --type_needle_k words --type_needle_v numbers"),
    "niah_multikey_3": ("niah", "--type_haystack needle --type_needle_k uuids --type_needle_v uuids"),
    "niah_multivalue": ("niah", "--type_haystack essay --type_needle_k words --type_needle_v numbers --num_needle_v 4"),
    "niah_multiquery": ("niah", "--type_haystack essay --type_needle_k words --type_needle_v numbers --num_needle_q 4"),
    "vt": ("variable_tracking", "--type_haystack noise --num_chains 1 --num_hops 4"),
    "cwe": ("common_words_extraction", "--freq_cw 30 --freq_ucw 3 --num_cw 10"),
    "fwe": ("freq_words_extraction", "--alpha 2.0"),
    "qa_1": ("qa", "--dataset squad"),
    "qa_2": ("qa", "--dataset hotpotqa"),
}

# Imports what the script will, then runs it under the clock; numbers go to the file named first.
_RULER_DRIVER = """
import json, runpy, sys, time
import nltk, numpy, scipy.special, tqdm, transformers, wonderwords
report, script, *arguments = sys.argv[1:]
sys.argv = [script, *arguments]
sys.path.insert(0, script.rpartition("/")[0])
began = time.process_time()
runpy.run_path(script, run_name="__main__")
json.dump({"seconds": time.process_time() - began}, open(report, "w"))
"""

_OUR_DRIVER = """
import json, resource, sys, time
import numpy, scipy.special, tokenizers, wonderwords
import generators.tasks.registry, generators.__main__
generators.tasks.registry.tasks()
report, *arguments = sys.argv[1:]
began = time.process_time()
status = generators.__main__.main(arguments)
seconds = time.process_time() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
json.dump({"seconds": seconds, "peak": peak}, open(report, "w"))
sys.exit(status)
"""


@dataclass(frozen=True)
class MeasuredGeneration:
    """One run.

    Attributes:
        seconds: Processor time; infinite where the limit of wall time ended it.
        peak: Largest resident memory in MiB, where known.
    """

    seconds: float
    peak: int | None = None


def _run(command: Sequence[str], report: Path, limit: float, core: int) -> MeasuredGeneration | None:
    """Runs a driver on one core; None where it failed."""
    environment = {
        **os.environ,
        "TOKENIZERS_PARALLELISM": "false",
        "RAYON_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=None if limit == float("inf") else limit,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    except subprocess.TimeoutExpired:
        return MeasuredGeneration(float("inf"))
    if done.returncode:
        print(f"  failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}", file=sys.stderr)
        return None
    return MeasuredGeneration(**json.loads(report.read_text()))


def _templates(ruler: Path) -> dict[str, tuple[str, int]]:
    """RULER's template and generation budget by script."""
    source = (ruler / "scripts/data/synthetic/constants.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            entries = ast.literal_eval(node.value)
            return {
                name: (entry["template"] + entry["answer_prefix"], entry["tokens_to_generate"])
                for name, entry in entries.items()
            }
    raise SystemExit(f"{ruler} has no TASKS in scripts/data/synthetic/constants.py")


def main() -> None:
    """Measures and prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ruler", type=Path, help="checkout of RULER; without it, only our scaling is measured")
    parser.add_argument("--ruler-python", default=sys.executable, help="Python that has RULER's requirements")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of a tokenizer")
    parser.add_argument("--corpus", default="embedded", help="our corpora: embedded or real")
    parser.add_argument("--samples", type=int, default=250)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument(
        "--limit", type=float, default=300.0, help="seconds of wall time after which a run counts as hanging"
    )
    parser.add_argument("--core", type=int, default=0, help="the core to run on")
    parser.add_argument("--out", type=Path, help="file for the tables")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tables = [_memory(given, work), _growth(given)] if given.ruler is None else [_comparison(given, work)]
    table = "\n\n".join(tables)
    print(table)
    if given.out:
        given.out.write_text(table + "\n", encoding="utf-8")


def _comparison(given: argparse.Namespace, work: Path) -> str:
    """RULER's seconds by task and length, and ours by task."""
    lines = [
        f"Processor seconds for {given.samples} examples a length; one core.",
        "",
        f"| task | {' | '.join(f'RULER {length}' for length in given.lengths)} | RULER, all | ours, all | ratio |",
        f"|---|{'---:|' * (len(given.lengths) + 3)}",
    ]
    sums = [0.0, 0.0]
    for task in given.tasks:
        ours = _ours(given, [task], given.lengths, given.samples, work)
        theirs = [
            _run(ruler_command(given, task, length, given.samples, work), work / "report", given.limit, given.core)
            for length in given.lengths
        ]
        # A run that hangs would make any ratio: it is shown, and left out of their sum, not of ours.
        total = sum(each.seconds for each in theirs if each and each.seconds != float("inf"))
        sums = [sums[0] + total, sums[1] + ours.seconds]
        cells = " | ".join(map(_seconds, theirs))
        lines.append(f"| {task} | {cells} | {total:.1f} | {ours.seconds:.2f} | {total / ours.seconds:.0f}x |")
        print(f"{time.strftime('%H:%M:%S')} {lines[-1]}", file=sys.stderr)
    blanks = " | " * len(given.lengths)
    lines.append(f"| **all** | {blanks}{sums[0]:.0f} | {sums[1]:.1f} | **{sums[0] / sums[1]:.0f}x** |")
    whole = _ours(given, given.tasks, given.lengths, given.samples, work)
    lines += [
        "",
        f"All {len(given.tasks)} tasks in one process: {whole.seconds:.1f} s, {sums[0] / whole.seconds:.0f}x.",
    ]
    return "\n".join(lines)


def _memory(given: argparse.Namespace, work: Path) -> str:
    """Our time and peak memory by samples."""
    lines = ["| samples at 4096 tokens, all tasks | seconds | peak, MiB |", "|---:|---:|---:|"]
    for samples in (100, 1000, 4000):
        ours = _ours(given, given.tasks, [4096], samples, work)
        lines.append(f"| {samples} | {ours.seconds:.1f} | {ours.peak} |")
        print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def _growth(given: argparse.Namespace) -> str:
    """Our time for one example and its line by length: the least of eight; what is made once left out."""
    os.sched_setaffinity(0, {given.core})
    tokenizer = load_tokenizer(given.tokenizer / "tokenizer.json")
    lengths = [262144 * 2**power for power in range(3)]
    lines = [f"| milliseconds an example | {' | '.join(map(str, lengths))} | to the 4-fold length |"]
    lines.append(f"|---|{'---:|' * (len(lengths) + 1)}")
    for task in map(tasks().__getitem__, given.tasks):
        times = []
        for length in lengths:
            source = ExampleSource(task, length, tokenizer, corpora(given.corpus), task.tokens_to_generate)
            source.examples(2)
            times.append(min(_seconds_of_example(source, index) for index in range(2, 10)))
        cells = " | ".join(f"{1000 * each:.1f}" for each in times)
        lines.append(f"| {task.name} | {cells} | {times[-1] / times[0]:.1f}x |")
        print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def _seconds_of_example(source: ExampleSource, index: int) -> float:
    began = time.process_time()
    prompt_record(source.example(index), source.tokens_to_generate).to_json()
    return time.process_time() - began


def _ours(
    given: argparse.Namespace, tasks: Sequence[str], lengths: Sequence[int], samples: int, work: Path
) -> MeasuredGeneration:
    """Our run of some tasks and lengths, in one process."""
    command = [
        *(sys.executable, "-c", _OUR_DRIVER, str(work / "report")),
        *("write", "--task", ",".join(tasks), "--length", ",".join(map(str, lengths)), "--samples", str(samples)),
        *("--tokenizer", str(given.tokenizer.absolute()), "--out", str(work / "ours"), "--corpus", given.corpus),
    ]
    measured = _run(command, work / "report", float("inf"), given.core)
    if measured is None:
        raise SystemExit("our own run failed")
    return measured


def ruler_command(given: argparse.Namespace, task: str, length: int, samples: int, work: Path) -> list[str]:
    """The command that lets RULER write one file below `work`/ruler, timed into `work`/report."""
    script, options = TASKS[task]
    template, budget = _templates(given.ruler)[script]
    return [
        *(given.ruler_python, "-c", _RULER_DRIVER, str(work / "report")),
        str(given.ruler.absolute() / f"scripts/data/synthetic/{script}.py"),
        *("--save_dir", str(work / "ruler"), "--save_name", task, "--tokenizer_type", "hf"),
        *("--tokenizer_path", str(given.tokenizer.absolute()), "--max_seq_length", str(length)),
        *("--tokens_to_generate", str(budget), "--num_samples", str(samples), "--template", template),
        *options.split(),
    ]


def _seconds(measured: MeasuredGeneration | None) -> str:
    if measured is None:
        return "fails"
    return "hangs" if measured.seconds == float("inf") else f"{measured.seconds:.1f}"


if __name__ == "__main__":
    main()
