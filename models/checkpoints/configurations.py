"""The fields of a published `config.json`: checked as everything that users write, and refused by their names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from core.checked_fields import FieldError, checked_record
from models.checkpoints.errors import ConfigurationError

__all__ = ["check_architecture", "check_fixed", "check_multiple", "checked_configuration", "named_faults"]

Configuration = TypeVar("Configuration")


@contextmanager
def named_faults() -> Iterator[None]:
    """Raises what is wrong with a field as a `ConfigurationError` that names `config.json`."""
    try:
        yield
    except FieldError as error:
        raise ConfigurationError(f"config.json: {error}") from None


def checked_configuration(
    cls: type[Configuration], given: Mapping[str, Any], unread: Collection[str] = ()
) -> Configuration:
    """The configuration that a `config.json` holds, where a field that is null is as one left out.

    Args:
        cls: A frozen dataclass with `__pydantic_config__ = STRICT`.
        given: The parsed file.
        unread: Fields that published files have and the model does not depend on.

    Raises:
        FieldError: A field is missing, unknown, of another type or out of range.
    """
    return checked_record(
        cls, {name: value for name, value in given.items() if name not in unread and value is not None}
    )


def check_architecture(given: Mapping[str, Any], model_type: str, architecture: str) -> None:
    """Refuses the configuration of another architecture.

    Raises:
        FieldError: Its type or class has another name.
    """
    check_fixed({"model_type": None, **given}, {"model_type": model_type})
    if given.get("architectures") is not None:
        check_fixed(given, {"architectures": [architecture]})


def check_fixed(given: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """Refuses other values of fields that have one value in every model that is implemented.

    Raises:
        FieldError: A field has another value.
    """
    for name, value in fixed.items():
        if name in given and given[name] != value:
            raise FieldError(f"{name} is {given[name]!r}; only {value!r} is supported")


def check_multiple(configuration: object, whole: str, part: str) -> None:
    """Refuses a size that is no multiple of another.

    Raises:
        FieldError: It is none.
    """
    size, divisor = getattr(configuration, whole), getattr(configuration, part)
    if size % divisor:
        raise FieldError(f"{whole}, {size}, is no multiple of {part}, {divisor}")
