"""What changed between two environments, and which change is suspected first."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.changes import Suspicion, change_fields, changes
from models.machine import driver_version, machine

# The most suspicious first, one of each kind.
_KINDS = ("weights", "tokenizer", "torch", "dtype", "batch_tokens", "python")

_names = st.one_of(
    st.sampled_from([*_KINDS, "corpus", "mamba-ssm", "driver", "family"]), st.text(min_size=1, max_size=5)
)
_values = st.one_of(st.none(), st.text(max_size=5), st.integers(), st.lists(st.text(max_size=3), max_size=2))
environments = st.dictionaries(_names, _values, max_size=8)


@given(environments)
def test_nothing_changed(environment):
    """An environment differs in nothing from itself, in whatever order it is written."""
    assert changes(environment, environment) == []
    assert changes(environment, dict(reversed(environment.items()))) == []


@given(environments, environments)
def test_every_difference_is_found_once(before, now):
    """Exactly the fields that differ are found, each with both its values, the stronger suspects first."""
    found = changes(before, now)
    shared = {name for name in before.keys() & now.keys() if before[name] != now[name]}
    alone = {name for name in before.keys() ^ now.keys() if {**before, **now}[name] not in (None, [])}
    assert len(found) == len(shared | alone)
    assert {each.name for each in found} == shared | alone
    assert all((each.before, each.now) == (before.get(each.name), now.get(each.name)) for each in found)
    assert {each.name for each in found if each.suspicion is Suspicion.UNKNOWN} == alone
    assert [each.suspicion for each in found] == sorted(each.suspicion for each in found)


@given(environments, environments)
def test_the_same_fields_change_back(before, now):
    """Going back changes the same fields, with their values swapped."""
    there, back = (
        {each.name: (each.before, each.now) for each in changes(*pair)} for pair in ((before, now), (now, before))
    )
    assert back == {name: (new, old) for name, (old, new) in there.items()}


@pytest.mark.parametrize(("first", "second"), list(combinations(_KINDS, 2)))
def test_the_order_of_suspects(first, second):
    """Weights are suspected before prompts, then software, hardware, batches, and the rest."""
    before, now = ({"family": "llama", second: value, first: value} for value in ("a", "b"))
    assert [each.name for each in changes(before, now)] == [first, second]


def test_a_familys_own_libraries_are_suspected_first():
    """A library is a strong suspect for the families that run on it, and a weak one for all others."""
    before, now = ({"transformers": value, "mamba-ssm": value, "dtype": value} for value in ("1", "2"))
    names = {
        family: [each.name for each in changes({**before, "family": family}, {**now, "family": family})]
        for family in ("state-spaces", "llama")
    }
    assert names == {
        "state-spaces": ["mamba-ssm", "dtype", "transformers"],
        "llama": ["transformers", "dtype", "mamba-ssm"],
    }


@pytest.mark.parametrize(
    ("name", "before", "now", "words"),
    [
        ("weights", "b75e", "5dea", "the checkpoint's weights: b75e → 5dea"),
        ("mamba-ssm", None, "2.3.2", "mamba-ssm: not installed → 2.3.2"),
        ("emulate", [], ["mamba-ssm#1027"], "emulated defects: none → mamba-ssm#1027"),
        ("tokens_to_generate", 48, 24, "tokens to generate: 48 → 24"),
        ("frame", None, "ab12", "the prompt template: none → ab12"),
        ("some_setting", 1, 2, "some setting: 1 → 2"),
    ],
)
def test_changes_in_words(name, before, now, words):
    """A change reads as words that a person knows, and goes into JSON with its values."""
    (change,) = changes({name: before}, {name: now})
    assert str(change) == words
    assert change_fields(change) == {
        "name": name,
        "kind": change.suspicion.name.lower(),
        "before": before,
        "now": now,
        "text": words,
    }


def test_what_one_side_did_not_record_is_no_change():
    """A field that only one side knows is said to be that, after everything else."""
    found = changes({"python": "3.11"}, {"python": "3.12", "driver": "550.54"})
    assert list(map(str, found)) == ["python: 3.11 → 3.12", "the NVIDIA driver: recorded on one side only, 550.54 now"]
    (back,) = changes({"driver": "550.54"}, {})
    assert str(back) == "the NVIDIA driver: recorded on one side only, 550.54 then"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n", "550.54.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build\n", "570.86.10"),
        ("something else\n", None),
    ],
)
def test_the_drivers_version(tmp_path, text, version):
    """The driver's version is read from what its kernel module reports, and is None where that says none."""
    assert driver_version(tmp_path / "version") is None
    (tmp_path / "version").write_text(text, encoding="utf-8")
    assert driver_version(tmp_path / "version") == version


def test_a_processors_record():
    """On a processor its kind and threads are recorded, as strings and numbers that JSON keeps."""
    recorded = machine("cpu")
    assert recorded["device"] == "cpu"
    assert recorded["threads"] >= 1
    assert all(value is None or isinstance(value, (str, int)) for value in recorded.values())
