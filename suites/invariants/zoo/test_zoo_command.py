"""`python -m zoo list` and `check`: what a zoo holds, and whether a model decodes."""

from __future__ import annotations

import re
import shutil

import pytest

from suites.support.runs import REPOSITORY, SmallZoo
from zoo.__main__ import main
from zoo.cards import load_zoo


@pytest.mark.parametrize("zoo", ["paper", "pocket", "sanity"])
def test_every_card_is_listed(zoo, capsys):
    """The list of a zoo names every card and its family."""
    assert main(["list", "--zoo", zoo]) == 0
    # Narrow columns fold long names over lines.
    shown = re.sub(r"[\s│┃]", "", capsys.readouterr().out)
    for card in load_zoo(zoo).models.values():
        assert card.name[:8] in shown
        assert card.family[:5] in shown


def test_a_model_is_checked(capsys):
    """A check says how many parameters there are, what stands around a prompt, and how the model goes on."""
    assert main(["check", "m2a"]) == 0
    shown = capsys.readouterr().out
    assert "22, 513,164 parameters" in shown
    assert "before a prompt: nothing" in shown
    assert re.search(r"'The grass is green. The sky is blue.' goes on: '.{10,}'", shown)
    assert re.search(r"largest memory: [\d,]+ MiB", shown)


def test_a_beginning_is_told(tmp_path, capsys):
    """A check says which token begins a prompt, by name and number."""
    zoo = SmallZoo.make(tmp_path, "m2a")
    zoo.file.write_text(
        zoo.file.read_text(encoding="utf-8") + 'beginning_of_sequence = "<|endoftext|>"\n', encoding="utf-8"
    )
    assert main(["check", "m2a", "--zoo", str(zoo.file)]) == 0
    assert "before a prompt: <|endoftext|> (0)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('emulate = ["mamba-ssm#1"]', "mamba-ssm#1"),
        ('chat_template = "nowhere.jinja"', "nowhere.jinja"),
        ('beginning_of_sequence = "<first>"', "'<first>'"),
        ('emulate = "mamba-ssm#1027"', "emulate must be a list"),
        ("window = 3", "window is for the oracle"),
    ],
)
def test_a_card_that_cannot_be_met_is_one_line(line, name, tmp_path, capsys):
    """A card with a defect, template or token that does not exist gives one line that names it."""
    zoo = SmallZoo.make(tmp_path, "m2a")
    zoo.file.write_text(zoo.file.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    assert main(["check", "m2a", "--zoo", str(zoo.file)]) == 2
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert told.startswith("error: ")
    assert name in told


def test_a_damaged_checkpoint_is_one_line(tmp_path, capsys):
    """A checkpoint that was cut short gives one line that names the file."""
    zoo = SmallZoo.make(tmp_path, "m2a")
    weights = tmp_path / "m2a" / "pytorch_model.bin"
    weights.write_bytes((REPOSITORY / "zoo" / "pocket" / "m2a" / "pytorch_model.bin").read_bytes()[:100_000])
    assert main(["check", "m2a", "--zoo", str(zoo.file)]) == 2
    assert str(weights) in capsys.readouterr().err
    shutil.rmtree(tmp_path / "m2a")
    assert main(["check", "m2a", "--zoo", str(zoo.file)]) == 2
    assert "no checkpoint directory" in capsys.readouterr().err


def test_an_unknown_model_is_named(capsys):
    """A name that no card has is refused with the nearest that one has."""
    assert main(["check", "m2b"]) == 2
    assert "unknown model m2b (did you mean m2a?)" in capsys.readouterr().err
