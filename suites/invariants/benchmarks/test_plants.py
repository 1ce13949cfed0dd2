"""The benchmarks of planted changes and repeated nights: what they plant, and how they read what the suite says."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.copied_zoos import PlantError, ZooCopy
from benchmarks.planted_changes import PlantedFinding, Skipped, found
from benchmarks.planted_changes import table as table_of_changes
from benchmarks.plants import PLANTS, rounded
from benchmarks.repeated_nights import repetition
from benchmarks.repeated_nights import table as table_of_nights
from benchmarks.suite_nights import NightError, SuiteNight
from models.checkpoints.files import weights_fingerprint
from suites.support.runs import REPOSITORY
from suites.support.sample_results import sample_result
from zoo.cards import Zoo, load_zoo

quick = settings(max_examples=60)
POCKET = REPOSITORY / "zoo" / "pocket"

_ZOO = """
samples = 8

[tokens_to_generate]
niah_single_1 = 48

[tasks.many_hops]
like = "vt"
hops = 12

[sweeps.ruler]
tasks = ["niah_single_1", "vt"]
lengths = [512]
"""

_CARD = """
[models.{name}]
family = "state-spaces"
path = "m2a"
tokenizer = "tokenizer.json"
end_of_sequence = "<|endoftext|>"
"""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """A zoo of two models that have one checkpoint."""
    folder = tmp_path_factory.mktemp("plants")
    shutil.copy(POCKET / "tokenizer.json", folder)
    shutil.copytree(POCKET / "m2a", folder / "m2a")
    (folder / "twins.toml").write_text(_ZOO + _CARD.format(name="one") + _CARD.format(name="two"), encoding="utf-8")
    return load_zoo(str(folder / "twins.toml"))


def _read_again(copy: ZooCopy) -> Zoo:
    copy.write()
    return load_zoo(str(copy.file))


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "pytorch_model.bin", weights_only=True)


@quick
@given(
    st.integers(2, 8), st.lists(st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=3), min_size=1, max_size=4)
)
def test_rounded_weights_are_multiples_of_a_step(bits, rows):
    """Each row keeps its largest weight, has at most 2 ** bits - 1 values, and none moves by more than half a step."""
    given_rows = torch.tensor(rows)
    result = rounded(given_rows, bits)
    step = given_rows.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert ((result - given_rows).abs() <= step / 2 + 1e-5).all()
    assert torch.allclose(result.abs().amax(-1), given_rows.abs().amax(-1))
    assert torch.allclose(rounded(result, bits), result, atol=1e-5)


def test_an_unchanged_copy_is_the_zoo(zoo, tmp_path):
    """A copy asks the same of the same checkpoints and tokenizers, wherever it is."""
    copied = _read_again(ZooCopy(zoo, tmp_path))
    assert (copied.matrix(), copied.samples, copied.tokens_to_generate) == (
        zoo.matrix(),
        zoo.samples,
        zoo.tokens_to_generate,
    )
    assert copied.tasks["many_hops"].parameters == zoo.tasks["many_hops"].parameters
    for name, card in zoo.models.items():
        paths = {field: str(zoo.folder / getattr(card, field)) for field in ("path", "tokenizer")}
        assert copied.models[name] == replace(card, **paths)


@pytest.mark.parametrize("key", ["round-8", "round-4", "norm"])
def test_weights_are_planted_into_one_model(zoo, tmp_path, key):
    """Planting changes the weights of the copy's model alone: neither its shapes, nor another model, nor the zoo."""
    before = weights_fingerprint(zoo.folder / "m2a")
    copy = ZooCopy(zoo, tmp_path)
    PLANTS[key].apply(copy, "one")
    copied = _read_again(copy)
    own = Path(copied.models["one"].path)
    assert tmp_path in own.parents
    assert copied.models["two"].path == str(zoo.folder / "m2a")
    assert weights_fingerprint(zoo.folder / "m2a") == before
    old, new = _tensors(zoo.folder / "m2a"), _tensors(own)
    assert {name: tensor.shape for name, tensor in old.items()} == {name: t.shape for name, t in new.items()}
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    if key == "norm":
        (name,) = changed
        assert torch.allclose(new[name], 1.05 * old[name])
    else:
        assert changed
        assert not any("embed" in name or old[name].dim() < 2 for name in changed)


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ("defect", {"path", "emulate"}),
        ("beginning", {"beginning_of_sequence", "tokenizer"}),
        ("tokenizer", {"tokenizer"}),
        ("rotary", {"path"}),
        ("transformers", set()),
    ],
)
def test_cards_are_changed_for_one_model(zoo, tmp_path, key, fields):
    """A change of a card changes the fields that it is about, of one model."""
    copy = ZooCopy(zoo, tmp_path)
    before = json.loads(json.dumps(copy.content["models"]))
    PLANTS[key].apply(copy, "one")
    after = copy.content["models"]
    assert {name for name in after["one"] if after["one"].get(name) != before["one"].get(name)} <= fields
    assert fields - {"tokenizer"} <= {
        name for name in after["one"] if after["one"].get(name) != before["one"].get(name)
    }
    assert after["two"] == before["two"]
    _read_again(copy)


