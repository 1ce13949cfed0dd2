"""Tiny random models of every family, and how far two tensors of logits are apart."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import suites.support.families
from models.families import family_named
from models.families.family import Family

__all__ = ["TOLERANCE", "VOCABULARY", "TinyFamily", "difference", "random_ids", "tiny", "tiny_families"]

# The largest difference between logits that rounding explains, as a share of their scale.
TOLERANCE = 1e-4
# Of all tiny models.
VOCABULARY = 53


@dataclass(frozen=True)
class TinyFamily:
    """Tiny random models of one family, for the tests that every family has to pass.

    No weight is at a neutral value, so that each one matters.

    Attributes:
        name: The family's.
        kinds: By name, what makes a new model of a kind.
        written: The kind that checkpoints are damaged of.
        write: Writes a model into a directory as it is published, in float32.
        main: The kinds that are put also to the tests of what all kinds share.
        lost: The key of a tensor of `written` without which nothing is loaded.
        misshapen: That of one whose shape is checked.
        published_dtype: Of the weights that the family's own writer makes of a model; None where it has none.
        tied: A kind with a tied output layer, and the keys of that layer and of the embedding in its files.
        half_state: The dtypes of a state in bfloat16.
        neutral: Parts of the names of weights that change no logits.
        ours: Whether the loaded model is a class of ours, with gradients and a configuration of its own.
        harden: Brings weights to where a gradient might break.
    """

    name: str
    kinds: Mapping[str, Callable[[], Any]]
    written: str
    write: Callable[[Path, Any], None]
    main: tuple[str, ...]
    lost: str
    misshapen: str
    published_dtype: torch.dtype | None = None
    tied: tuple[str, str, str] | None = None
    half_state: frozenset[torch.dtype] | set[torch.dtype] = frozenset({torch.bfloat16})
    neutral: tuple[str, ...] = ()
    ours: bool = True
    harden: Callable[[Any], None] = lambda model: None

    @property
    def family(self) -> Family:
        """Its record."""
        return family_named(self.name)

    def load(self, directory: Path, dtype: torch.dtype = torch.float32) -> Any:
        """The model of a directory, on the processor."""
        return self.family.load(directory, torch.device("cpu"), dtype)


@functools.cache
def tiny_families() -> Mapping[str, TinyFamily]:
    """Those of all families whose models are checkpoints, by the family's name."""
    modules = [each.name for each in pkgutil.iter_modules(suites.support.families.__path__)]
    found = [importlib.import_module(f"suites.support.families.{name}").TINY for name in modules]
    return {each.name: each for each in found}


@functools.cache
def tiny(family: str, kind: str) -> Any:
    """A model of some kind; shared, so not to be changed."""
    return tiny_families()[family].kinds[kind]()


def random_ids(*shape: int, seed: int = 0, vocabulary: int = VOCABULARY) -> Tensor:
    """Token ids from a seed."""
    return torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(seed))


def difference(found: Tensor, reference: Tensor) -> float:
    """The largest difference, as a share of the reference's scale (its largest absolute value)."""
    assert found.shape == reference.shape
    return float((found - reference).abs().max() / reference.abs().max())
