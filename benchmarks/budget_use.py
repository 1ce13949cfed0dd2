"""How much of their length prompts use, for every task and length, and how long they take to make.

    python benchmarks/budget_use.py --tokenizer FOLDER [--samples 100] [--lengths 777 1024 ...]

Checks besides that no prompt overruns its length; a task that cannot fit is listed with its error.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from generators.budget import LengthTooSmall
from generators.corpora.sets import corpora
from generators.examples import ExampleSource
from generators.tasks.registry import RULER, tasks
from generators.tokenizer_files import load_tokenizer


def main() -> int:
    """Prints a table; the exit status is 1 where a prompt overruns its length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of a tokenizer")
    parser.add_argument("--corpus", default="embedded", help="embedded or real")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--lengths", type=int, nargs="+", default=[777, 1024, 2048, 4096, 16384, 131072])
    given = parser.parse_args()
    tokenizer = load_tokenizer(given.tokenizer / "tokenizer.json")
    print(f"| mean use of the length, % | {' | '.join(map(str, given.lengths))} |")
    print(f"|---|{'---:|' * len(given.lengths)}")
    overruns, errors, began = 0, [], time.perf_counter()
    for name in RULER:
        cells = []
        for length in given.lengths:
            task = tasks()[name]
            source = ExampleSource(task, length, tokenizer, corpora(given.corpus), task.tokens_to_generate)
            try:
                used = [len(example.ids) + task.tokens_to_generate for example in source.stream(given.samples)]
            except LengthTooSmall as error:
                errors.append(str(error))
                cells.append("-")
                continue
            overruns += sum(each > length for each in used)
            cells.append(f"{100 * sum(used) / len(used) / length:.2f}")
        print(f"| {name} | {' | '.join(cells)} |")
    seconds = time.perf_counter() - began
    print(f"\n{overruns} prompts overrun their length. {given.samples} samples a cell, {seconds:.0f} s.")
    for error in errors:
        print(f"* {error}")
    return int(overruns > 0)


if __name__ == "__main__":
    sys.exit(main())
