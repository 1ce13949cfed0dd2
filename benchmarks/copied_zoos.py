"""Copies of a zoo that can be changed, while the zoo itself stays as it is."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any, Final

from zoo.cards import Zoo

__all__ = ["PlantError", "ZooCopy"]

_FILES: Final = ("path", "tokenizer", "chat_template")


class PlantError(ValueError):
    """A change that a model gives no place for; the message says why."""


class ZooCopy:
    """A zoo's file in another folder, where its snapshots then belong too.

    Cards go on naming the zoo's own checkpoints and tokenizers, until these are asked for to be changed.

    Attributes:
        zoo: The zoo as it is.
        folder: Where the copy is.
        content: What its file will say.
    """

    def __init__(self, zoo: Zoo, folder: Path) -> None:
        self.zoo = zoo
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.content: dict[str, Any] = tomllib.loads((zoo.folder / self.file.name).read_text(encoding="utf-8"))
        for card in self.content["models"].values():
            # What is not there is a name on the hub.
            local = [name for name in _FILES if name in card and (zoo.folder / card[name]).exists()]
            card |= {name: str((zoo.folder / card[name]).resolve()) for name in local}

    @property
    def file(self) -> Path:
        """The copy's TOML file."""
        return self.folder / f"{self.zoo.name}.toml"

    @property
    def snapshots(self) -> Path:
        """Where the suite keeps what is accepted of the copy."""
        return self.folder / "snapshots" / self.zoo.name

    def card(self, model: str) -> dict[str, Any]:
        """The fields of a card, to be changed."""
        card: dict[str, Any] = self.content["models"][model]
        return card

    def checkpoint(self, model: str) -> Path:
        """The folder of a checkpoint of its own for a model.

        Raises:
            PlantError: The card names no folder on this machine.
        """
        return self._own(model, "path", "a checkpoint")

    def tokenizer(self, model: str) -> Path:
        """The file of a tokenizer of its own for a model.

        Raises:
            PlantError: The card names no file on this machine.
        """
        return self._own(model, "tokenizer", "a tokenizer")

    def _own(self, model: str, field: str, what: str) -> Path:
        card = self.card(model)
        given = Path(card.get(field, ""))
        if not given.is_absolute():
            raise PlantError(f"its card names no {what.removeprefix('a ')} on this machine")
        own = self.folder / "own" / model / given.name
        if own != given:
            own.parent.mkdir(parents=True, exist_ok=True)
            if given.is_dir():
                shutil.copytree(given, own)
            else:
                shutil.copy(given, own)
            card[field] = str(own)
        return own

    def write(self, accepted: ZooCopy | None = None) -> None:
        """Writes the file; and what was accepted of another copy beside it."""
        lines = (f"{json.dumps(name)} = {_toml(value)}" for name, value in self.content.items())
        self.file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if accepted is not None:
            shutil.copytree(accepted.snapshots, self.snapshots, dirs_exist_ok=True)


def _toml(value: Any) -> str:
    """A value as TOML, on one line; strings, numbers and truth values are written as JSON writes them."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
