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
        ('emulate = "mamba-ssm#1027"', "models.m2a.emulate must be a list of different values, not 'mamba-ssm#1027'"),
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


@pytest.mark.parametrize("option", ["--threads", "--samples"])
@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_a_number_that_cannot_be_is_named(option, number, capsys):
    """A count below one, or that is none, is refused by its option."""
    with pytest.raises(SystemExit) as status:
        main(["train", "m2a", f"{option}={number}"])
    assert status.value.code == 2
    assert f"{option}: must be a whole number of at least 1, not '{number}'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "train"])
def test_an_unknown_device_is_one_line(command, capsys):
    """A device that does not exist is refused by name."""
    assert main([command, "m2a", "--device", "abacus"]) == 2
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert told.startswith("error: --device abacus: ")


def test_what_is_no_zoo_is_one_line(tmp_path, capsys):
    """A folder, a binary file and one nested without end, given as a zoo, are one line each."""
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "binary.toml").write_bytes(b"\x7fELF\x01\x00\xff")
    (tmp_path / "deep.toml").write_text("a = " + "{ a = " * 100_000, encoding="utf-8")
    for name in ("folder", "binary", "deep", "none"):
        assert main(["list", "--zoo", str(tmp_path / f"{name}.toml")]) == 2
        (told,) = capsys.readouterr().err.strip().splitlines()
        assert str(tmp_path / f"{name}.toml") in told


def test_a_deep_configuration_is_one_line(tmp_path, capsys):
    """A `config.json` nested without end is refused by its path."""
    zoo = SmallZoo.make(tmp_path, "m2a")
    path = tmp_path / "m2a" / "config.json"
    path.write_text("[" * 100_000, encoding="utf-8")
    assert main(["check", "m2a", "--zoo", str(zoo.file)]) == 2
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert str(path) in told


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    """A run's folder that is a file is named."""
    taken = tmp_path / "taken"
    taken.write_text("")
    assert main(["train", "m2a", "--run", str(taken)]) == 2
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert str(taken) in told
