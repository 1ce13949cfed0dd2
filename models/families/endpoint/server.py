"""What a card says of a server that has the model; imports no HTTP client."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlsplit

__all__ = ["Server"]

_PROMPTS: Final = ("auto", "ids", "text")
_VERSION: Final = "/v1"
# What every request says by itself.
_OWN: Final = ("echo", "max_tokens", "model", "n", "prompt", "stream", "temperature")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


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

    url: str
    model: str
    prompts: Literal["auto", "ids", "text"] = "auto"
    adds_beginning: bool = False
    concurrency: int = 8
    timeout: float = 600.0
    attempts: int = 6
    api_key_variable: str | None = None
    request: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Raises ValueError for a field that cannot be; the message begins with its name."""
        _check_url(self.url)
        if not isinstance(self.model, str) or not self.model:
            raise ValueError(f"model must be the name that the server gives the model, not {self.model!r}")
        if self.prompts not in _PROMPTS:
            raise ValueError(f"prompts must be one of {', '.join(_PROMPTS)}, not {self.prompts!r}")
        if not isinstance(self.adds_beginning, bool):
            raise ValueError(f"adds_beginning must be true or false, not {self.adds_beginning!r}")
        for name in ("concurrency", "attempts"):
            if type(number := getattr(self, name)) is not int or number < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {number!r}")
        if type(self.timeout) not in (int, float) or not 0 < self.timeout < float("inf"):
            raise ValueError(f"timeout must be a number of seconds above 0, not {self.timeout!r}")
        # What stands here by mistake may be the key, so it is not repeated.
        if self.api_key_variable is not None and not (
            isinstance(self.api_key_variable, str) and _VARIABLE.fullmatch(self.api_key_variable)
        ):
            raise ValueError("api_key_variable must be the name of an environment variable, never the key itself")
        _check_request(self.request)

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


def _check_url(url: object) -> None:
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"url must be an address like http://host:8000/v1, not {url!r}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url must not hold a user's name or password; api_key_variable names where a key is")


def _check_request(given: object) -> None:
    if not isinstance(given, Mapping):
        raise ValueError(f"request must be a table, not {given!r}")
    for name in _OWN:
        if name in given:
            raise ValueError(f"request.{name} cannot be set: every request says it already")
    try:
        json.dumps(dict(given), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"request cannot be sent as JSON: {error}") from None
