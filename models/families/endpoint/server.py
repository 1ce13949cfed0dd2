"""What a card says of a server that has the model; imports no HTTP client."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from core.checked_fields import STRICT, Count, Flag
from core.display import shown

__all__ = ["Server"]

_VERSION: Final = "/v1"
# What every request says by itself.
_OWN: Final = ("echo", "max_tokens", "model", "n", "prompt", "stream", "temperature")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_one = urlsplit(""), False
    # What stands before the host may be a password, so it is not repeated.
    if "@" in url:
        raise ValueError("must not hold a user's name or password; api_key_variable names where a key is")
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_one or parts.query or parts.fragment:
        raise ValueError(f"must be an address like http://host:8000/v1, not {shown(url)}")
    return url


def _variable(name: str | None) -> str | None:
    if name is not None and not _VARIABLE.fullmatch(name):
        # What stands here by mistake may be the key, so it is not repeated.
        raise ValueError("must be the name of an environment variable, never the key itself")
    return name


def _free(name: str) -> str:
    if name in _OWN:
        raise ValueError("cannot be set: every request says it already")
    return name


def _sendable(request: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        json.dumps(request, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"cannot be sent as JSON: {error}") from None
    return request


@dataclass(frozen=True)
class Server:
    """A server that completes prompts as the OpenAI API does: vLLM, SGLang, TGI, llama.cpp, `transformers serve`.

    Attributes:
        url: Its address, as `http://host:8000/v1`; the version may be left out.
        model: The name it gives the model.
        prompts: How prompts are sent: as token ids, as text, or as ids where it takes them (auto).
        adds_beginning: Whether it puts a beginning-of-sequence token before prompts that are text.
        concurrency: Requests under way at once.
        timeout: Seconds for one request, from connecting to the last byte of the answer.
        attempts: How often a request is made before it is given up; waits between them double from a second.
        api_key_variable: The environment variable that holds the key, where it wants one.
        request: More fields of every request, for what a server does not do by itself: `stop` or `stop_token_ids`
            where it does not end answers at the card's end of sequence, `repetition_penalty = 1.0` where the
            checkpoint's generation settings would change greedy decoding.
    """

    __pydantic_config__ = STRICT

    url: Annotated[str, Field(description="an address like http://host:8000/v1"), AfterValidator(_address)]
    model: Annotated[str, Field(min_length=1, description="the name that the server gives the model")]
    prompts: Literal["auto", "ids", "text"] = "auto"
    adds_beginning: Flag = False
    concurrency: Count = 8
    timeout: Annotated[float, Field(gt=0, description="a number of seconds above 0")] = 600.0
    attempts: Count = 6
    api_key_variable: Annotated[
        str | None, Field(repr=False, description="the name of an environment variable"), AfterValidator(_variable)
    ] = None
    request: Annotated[Mapping[Annotated[str, AfterValidator(_free)], Any], AfterValidator(_sendable)] = field(
        default_factory=dict, hash=False
    )

    @property
    def base(self) -> str:
        """The address with the version of the API, without a slash at the end."""
        url = self.url.rstrip("/")
        return url if url.endswith(_VERSION) else url + _VERSION

    @property
    def root(self) -> str:
        """The address without the version of the API."""
        return self.base.removesuffix(_VERSION)

    def api_key(self) -> str | None:
        """The key from the environment; None where the card names no variable.

        Raises:
            ValueError: The variable is not set.
        """
        if self.api_key_variable is None:
            return None
        key = os.environ.get(self.api_key_variable, "").strip()
        if not key:
            raise ValueError(
                f"the environment variable {self.api_key_variable}, which holds the key for {self.url}, is not set"
            )
        return key
