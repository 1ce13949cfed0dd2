"""Our prompts and scores against RULER's own scripts, run here.

    python benchmarks/ruler_agreement.py --ruler PATH --tokenizer FOLDER [--cases FILE.json]

PATH is a checkout of RULER as for benchmarks/generation.py. Prompts: every task is made by RULER and by
us; with haystack, keys, values, names, lists and documents masked, the texts must be the same to the
character. Scores: RULER's own functions score generated predictions with odd characters, empty ones
and several references; ours must agree. --cases keeps those with RULER's scores, for the tests.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.generation import TASKS, ruler_command
from generators.corpora.sets import EmbeddedCorpora
from generators.examples import ExampleSource
from generators.ruler_files import prompt_record
from generators.scoring import all_references, best_reference
from generators.tasks.registry import RULER, tasks
from generators.tokenizer_files import load_tokenizer

LENGTH = 4096
SAMPLES = 5
CASES = 1500

# What is the example's own, in order; the rest is RULER's wording.
_MASKS = {
    "niah": [
        (r"(?s)(afterwards\.\n).*(\nWhat (?:is|are all) )", r"\1HAYSTACK\2"),
        (r"for .*? mentioned", "for KEYS mentioned"),
    ],
    "vt": [
        (r"(?s)(following text\.\n\n).*?(\nQuestion: )", r"\1HAYSTACK\2"),
        (r"value \d+", "value VALUE"),
        (r"(they are:  )[A-Z]{3}(?: [A-Z]{3}){4}\n", r"\1NAMES\n"),
    ],
    "cwe": [
        (r"(?s)(most often\.\n).*?(\nQuestion: )", r"\1LIST\2"),
        (r"(list are:) 1\. .*? 10\. .*?\n", r"\1 ANSWER\n"),
    ],
    "fwe": [(r"(?s)(coded words\. ).*(\nQuestion: )", r"\1TEXT\2")],
    "qa": [
        (r"(?s)(given documents\.\n\n)Document 1:\n.*(\n\nAnswer the question)", r"\1DOCUMENTS\2"),
        (r"Question: .*? Answer:", "Question: QUESTION Answer:"),
    ],
}


def masked(task: str, text: str) -> str:
    """A prompt with everything masked that is the example's own."""
    for expression, mask in _MASKS[task.split("_")[0]]:
        text = re.sub(expression, mask, text)
    return text


def inside(task: str, text: str) -> list[str]:
    """What a prompt's haystack is made of, each kind of line once, with words and numbers masked."""
    found = set()
    for line in re.split(r"\n+", text)[1:]:
        if task in ("niah_single_1", "niah_multikey_2", "niah_multikey_3", "vt"):
            line = re.sub(r"for (?!KEYS).*? is: .*?\.$", "for KEY is: VALUE.", line)
            line = re.sub(
                r"VAR [A-Z]+ = (VAR [A-Z]+|\d+)", lambda m: "VAR A = " + ("VAR B" if "VAR" in m[1] else "1"), line
            )
            found.add(line if len(line) < 100 and "?" not in line else "")
    return sorted(found)


def prompts(given: argparse.Namespace, work: Path) -> int:
    """Compares the prompts of all tasks; returns how many tasks differ."""
    tokenizer = load_tokenizer(given.tokenizer / "tokenizer.json")
    wrong = 0
    for name in TASKS:
        command = ruler_command(given, name, LENGTH, SAMPLES, work)
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        lines = (work / "ruler" / name / "validation.jsonl").read_text(encoding="utf-8").splitlines()
        theirs = [line["input"] + line["answer_prefix"] for line in map(json.loads, lines)]
        task = tasks()[name]
        source = ExampleSource(task, LENGTH, tokenizer, EmbeddedCorpora(), task.tokens_to_generate)
        records = [prompt_record(example, task.tokens_to_generate) for example in source.stream(SAMPLES)]
        ours = [record.input + record.answer_prefix for record in records]
        same = {masked(name, text) for text in theirs} == {masked(name, text) for text in ours}
        # The last noise line may be cut after any sentence of ours.
        noise = {line for text in ours for line in inside(name, text)}
        lines_same = {line for text in theirs for line in inside(name, text)} <= noise
        same_fields = set(map(type, json.loads(lines[0])["outputs"])) == {str} and all(
            field in json.loads(records[0].to_json())
            for field in ("index", "input", "outputs", "length", "answer_prefix")
        )
        wrong += not (same and lines_same and same_fields)
        print(f"{name}: {'identical' if same and lines_same and same_fields else 'DIFFERENT'}")
        if not same:
            print(*sorted({masked(name, text) for text in (theirs[0], ours[0])}), sep="\n---\n")
    return wrong


def _rulers_functions(ruler: Path) -> tuple[Callable[..., str], Callable[..., float], Callable[..., float]]:
    """RULER's cleaning of a prediction and its two scores, from its source."""
    held: dict[str, Any] = {"re": re}
    for file in ("scripts/eval/synthetic/constants.py", "scripts/eval/evaluate.py"):
        tree = ast.parse((ruler / file).read_text(encoding="utf-8"))
        wanted = ("postprocess_pred", "string_match_all", "string_match_part")
        tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in wanted]
        exec(compile(tree, file, "exec"), held)
    return held["postprocess_pred"], held["string_match_all"], held["string_match_part"]


def scores(given: argparse.Namespace) -> int:
    """Compares scores; returns how many cases differ."""
    clean, score_all, score_part = _rulers_functions(given.ruler)
    draw = random.Random(2407)
    odd = list("abcXYZ019 .,-\n\t'\"\x00\x0b\x1c\x1f\x7f\x85\xa0\u00df\u0130\u0131\u03a3\u03c2\u00e9\u65e5\U0001f44d")
    cases, wrong = [], 0
    for _ in range(CASES):
        words = ["".join(draw.choices(odd, k=draw.randint(1, 6))) for _ in range(draw.randint(1, 5))]
        held = [draw.choice([str, str.upper, str.lower, str.swapcase])(word) for word in words if draw.random() < 0.6]
        rest = ["".join(draw.choices(odd, k=draw.randint(0, 4))) for _ in held]
        prediction = "" if draw.random() < 0.05 else "".join(a + b for a, b in zip(rest, held, strict=True))
        cleaned = clean(prediction, {})
        case = {
            "prediction": prediction,
            "references": words,
            "all": score_all([cleaned], [words]),
            "part": score_part([cleaned], [words]),
            "null": len(cleaned) == 0,
        }
        ours = [round(100 * score(prediction, words), 2) for score in (all_references, best_reference)]
        wrong += ours != [case["all"], case["part"]]
        cases.append(case)
    print(f"scores: {CASES - wrong} of {CASES} cases equal RULER's")
    if given.cases:
        given.cases.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n", encoding="utf-8")
    return wrong


def main() -> int:
    """Compares both; the exit status is 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ruler", type=Path, required=True, help="checkout of RULER")
    parser.add_argument("--ruler-python", default=sys.executable, help="Python that has RULER's requirements")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of a tokenizer")
    parser.add_argument("--cases", type=Path, help="file to keep the scored cases in")
    given = parser.parse_args()
    assert set(TASKS) == set(RULER)
    wrong = scores(given)
    with tempfile.TemporaryDirectory() as folder:
        wrong += prompts(given, Path(folder))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
