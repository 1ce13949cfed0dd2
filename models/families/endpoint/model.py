"""A model behind an OpenAI-compatible completions server: prompts go out, greedy answers come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, Literal

from generators.assembly import Piece, assemble, templated
from generators.prompt_templates import Special
from generators.tokenization import Tokenizer, TokenizerError
from models.checkpoints.errors import CheckpointError
from models.families.endpoint.requests import Connection, EndpointError, shown

if TYPE_CHECKING:
    from models.families.endpoint.server import Server
    from models.families.family import Surroundings

__all__ = ["Endpoint", "EndpointError", "PromptTexts", "connect", "connect_card"]

# Where servers tell their version: vLLM, SGLang (new and old), TGI, llama.cpp.
_VERSIONS: Final = (
    ("/version", "version"),
    ("/server_info", "version"),
    ("/get_server_info", "version"),
    ("/info", "version"),
    ("/props", "build_info"),
)
_PROBE: Final = "The grass is green. The sky is blue."
# How a whole answer ends; TGI has had names of its own.
_ENDS: Final = ("stop", "length", "eos_token", "stop_sequence")
# How servers refuse a prompt of a type that they do not take.
_REFUSALS: Final = (400, 415, 422)


@dataclass(frozen=True)
class PromptTexts:
    """Turns token ids back into the text that a server makes the same ids of.

    Attributes:
        tokenizer: The model's tokenizer.
        special: The names of the special tokens by id.
        beginning: The id that the server puts before every text by itself, if it does.
    """

    tokenizer: Tokenizer
    special: Mapping[int, str]
    beginning: int | None = None

    def text(self, ids: Sequence[int]) -> str:
        """The text of a prompt, its special tokens spelled out.

        Raises:
            EndpointError: There is no text with these ids, or none that the server would begin rightly.
        """
        if self.beginning is not None:
            if not ids or ids[0] != self.beginning:
                raise EndpointError(
                    "the server begins every text with the beginning of sequence (adds_beginning), the prompt does not"
                )
            ids = ids[1:]
        parts: list[str] = []
        for is_special, group in groupby(ids, lambda each: each in self.special):
            run = tuple(group)
            if is_special:
                parts += [self.special[each] for each in run]
                continue
            part = self.tokenizer.decode(run)
            if (self.tokenizer.after_special if parts else self.tokenizer.encode)(part).ids != run:
                raise EndpointError(
                    f"no text gives the prompt's tokens, not even {shown(part)!r}; the card's server must take "
                    'prompts = "ids", or add the beginning of sequence by itself (adds_beginning = true)'
                )
            parts.append(part)
        return "".join(parts)


@dataclass(frozen=True, eq=False)
class Endpoint:
    """A model that a server decodes with.

    Attributes:
        server: The server, as its card says.
        prompts: How it takes prompts.
        texts: What makes texts of them.
        owner: What the server says of who made it or the model (`owned_by`), if it does.
        version: Its version, if it tells one.
        max_positions: The most tokens, prompt and answer, if it names a limit.
    """

    server: Server
    prompts: Literal["ids", "text"]
    texts: PromptTexts
    owner: str | None = None
    version: str | None = None
    max_positions: int | None = None

    @property
    def environment(self) -> dict[str, Any]:
        """What may change its answers, as far as that can be known from outside."""
        return {
            "url": self.server.base,
            "served_model": self.server.model,
            "owned_by": self.owner,
            "server_version": self.version,
            "prompts": self.prompts,
            "request": dict(self.server.request),
        }

    def continued(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        tokens_to_generate: int,
        finished: Callable[[int, str], None] = lambda row, text: None,
    ) -> list[str]:
        """Continues each prompt with its most likely tokens.

        Args:
            prompts: Token ids, of any lengths.
            tokens_to_generate: At most so many new tokens each.
            finished: Called in this thread with each prompt's index and text as soon as it is known.

        Returns:
            The generated texts in the order of `prompts`, without special tokens. Where a tokenizer of
            SentencePiece's kind begins an answer with a blank, servers differ in whether they keep it.

        Raises:
            EndpointError: A request was refused or never answered, or the server read other tokens than it was
                given. The others under way are dropped; what `finished` was called with is complete.
        """
        return asyncio.run(self._continued(prompts, tokens_to_generate, finished))

    async def _continued(
        self, prompts: Sequence[Sequence[int]], tokens_to_generate: int, finished: Callable[[int, str], None]
    ) -> list[str]:
        results = [""] * len(prompts)

        async def one(row: int) -> int:
            if tokens_to_generate > 0:
                try:
                    results[row] = await self.completion(connection, prompts[row], tokens_to_generate)
                except EndpointError as error:
                    raise EndpointError(f"example {row}: {error}", error.status) from None
            return row

        async with Connection(self.server) as connection:
            tasks = [asyncio.create_task(one(row)) for row in range(len(prompts))]
            try:
                for task in asyncio.as_completed(tasks):
                    row = await task
                    finished(row, results[row])
            finally:
                for each in tasks:
                    each.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        return results

    async def completion(self, connection: Connection, ids: Sequence[int], tokens_to_generate: int) -> str:
        """The answer to one prompt; raises as `continued`."""
        url = f"{self.server.base}/completions"
        body = {
            **self.server.request,
            "model": self.server.model,
            "prompt": list(ids) if self.prompts == "ids" else self.texts.text(ids),
            "max_tokens": tokens_to_generate,
            "temperature": 0.0,
        }
        answer = await connection.post(url, body)
        try:
            choice = answer["choices"][0]
            text, end = choice["text"], choice.get("finish_reason")
            if not isinstance(text, str):
                raise TypeError
        except (KeyError, IndexError, TypeError, AttributeError):
            raise EndpointError(f"{url} answered with no text: {shown(str(answer))}") from None
        if end not in _ENDS:
            raise EndpointError(f"{url} ended an answer early (finish_reason {end!r}); its own log may say why")
        self._check_tokens_read(url, answer, len(ids))
        return text

    def _check_tokens_read(self, url: str, answer: Mapping[str, Any], expected: int) -> None:
        usage = answer.get("usage")
        read = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        if not isinstance(read, int):
            raise EndpointError(
                f"{url} does not say how many tokens it read (usage.prompt_tokens), so its prompts cannot be trusted"
            )
        if read == expected:
            return
        if self.prompts == "text" and read == expected + 1 and self.texts.beginning is None:
            advice = (
                "it seems to add a beginning of sequence by itself: give the card that token as beginning_of_sequence "
                "and its server adds_beginning = true, or have the server add none"
            )
        elif self.prompts == "text" and read == expected - 1 and self.texts.beginning is not None:
            advice = "it seems to add no beginning of sequence: set adds_beginning = false in the card's server"
        else:
            advice = "is the card's tokenizer the served model's, and are its longest inputs long enough?"
        raise EndpointError(f"{url} read {read} tokens of a prompt of {expected}; {advice}")


def connect_card(given: Surroundings) -> Endpoint:
    """Connects to the server of a card.

    Raises:
        CheckpointError: The card names no server, or the server does not answer as the card says.
    """
    card, prompt_template = given.card, given.prompt_template
    if card.server is None:
        raise CheckpointError(f"model {card.name}: an endpoint's card needs a server")
    try:
        return connect(
            card.server,
            given.tokenizer,
            probe=assemble(given.tokenizer, templated(prompt_template, [Piece(_PROBE)], "")).ids,
            special=[
                part.text for part in (*prompt_template.before, *prompt_template.after) if isinstance(part, Special)
            ],
            beginning_of_sequence=card.beginning_of_sequence,
        )
    except (EndpointError, TokenizerError) as error:
        raise CheckpointError(f"model {card.name}: {error}") from None


def connect(
    server: Server,
    tokenizer: Tokenizer,
    *,
    probe: Sequence[int],
    special: Sequence[str] = (),
    beginning_of_sequence: str | None = None,
) -> Endpoint:
    """Asks a server what it serves, and lets it go on with one prompt.

    Args:
        server: The server.
        tokenizer: The model's tokenizer.
        probe: A short prompt in the prompt template that the model wants.
        special: Names of special tokens that the prompts may hold beside those that the tokenizer lists.
        beginning_of_sequence: The token that prompts begin with.

    Raises:
        EndpointError: It cannot be reached, serves another model, or reads other tokens than it is given.
        generators.tokenization.TokenizerError: A special token does not exist.
    """
    names = dict.fromkeys((*tokenizer.special_tokens, *special))
    texts = PromptTexts(
        tokenizer,
        {tokenizer.special(name): name for name in names},
        tokenizer.special(beginning_of_sequence) if server.adds_beginning and beginning_of_sequence else None,
    )
    return asyncio.run(_connected(server, texts, probe))


async def _connected(server: Server, texts: PromptTexts, probe: Sequence[int]) -> Endpoint:
    async with Connection(server) as connection:
        entry = await _entry(connection, server)
        owner, longest = entry.get("owned_by"), entry.get("max_model_len")
        version = await _version(connection, server)
        kinds: tuple[Literal["ids", "text"], ...] = ("ids", "text") if server.prompts == "auto" else (server.prompts,)
        for kind in kinds:
            endpoint = Endpoint(
                server,
                kind,
                texts,
                owner if isinstance(owner, str) else None,
                version,
                longest if isinstance(longest, int) else None,
            )
            try:
                await endpoint.completion(connection, probe, 1)
                break
            except EndpointError as error:
                if kind == kinds[-1] or error.status not in _REFUSALS:
                    raise
    return endpoint


async def _entry(connection: Connection, server: Server) -> dict[str, Any]:
    """What the server lists of the model."""
    url = f"{server.base}/models"
    listed = (await connection.get(url)).get("data")
    entries = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    for each in entries:
        if each.get("id") == server.model:
            return each
    names = ", ".join(str(each.get("id")) for each in entries) or "no model"
    raise EndpointError(f"{url} lists {shown(names)}, but the card's server names the model {server.model}")


async def _version(connection: Connection, server: Server) -> str | None:
    for path, name in _VERSIONS:
        try:
            told = (await connection.get(server.root + path, attempts=1)).get(name)
        except EndpointError:
            continue
        if isinstance(told, str):
            return told
    return None
