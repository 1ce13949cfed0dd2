"""Every family's decoder, and every checkpoint of the pocket zoo, gives one answer whatever the way to it."""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from generators.corpora.sets import EmbeddedCorpora
from models.cards import Card
from models.families import families
from models.loading import load
from suites.invariants.models import test_llama, test_recurrent_gemma, test_rwkv6, test_transformers_models
from suites.support import tiny_models
from suites.support.decoder_equalities import (
    batched_difference,
    drafts_difference,
    forked_difference,
    greedy_tokens,
    pieces_difference,
    steps_difference,
)
from suites.support.equality_table import EQUALITY, GREEDY, Equality, equality_table
from suites.support.runs import run
from zoo.cards import load_zoo

# The largest difference between logits, as a share of their scale.
TOLERANCE = 1e-4
STEPS = 64
POCKET = load_zoo("pocket")

RANDOM: dict[str, Callable[[], Any]] = {
    "state-spaces mamba2": lambda: tiny_models.tiny("mamba2"),
    "state-spaces hybrid": lambda: tiny_models.tiny("hybrid"),
    "state-spaces transformer": lambda: tiny_models.tiny("transformer"),
    "rwkv6": lambda: test_rwkv6.tiny("finch"),
    "recurrent-gemma": lambda: test_recurrent_gemma.tiny("griffin"),
    "llama": lambda: test_llama.tiny("llama"),
    "llama grouped, tied": lambda: test_llama.tiny("grouped"),
    "transformers llama": lambda: test_transformers_models.tiny("llama"),
    "transformers gpt-neox": lambda: test_transformers_models.tiny("gpt-neox"),
    "transformers bamba": lambda: test_transformers_models.tiny("bamba"),
}
# A model that takes on a defect of another implementation is meant to differ.
TRAINED: dict[str, Card] = {
    f"pocket {card.name}": card
    for card in POCKET.models.values()
    if families()[card.family].needs_checkpoint and not card.emulate
}

Check = Callable[..., float]
CHECKS: dict[str, Check] = {
    "batched = single": lambda made, **of: batched_difference(made, [40, 40, 40], 0, **of),
    "unequal lengths = alone": lambda made, **of: batched_difference(made, [70, 3, 97, 1], 1, **of),
    "draft = forward": lambda made, **of: drafts_difference(made, [7, 40, 12], [3, 1, 9], **of),
    "forked = plain": lambda made, **of: forked_difference(made, [7, 40, 12], [2, 0, 1, 1], **of),
    "pieces = whole": lambda made, **of: pieces_difference(made, [[30, 1], [5, 66], [1, 20]], **of),
    "step = full forward": lambda made, **of: steps_difference(made, 9, 70, **of),
}

every_decoder = pytest.mark.parametrize("name", [*RANDOM, *TRAINED])


@functools.cache
def decoder(name: str) -> tuple[Any, int]:
    """The decoder and its number of tokens."""
    if name in RANDOM:
        return RANDOM[name](), tiny_models.MAMBA2["vocab_size"]
    model = load(TRAINED[name], POCKET.folder, "cpu", EmbeddedCorpora())
    return model.decoder, model.tokenizer.vocabulary_size


@every_decoder
@pytest.mark.parametrize("check", CHECKS)
def test_logits_are_the_same_whatever_the_way(name, check, record_property):
    """Batched, padded, forked, in pieces or step by step, the logits stay within a ten-thousandth of their scale."""
    made, vocabulary = decoder(name)
    found = CHECKS[check](made, vocabulary=vocabulary)
    record_property(EQUALITY, Equality(name, check, found).to_json())
    assert found < TOLERANCE


@every_decoder
def test_greedy_tokens_are_those_of_full_forwards(name, record_property):
    """Batched cached decoding of unequal prompts takes 64 tokens, each the likeliest by a full forward before it."""
    made, vocabulary = decoder(name)
    found, likeliest = greedy_tokens(made, [3, 1, 66], STEPS, vocabulary=vocabulary)
    pairs = [pair for rows in zip(found, likeliest, strict=True) for pair in zip(*rows, strict=True)]
    same = sum(ours == theirs for ours, theirs in pairs)
    record_property(EQUALITY, Equality(name, GREEDY, same=same, compared=len(pairs)).to_json())
    assert found == likeliest
    assert len(pairs) == 3 * STEPS


def section(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """The rows of the table that a run printed, without what is drawn around them."""
    _, _, below = done.stdout.partition(" decoder equalities ")
    return [re.split(r"\s*[│┃]\s*", line.strip("│┃ ")) for line in below.splitlines() if line.startswith(("│", "┃"))]


# Cases that record what such tests record, without the models.
RECORDING = """
import pytest
from suites.support.equality_table import EQUALITY, Equality

@pytest.mark.parametrize("decoder", ["b", "a"])
@pytest.mark.parametrize("measured", [{"check": "one", "difference": 2e-7}, {"check": "two", "same": 3, "compared": 4}])
def test_recording(decoder, measured, record_property):
    record_property(EQUALITY, Equality(decoder, **measured).to_json())
    assert "difference" in measured
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_table_shows_what_was_measured(workers, tmp_path, pytestconfig):
    """A run, in one process or in several, ends in a table of a row a decoder and a column a check, failed or not."""
    plugin = "suites.support.equality_table"
    assert pytestconfig.pluginmanager.has_plugin(plugin)
    (tmp_path / "test_recording.py").write_text(RECORDING, encoding="utf-8")
    done = run(str(tmp_path), "-p", plugin, "-n", workers)
    assert "2 failed, 2 passed" in done.stdout, done.stdout
    assert section(done) == [
        ["decoder", "one", "two"],
        ["a", "2.0e-07", "3 of 4"],
        ["b", "2.0e-07", "3 of 4"],
    ]


def test_a_check_that_did_not_run_is_a_gap():
    """Decoders need not have been put to the same checks."""
    table = equality_table([Equality("a", "one", 1e-7), Equality("b", "two", same=3, compared=4)])
    columns = [list(column.cells) for column in table.columns]
    assert columns == [["a", "b"], ["1.0e-07", "·"], ["·", "3 of 4"]]
