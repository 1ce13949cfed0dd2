"""JSON requests to a server, made again while what went wrong may pass."""

from __future__ import annotations

import asyncio
import email.utils
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import httpx2
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

if TYPE_CHECKING:
    from models.families.endpoint.server import Server

__all__ = ["Connection", "EndpointError", "shown"]

_BACKOFF = wait_exponential_jitter(initial=1.0, max=60.0, jitter=1.0)
_LONGEST_WAIT: Final = 300.0
_LONGEST_CONNECT: Final = 10.0
_SHOWN_AT_MOST: Final = 200
# Request timeout, too early, too many requests; so are all errors of the server itself.
_PASSING: Final = (408, 425, 429)
_ADVICE: Final = {
    401: "; api_key_variable in the card's server names the environment variable that holds the key",
    403: "; api_key_variable in the card's server names the environment variable that holds the key",
    404: "; is the url of the card's server right, and does it offer completions?",
    429: "; a lower concurrency in the card's server may help",
}


class EndpointError(ValueError):
    """A server that does not answer as it should; the message says what and what to do.

    Attributes:
        status: The HTTP status that it refused a request with, if it did.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class _Passing(Exception):
    """A failure that may not come again, and for how many seconds the server asks to be left alone."""

    def __init__(self, failure: str, advice: str, retry_after: float = 0.0) -> None:
        super().__init__(failure)
        self.advice = advice
        self.retry_after = retry_after


class Connection:
    """Requests to one server, so many at once; `async with` closes it.

    Raises:
        EndpointError: The key is not in the environment.
    """

    def __init__(self, server: Server) -> None:
        try:
            key = server.api_key()
        except ValueError as error:
            raise EndpointError(str(error)) from None
        self._server = server
        self._places = asyncio.Semaphore(server.concurrency)
        self._client = httpx2.AsyncClient(
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=httpx2.Timeout(None, connect=min(server.timeout, _LONGEST_CONNECT)),
            # Places bound the requests; a wait for a connection would count as the server's time.
            limits=httpx2.Limits(max_connections=None),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def get(self, url: str, *, attempts: int | None = None) -> dict[str, Any]:
        """The JSON object at `url`; raises as `post`."""
        return await self._asked("GET", url, None, attempts or self._server.attempts)

    async def post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON object that the server answers `body` with.

        Raises:
            EndpointError: It refuses, or does not answer rightly however often it is asked.
        """
        return await self._asked("POST", url, body, self._server.attempts)

    async def _asked(self, method: str, url: str, body: dict[str, Any] | None, attempts: int) -> dict[str, Any]:
        # A failed request keeps its place while it waits, so that a server in trouble gets fewer.
        async with self._places:
            asking = AsyncRetrying(
                stop=stop_after_attempt(attempts),
                wait=_waiting,
                retry=retry_if_exception_type(_Passing),
                reraise=True,
            )
            try:
                return await asking(self._asked_once, method, url, body)
            except _Passing as error:
                times = "" if attempts == 1 else f", {attempts} times"
                raise EndpointError(f"{method} {url} {error}{times}{error.advice}") from None

    async def _asked_once(self, method: str, url: str, body: dict[str, Any] | None) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._server.timeout):
                response = await self._client.request(method, url, json=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise _Passing(f"cannot connect: {_reason(error)}", "; is the server running?") from None
        except (TimeoutError, httpx2.TimeoutException):
            raise _Passing(
                f"gave no answer within {self._server.timeout:g} s",
                "; a longer timeout or a lower concurrency in the card's server may help",
            ) from None
        except httpx2.RequestError as error:
            raise _Passing(f"broke off: {_reason(error)}", "; its own log may say why") from None
        return _read(method, url, response)


def shown(text: str) -> str:
    """A text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_AT_MOST else line[:_SHOWN_AT_MOST] + "…"


def _read(method: str, url: str, response: httpx2.Response) -> dict[str, Any]:
    status = response.status_code
    answered = f"answered {status} {response.reason_phrase}".rstrip() + f": {shown(response.text)}"
    if status in _PASSING or status >= 500:
        advice = _ADVICE.get(status, "; its own log may say why")
        raise _Passing(answered, advice, _retry_after(response.headers.get("Retry-After")))
    if status != 200:
        raise EndpointError(f"{method} {url} {answered}{_ADVICE.get(status, '')}", status)
    try:
        content = response.json()
    except ValueError:
        content = None
    if not isinstance(content, dict):
        advice = "; is the url of the card's server that of an OpenAI-compatible API?"
        raise _Passing(f"answered with what is not a JSON object: {shown(response.text)!r}", advice)
    return content


def _waiting(state: RetryCallState) -> float:
    """Seconds until the next attempt: twice as many as before, or as many as the server asks for."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, _Passing) else 0.0
    return max(_BACKOFF(state), min(asked, _LONGEST_WAIT))


def _retry_after(given: str | None) -> float:
    """The seconds that a Retry-After header asks for, itself seconds or a date (RFC 9110, section 10.2.3)."""
    if given is None:
        return 0.0
    if given.strip().isdecimal():
        return float(given)
    try:
        return max(email.utils.parsedate_to_datetime(given).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return 0.0


def _reason(error: Exception) -> str:
    return shown(str(error)) or type(error).__name__
