"""What longwatch has to know of a family of models; imports no torch.

Each folder here is one family: its package has one record, `FAMILY`, and its `libraries.txt` names the libraries
that it runs on. Nothing else lists the families.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from core.libraries import libraries_by_family

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from generators.corpora.sets import Corpora
    from generators.prompt_templates import PromptTemplate
    from generators.tokenization import Tokenizer
    from models.cards import Card
    from models.decoding.decoder import Decoder
    from models.families.endpoint.model import Endpoint
    from models.layers.kernels import Kernel

__all__ = ["AttentionLayers", "Configuration", "Family", "Kind", "Operations", "Surroundings"]

# What a model remembers by: keys of every token, a state of fixed size, or both.
Kind = Literal["attention", "recurrent", "hybrid"]

# A parsed `config.json`.
Configuration = Mapping[str, Any]


@dataclass(frozen=True)
class AttentionLayers:
    """The attention of one model.

    Attributes:
        layers: How many layers attend.
        channels: Of all heads of one layer.
        window: How many tokens a token attends to, itself included; None for all before it.
    """

    layers: int
    channels: int
    window: int | None = None


@dataclass(frozen=True)
class Surroundings:
    """What a model without a checkpoint is made from.

    Attributes:
        card: Its card.
        tokenizer: Its tokenizer.
        prompt_template: What goes around every prompt.
        corpora: What prompts are made from.
    """

    card: Card
    tokenizer: Tokenizer
    prompt_template: PromptTemplate
    corpora: Corpora


@dataclass(frozen=True)
class Operations:
    """What is done with models of a family; None stands for what the family does not offer.

    Attributes:
        load: A checkpoint directory, a device and a dtype to a model, ready for inference. It raises
            `CheckpointError` where the directory does not make one.
        stand_in: Of a family without checkpoints: what decodes in a model's place. It raises `CheckpointError`.
        new: What `Family.parse` gives to a model whose weights are still to be drawn.
        initialize: Draws all weights of a new model as its published kind does, from torch's generator; the
            second argument is the parsed `config.json`.
        write: Writes a model into a directory as its kind is published, in the published dtype or in a third argument.
        implementation: Whose code a loaded model runs, where a family has more than one.
    """

    load: Callable[[Path, torch.device, torch.dtype], Decoder[Any]] | None = None
    stand_in: Callable[[Surroundings], Decoder[Any] | Endpoint] | None = None
    new: Callable[[Any], nn.Module] | None = None
    initialize: Callable[[Any, Configuration], None] | None = None
    write: Callable[..., None] | None = None
    implementation: Callable[[Any], str] | None = None


def _attention(configuration: Configuration) -> Kind:
    return "attention"


def _none_known(configuration: Configuration) -> None:
    return None


def _checkpoint_problem(card: Card) -> str | None:
    return " must have either path or hub" if (card.path is None) == (card.hub is None) else None


def _no_defects(configuration: Configuration) -> tuple[str, ...]:
    return ()


def _no_attention(configuration: Configuration) -> AttentionLayers:
    return AttentionLayers(0, 0)


@dataclass(frozen=True)
class Family:
    """One family of models. Facts about one model are functions of its parsed `config.json`.

    Attributes:
        name: As cards say it.
        operations: Imports torch and the family's modules, and gives what is done with its models.
        parse: `config.json` to what the family makes of it; raises `ConfigurationError`. None where the family reads
            no `config.json` of its own.
        kind: What a model remembers by.
        kernels: Those that take the place of its plain paths on CUDA.
        needs_checkpoint: Whether its cards name a checkpoint.
        card_fields: Fields of a card that are for this family alone.
        card_problem: What is wrong with a card of the family, as the end of a sentence that begins with the card's
            place in a file; None where nothing is.
        defects: The known defects of other implementations that a model can take on.
        attention: A model's attention, for counts of operations.
        rotary_base: Where `config.json` has the base of a model's rotary embedding: the names of the objects on the
            way, then the field's; None where it has none.
        norm_offset: What norms add to their weights before they scale by them.
    """

    name: str
    operations: Callable[[], Operations]
    parse: Callable[[Configuration], Any] | None = None
    kind: Callable[[Configuration], Kind] = _attention
    kernels: tuple[Kernel, ...] = ()
    needs_checkpoint: bool = True
    card_fields: tuple[str, ...] = ()
    card_problem: Callable[[Card], str | None] = _checkpoint_problem
    defects: Callable[[Configuration], tuple[str, ...]] = _no_defects
    attention: Callable[[Configuration], AttentionLayers] = _no_attention
    rotary_base: Callable[[Configuration], tuple[str, ...] | None] = _none_known
    norm_offset: float = 0.0

    @property
    def libraries(self) -> tuple[str, ...]:
        """The distributions that it computes with, the one that most likely moves a score first."""
        return libraries_by_family().get(self.name, ())

    def new(self, configuration: Configuration) -> nn.Module:
        """A model of a parsed `config.json`, its weights still to be drawn; a `models.decoding.decoder.Decoder`.

        Raises:
            ValueError: The family makes no models from configurations alone.
            models.checkpoints.errors.ConfigurationError: The configuration is not the family's.
        """
        made = self.operations().new
        if made is None or self.parse is None:
            raise ValueError(f"models of family {self.name} are not made from a configuration alone")
        return made(self.parse(configuration))

    def load(self, directory: Path, device: torch.device, dtype: torch.dtype) -> Decoder[Any]:
        """The model of a checkpoint directory, ready for inference.

        Raises:
            ValueError: The family has no checkpoints.
            models.checkpoints.errors.CheckpointError: The directory does not make a model.
        """
        loaded = self.operations().load
        if loaded is None:
            raise ValueError(f"family {self.name} has no checkpoints")
        return loaded(directory, device, dtype)

    def stand_in(self, given: Surroundings) -> Decoder[Any] | Endpoint:
        """What decodes in the place of a checkpoint's model.

        Raises:
            ValueError: The family's models are checkpoints.
            models.checkpoints.errors.CheckpointError: The card does not make one.
        """
        made = self.operations().stand_in
        if made is None:
            raise ValueError(f"models of family {self.name} are loaded from checkpoints")
        return made(given)
