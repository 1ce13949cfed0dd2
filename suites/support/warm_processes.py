"""Runs of pytest in processes of their own that need not import the libraries again.

Importing torch takes several times as long as the small runs that tests start. A server imports it once, and forks a
process for every run. Each run has its own directory, environment and output, as one that was started afresh.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["warm_run"]

# Of the project what is no plugin of pytest, which has to import those by itself.
_PRELOADED = (
    "pytest",
    "torch",
    "scipy.stats",
    "safetensors.torch",
    "rich.progress",
    "hypothesis.internal.observability",
    "drift.commands.judging",
    "drift.reports.junit",
    "drift.reports.history_database",
    "models.evaluation",
    "zoo.cards",
)
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(_PRELOADED))


def warm_run(
    arguments: Sequence[str], *, cwd: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Runs pytest and waits for it.

    Args:
        arguments: Of the command line.
        cwd: Where it is run.
        environment: All of its variables.
        timeout: Seconds that it may take.

    Raises:
        subprocess.TimeoutExpired: It took longer, and was killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "stdout"), Path(folder, "stderr")
        process = _context.Process(
            target=_pytest, args=(list(arguments), str(cwd), dict(environment), *map(str, files))
        )
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), timeout)
        written = [file.read_text(encoding="utf-8") if file.exists() else "" for file in files]
        return subprocess.CompletedProcess(list(arguments), process.exitcode or 0, *written)


def _pytest(arguments: list[str], cwd: str, environment: dict[str, str], stdout: str, stderr: str) -> None:
    """What the forked process does."""
    for number, path in ((1, stdout), (2, stderr)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in environment
    sys.argv = ["pytest", *arguments]
    # As `python -m pytest` has it.
    sys.path[:0] = [cwd, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    import pytest

    # What the server has imported already cannot be rewritten any more.
    status = pytest.main(["-W", "ignore::pytest.PytestAssertRewriteWarning", *arguments])
    sys.stdout.flush()
    sys.stderr.flush()
    # What the run left behind in threads must not keep it.
    os._exit(int(status))