def test_budgets_are_halved_for_all(zoo, tmp_path):
    """The budget of every task that is asked is halved, RULER's own too."""
    copy = ZooCopy(zoo, tmp_path)
    PLANTS["budget"].apply(copy, "one")
    halved = _read_again(copy)
    assert {task: halved.budget(task) for task in ("niah_single_1", "vt")} == {"niah_single_1": 24, "vt": 15}


def test_a_model_without_a_place_for_a_change_is_told(zoo, tmp_path):
    """What has no rotary embedding, no convolved attention or no checkpoint here is refused with the reason."""
    copy = ZooCopy(zoo, tmp_path)
    config = copy.checkpoint("one") / "config.json"
    content = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**content, "attn_layer_idx": []}), encoding="utf-8")
    for key, reason in (("rotary", "no rotary embedding"), ("defect", "no attention with a convolution")):
        with pytest.raises(PlantError, match=reason):
            PLANTS[key].apply(copy, "one")
    copy.card("two")["path"] = "somewhere/on-the-hub"
    with pytest.raises(PlantError, match="its card names no checkpoint on this machine"):
        PLANTS["norm"].apply(copy, "two")


_ENVIRONMENT = {"weights": "a", "transformers": "1", "torch": "2"}
BEFORE = replace(sample_result([1.0] * 8, environment=_ENVIRONMENT), log_likelihoods=(-0.5,) * 8)
NOW = replace(BEFORE, scores=(0.0,) * 8, environment={**_ENVIRONMENT, "weights": "b"})
QUIET = {"title": "no shift", "fallen": [], "pools": [], "problems": [], "early_warnings": [], "suspects": []}
FALLEN = {"model": "m2a", "key": BEFORE.key, "shift": {"points": -100.0}}
POOL = {"model": "m2a", "by": "task", "value": "vt", "points": -9.0, "adjusted": 1e-5}
WARNING = {"kind": "drift", "pool": {"model": "m2a", "by": None, "value": None}, "nats": -0.25, "adjusted": 1e-4}
SCATTER = {"kind": "scatter", "pool": WARNING["pool"], "nats": 0.03}
PROBLEM = {"name": f"m2a-{BEFORE.key}", "reason": "not comparable"}


def _suspects(name: str) -> list[dict[str, object]]:
    return [{"model": "m2a", "since_accepted": [{"name": name, "text": f"{name}: a → b"}]}]


def _night(result=NOW, status=1, **alert):
    cells = {("m2a", result.key): result, ("sl", result.key): replace(BEFORE, model="sl")}
    return SuiteNight(status, 10.0, {**QUIET, **alert}, cells)


ACCEPTED = _night(BEFORE, status=0)


