"""How long collecting the paper's full matrix takes, beside a bare start of pytest.

Usage: python benchmarks/collection.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from suites.support.runs import FULL_CASES, REPOSITORY, command, environment, write_full_zoo

REPEATS = 5


def seconds(*options: str) -> float:
    """The shortest wall time of some runs of a pytest command."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        subprocess.run(command(*options), cwd=REPOSITORY, env=environment(), capture_output=True, check=False)
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        zoo = write_full_zoo(Path(folder))
        full = seconds("--collect-only", "-q", "-m", "gpu", f"--zoo={zoo}", "suites/evaluation")
    bare = seconds("--version")
    print(f"| what | seconds (best of {REPEATS}) | ratio |\n|---|---|---|")
    print(f"| pytest --version | {bare:.2f} | 1.0 |")
    print(f"| collecting {FULL_CASES} cases of suites/evaluation | {full:.2f} | {full / bare:.1f} |")


if __name__ == "__main__":
    main()
