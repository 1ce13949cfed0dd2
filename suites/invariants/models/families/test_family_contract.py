"""What every family has to be: one answer whatever the way to it, and a record that says all that others ask."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import core.libraries
import models.families
from core.libraries import all_libraries, libraries_by_family
from drift.changes import Suspicion, changes
from generators.corpora.sets import EmbeddedCorpora
from models.cards import Card
from models.checkpoints.errors import CheckpointError, ConfigurationError
from models.checkpoints.files import read_configuration
from models.decoding.decoder import EmulatingDecoder
from models.decoding.greedy import GreedySettings, greedy
from models.families import families, family_named
from models.loading import load
from suites.support.decoder_equalities import (
    batched_difference,
    drafts_difference,
    forked_difference,
    greedy_tokens,
    pieces_difference,
    steps_difference,
)
from suites.support.equality_table import EQUALITY, GREEDY, Equality
from suites.support.runs import REPOSITORY
from suites.support.tiny_models import TOLERANCE, VOCABULARY, difference, random_ids, tiny, tiny_families
from zoo.cards import load_zoo

HALF_TOLERANCE = 5e-2
# Tokens that are decoded with a trained model, and with a random one.
STEPS, TINY_STEPS = 64, 24
POCKET = load_zoo("pocket")

# Their attention looks back a window, of which a state has all keys from the start.
BOUNDED = ("recurrent-gemma",)

TINY = [(name, kind) for name, each in tiny_families().items() for kind in each.kinds]
MAIN = [(name, kind) for name, each in tiny_families().items() for kind in each.main]
OURS = [(name, kind) for name, kind in TINY if tiny_families()[name].ours]
# A model that takes on a defect of another implementation is meant to differ.
TRAINED = [
    ("pocket", card.name)
    for card in POCKET.models.values()
    if family_named(card.family).needs_checkpoint and not card.emulate
]

every_kind = pytest.mark.parametrize(("family", "kind"), TINY)
main_kinds = pytest.mark.parametrize(("family", "kind"), MAIN)
every_own_kind = pytest.mark.parametrize(("family", "kind"), OURS)
every_decoder = pytest.mark.parametrize(("family", "kind"), [*TINY, *TRAINED])
every_family = pytest.mark.parametrize("family", families())

Check = Callable[..., float]
CHECKS: dict[str, Check] = {
    "batched = single": lambda made, **of: batched_difference(made, [40, 40, 40], 0, **of),
    "unequal lengths = alone": lambda made, **of: batched_difference(made, [70, 3, 97, 1], 1, **of),
    "draft = forward": lambda made, **of: drafts_difference(made, [7, 40, 12], [3, 1, 9], **of),
    "forked = plain": lambda made, **of: forked_difference(made, [7, 40, 12], [2, 0, 1, 1], **of),
    "pieces = whole": lambda made, **of: pieces_difference(made, [[30, 1], [5, 66], [1, 20]], **of),
    "step = full forward": lambda made, **of: max(
        steps_difference(made, first, time, **of) for first, time in ((1, 40), (66, 70), (130, 134))
    ),
}


@functools.cache
def decoder(family: str, kind: str) -> tuple[Any, int]:
    """The decoder and its number of tokens."""
    if family != "pocket":
        return tiny(family, kind), VOCABULARY
    model = load(POCKET.models[kind], POCKET.folder, "cpu", EmbeddedCorpora())
    return model.decoder, model.tokenizer.vocabulary_size


def new(family: str, kind: str) -> Any:
    """A model of a test's own."""
    return tiny_families()[family].kinds[kind]()


# One answer, whatever the way.


@every_decoder
@pytest.mark.parametrize("check", CHECKS)
def test_logits_are_the_same_whatever_the_way(family, kind, check, record_property):
    """Batched, padded, forked, in pieces or step by step, the logits stay within a ten-thousandth of their scale."""
    made, vocabulary = decoder(family, kind)
    found = CHECKS[check](made, vocabulary=vocabulary)
    if family == "pocket" or kind == tiny_families()[family].written:
        record_property(EQUALITY, Equality(f"{family} {kind}", check, found).to_json())
    assert found < TOLERANCE


@every_decoder
def test_greedy_tokens_are_those_of_full_forwards(family, kind, record_property):
    """Batched cached decoding of unequal prompts takes tokens, each the likeliest by a full forward before it."""
    made, vocabulary = decoder(family, kind)
    steps = STEPS if family == "pocket" else TINY_STEPS
    found, likeliest = greedy_tokens(made, [3, 1, 66], steps, vocabulary=vocabulary)
    pairs = [pair for rows in zip(found, likeliest, strict=True) for pair in zip(*rows, strict=True)]
    if family == "pocket" or kind == tiny_families()[family].written:
        same = sum(ours == theirs for ours, theirs in pairs)
        record_property(EQUALITY, Equality(f"{family} {kind}", GREEDY, same=same, compared=len(pairs)).to_json())
    assert found == likeliest
    assert len(pairs) == 3 * steps


