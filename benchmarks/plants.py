"""Changes that shift a model, or only look as if they might, planted into a copy of a zoo."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import tokenizers
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.copied_zoos import PlantError, ZooCopy
from generators.prompt_templates import chat_prompt_template, read_chat_template
from generators.tokenizer_files import load_tokenizer
from models.checkpoints.files import read_configuration, weights_files
from models.families import family_named
from models.families.state_spaces.defects import CONVOLVED_HISTORY

__all__ = ["PLANTS", "Plant", "rounded"]

_ROTARY_BASE: Final = 10000.0
_NORM_FACTOR: Final = 1.05
# A layer's first norm, as the families call it.
_NORM: Final = re.compile(r"\.(\d+)\.(?:norm|ln1|input_layernorm|temporal_pre_norm)\.weight$")


@dataclass(frozen=True)
class Plant:
    """A change.

    Attributes:
        name: What it is.
        suspects: The fields of a result's environment that an alert may name first; of a harmless change,
            those that must show it.
        apply: Plants it into a copy, for one model. It raises `PlantError` where the model has no place for it.
        harmful: Whether it is to be told of; a harmless change must raise no alert.
        every_model: Whether it changes every model of the zoo at once.
        other_library: Whether it is another release of a library, and no change of the zoo.
    """

    name: str
    suspects: frozenset[str]
    apply: Callable[[ZooCopy, str], None]
    harmful: bool = True
    every_model: bool = False
    other_library: bool = False


def rounded(tensor: Tensor, bits: int) -> Tensor:
    """Weights as whole multiples of a step, as symmetric quantization keeps them.

    Args:
        tensor: [..., rows, columns]; each row has a step of its own, so that its largest weight is the largest
            multiple.
        bits: Of the multiples, the sign's among them.
    """
    weights = tensor.float()
    step = weights.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    # A row of zeros has no step, and stays.
    return ((weights / step.where(step > 0, 1.0)).round() * step).to(tensor.dtype)


def _round_weights(copy: ZooCopy, model: str, *, bits: int) -> None:
    def changed(name: str, tensor: Tensor) -> Tensor:
        matrix = tensor.dim() > 1 and min(tensor.shape[-2:]) > 1 and not name.endswith(("_bias", ".bias"))
        # As is usual, what stands between tokens and the model keeps its precision.
        kept = "embed" in name or name in ("head.weight", "lm_head.weight")
        return rounded(tensor, bits) if matrix and not kept else tensor

    _change_tensors(copy.checkpoint(model), changed)


def _scale_norm(copy: ZooCopy, model: str) -> None:
    """Scales what the first norm of the middle layer gives."""
    directory = copy.checkpoint(model)
    found = (_NORM.search(name) for path in weights_files(directory) for name in _read(path))
    by_layer = {int(match[1]): match.string for match in found if match is not None}
    if not by_layer:
        raise PlantError("its layers have no norm by a known name")
    chosen = by_layer[sorted(by_layer)[len(by_layer) // 2]]
    # This family keeps how far its norms are from one.
    offset = family_named(copy.card(model)["family"]).norm_offset

    def changed(name: str, tensor: Tensor) -> Tensor:
        return (_NORM_FACTOR * (tensor.float() + offset) - offset).to(tensor.dtype) if name == chosen else tensor

    _change_tensors(directory, changed)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def _change_tensors(directory: Path, changed: Callable[[str, Tensor], Tensor]) -> None:
    for path in weights_files(directory):
        tensors = {name: changed(name, tensor).contiguous() for name, tensor in _read(path).items()}
        if path.suffix == ".safetensors":
            save_file(tensors, path, metadata={"format": "pt"})
        else:
            torch.save(tensors, path)


def _double_rotary_base(copy: ZooCopy, model: str) -> None:
    directory = copy.checkpoint(model)
    given = read_configuration(directory)
    path = family_named(copy.card(model)["family"]).rotary_base(given)
    if path is None:
        raise PlantError("it has no rotary embedding")
    place: Any = given
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = 2 * place.get(path[-1], _ROTARY_BASE)
    (directory / "config.json").write_text(json.dumps(given, indent=2) + "\n", encoding="utf-8")


def _take_on_defect(copy: ZooCopy, model: str) -> None:
    card = copy.card(model)
    family = family_named(card["family"])
    defects = family.defects(read_configuration(copy.checkpoint(model))) if family.needs_checkpoint else ()
    if CONVOLVED_HISTORY not in defects:
        raise PlantError("it has no attention with a convolution")
    card["emulate"] = [*card.get("emulate", []), CONVOLVED_HISTORY]


def _begin_once_more(copy: ZooCopy, model: str) -> None:
    """A second beginning-of-sequence token before every prompt; a first one where the model wants none."""
    card = copy.card(model)
    beginning = card.get("beginning_of_sequence")
    if beginning is None:
        card["beginning_of_sequence"] = _beginning(copy, model)
        return
    template = "{{ messages[0]['content'] }}"
    if "chat_template" in card:
        if not Path(card["chat_template"]).is_absolute():
            raise PlantError("its card names no chat template on this machine")
        template, _ = read_chat_template(Path(card["chat_template"]))
    tokenizer = load_tokenizer(copy.tokenizer(model), end_of_sequence=card.get("end_of_sequence"))
    number, marks = tokenizer.special(beginning), 0
    # A template that writes the token itself needs one more, any other two.
    while marks < 2:
        template = "{{ bos_token }}" + template
        prompt_template = chat_prompt_template(
            tokenizer,
            template,
            beginning_of_sequence=beginning,
            end_of_sequence=card.get("end_of_sequence"),
        )
        marks = sum(getattr(part, "id", None) == number for part in prompt_template.before)
    path = copy.folder / "own" / model / "twice.jinja"
    path.write_text(template, encoding="utf-8")
    card["chat_template"] = str(path)


def _let_tokenizer_begin(copy: ZooCopy, model: str) -> None:
    """A tokenizer whose file adds a beginning-of-sequence token to every text; prompts have theirs already."""
    beginning = _beginning(copy, model)
    path = copy.tokenizer(model)
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{beginning} $A", special_tokens=[(beginning, tokenizer.token_to_id(beginning))]
    )
    tokenizer.save(str(path))


def _beginning(copy: ZooCopy, model: str) -> str:
    """The token that a model's prompts begin with; else another special one than ends an answer."""
    card, path = copy.card(model), copy.tokenizer(model)
    if path.suffix != ".json":
        raise PlantError("its vocabulary has no special tokens")
    known = load_tokenizer(path).special_tokens
    chosen = card.get("beginning_of_sequence") or next((t for t in known if t != card.get("end_of_sequence")), None)
    if chosen is None:
        raise PlantError("its tokenizer has no token to begin with")
    return str(chosen)


