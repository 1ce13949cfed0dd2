"""Everything that needs CUDA, in one call of less than ten minutes: `make gpu-check`.

    python benchmarks/gpu_check.py                 # all of it
    python benchmarks/gpu_check.py --quick         # two models at one length
    python benchmarks/gpu_check.py --device cpu --layers 2 --lengths 64    # only to try the measuring itself

It compares kernels with the plain path, runs the pocket zoo on CUDA, and measures models of the published sizes with
random weights beside transformers' own classes. What cannot be done here is skipped with its reason. The table goes to
the standard output and, from CUDA, to benchmarks/results. The exit status is 1 if a check fails, otherwise 0.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.kernel_parity import MODELS, Parity, UnusedKernel, model_parities, operator_parities, upstream_parities
from benchmarks.throughput import PEERS, Measured, measured
from core.libraries import all_libraries
from models.layers import kernels
from zoo.cards import load_zoo

REPOSITORY: Final = Path(__file__).resolve().parents[1]
# One model of each kind: state spaces, attention, both, and of each family.
CARDS: Final = ("mamba2", "rwkv6", "tpp", "sl", "m2a", "rg")
QUICK_CARDS: Final = ("mamba2", "sl")
LENGTHS: Final = (1024, 4096, 16384)
MINUTES: Final = 9.5
# The verdicts of the pocket zoo come before the measurements, which take what time is left.
_POCKET_SECONDS: Final = 180
# What the families run on, and what mamba-ssm's own attention needs.
_PACKAGES: Final = (*all_libraries(), "flash-attn")


@dataclass(frozen=True)
class Check:
    """One line of the report; its outcome is passed, failed, skipped or measured."""

    name: str
    outcome: str
    detail: str


def parity_checks(device: str) -> Iterator[Check]:
    """Kernels and models against their references."""
    missing = kernels.missing()
    for kernel in kernels.KERNELS:
        name, package = f"kernel {kernel.function}", kernel.package.name
        if not device.startswith("cuda"):
            yield Check(name, "skipped", "needs CUDA")
        elif package in missing:
            yield Check(name, "skipped", f"{package}: {missing[package]}")
        else:
            yield from _parities(name, partial(operator_parities, kernel, device))
    for name in MODELS:
        if not device.startswith("cuda"):
            yield Check(f"model {name}", "skipped", "needs CUDA")
            yield Check(f"mamba-ssm {name}", "skipped", "needs CUDA")
            continue
        yield from _parities(f"model {name}", partial(model_parities, name, device))
        lacking = {package: missing[package] for package in ("mamba-ssm", "causal-conv1d") if package in missing}
        if lacking:
            reasons = ", ".join(f"{package}: {reason}" for package, reason in lacking.items())
            yield Check(f"mamba-ssm {name}", "skipped", reasons)
        else:
            yield from _parities(f"mamba-ssm {name}", partial(upstream_parities, name, device))


def _parities(name: str, compare: Callable[[], Iterable[Parity]]) -> Iterator[Check]:
    try:
        for parity in compare():
            outcome = "passed" if parity.holds else "failed"
            yield Check(parity.name, outcome, f"relative error {parity.error:.1e}, at most {parity.largest:.1e}")
    except UnusedKernel as error:
        yield Check(name, "failed", str(error))
    except Exception as error:  # the other checks are worth having whatever one of them raises
        yield Check(name, "failed", _reason(error))


def pocket_check(device: str) -> Iterator[Check]:
    """The pocket zoo's needles at short lengths, against the snapshots accepted on a processor."""
    name = "pocket zoo"
    if not device.startswith("cuda"):
        yield Check(name, "skipped", "needs CUDA")
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--tb=line", "-p", "no:cacheprovider"),
            *("--zoo", "pocket", "--device", device, "--lengths", "256,512", "-k", "niah_single or niah_format"),
            f"--results={folder}/results",
        ]
        began = time.perf_counter()
        try:
            run = subprocess.run(
                command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=_POCKET_SECONDS
            )
        except subprocess.TimeoutExpired:
            yield Check(name, "skipped", f"not done after {_POCKET_SECONDS} seconds")
            return
    for line in re.findall(r"^\S+ +accuracy.*$", run.stdout, re.MULTILINE):
        if "passed" not in line.split("(")[-1]:
            yield Check(name, "failed", line)
    summary = (run.stdout.strip().splitlines() or run.stderr.strip().splitlines() or ["no output"])[-1]
    outcome = "passed" if run.returncode == 0 else "failed"
    yield Check(name, outcome, f"{summary.strip('= ')}; {time.perf_counter() - began:.0f} s")


def throughput_checks(
    device: str, cards: Sequence[str], lengths: Sequence[int], layers: int | None, left: Callable[[], float]
) -> Iterator[tuple[Check, Measured | None]]:
    """Models of the published sizes, ours first, since theirs may take long."""
    zoo = load_zoo("paper")
    for implementation in ("longwatch", "transformers"):
        for card in cards:
            name = f"{card}, {implementation}"
            if implementation == "transformers" and card not in PEERS:
                continue
            if not device.startswith("cuda") and layers is None:
                yield Check(name, "skipped", "needs CUDA"), None
                continue
            if left() <= 0:
                yield Check(name, "skipped", "no time is left"), None
                continue
            try:
                for result in measured(zoo.models[card], implementation, device, list(lengths), layers, left):
                    if isinstance(result, str):
                        yield Check(name, "skipped", result), None
                    else:
                        yield Check(name, "measured", _described(result)), result
            except Exception as error:  # a peer that breaks takes no other measurement with it
                outcome = "failed" if implementation == "longwatch" else "skipped"
                yield Check(name, outcome, _reason(error)), None


