"""Records from what users write: every field of the right type and range, or one line that names the field.

A record is a frozen dataclass with `__pydantic_config__ = STRICT`. The annotations of its fields say what is right;
`Field(description=...)` says it in words, which the error repeats: "samples must be a whole number of at least 1".
Fields are of one type each, or of one type and None.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from core.display import shown
from core.names import nearest_name, unknown_name

__all__ = ["STRICT", "Amount", "Count", "Different", "FieldError", "Flag", "Text", "checked_record", "dotted"]

# No value is turned into one of another type ("512" into 512, 1 into true), and no field is ignored.
STRICT: Final = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

Record = TypeVar("Record")
Item = TypeVar("Item")
_Path = Sequence[str | int]


class FieldError(ValueError):
    """A field that cannot be used; the message names it, dotted, and says what would be right."""


def _all_different(items: tuple[Item, ...]) -> tuple[Item, ...]:
    if len(set(items)) < len(items):
        raise PydanticCustomError("repeated", "values are repeated")
    return items


Text = Annotated[str, Field(min_length=1, description="a text that is not empty")]
Count = Annotated[int, Field(ge=1, description="a whole number of at least 1")]
Amount = Annotated[float, Field(gt=0, description="a positive number")]
Flag = Annotated[bool, Field(description="true or false")]
Different = Annotated[
    tuple[Item, ...], Field(min_length=1, description="a list of different values"), AfterValidator(_all_different)
]

# What would be right where no description says so, by pydantic's name of the error.
_RIGHT: Final[Mapping[str, str]] = {
    "bool_type": "true or false",
    "dataclass_type": "a table",
    "dict_type": "a table",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_type": "a whole number",
    "mapping_type": "a table",
    "string_type": "a text",
    "tuple_type": "a list",
}
_UNKNOWN: Final = "unexpected_keyword_argument"  # of a dataclass
_QUOTED = re.compile(r"'([^']*)'")
_BARE = re.compile(r"[A-Za-z0-9_-]{1,80}")
_UNIONS: Final = (Union, UnionType)


def checked_record(
    cls: type[Record], given: object, table: str = "", *, hidden: Collection[str] = (), **filled: Any
) -> Record:
    """A record of what a table of a file says.

    Args:
        cls: A frozen dataclass with `__pydantic_config__ = STRICT`.
        given: The table, as TOML or JSON was read.
        table: Its dotted name; empty for the outermost one.
        hidden: Fields of the record that this table cannot have.
        **filled: Fields that the caller gives, and the table cannot.

    Raises:
        FieldError: It is no table, or a field is missing, unknown, of another type or out of range.
    """
    if not isinstance(given, Mapping):
        raise FieldError(f"{table or 'the file'} must be a table, not {shown(given)}")
    _refuse_unknown(cls, given, table, (*hidden, *filled))
    whole = {**given, **filled}
    try:
        # As JSON: of Python's own values, strictness takes neither a list for a tuple nor a table for a record.
        return _adapter(cls).validate_json(json.dumps(whole))  # type: ignore[arg-type]
    except RecursionError:
        raise FieldError(f"{table or 'the file'} is nested too deeply") from None
    except TypeError:
        path, value = next(_not_json(whole, ()))
        raise FieldError(f"{dotted(table, path)} cannot be {value}, a {type(value).__name__}") from None
    except ValidationError as error:
        errors = error.errors(include_url=False)
        # A misspelt field is missing under its right name, too; the unknown name says more.
        first = next((each for each in errors if each["type"] == _UNKNOWN), errors[0])
        raise FieldError(_sentence(cls, whole, table, first)) from None


def dotted(table: str, path: _Path) -> str:
    """A field's name as in TOML: `models.m2a.server.url`, `sweeps.ruler.lengths[0]`, `models."a b"`."""
    name = table
    for part in path:
        if isinstance(part, int):
            name += f"[{part}]"
        else:
            key = part if _BARE.fullmatch(part) else shown(part)
            name += f".{key}" if name else key
    return name


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def _refuse_unknown(cls: Any, given: Mapping[str, Any], table: str, hidden: Collection[str] = ()) -> None:
    known = [each.name for each in fields(cls) if each.name not in hidden]
    for name in given:
        if name not in known:
            unknown = unknown_name("field", dotted("", [name]), known)
            raise FieldError(f"{table}: {unknown}" if table else unknown)


