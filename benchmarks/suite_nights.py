"""Nights: whole runs of the suite on a copy of a zoo, as a user starts them, and what they came to."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.copied_zoos import ZooCopy
from core.names import unknown_name
from drift.exit_statuses import ExitStatus
from drift.records.results import CellResult, ResultFolder
from zoo.cards import Zoo, ZooError, load_zoo

__all__ = [
    "Asked",
    "NightError",
    "SuiteNight",
    "add_options",
    "asked",
    "heading",
    "night",
    "said",
    "stem_of",
    "working_folder",
    "zoo_of",
]

_REPOSITORY: Final = Path(__file__).resolve().parents[1]
_CELLS: Final = "niah_single_2 or niah_multikey_1 or niah_multivalue or vt or (niah_position and essay-word-number)"
_LENGTHS: Final = "512,1024"
_TAIL: Final = 3000

# Of runs that came to a verdict, whatever it is.
_JUDGED: Final = (ExitStatus.QUIET, ExitStatus.SHIFTED, ExitStatus.INCOMPLETE, ExitStatus.NOT_COMPARABLE)


class NightError(RuntimeError):
    """A run that came to no verdict; the message ends as its output does."""


@dataclass(frozen=True)
class Asked:
    """What a night is asked.

    Attributes:
        models: Exact names.
        cells: An expression for pytest's -k.
        lengths: With commas between.
        samples: Examples a cell; None for the zoo's.
        workers: Of xdist; 0 for none.
        batch_tokens: Tokens read at once; None for the zoo's.
        threads: Of torch, in each process.
        libraries: A folder whose packages come before those that are installed.
    """

    models: tuple[str, ...]
    cells: str = _CELLS
    lengths: str = _LENGTHS
    samples: int | None = None
    workers: int = 0
    batch_tokens: int | None = None
    threads: int = 1
    libraries: Path | None = None

    def command(self) -> list[str]:
        """The command line, but for the zoo and the folder of results."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "suites/evaluation", "-m", "gpu"]
        command += ["-k", self.cells, f"--models={','.join(self.models)}", f"--lengths={self.lengths}"]
        command += ["-n", str(self.workers)]
        command += [] if self.samples is None else [f"--samples={self.samples}"]
        return command + ([] if self.batch_tokens is None else [f"--batch-tokens={self.batch_tokens}"])

    def environment(self) -> dict[str, str]:
        """Its variables; without those under which a run writes into the pages of a job on GitHub."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "GITHUB_"))}
        before = [] if self.libraries is None else [str(self.libraries)]
        paths = before + list(filter(None, [kept.get("PYTHONPATH")]))
        return {**kept, "OMP_NUM_THREADS": str(self.threads), "PYTHONPATH": os.pathsep.join(paths)}


@dataclass(frozen=True)
class SuiteNight:
    """What a run came to.

    Attributes:
        status: Its exit status, see `drift.exit_statuses`.
        seconds: Wall time, the start of Python and the loading of models included.
        alert: What `alert.json` says; empty where the run accepted.
        results: By cell.
    """

    status: int
    seconds: float
    alert: Mapping[str, Any]
    results: Mapping[tuple[str, str], CellResult]


def night(given: Asked, copy: ZooCopy, name: str, *, accept: bool = False) -> SuiteNight:
    """Runs the suite and waits for it.

    Args:
        given: What is asked.
        copy: The zoo, written already.
        name: Of the folder for its results, beside the zoo's file.
        accept: Whether to accept what is measured, instead of comparing it with what was accepted.

    Raises:
        NightError: The run has no results, or broke.
    """
    results = (copy.folder / name).absolute()
    # Where copies are kept, those of an earlier start of the program; the suite writes into no folder that holds a run.
    shutil.rmtree(results, ignore_errors=True)
    command = [*given.command(), f"--zoo={copy.file.absolute()}", f"--results={results}"]
    command.append("--snapshot-update" if accept else "--alert-always")
    began = time.perf_counter()
    run = subprocess.run(command, cwd=_REPOSITORY, env=given.environment(), capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    file = results / "alert.json"
    if run.returncode not in ((ExitStatus.QUIET,) if accept else _JUDGED) or not (accept or file.is_file()):
        raise NightError(f"status {run.returncode}: {' '.join(command)}\n{(run.stdout + run.stderr)[-_TAIL:]}")
    return SuiteNight(
        status=run.returncode,
        seconds=seconds,
        alert={} if accept else json.loads(file.read_text(encoding="utf-8")),
        results={(each.model, each.key): each for each in ResultFolder(results).read()},
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say what nights are asked."""
    parser.add_argument("--zoo", default="pocket", help="zoo by name or file (default: pocket)")
    parser.add_argument("--models", nargs="+", required=True, metavar="M", help="cards to run")
    parser.add_argument("--cells", default=_CELLS, metavar="EXPRESSION", help="which cells, for pytest's -k")
    parser.add_argument("--lengths", default=_LENGTHS, metavar="A,B", help=f"(default: {_LENGTHS})")
    parser.add_argument("--samples", type=int, metavar="N", help="examples a cell (default: the zoo's)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the table goes")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where copies and results are kept, if they are to be")


def zoo_of(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Zoo:
    """The zoo that was asked for; ends the program where it, or one of the models, does not exist."""
    try:
        zoo = load_zoo(given.zoo)
        for name in given.models:
            if name not in zoo.models:
                raise ZooError(f"zoo {zoo.name}: {unknown_name('model', name, list(zoo.models))}")
    except ZooError as error:
        parser.error(str(error))
    return zoo


def asked(given: argparse.Namespace) -> Asked:
    """What the options ask of a night."""
    return Asked(tuple(given.models), given.cells, given.lengths, given.samples)


@contextmanager
def working_folder(kept: Path | None) -> Iterator[Path]:
    """The folder for copies and results: the one to be kept, or one that is removed again."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.absolute()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def stem_of(folder: Path, name: str) -> Path:
    """What the files of today's results are called, but for their ending; makes their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{datetime.datetime.now(datetime.UTC).date()}-{name}"


def said(line: str) -> None:
    """Says how far a program is."""
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


def heading(title: str, given: Asked, zoo: Zoo, measured: SuiteNight) -> str:
    """The head of a page of results: what was asked, where and of what."""
    environment = next(iter(measured.results.values())).environment
    samples = {len(each.scores) for each in measured.results.values()}
    where = environment.get("processor", environment.get("device"))
    return "\n".join(
        (
            f"# {title}",
            "",
            f"{datetime.datetime.now(datetime.UTC).date()}, {where}, Python {environment['python']}, torch "
            f"{environment.get('torch')}, transformers {environment.get('transformers')}; zoo {zoo.name}, "
            f"{len(measured.results)} cells of {', '.join(given.models)}, "
            f"{' or '.join(map(str, sorted(samples)))} examples each. A night takes about {measured.seconds:.0f} s.",
            "",
            f"    python {shlex.join([f'benchmarks/{Path(sys.argv[0]).name}', *sys.argv[1:]])}",
            "",
            f"Cells: `{given.cells}`, lengths {given.lengths}.",
        )
    )
