"""What a zoo holds, and whether a card's model can be loaded and decodes."""

from __future__ import annotations

import resource
from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from generators.corpora.sets import EmbeddedCorpora
from generators.prompt_templates import Special
from models.cards import Card
from zoo.cards import Zoo

__all__ = ["facts", "listed"]

_PROMPT = "The grass is green. The sky is blue."
_TOKENS = 10


def listed(zoo: Zoo) -> Table:
    """The cards of a zoo."""
    table = Table()
    for heading in ("model", "family", "from", "revision", "tokenizer", "dtype", "trained at"):
        table.add_column(heading, overflow="fold")
    for card in zoo.models.values():
        source = card.hub or card.path or (card.server.url if card.server else "-")
        trained = "-" if card.trained_length is None else str(card.trained_length)
        cells = (card.name, card.family, source, card.revision or "-", card.tokenizer, card.dtype, trained)
        table.add_row(*map(escape, cells))
    return table


def facts(card: Card, zoo: Zoo, device: str) -> Iterator[tuple[str, str]]:
    """Loads a model and lets it decode; names and values, each as soon as it is known.

    Raises:
        models.checkpoints.errors.CheckpointError: The model cannot be loaded.
        models.decoding.greedy.NonFiniteLogits: Its output is not a number.
        models.families.endpoint.model.EndpointError: Its server does not answer.
    """
    import torch

    from models.decoding.greedy import GreedySettings, greedy
    from models.families.endpoint.model import Endpoint
    from models.loading import load

    model = load(card, zoo.folder, device, EmbeddedCorpora())
    tokenizer = model.tokenizer
    if isinstance(model.decoder, torch.nn.Module):
        tensors = dict(model.decoder.named_parameters())
        yield "tensors", f"{len(tensors)}, {sum(tensor.numel() for tensor in tensors.values()):,} parameters"
    yield from ((name, str(value)) for name, value in model.environment.items() if value)
    yield "vocabulary", f"{tokenizer.vocabulary_size:,} tokens, end of sequence {tokenizer.end_of_sequence}"
    yield (
        "pieces",
        "tokenized once each" if tokenizer.has_boundaries else "tokenized whole: no border is a proven token boundary",
    )
    yield "before a prompt", _spelled(model.prompt_template.before)
    yield "after a prompt", _spelled(model.prompt_template.after)
    ids = [part.id for part in model.prompt_template.before if isinstance(part, Special)] + list(
        tokenizer.encode(_PROMPT).ids
    )
    if isinstance(model.decoder, Endpoint):
        (text,) = model.decoder.continued([ids], tokens_to_generate=_TOKENS)
    else:
        (answer,) = greedy(
            model.decoder,
            [ids],
            GreedySettings(_TOKENS, end_of_sequence=tokenizer.end_of_sequence, batch_tokens=len(ids) + _TOKENS),
        )
        text = tokenizer.decode(answer)
    yield f"{_PROMPT!r} goes on", repr(text)
    if device.startswith("cuda"):
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    yield "largest memory", f"{peak / 2**20:,.0f} MiB"


def _spelled(parts: tuple[Special | str, ...]) -> str:
    names = (f"{part.text} ({part.id})" if isinstance(part, Special) else repr(part) for part in parts)
    return " ".join(names) or "nothing"