def _not_json(value: object, path: tuple[str | int, ...]) -> Iterator[tuple[_Path, object]]:
    """The dates and times in a table, which no field takes, and where they are."""
    if isinstance(value, Mapping | list | tuple):
        for key, part in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _not_json(part, (*path, key))
    elif not isinstance(value, str | int | float | None):
        yield path, value


def _sentence(cls: Any, given: Mapping[str, Any], table: str, error: ErrorDetails) -> str:
    """What pydantic found: the field, what it must be, and what it is."""
    path, kind = list(error["loc"]), error["type"]
    of_key = path[-1:] == ["[key]"]
    # A list that is too short lacks its next number; what is wrong with a key is told by the key.
    if of_key or (kind == "missing" and isinstance(path[-1], int)):
        path.pop()
    elif kind == "missing":
        owner = dotted(table, path[:-1])
        return f"{owner} lacks the field {path[-1]}" if owner else f"the field {path[-1]} is missing"
    if kind == "json_invalid":
        return f"{table or 'the file'} is nested too deeply"
    name = dotted(table, path)
    if kind == "value_error":
        return f"{name} {error['ctx']['error']}"
    *around, hint = _hints(cls, path)
    if kind == _UNKNOWN:
        _refuse_unknown(_record(around[-1]), {str(path[-1]): None}, dotted(table, path[:-1]))
    found = path[-1] if of_key else _part(given, path)
    about = _about(hint)
    if kind == "literal_error":
        return f"{name} must be {_choice(found, _QUOTED.findall(error['ctx']['expected']))}"
    right = (about and about.description) or _RIGHT.get(kind) or error["msg"].removeprefix("Input should be ")
    return f"{name} must be {right}" + ("" if about and not about.repr else f", not {shown(found)}")


def _choice(found: object, valid: Sequence[str]) -> str:
    near = nearest_name(found, valid) if isinstance(found, str) else None
    hint = f" (did you mean {near}?)" if near else ""
    return f"{'one of ' if len(valid) > 1 else ''}{', '.join(valid)}, not {shown(found)}{hint}"


def _part(given: Any, path: _Path) -> Any:
    for part in path:
        given = given[part]
    return given


def _hints(cls: Any, path: _Path) -> list[Any]:
    """The annotations from a record to one of its parts, both included; None beyond what is annotated."""
    hints = [cls]
    for part in path:
        hints.append(next((inner for hint in _alternatives(hints[-1]) for inner in _inside(hint, part)), None))
    return hints


def _inside(hint: Any, part: str | int) -> list[Any]:
    """The annotation of a part of one kind of value, if that has such a part."""
    if isinstance(part, str) and is_dataclass(hint):
        hints = get_type_hints(hint, include_extras=True)
        return [hints[part]] if part in hints else []
    arguments = get_args(hint)
    if isinstance(part, str):
        return list(arguments[1:2]) if get_origin(hint) is Mapping else []
    if get_origin(hint) is not tuple:
        return []
    return [arguments[0] if arguments[-1] is Ellipsis else arguments[min(part, len(arguments) - 1)]]


def _alternatives(hint: Any) -> list[Any]:
    """An annotation without what is said about it; of a union, each of its parts."""
    if get_origin(hint) is Annotated:
        return _alternatives(get_args(hint)[0])
    if get_origin(hint) in _UNIONS:
        return [each for part in get_args(hint) for each in _alternatives(part)]
    return [hint]


def _record(hint: Any) -> Any:
    return next(each for each in _alternatives(hint) if is_dataclass(each))


def _about(hint: Any) -> FieldInfo | None:
    """What is said about a value beside its type."""
    if get_origin(hint) in _UNIONS:
        return next(filter(None, map(_about, get_args(hint))), None)
    said = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((each for each in reversed(said) if isinstance(each, FieldInfo)), None)
