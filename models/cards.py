"""The card of a model: what is known of it before it is loaded; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from core.checked_fields import STRICT, Count, Different, Flag, Text
from models.families.endpoint.server import Server

__all__ = ["Card"]


@dataclass(frozen=True)
class Card:
    """What is known of a model.

    Attributes:
        name: Its name in options, test ids and snapshots.
        family: The loader to use.
        tokenizer: A `tokenizer.json` or RWKV vocabulary (.txt), relative to the zoo's file, or a hub id
            that has either.
        path: The checkpoint directory, relative to the zoo's file; or
        hub: its id on the Hugging Face hub, and
        revision: the commit or branch to take there.
        end_of_sequence: The token that ends an answer.
        beginning_of_sequence: The token prompts begin with; none where the model was trained without.
        dtype: Of the weights: float32, bfloat16, float16, or auto (bfloat16 on CUDA, else float32).
        trained_length: Tokens in the context it was trained at.
        extrapolate: Whether it is also asked lengths beyond the positions that its configuration gives it.
        chat_template: For models that are asked in a chat: a `.jinja` file or `tokenizer_config.json`,
            relative to the zoo's file, or a hub id that has the latter.
        emulate: Known defects of other implementations to take on (mamba-ssm#1027).
        window: For the oracle, which needs no checkpoint: how many tokens it looks back.
        server: For an endpoint, which has its checkpoint elsewhere: the server, and how to ask it.
        smallest_length: The smallest length a task fits, where the prompt template or the tokenizer leaves less room
            than those of the zoo's other models.
    """

    __pydantic_config__ = STRICT

    name: Text
    family: Text
    tokenizer: Text
    path: Text | None = None
    hub: Text | None = None
    revision: Text | None = None
    end_of_sequence: Text | None = None
    beginning_of_sequence: Text | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    trained_length: Count | None = None
    extrapolate: Flag = False
    chat_template: Text | None = None
    emulate: Different[Text] = ()
    window: Count | None = None
    server: Server | None = None
    smallest_length: Mapping[str, Count] = field(default_factory=dict, hash=False)
