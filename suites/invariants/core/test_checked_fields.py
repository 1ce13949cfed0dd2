"""Records of what users write: nothing is converted, nothing is ignored, and the field is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from core.checked_fields import STRICT, Amount, Count, Different, FieldError, Flag, Text, checked_record, dotted
from drift.statistics.thresholds import Thresholds
from models.cards import Card
from models.families.endpoint.server import Server
from models.families.llama.configuration import LlamaConfiguration
from models.families.recurrent_gemma.configuration import RecurrentGemmaConfiguration
from models.families.rwkv6.configuration import Rwkv6Configuration
from models.families.state_spaces.configuration import (
    AttentionConfiguration,
    Mamba2Configuration,
    StateSpacesConfiguration,
)
from zoo.cards import Sweep
from zoo.training.recipes import CurriculumStage
from zoo.training.texts import Mixture


@dataclass(frozen=True)
class Inner:
    """A record within another."""

    __pydantic_config__ = STRICT

    size: Count
    name: Text | None = None


@dataclass(frozen=True)
class Outer:
    """A record with a field of every type."""

    __pydantic_config__ = STRICT

    count: Count
    amount: Amount = 1.0
    flag: Flag = False
    kind: Literal["one", "two"] = "one"
    inner: Inner | None = None
    items: Different[Count] = (1,)
    parts: tuple[Inner, ...] = ()
    pair: Annotated[tuple[int, int], Field(description="a list of two whole numbers")] = (1, 2)
    choices: Mapping[Literal["one", "two"], int] = field(default_factory=dict)
    table: Mapping[str, Count] = field(default_factory=dict)
    free: Mapping[str, Any] = field(default_factory=dict)
    secret: Annotated[str | None, Field(repr=False, description="the name of a variable", max_length=5)] = None


def _fault(changes: object, **options: Any) -> str:
    with pytest.raises(FieldError) as fault:
        checked_record(Outer, {"count": 1, **changes} if isinstance(changes, dict) else changes, **options)
    assert "\n" not in str(fault.value)
    return str(fault.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"count": 0}, "count must be a whole number of at least 1, not 0"),
        ({"count": "1"}, "count must be a whole number of at least 1, not '1'"),
        ({"count": True}, "count must be a whole number of at least 1, not True"),
        ({"count": 1.0}, "count must be a whole number of at least 1, not 1.0"),
        ({"count": None}, "count must be a whole number of at least 1, not None"),
        ({"count": [1]}, "count must be a whole number of at least 1, not [1]"),
        ({"amount": float("nan")}, "amount must be a positive number, not nan"),
        ({"amount": float("inf")}, "amount must be a positive number, not inf"),
        ({"amount": "1"}, "amount must be a positive number, not '1'"),
        ({"amount": False}, "amount must be a positive number, not False"),
        ({"flag": 1}, "flag must be true or false, not 1"),
        ({"flag": "true"}, "flag must be true or false, not 'true'"),
        ({"kind": "tow"}, "kind must be one of one, two, not 'tow' (did you mean two?)"),
        ({"kind": 2}, "kind must be one of one, two, not 2"),
        ({"inner": 3}, "inner must be a table, not 3"),
        ({"inner": {}}, "inner lacks the field size"),
        ({"inner": {"sise": 3}}, "inner: unknown field sise (did you mean size?); there are size, name"),
        ({"inner": {"size": 3, "name": ""}}, "inner.name must be a text that is not empty, not ''"),
        ({"items": []}, "items must be a list of different values, not []"),
        ({"items": [2, 2]}, "items must be a list of different values, not [2, 2]"),
        ({"items": 2}, "items must be a list of different values, not 2"),
        ({"pair": [1]}, "pair must be a list of two whole numbers, not [1]"),
        ({"pair": [1, 2, 3]}, "pair must be a list of two whole numbers, not [1, 2, 3]"),
        ({"choices": {"on": 1}}, "choices.on must be one of one, two, not 'on' (did you mean one?)"),
        ({"items": [1, 0]}, "items[1] must be a whole number of at least 1, not 0"),
        ({"parts": [{"size": 1}, {"size": 0}]}, "parts[1].size must be a whole number of at least 1, not 0"),
        ({"parts": [{"size": 1, "nam": ""}]}, "parts[0]: unknown field nam (did you mean name?); there are size, name"),
        ({"table": {"a b": 0}}, "table.'a b' must be a whole number of at least 1, not 0"),
        ({"table": []}, "table must be a table, not []"),
        ({"free": {"at": [1, date(2000, 1, 2)]}}, "free.at[1] cannot be 2000-01-02, a date"),
        ({"secret": "password"}, "secret must be the name of a variable"),
        ({"cuont": 1}, "unknown field cuont (did you mean count?); there are count, amount, "),
        ({"a\nb": 1}, "unknown field 'a\\nb'; there are "),
        ([1], "the file must be a table, not [1]"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(changes, said):
    """A field that is unknown, missing, of another type or out of range is named, with what would be right."""
    assert _fault(changes).startswith(said)


def test_what_is_missing_is_named():
    """A missing field is named, with its table where it is in one."""
    with pytest.raises(FieldError, match=r"^the field count is missing$"):
        checked_record(Outer, {})
    with pytest.raises(FieldError, match=r"^models\.m lacks the field count$"):
        checked_record(Outer, {}, "models.m")


def test_fields_of_the_caller_are_no_fields_of_the_file():
    """What the caller fills in, or hides, is unknown to the file."""
    assert checked_record(Inner, {"size": 1}, name="n") == Inner(1, "n")
    for options in ({"name": "n"}, {"hidden": ["name"]}):
        with pytest.raises(FieldError, match=r"^t: unknown field name; there are size$"):
            checked_record(Inner, {"size": 1, "name": "m"}, "t", **options)


@pytest.mark.parametrize("depth", [300, 100_000])
def test_deep_nesting_is_refused(depth):
    """Values nested too deeply to be read are refused by name, not by a crash."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    assert _fault({"free": {"a": value}}) == "the file is nested too deeply"


