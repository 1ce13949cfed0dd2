"""What changed between two results: the differences of their environments, most suspicious first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from core.libraries import all_libraries, libraries_by_family

__all__ = ["Change", "Suspicion", "change_fields", "changes"]


class Suspicion(IntEnum):
    """How likely a change of its kind shifts a score; the smaller number is the stronger suspect.

    Attributes:
        MODEL: What the model is: its weights, its configuration, or defects it takes on.
        PROMPT: What it is asked and how its answer is taken: tokenizer, prompt template, corpus, decoding.
        SOFTWARE: What computes it: kernels, and the libraries that its family runs on.
        HARDWARE: Where, and in which precision.
        BATCHING: How the work is cut into pieces; no score should depend on it.
        OTHER: Everything else.
        UNKNOWN: What one of the two did not record.
    """

    MODEL = 1
    PROMPT = 2
    SOFTWARE = 3
    HARDWARE = 4
    BATCHING = 5
    OTHER = 6
    UNKNOWN = 7


# In order of suspicion, within a kind too.
_KINDS: Final[Mapping[Suspicion, tuple[str, ...]]] = {
    Suspicion.MODEL: ("weights", "configuration", "revision", "emulate", "window", "served_model", "owned_by", "url"),
    Suspicion.PROMPT: (
        "tokenizer",
        "frame",
        "corpus",
        "prompts",
        "tokens_to_generate",
        "end_of_sequence",
        "decoding",
        "request",
    ),
    Suspicion.SOFTWARE: ("implementation", "kernels", "server_version"),
    Suspicion.HARDWARE: (
        "dtype",
        "device",
        "float32_matmul_precision",
        "deterministic_algorithms",
        "cuda",
        "cudnn",
        "driver",
        "processor",
    ),
    Suspicion.BATCHING: ("batch_tokens", "threads"),
}

_WORDS: Final[Mapping[str, str]] = {
    "weights": "the checkpoint's weights",
    "configuration": "the checkpoint's configuration",
    "revision": "the checkpoint's revision",
    "emulate": "emulated defects",
    "window": "the oracle's window",
    "served_model": "the model that the server serves",
    "owned_by": "the owner that the server names",
    "url": "the server's address",
    "frame": "the prompt template",
    "prompts": "how prompts are sent",
    "tokens_to_generate": "tokens to generate",
    "end_of_sequence": "the token that ends an answer",
    "request": "what else the server is asked",
    "server_version": "the server's version",
    "implementation": "the model's implementation",
    "float32_matmul_precision": "precision of float32 products",
    "deterministic_algorithms": "deterministic algorithms",
    "cuda": "CUDA",
    "cudnn": "cuDNN",
    "driver": "the NVIDIA driver",
    "batch_tokens": "tokens a batch",
}

_ABSENT: Final = object()


@dataclass(frozen=True)
class Change:
    """One difference between two environments.

    Attributes:
        name: The field of the environment.
        before: Its value then; None also where it was not recorded.
        now: Its value now; None also where it is not recorded.
        suspicion: How likely it is the cause.
    """

    name: str
    before: Any
    now: Any
    suspicion: Suspicion

    def __str__(self) -> str:
        name = _WORDS.get(self.name, self.name.replace("_", " "))
        if self.suspicion is Suspicion.UNKNOWN:
            side, value = ("now", self.now) if self.before is None else ("then", self.before)
            return f"{name}: recorded on one side only, {_shown(self.name, value)} {side}"
        return f"{name}: {_shown(self.name, self.before)} → {_shown(self.name, self.now)}"


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """The differences between two environments, the most suspicious first.

    Libraries that the model's family does not run on are less suspicious than those that it does. A field
    that only one of the two has counts as unknown, since results of other versions record other fields.

    Args:
        before: What produced one result, see `drift.records.results.CellResult`.
        now: What produced the other.
    """
    ranks = _ranks(now.get("family", before.get("family")))
    found = []
    for name in {**before, **now}:
        old, new = before.get(name, _ABSENT), now.get(name, _ABSENT)
        if old is _ABSENT or new is _ABSENT:
            given = before.get(name, now.get(name))
            if given not in (None, [], {}):
                found.append(Change(name, before.get(name), now.get(name), Suspicion.UNKNOWN))
        elif old != new:
            found.append(Change(name, old, new, ranks.get(name, (Suspicion.OTHER, 0))[0]))
    return sorted(
        found, key=lambda change: (change.suspicion, ranks.get(change.name, (Suspicion.OTHER, 0))[1], change.name)
    )


def change_fields(change: Change) -> dict[str, object]:
    """A change as fields for JSON."""
    kind = change.suspicion.name.lower()
    return {"name": change.name, "kind": kind, "before": change.before, "now": change.now, "text": str(change)}


def _ranks(family: object) -> dict[str, tuple[Suspicion, int]]:
    """By field, its kind and its place within the kind."""
    libraries = libraries_by_family().get(str(family), all_libraries())
    kinds = {**_KINDS, Suspicion.SOFTWARE: (*_KINDS[Suspicion.SOFTWARE], *libraries)}
    return {name: (kind, place) for kind, names in kinds.items() for place, name in enumerate(names)}


def _shown(name: str, value: object) -> str:
    if value is None:
        return "not installed" if name in all_libraries() else "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return str(value)
