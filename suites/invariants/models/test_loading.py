"""A card's files are found under the names they are published under."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from drift.exit_statuses import ExitStatus
from drift.records.results import ResultFolder
from generators.tokenizer_files import FileTokenizer
from generators.trie_tokenization import TrieTokenizer
from models.cards import Card
from models.checkpoints.errors import CheckpointError
from models.families import families
from models.loading import prompting
from suites.support.runs import run
from zoo.cards import FOLDER, ZooError, load_zoo

HUB = "someone/model"


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A folder that stands for a repository of the hub; what is downloaded lies in another."""

    def download(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert repository == HUB
        for path in (tmp_path / "hub").iterdir():
            if any(path.match(pattern) for pattern in allow_patterns):
                (tmp_path / "downloaded" / path.name).write_bytes(path.read_bytes())
        return str(tmp_path / "downloaded")

    (tmp_path / "hub").mkdir()
    (tmp_path / "downloaded").mkdir()
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return tmp_path / "hub"


def trie_vocabulary() -> str:
    """The lines of an RWKV vocabulary of all single bytes."""
    return "".join(f"{byte + 1} {bytes([byte])!r} 1\n" for byte in range(256))


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("tokenizer.json", (FOLDER / "pocket" / "tokenizer.json").read_text(encoding="utf-8"), FileTokenizer),
        ("rwkv_vocab_v20230424.txt", trie_vocabulary(), TrieTokenizer),
    ],
)
def test_a_tokenizer_of_the_hub_has_either_form(hub, name, content, kind):
    """A hub id gives the tokenizer.json or the RWKV vocabulary that its repository holds among other files."""
    (hub / name).write_text(content, encoding="utf-8")
    (hub / "vocab.txt").write_text("something else", encoding="utf-8")
    tokenizer, _ = prompting(Card("m", "rwkv6", tokenizer=HUB, hub=HUB, revision="main"), hub)
    assert isinstance(tokenizer, kind)


def test_a_hub_id_without_a_tokenizer_is_refused(hub):
    """A repository without any form of tokenizer is refused by name, with the files it might have had."""
    (hub / "vocab.txt").write_text("something else", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"model m: .*someone/model.* tokenizer\.json, rwkv_vocab_\*\.txt"):
        prompting(Card("m", "rwkv6", tokenizer=HUB, hub=HUB, revision="main"), hub)


def test_every_card_has_a_family():
    """Each card of the built-in zoos with a checkpoint names a family that has a loader."""
    cards = [card for name in ("paper", "pocket") for card in load_zoo(name).models.values()]
    assert {card.family for card in cards if card.path or card.hub} <= {
        name for name, family in families().items() if family.needs_checkpoint
    }


SMALL_ZOO = """
samples = 2
batch_tokens = 2048
tokens_to_generate = { niah_single_1 = 20 }

[sweeps.ruler]
tasks = ["niah_single_1"]
lengths = [192, 256]
[sweeps.niah_position]
tasks = ["niah_single_1"]
lengths = [192]
[sweeps.niah_format]
tasks = ["niah_single_1"]
lengths = [192]
"""

CARD = """
[models.{name}]
family = "{family}"
path = "{path}"
tokenizer = "tokenizer.json"
end_of_sequence = "<|endoftext|>"
"""


@pytest.mark.slow
def test_no_length_beyond_a_models_positions_is_asked_unless_its_card_says_so(tmp_path):
    """A cell longer than its model has positions fails before decoding, naming both, unless the card allows it."""
    import transformers

    shutil.copy(FOLDER / "pocket" / "tokenizer.json", tmp_path)
    size = prompting(Card("m", "llama", tokenizer="tokenizer.json"), tmp_path)[0].vocabulary_size
    configuration = transformers.LlamaConfig(
        vocab_size=size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=200,
    )
    transformers.LlamaForCausalLM(configuration).save_pretrained(tmp_path / "llama")
    shutil.copytree(FOLDER / "pocket" / "m2a", tmp_path / "m2a")
    cards = CARD.format(name="near", family="llama", path="llama")
    cards += CARD.format(name="far", family="llama", path="llama") + "extrapolate = true\n"
    cards += CARD.format(name="free", family="state-spaces", path="m2a")
    (tmp_path / "small.toml").write_text(SMALL_ZOO + cards, encoding="utf-8")

    options = (f"--zoo={tmp_path / 'small.toml'}", f"--results={tmp_path / 'results'}", "--snapshot-update")
    done = run("suites/evaluation/test_ruler.py", *options)
    assert done.returncode == ExitStatus.INCOMPLETE, done.stdout
    assert (
        "near-niah_single_1-256: model near has positions for 200 tokens, the cell's length is 256; leave the length "
        "out, or set extrapolate = true on the model's card" in done.stdout
    )
    assert "Traceback" not in done.stdout
    written = {(result.model, result.length) for result in ResultFolder(tmp_path / "results").read()}
    assert written == {("near", 192), ("far", 192), ("far", 256), ("free", 192), ("free", 256)}


def test_extrapolate_is_a_choice(tmp_path):
    """The card field extrapolate is true or false, and false where a card says nothing."""
    path = tmp_path / "own.toml"
    card = CARD.format(name="m", family="llama", path="llama")
    path.write_text(SMALL_ZOO + card, encoding="utf-8")
    assert not load_zoo(str(path)).models["m"].extrapolate
    path.write_text(SMALL_ZOO + card + 'extrapolate = "yes"\n', encoding="utf-8")
    with pytest.raises(ZooError, match=r"models\.m\.extrapolate must be true or false, not 'yes'"):
        load_zoo(str(path))
