"""Prompt templates: what a model wants around every prompt, its special tokens and its chat template."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from generators.tokenization import Tokenizer

__all__ = [
    "PromptTemplate",
    "PromptTemplateError",
    "Special",
    "chat_prompt_template",
    "plain_template",
    "read_chat_template",
]

# Stands for the user's turn while a template is rendered; no template holds it.
_TURN: Final = "\ue000longwatch\ue001"


class PromptTemplateError(ValueError):
    """A chat template that cannot be used; the message says why."""


@dataclass(frozen=True)
class Special:
    """A special token.

    Attributes:
        text: Its name in the vocabulary.
        id: Its number.
        spelled: Whether the template spells it out; some tokenizers treat the text after it differently.
    """

    text: str
    id: int
    spelled: bool = True


@dataclass(frozen=True)
class PromptTemplate:
    """What stands before and after a prompt; the answer prefix follows after it, as in RULER.

    Attributes:
        before: Special tokens and words before the prompt.
        after: Special tokens and words between the prompt and the answer prefix.
    """

    before: tuple[Special | str, ...] = ()
    after: tuple[Special | str, ...] = ()

    @property
    def fingerprint(self) -> str | None:
        """Sixteen hexadecimal digits that change with any part; None where there is none."""
        if self == PromptTemplate():
            return None
        # Stored beside results, so that how it is spelled must never change, whatever classes are called.
        spelled = f"Frame(before={self.before!r}, after={self.after!r})"
        return hashlib.sha256(spelled.encode()).hexdigest()[:16]

    def tokens(self, tokenizer: Tokenizer) -> int:
        """How many tokens it takes."""
        parts = (*self.before, *self.after)
        return sum(1 if isinstance(part, Special) else tokenizer.count(part) for part in parts)

    def around(self, prompt: str) -> str:
        """The text of a prompt in its prompt template, with the special tokens that a template spells out."""
        before, after = ("".join(map(_spelled, side)) for side in (self.before, self.after))
        return before + prompt + after


def _spelled(part: Special | str) -> str:
    if isinstance(part, str):
        return part
    return part.text if part.spelled else ""


def plain_template(tokenizer: Tokenizer, beginning_of_sequence: str | None) -> PromptTemplate:
    """The prompt template of a base model: one beginning-of-sequence token where the model wants one, else nothing.

    Raises:
        generators.tokenization.TokenizerError: The tokenizer lacks the token.
    """
    if beginning_of_sequence is None:
        return PromptTemplate()
    return PromptTemplate((Special(beginning_of_sequence, tokenizer.special(beginning_of_sequence), spelled=False),))


def chat_prompt_template(
    tokenizer: Tokenizer,
    template: str,
    *,
    beginning_of_sequence: str | None,
    end_of_sequence: str | None,
    specials: Sequence[str] = (),
) -> PromptTemplate:
    """The prompt template that a chat template makes of one user turn and the beginning of the answer.

    A template may write the beginning-of-sequence token itself or leave it to the tokenizer; either
    way there is exactly one where the model wants one and none where not.

    Args:
        tokenizer: The model's tokenizer.
        template: The Jinja source.
        beginning_of_sequence: The token prompts begin with; None where the model wants none.
        end_of_sequence: What the template may call `eos_token`.
        specials: More special tokens that the template may spell out than the tokenizer's own file lists.

    Raises:
        FrameError: The template cannot be rendered, or does not hold the user's turn once.
        generators.tokenization.TokenizerError: The tokenizer lacks a token.
    """
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    try:
        rendered = environment.from_string(template).render(
            messages=[{"role": "user", "content": _TURN}],
            add_generation_prompt=True,
            bos_token=beginning_of_sequence or "",
            eos_token=end_of_sequence or "",
        )
    except Exception as error:  # a template is a program, and may fail as any
        raise PromptTemplateError(f"the chat template cannot be rendered for one user turn: {error}") from None
    if rendered.count(_TURN) != 1:
        raise PromptTemplateError(
            f"the chat template holds the user's turn {rendered.count(_TURN)} times; once is needed"
        )
    names = sorted(
        {*specials, *tokenizer.special_tokens, *filter(None, (beginning_of_sequence, end_of_sequence))},
        key=len,
        reverse=True,
    )
    before, after = (_parts(tokenizer, side, names) for side in rendered.split(_TURN))
    written = any(isinstance(part, Special) and part.text == beginning_of_sequence for part in before)
    if beginning_of_sequence is None or written:
        return PromptTemplate(before, after)
    return PromptTemplate(plain_template(tokenizer, beginning_of_sequence).before + before, after)


def _parts(tokenizer: Tokenizer, text: str, names: Sequence[str]) -> tuple[Special | str, ...]:
    if not names:
        return (text,) if text else ()
    split = re.split(f"({'|'.join(map(re.escape, names))})", text)
    return tuple(Special(part, tokenizer.special(part)) if i % 2 else part for i, part in enumerate(split) if part)


def read_chat_template(path: Path) -> tuple[str, list[str]]:
    """A chat template and the special tokens it may use, from a `tokenizer_config.json` or a `.jinja` file.

    Raises:
        FrameError: The file is missing, not JSON, or has no chat template.
    """
    if not path.is_file():
        raise PromptTemplateError(f"no chat template at {path}; a tokenizer_config.json or .jinja file belongs there")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".json":
            return text, []
        config: Any = json.loads(text)
    except UnicodeDecodeError as error:
        raise PromptTemplateError(f"{path} is not UTF-8: {error}") from None
    except json.JSONDecodeError as error:
        raise PromptTemplateError(f"{path} is not JSON: {error}") from None
    template = config.get("chat_template") if isinstance(config, dict) else None
    if isinstance(template, list):
        named = (each for each in template if isinstance(each, dict) and each.get("name") == "default")
        template = next(named, {}).get("template")
    if not isinstance(template, str):
        raise PromptTemplateError(f"{path} has no chat_template")
    added = config.get("added_tokens_decoder", {}).values()
    return template, [token["content"] for token in added if token.get("special")]
