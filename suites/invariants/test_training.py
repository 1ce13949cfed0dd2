"""Training: its texts, and that a stopped run goes on as if nothing had happened."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.corpora.essays import embedded_essays
from generators.draws import TRAINING, Draw
from generators.tokenization import load_tokenizer
from models.checkpoints import load_state_spaces
from suites.invariants.runs import REPOSITORY
from zoo.__main__ import main
from zoo.training.recipes import Stage, load_recipe
from zoo.training.texts import TrainingTexts
from zoo.training.tokenizer import END_OF_TEXT
from zoo.training.trainer import Trainer

RECIPE = load_recipe("m2a")
TOKENIZER = load_tokenizer(REPOSITORY / "zoo" / "pocket" / "tokenizer.json", end_of_sequence=END_OF_TEXT)
NEEDLE = re.compile(r"One of the special magic \w+ for (.+?) is: (.+?)\.(?=[ \n])")


def _trainer(folder, steps: int) -> Trainer:
    recipe = dataclasses.replace(RECIPE, stages=(Stage(128, steps),), tokens_per_step=1024)
    return Trainer(recipe, TOKENIZER, embedded_essays(), folder)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([128, 256, 512]))
def test_training_texts_hold_what_they_ask_for(index, context):
    """A text stays within its context, and every value of a whole answer stands in a needle before it."""
    text = TrainingTexts(RECIPE.mixture, TOKENIZER, embedded_essays()).text(Draw(TRAINING, "test", index), context)
    assert 0 < len(text.ids) == len(text.answer) <= context
    read = TOKENIZER.decode([i for i, answer in zip(text.ids, text.answer, strict=True) if not answer])
    values = {value for _, value in NEEDLE.findall(read)}
    runs, current = [], []
    for token, answer in zip(text.ids, text.answer, strict=True):
        if answer and token != TOKENIZER.end_of_sequence:
            current.append(token)
        elif answer:
            runs.append(TOKENIZER.decode(current))
            current = []
    for run in runs:
        assert set(re.split(r", and |, ", run.strip().removesuffix("."))) <= values


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(0, 10**6))
def test_answers_are_tokenized_as_they_are_decoded(index):
    """A prompt's ids are a prefix of the ids of the prompt with its answer behind it."""
    text = TrainingTexts(RECIPE.mixture, TOKENIZER, embedded_essays()).text(Draw(TRAINING, "test", index), 512)
    first = text.answer.index(True)
    prompt = TOKENIZER.decode(text.ids[:first])
    assert TOKENIZER.encode(prompt).ids == text.ids[:first]


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    """A run that is dropped and started again ends with the weights of one that was not, bit for bit."""
    whole = _trainer(tmp_path / "whole", 6)
    for _ in whole.run(save_every=2):
        pass
    stopped = _trainer(tmp_path / "stopped", 6)
    for progress in stopped.run(save_every=2):
        if progress.step == 5:  # one step after the last save
            break
    again = _trainer(tmp_path / "stopped", 6)
    assert again.step == 4
    steps = [progress.step for progress in again.run(save_every=2)]
    assert steps == [5, 6]
    for (name, expected), found in zip(
        whole.model.state_dict().items(), again.model.state_dict().values(), strict=True
    ):
        assert torch.equal(expected, found), name


def test_training_lowers_the_loss(tmp_path):
    """Thirty steps of the recipe make the answers likelier."""
    progress = list(_trainer(tmp_path, 30).run())
    assert progress[-1].loss < 0.95 * progress[0].loss


def test_the_command_publishes_a_checkpoint(tmp_path, capsys):
    """`python -m zoo train` writes a checkpoint that loads, and says how to name a recipe right."""
    recipe = (REPOSITORY / "zoo" / "training" / "recipes" / "m2a.toml").read_text(encoding="utf-8")
    (tmp_path / "short.toml").write_text(re.sub(r"steps = \d+", "steps = 1", recipe), encoding="utf-8")
    out = tmp_path / "checkpoint"
    options = ["--run", str(tmp_path / "run"), "--out", str(out), "--samples", "2"]
    assert main(["train", str(tmp_path / "short.toml"), *options]) == 0
    load_state_spaces(out, torch.device("cpu"), torch.float32)
    assert main(["train", "m2b"]) == 2
    assert "no recipe 'm2b'; there are m2a" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["seed = ", "seed = 1", 'mixture = "all"'])
def test_a_damaged_recipe_is_named(tmp_path, capsys, text):
    """A recipe that is not TOML, or lacks fields, is refused by its file's name."""
    path = tmp_path / "damaged.toml"
    path.write_text(text, encoding="utf-8")
    assert main(["train", str(path)]) == 2
    assert str(path) in capsys.readouterr().err