def _halve_budgets(copy: ZooCopy, model: str) -> None:
    zoo = copy.zoo
    asked = sorted({cell.task for cell in zoo.matrix()})
    copy.content["tokens_to_generate"] = {task: max(zoo.budget(task) // 2, 1) for task in asked}


def _change_nothing(copy: ZooCopy, model: str) -> None:
    pass


PLANTS: Final = {
    "round-8": Plant("weights rounded to 8 bits", frozenset({"weights"}), partial(_round_weights, bits=8)),
    "round-4": Plant("weights rounded to 4 bits", frozenset({"weights"}), partial(_round_weights, bits=4)),
    "norm": Plant(f"one layer's norm scaled by {_NORM_FACTOR}", frozenset({"weights"}), _scale_norm),
    "rotary": Plant("rotary base doubled", frozenset({"configuration"}), _double_rotary_base),
    "defect": Plant(f"conv-state defect {CONVOLVED_HISTORY}", frozenset({"emulate"}), _take_on_defect),
    "beginning": Plant("one BOS more before every prompt", frozenset({"frame"}), _begin_once_more),
    "tokenizer": Plant(
        "tokenizer file that adds a BOS itself", frozenset({"tokenizer"}), _let_tokenizer_begin, harmful=False
    ),
    "budget": Plant(
        "generation budget cut by half", frozenset({"tokens_to_generate"}), _halve_budgets, every_model=True
    ),
    "transformers": Plant(
        "another transformers release",
        frozenset({"transformers"}),
        _change_nothing,
        harmful=False,
        every_model=True,
        other_library=True,
    ),
}