def _described(result: Measured) -> str:
    memory = "" if result.peak_bytes is None else f", {result.peak_bytes / 2**30:.1f} GiB at most"
    return (
        f"{result.rows} x {result.length}: reads {result.read:,.0f} tokens/s ({result.share:.1f}% of the peak), "
        f"writes {result.written:,.0f} tokens/s{memory}"
    )


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def environment(device: str) -> dict[str, str]:
    """Where and with what the checks were made."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "driver": _driver() if device.startswith("cuda") else "none",
        "cuda": str(torch.version.cuda),
        "python": platform.python_version(),
        **versions,
    }


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return (run.stdout.split() or ["unknown"])[0]


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |\n" for line in lines)


def report(given: dict[str, str], checks: Sequence[Check], results: Sequence[Measured]) -> str:
    """The whole report in Markdown."""
    text = "# What a GPU says\n\n    make gpu-check\n\n" + table(("", ""), given.items()) + "\n"
    text += table(("check", "outcome", "detail"), ((each.name, each.outcome, each.detail) for each in checks))
    if results:
        heading = ("model", "by", "length", "rows", "read, tokens/s", "of the peak", "written, tokens/s", "memory, GiB")
        text += "\n" + table(heading, map(_row, results))
    return text


def _row(result: Measured) -> tuple[str, ...]:
    return (
        result.model,
        result.implementation,
        str(result.length),
        str(result.rows),
        f"{result.read:,.0f}",
        f"{result.share:.1f}%",
        f"{result.written:,.0f}",
        "" if result.peak_bytes is None else f"{result.peak_bytes / 2**30:.1f}",
    )


def write(folder: Path, given: dict[str, str], checks: Sequence[Check], results: Sequence[Measured]) -> Path:
    """Writes the report as Markdown, and all numbers as JSON beside it; returns the former's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{given['date'][:10]}-gpu.md"
    path.write_text(report(given, checks, results), encoding="utf-8")
    numbers = {"environment": given, "checks": list(map(asdict, checks)), "throughput": list(map(asdict, results))}
    path.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    return path


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Everything that needs CUDA, in one call.")
    parser.add_argument("--device", help="as torch names it (default: cuda where there is one)")
    parser.add_argument("--quick", action="store_true", help=f"measure {' and '.join(QUICK_CARDS)} at one length alone")
    parser.add_argument("--lengths", help=f"tokens a prompt (default: {','.join(map(str, LENGTHS))})")
    parser.add_argument("--layers", type=int, help="measure models of so few layers, to try the measuring itself")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"time for all of it (default: {MINUTES})")
    parser.add_argument("--out", type=Path, help="folder of the report (default, from CUDA: benchmarks/results)")
    given = parser.parse_args(arguments)
    try:
        given.lengths = [int(each) for each in given.lengths.split(",")] if given.lengths else list(LENGTHS)
    except ValueError:
        parser.error(f"--lengths must be numbers with commas between, not {given.lengths!r}")
    if min(given.lengths) < 1 or (given.layers is not None and given.layers < 1):
        parser.error("--lengths and --layers must be at least 1")
    try:
        kernels.missing()
    except ValueError as error:
        parser.error(str(error))
    given.device = given.device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {given.device}: torch sees no CUDA device here; leave it out to skip what needs one")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the checks, each told as soon as it is done; returns the exit status."""
    began = time.monotonic()
    given = _parsed(arguments)
    # The references are of float32, not of its short form.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    facts = environment(given.device)
    print(table(("", ""), facts.items()))
    checks: list[Check] = []
    results: list[Measured] = []

    def told(check: Check) -> None:
        checks.append(check)
        print(f"{check.outcome:<9} {check.name}: {check.detail}", flush=True)

    def left() -> float:
        return 60 * given.minutes - (time.monotonic() - began)

    for check in chain(parity_checks(given.device), pocket_check(given.device)):
        told(check)
    cards, lengths = (QUICK_CARDS, given.lengths[:1]) if given.quick else (CARDS, given.lengths)
    for check, result in throughput_checks(given.device, cards, lengths, given.layers, left):
        told(check)
        if result is not None:
            results.append(result)
    out = given.out or (REPOSITORY / "benchmarks" / "results" if given.device.startswith("cuda") else None)
    if out is not None:
        print(f"report: {os.path.relpath(write(out, facts, checks, results))}")
    counts = {
        outcome: sum(check.outcome == outcome for check in checks)
        for outcome in dict.fromkeys(c.outcome for c in checks)
    }
    print(", ".join(f"{number} {outcome}" for outcome, number in counts.items()))
    return int(any(check.outcome == "failed" for check in checks))


if __name__ == "__main__":
    sys.exit(main())
