"""Whole runs of the suite in a process of their own, on a small zoo in a temporary folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from suites.support.warm_processes import warm_run

__all__ = [
    "FULL_CASES",
    "REPOSITORY",
    "SmallZoo",
    "command",
    "environment",
    "fresh_run",
    "run",
    "write_full_zoo",
]

REPOSITORY = Path(__file__).resolve().parents[2]

_ZOO = """
samples = 12
batch_tokens = 2048
tokens_to_generate = {{ niah_single_1 = 20, niah_single_2 = 20, essay-word-number = 20, repeat-word-number = 20 }}

[sweeps.ruler]
tasks = ["niah_single_1", "niah_single_2"]
lengths = [192, 256]

[sweeps.niah_position]
tasks = ["essay-word-number", "repeat-word-number"]
lengths = [256]
depths = [0, 50]

[sweeps.niah_format]
tasks = ["essay-word-number"]
lengths = [256]
depths = [50]
{models}
"""

_MODEL = """
[models.{name}]
family = "state-spaces"
path = "{name}"
tokenizer = "tokenizer.json"
end_of_sequence = "<|endoftext|>"
"""


@dataclass(frozen=True)
class SmallZoo:
    """A zoo of copies of the trained pocket model, each in its own checkpoint directory."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, *models: str) -> SmallZoo:
        """Writes the zoo's file, its checkpoints and its tokenizer."""
        pocket = REPOSITORY / "zoo" / "pocket"
        shutil.copy(pocket / "tokenizer.json", folder)
        for name in models:
            shutil.copytree(pocket / "m2a", folder / name)
        cards = "".join(_MODEL.format(name=name) for name in models)
        (folder / "small.toml").write_text(_ZOO.format(models=cards), encoding="utf-8")
        return cls(folder)

    @property
    def file(self) -> Path:
        return self.folder / "small.toml"

    def snapshot(self, model: str) -> Path:
        return self.folder / "snapshots" / "small" / f"{model}.json"

    def run(self, *options: str, results: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs the model cases of the zoo, each time into another folder where none is named."""
        folder = tempfile.mkdtemp(prefix="results-", dir=self.folder) if results is None else self.folder / results
        return run("suites/evaluation", f"--zoo={self.file}", f"--results={folder}", *options)


# Eight models by thirteen tasks by five lengths, and the paper's two ablations.
FULL_CASES = 8 * (13 * 5 + 3 * 2 * 7 + 3 * 3 * 3)


def write_full_zoo(folder: Path) -> Path:
    """Writes a zoo of the paper's size, without checkpoints: enough to collect its cases."""
    names = [f"{haystack}-word-{value}" for haystack in ("repeat", "essay", "needles") for value in ("word", "number")]
    names += ["niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2"]
    names += ["niah_multikey_3", "niah_multivalue"]
    ablations = '["essay-word-number", "essay-word-uuid", "repeat-word-number"]'
    cards = "".join(
        f'[models.model{i}]\nfamily = "state-spaces"\npath = "nowhere"\ntokenizer = "nothing.json"\n' for i in range(8)
    )
    path = folder / "full.toml"
    path.write_text(
        f"samples = 250\nbatch_tokens = 1\n[sweeps.ruler]\ntasks = {names}\nlengths = [1024, 2048, 4096, 8192, 16384]\n"
        f"[sweeps.niah_position]\ntasks = {ablations}\nlengths = [2048, 4096]\ndepths = [0, 20, 40, 50, 60, 80, 100]\n"
        f"[sweeps.niah_format]\ntasks = {ablations}\nlengths = [1024, 2048, 4096]\ndepths = [0, 50, 100]\n{cards}",
        encoding="utf-8",
    )
    return path


def command(*options: str) -> list[str]:
    """A command line of pytest that leaves no trace in the repository."""
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]


def environment() -> dict[str, str]:
    """The environment without what the surrounding pytest put there, and without accelerators."""
    # With their bytecode kept, the many runs that tests start need not compile the project each time.
    left_out = ("PYTEST_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return {**kept, "CUDA_VISIBLE_DEVICES": ""}


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """Runs pytest in the repository and waits for it, in a process that has the libraries in memory already."""
    return warm_run(command(*options)[3:], cwd=REPOSITORY, environment=environment(), timeout=300)


def fresh_run(*options: str) -> subprocess.CompletedProcess[str]:
    """Runs pytest in the repository and waits for it, in a process that has imported nothing yet."""
    return subprocess.run(
        command(*options), cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