@every_kind
@given(st.lists(st.integers(1, 150), min_size=2, max_size=4), st.integers(0, 99))
@settings(max_examples=3)
def test_batched_equals_alone(family, kind, lengths, seed):
    """Rows of unequal lengths, padded with anything, give in a batch what each gives alone, also in later steps."""
    assert batched_difference(tiny(family, kind), lengths, seed) < TOLERANCE


@every_kind
@given(st.data())
@settings(max_examples=3)
def test_pieces_equal_the_whole(family, kind, data):
    """A prompt read in pieces, unequal from row to row, gives what it gives read at once, also in a later step."""
    batch = data.draw(st.integers(1, 3))
    pieces = data.draw(st.lists(st.lists(st.integers(1, 39), min_size=batch, max_size=batch), min_size=2, max_size=4))
    assert pieces_difference(tiny(family, kind), pieces) < TOLERANCE


@every_kind
def test_selected_rows_go_on_as_before(family, kind):
    """Rows selected from a state, in any order or twice, go on as they would have alone."""
    for rows in ([2], [2, 0], [1, 2, 0], [1, 1]):
        assert forked_difference(tiny(family, kind), [7, 3, 20], rows) < TOLERANCE


@main_kinds
def test_joined_states_go_on_as_each_alone(family, kind):
    """Rows that have read unequal numbers of tokens, joined and read on together, are what each is alone."""
    made = tiny(family, kind)
    texts = [random_ids(length, seed=length) for length in (5, 70, 33)]
    states = [made.prefill(ids[None], torch.tensor([len(ids)]), made.empty_state(1, 96))[1] for ids in texts]
    order, lengths = [2, 0, 1], [6, 4, 1]
    more, later = random_ids(3, 6, seed=1), random_ids(3, seed=2)
    joined = states[0].joined(states[1:]).select(torch.tensor(order))
    logits, state = made.prefill(more, torch.tensor(lengths), joined)
    after, _ = made.step(later, state)
    for row, (text, length) in enumerate(zip([texts[i] for i in order], lengths, strict=True)):
        whole = torch.cat([text, more[row, :length]])
        expected, state = made.prefill(whole[None], torch.tensor([len(whole)]), made.empty_state(1, 96))
        assert difference(logits[row], expected[0]) < TOLERANCE
        expected, _ = made.step(later[row : row + 1], state)
        assert difference(after[row], expected[0]) < TOLERANCE


@main_kinds
def test_models_answer_alike_with_and_without_sharing(family, kind):
    """Greedy tokens after a shared haystack that is left at three depths are those of each prompt alone."""
    haystack = random_ids(120, seed=5).tolist()
    prompts = [[*haystack[: 40 * (1 + row % 3)], *random_ids(3 + row, seed=row).tolist()] for row in range(6)]

    def answers(rows: list[list[int]]) -> list[list[int]]:
        return greedy(tiny(family, kind), rows, GreedySettings(8, batch_tokens=2048))

    assert answers(prompts) == [answers([prompt])[0] for prompt in prompts]


@every_kind
def test_padding_leaves_no_trace(family, kind):
    """Whatever stands for padding, logits and all later steps are the same to the last bit."""
    made, ids, lengths = tiny(family, kind), random_ids(2, 70), torch.tensor([70, 9])
    other = ids.clone()
    other[1, 9:] = random_ids(61, seed=3)

    def read(given: torch.Tensor) -> torch.Tensor:
        logits, state = made.prefill(given, lengths, made.empty_state(2, 72))
        after, state = made.step(random_ids(2, seed=4), state)
        return torch.stack([logits, after, made.step(random_ids(2, seed=5), state)[0]])

    assert torch.equal(read(ids), read(other))


@every_kind
def test_a_forward_sees_no_later_token(family, kind):
    """A full forward's logits at a position do not change with the tokens after it, and do with its own."""
    made, ids = tiny(family, kind), random_ids(1, 70)
    other = torch.cat([ids[:, :35], random_ids(1, 35, seed=1)], 1)
    assert difference(made(other)[:, :35], made(ids)[:, :35]) < TOLERANCE
    assert difference(made(other)[:, 35:], made(ids)[:, 35:]) > 0.01


