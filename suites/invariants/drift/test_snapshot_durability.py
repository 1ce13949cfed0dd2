"""Snapshot files survive processes that are killed while they accept, and disks that are full."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from syrupy.utils import exclusive_file_lock

from drift.records.snapshots import Baseline, SnapshotFile
from suites.support.sample_results import sample_result

REPOSITORY = Path(__file__).resolve().parents[3]
KILLS = 500

# A process without threads, so that it may fork. Each child accepts one cell after another, and says so once a
# cell is in the file; it is killed at some moment of that. What was said to be accepted must be there then.
KILLING = """
import json, os, random, signal, sys, time
from pathlib import Path
from syrupy.utils import exclusive_file_lock
from drift.records.snapshots import Baseline, SnapshotFile

path, kills = Path(sys.argv[1]), int(sys.argv[2])
moments = random.Random(7)

def accept(start, said):
    number = start
    while True:
        number += 1
        cell = f"vt-{number % 20 + 1}"
        with exclusive_file_lock(path):
            SnapshotFile(path).update({cell: Baseline((1.0,) * 40, (f"{number:08x}",) * 40, {"torch": "1"})})
        os.write(said, f"{number}\\n".encode())

promised, in_the_middle, written = {}, 0, 0
for kill in range(kills):
    heard, said = os.pipe()
    child = os.fork()
    if not child:
        try:
            accept(1_000_000 * (kill + 1), said)
        finally:
            os._exit(1)
    os.close(said)
    first = os.read(heard, 1)
    time.sleep(moments.uniform(0, 0.01))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the child ended by itself"
    with open(heard) as spoken:
        numbers = [int(line) for line in (first.decode() + spoken.read()).split()]
    written += len(numbers)
    for number in numbers:
        promised[f"vt-{number % 20 + 1}"] = number
    in_the_middle += any(path.parent.glob(f".{path.name}.*"))
    accepted = SnapshotFile(path).read()
    for cell, number in promised.items():
        found = int(accepted[cell].prompts[0], 16)
        # The last update of a child may be in the file though there was no time to say so.
        assert found == number or found == numbers[-1] + 1, (cell, number, found)
        promised[cell] = found
    assert all(len(each.scores) == 40 for each in accepted.values())
print(json.dumps({"written": written, "in_the_middle": in_the_middle}))
"""


def test_no_kill_loses_or_halves_a_snapshot(tmp_path):
    """Of 500 processes that are killed while they accept, each leaves a whole file with all that it said is in it."""
    path = tmp_path / "m2a.json"
    command = [sys.executable, "-c", KILLING, str(path), str(KILLS)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    # Kills hit updates, and not only the time between them.
    assert counts["written"] >= KILLS
    assert counts["in_the_middle"] > KILLS / 20
    # The next update clears away what was left unfinished.
    with exclusive_file_lock(path):
        SnapshotFile(path).update({"vt-1": Baseline.of(sample_result([1.0]))})
    assert {file.name for file in tmp_path.iterdir()} == {"m2a.json", "m2a.json.lock"}


# Files may grow to a limit and no further, as on a full disk; the signal for that is turned into an error.
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from drift.records.snapshots import Baseline, SnapshotError, SnapshotFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    SnapshotFile(Path(sys.argv[1])).update({"vt-512": Baseline((1.0,) * 900, ("0" * 8,) * 900, {"torch": "1"})})
except SnapshotError as error:
    print(error)
"""


@pytest.mark.parametrize("room", [0, 1000, 5000])
def test_a_full_disk_leaves_the_old_file(tmp_path, room):
    """Where the disk has no room, one error names the file, which stays as it was, and nothing unfinished is left."""
    path = tmp_path / "m2a.json"
    SnapshotFile(path).update({"vt-256": Baseline.of(sample_result([1.0, 0.0]))})
    before = path.read_bytes()
    command = [sys.executable, "-c", FULL_DISK, str(path), str(room)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line == f"snapshot file {path} cannot be written: File too large. It was left as it is."
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