@given(
    st.builds(
        Outer,
        count=st.integers(1),
        amount=st.floats(0, exclude_min=True, allow_infinity=False),
        inner=st.none() | st.builds(Inner, size=st.integers(1), name=st.none() | st.text(min_size=1)),
        items=st.lists(st.integers(1), min_size=1, unique=True).map(tuple),
        table=st.dictionaries(st.text(), st.integers(1)),
        free=st.dictionaries(st.text(), st.one_of(st.integers(), st.booleans(), st.text(), st.lists(st.floats(0, 1)))),
    )
)
def test_a_right_record_is_read_as_it_is(record):
    """What is right is read value by value, tables and lists as records and tuples."""
    given_table = {each.name: getattr(record, each.name) for each in fields(record)}
    if record.inner is not None:
        given_table["inner"] = {"size": record.inner.size, "name": record.inner.name}
    assert checked_record(Outer, given_table) == record


def test_dotted_names():
    """A field is named as in TOML, with quotes where TOML needs them."""
    assert dotted("models", ["m2a", "server", "url"]) == "models.m2a.server.url"
    assert dotted("", ["lengths", 0]) == "lengths[0]"
    assert dotted("models", ["../x"]) == "models.'../x'"


RECORDS: dict[type, dict[str, Any]] = {
    AttentionConfiguration: {"num_heads": 2},
    Card: {"name": "m", "family": "llama", "tokenizer": "t"},
    CurriculumStage: {"context": 1, "steps": 1},
    LlamaConfiguration: {},
    Mamba2Configuration: {},
    Mixture: {
        **{name: {kind: 1} for name, kind in (("texts", "vt"), ("haystack", "noise"), ("key", "word"))},
        "value": {"word": 1},
        "asked": {"one": 1},
        "needles": 1,
        "filled": 0.5,
    },
    RecurrentGemmaConfiguration: {},
    Rwkv6Configuration: {},
    Server: {"url": "http://h", "model": "m"},
    StateSpacesConfiguration: {},
    Sweep: {"tasks": ["vt"], "lengths": [1]},
    Thresholds: {},
}


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)
def test_no_field_takes_a_value_of_another_type(cls):
    """Every field of every record from a file refuses values of types that it has not, by its name."""
    least = RECORDS[cls]
    checked_record(cls, least)
    wrong = {"text": "1.5", "whole": 3, "number": 1.5, "flag": True, "list": [[]], "table": {"x": {}}}
    for each in fields(cls):
        faults = {kind: _refusal(cls, {**least, each.name: value}) for kind, value in wrong.items()}
        assert all(fault.startswith(each.name) for fault in faults.values() if fault)
        # A whole number is a number; a table of anything takes tables alone.
        taken = {kind for kind, fault in faults.items() if not fault}
        assert taken in ({"text"}, {"whole"}, {"whole", "number"}, {"flag"}, {"table"}, set()), each.name


def _refusal(cls: type, given_table: Mapping[str, Any]) -> str:
    """What is said of a table; nothing where it is right."""
    try:
        checked_record(cls, given_table)
    except FieldError as fault:
        return str(fault)
    return ""