@every_kind
def test_a_state_says_the_memory_it_takes(family, kind, tmp_path):
    """A state's bytes are those of its rows, more after more tokens where they are kept, and else the same."""
    made = tiny(family, kind)

    def state(rows: int, tokens: int) -> Any:
        ids = random_ids(rows, tokens)
        return made.prefill(ids, torch.full((rows,), tokens), made.empty_state(rows, tokens))[1]

    assert state(1, 20).bytes > 0
    assert state(3, 20).bytes == 3 * state(1, 20).bytes == 3 * state(3, 20).select(torch.tensor([1])).bytes
    assert state(1, 20).bytes <= state(1, 120).bytes
    if tiny_families()[family].ours:
        tiny_families()[family].write(tmp_path, made)
        remembers = family_named(family).kind(read_configuration(tmp_path))
        assert (state(1, 20).bytes == state(1, 120).bytes) == (remembers == "recurrent" or family in BOUNDED)


# Every weight.


@every_kind
def test_every_weight_matters(family, kind):
    """A change of any tensor moves the logits, so that the equalities here are about all of them."""
    each, made, ids = tiny_families()[family], new(family, kind), random_ids(1, 40)
    before = made(ids)
    for name, parameter in made.named_parameters():
        kept = parameter.clone()
        noise = torch.randn(kept.shape, generator=torch.Generator().manual_seed(3))
        parameter += (0.1 * kept.abs().max() if each.ours else 0.3 * (0.1 + kept.abs())) * noise
        if not any(part in name for part in each.neutral):
            assert difference(made(ids), before) > 10 * TOLERANCE, name
        parameter.copy_(kept)


@every_own_kind
def test_gradients_are_finite(family, kind):
    """Training's gradient is finite, and reaches every tensor, also where weights make it hard."""
    made = new(family, kind).requires_grad_(True)
    tiny_families()[family].harden(made)
    made(random_ids(2, 70)).logsumexp(-1).sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@every_kind
def test_half_precision_stays_close(family, kind, tmp_path):
    """In bfloat16 the logits stay within a twentieth of those of the same weights in float32; states keep dtypes."""
    made = new(family, kind)
    for parameter in made.parameters():
        parameter.copy_(parameter.bfloat16())
    tiny_families()[family].write(tmp_path, made)
    half, full = (tiny_families()[family].load(tmp_path, dtype) for dtype in (torch.bfloat16, torch.float32))
    longer, shorter = (70, 20) if tiny_families()[family].ours else (24, 15)
    ids, lengths = random_ids(2, longer), torch.tensor([longer, shorter])
    found, state = half.prefill(ids, lengths, half.empty_state(2, longer + 1))
    expected, before = full.prefill(ids, lengths, full.empty_state(2, longer + 1))
    assert found.dtype == torch.float32
    assert difference(found, expected) < HALF_TOLERANCE
    if tiny_families()[family].ours:
        tensors = [tensor for layer in state.layers for tensor in vars(layer).values() if tensor is not None]
        assert {tensor.dtype for tensor in tensors} <= set(tiny_families()[family].half_state)
    found, _ = half.step(ids[:, 0], state)
    expected, _ = full.step(ids[:, 0], before)
    assert difference(found, expected) < HALF_TOLERANCE


# The record.