def _found(run, key="round-4") -> PlantedFinding:
    return found(PLANTS[key], "m2a", ACCEPTED, run, ("m2a",), "sl")


@pytest.mark.parametrize(
    ("alert", "caught"),
    [
        ({}, "neither"),
        ({"fallen": [FALLEN]}, "accuracy"),
        ({"pools": [POOL]}, "accuracy"),
        ({"early_warnings": [WARNING]}, "log-likelihood"),
        ({"early_warnings": [SCATTER]}, "log-likelihood"),
        ({"problems": [PROBLEM]}, "prompts"),
        ({"fallen": [FALLEN], "early_warnings": [WARNING]}, "accuracy and log-likelihood"),
    ],
)
def test_a_harmful_change_is_to_be_caught_and_named(alert, caught):
    """It counts as right where it is caught in any way, with the planted model and the right suspect named."""
    finding = _found(_night(**alert, suspects=_suspects("weights")))
    assert (finding.caught, finding.right) == (caught, caught != "neither")
    assert (finding.before, finding.now, finding.nats, finding.suspect) == (100.0, 0.0, 0.0, "weights")
    assert finding.recorded == {"weights": "the checkpoint's weights: a → b"}
    if alert:
        assert finding.named == ("m2a",)
        assert not _found(_night(**alert, suspects=_suspects("torch"))).right
        assert not _found(_night(**alert)).right
        other = {**alert, "pools": [*alert.get("pools", []), {**POOL, "model": "sl"}]}
        assert not _found(_night(**other, suspects=_suspects("weights"))).right


@pytest.mark.parametrize(
    ("status", "alert", "environment", "right"),
    [
        (0, {}, {"transformers": "2"}, True),
        (0, {}, {}, False),
        (1, {"fallen": [FALLEN]}, {"transformers": "2"}, False),
        (0, {"early_warnings": [WARNING]}, {"transformers": "2"}, False),
    ],
)
def test_a_harmless_change_is_to_be_on_record_and_quiet(status, alert, environment, right):
    """It counts as right where nothing is said of it though the results show it."""
    now = replace(BEFORE, environment={**_ENVIRONMENT, **environment})
    assert _found(_night(now, status, **alert), "transformers").right is right


def test_a_model_without_results_has_no_finding():
    """A cell that was accepted but has no result is no finding, and neither is a model that was not run."""
    run = _night()
    missing = replace(run, results={})
    with pytest.raises(NightError, match=f"m2a: no result of {BEFORE.key}"):
        _found(missing)
    with pytest.raises(NightError, match="tpp: no result of any cell"):
        found(PLANTS["norm"], "tpp", ACCEPTED, run, ("tpp",))


def test_the_tables_count():
    """The tables count what was caught by what, what differs between nights, and name what was not run and why."""
    caught = _found(_night(fallen=[FALLEN], suspects=_suspects("weights")))
    skipped = Skipped("rotary base doubled", "mamba2", "it has no rotary embedding")
    text = table_of_changes([caught, _found(_night()), skipped])
    assert "Harmful changes, 2 nights, caught by: accuracy 1, neither 1." in text
    assert "As it should be: 1 of 2." in text
    assert "| rotary base doubled | mamba2 | | | | | | | not run: it has no rotary embedding | | | |" in text

    moved = replace(BEFORE, scores=(1.0,) * 7 + (0.0,), log_likelihoods=(-0.5,) * 6 + (-0.498, -0.501))
    loud = repetition(ACCEPTED, _night(moved, 1, early_warnings=[WARNING]), (2, 512, 1))
    assert (loud.examples, loud.scores, loud.predictions, loud.log_likelihoods) == (16, 1, 0, 2)
    assert loud.largest == pytest.approx(0.002)
    quiet = repetition(ACCEPTED, ACCEPTED, (1, None, 0))
    assert (quiet.quiet, quiet.log_likelihoods, loud.quiet) == (True, 0, False)
    assert "Nights that raised an alert or warned: 1 of 2." in table_of_nights([loud, quiet])