def test_a_record_needs_no_torch():
    """All that a record says of its family is read without torch, transformers or an HTTP client."""
    code = (
        "import sys; from models.families import families\n"
        "for each in families().values(): each.name, each.libraries, each.kernels, each.needs_checkpoint\n"
        "print(sorted({'torch', 'transformers', 'httpx2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@every_family
def test_a_record_says_what_a_family_offers(family):
    """Each family loads checkpoints or stands in for them; where it makes models, they have a configuration."""
    record = family_named(family)
    operations = record.operations()
    assert (operations.load is not None) == record.needs_checkpoint
    assert (operations.stand_in is not None) != record.needs_checkpoint
    assert operations.new is None or record.parse is not None
    assert operations.initialize is None or (operations.new is not None and operations.write is not None)
    assert not record.needs_checkpoint or family in tiny_families()


@every_family
def test_what_a_family_does_not_offer_is_refused_by_its_name(family, tmp_path):
    """Asked for what it does not offer, a family says so, and which it is."""
    record = family_named(family)
    calls: list[Callable[[], Any]] = [] if record.operations().new else [lambda: record.new({})]
    calls.append(
        (lambda: record.stand_in(None)) if record.needs_checkpoint else (lambda: record.load(tmp_path, None, None))
    )
    for call in calls:
        with pytest.raises(ValueError, match=family):
            call()


def test_an_unknown_family_is_named_with_the_nearest():
    """A family that does not exist is refused, with the one that was probably meant."""
    with pytest.raises(ValueError, match=r"unknown family lama \(did you mean llama\?\); there are endpoint, llama, "):
        family_named("lama")
    card = Card("m", "lama", "tokenizer.json", path=".")
    with pytest.raises(CheckpointError, match=r"model m: unknown family lama \(did you mean llama"):
        load(card, REPOSITORY, "cpu", EmbeddedCorpora())


@every_own_kind
def test_models_are_made_from_a_configuration_alone(family, kind, tmp_path):
    """What a checkpoint's configuration makes on the meta device has the tensors of the checkpoint's model."""
    made = tiny(family, kind)
    tiny_families()[family].write(tmp_path, made)
    with torch.device("meta"):
        new_model = family_named(family).new(read_configuration(tmp_path))
    assert {parameter.device.type for parameter in new_model.parameters()} == {"meta"}
    shapes = [{name: tensor.shape for name, tensor in each.state_dict().items()} for each in (new_model, made)]
    assert shapes[0] == shapes[1]
    with pytest.raises(ConfigurationError):
        family_named(family).new({"model_type": "other", "rows": 3})


@every_own_kind
def test_a_defect_is_taken_on_where_the_record_says_so(family, kind, tmp_path):
    """Models that a record names defects for take them on, and then differ in steps; no others take on any."""
    made = new(family, kind)
    tiny_families()[family].write(tmp_path, made)
    defects = family_named(family).defects(read_configuration(tmp_path))
    if not isinstance(made, EmulatingDecoder):
        assert not defects
        return
    for defect in ("mamba-ssm#1", *defects):
        if defect in defects:
            made.emulate([defect])
            assert not made.shares_prefixes
            assert steps_difference(made, 5, 20) > 100 * TOLERANCE
        else:
            with pytest.raises(ValueError, match=defect):
                made.emulate([defect])


DUMMY = {
    "__init__.py": """
from models.families.family import Family, Operations

def operations():
    from models.families.constant_model.model import load
    return Operations(load=load)

FAMILY = Family("constant-model", operations, kind=lambda configuration: "recurrent")
""",
    "libraries.txt": "constant-kernels\ntorch\n",
    "model.py": """
import torch

class Constant(torch.nn.Module):
    shares_prefixes, device = False, torch.device("cpu")

    def empty_state(self, batch, capacity):
        return torch.zeros(batch, 0)

    def prefill(self, ids, lengths, state):
        return torch.ones(len(ids), 1024), state

def load(directory, device, dtype):
    return Constant()
""",
}


def test_a_folder_is_a_family(tmp_path, monkeypatch):
    """A new folder alone makes a family: cards load it, its kind is known, and its libraries are suspects."""
    folder = tmp_path / "families" / "constant_model"
    folder.mkdir(parents=True)
    for name, content in DUMMY.items():
        (folder / name).write_text(content, encoding="utf-8")
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}", encoding="utf-8")
    (checkpoint / "model.safetensors").write_bytes(b"anything")
    for known in (families, libraries_by_family, all_libraries):
        known.cache_clear()
    monkeypatch.setattr(models.families, "__path__", [*models.families.__path__, str(folder.parent)])
    monkeypatch.setattr(core.libraries, "FOLDERS", [*core.libraries.FOLDERS, folder.parent])
    try:
        tokenizer = POCKET.folder / "pocket" / "tokenizer.json"
        card = Card("m", "constant-model", str(tokenizer), path="checkpoint", end_of_sequence="</s>")
        loaded = load(card, tmp_path, "cpu", EmbeddedCorpora())
        assert loaded.environment["family"] == "constant-model"
        assert loaded.environment["constant-kernels"] is None
        assert family_named(card.family).kind({}) == "recurrent"
        (change,) = changes({**loaded.environment, "constant-kernels": "1"}, loaded.environment)
        assert change.suspicion is Suspicion.SOFTWARE
    finally:
        for known in (families, libraries_by_family, all_libraries):
            known.cache_clear()


@pytest.mark.parametrize("record", ["", "FAMILY = 3\n", "from models.families.oracle import FAMILY\n"])
def test_a_folder_without_its_record_is_named(record, tmp_path, monkeypatch):
    """A folder whose record is missing, no record or that of another family is refused by its name."""
    folder = tmp_path / f"unsaid{len(record)}"
    folder.mkdir()
    (folder / "__init__.py").write_text(record, encoding="utf-8")
    monkeypatch.setattr(models.families, "__path__", [*models.families.__path__, str(tmp_path)])
    families.cache_clear()
    try:
        with pytest.raises(TypeError, match=rf"{folder.name} must have a record FAMILY = Family\('{folder.name}', "):
            families()
    finally:
        families.cache_clear()
