"""The training loop: resumable, with its progress on screen and its curve on disk."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from generators.corpora.essays import embedded_essays
from generators.corpora.sets import EmbeddedCorpora
from generators.examples import ExampleSource
from generators.random_streams import TRAINING, RandomStream
from generators.tasks.registry import tasks
from models.decoding.greedy import GreedySettings, greedy
from models.loading import load, prompting
from zoo.cards import Zoo
from zoo.training.families import new_model
from zoo.training.mixed_texts import MixedTexts
from zoo.training.recipes import Recipe
from zoo.training.records import TrainingRecord
from zoo.training.texts import Mixture, ends

__all__ = ["Progress", "Trainer", "answer_loss"]

# Outside the vocabulary, so that no real token is taken for padding.
_PADDING = -100
# Texts of one round share pools of lines, words and documents, which are costly to tokenize anew for each.
_STEPS_A_ROUND = 100


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: Steps done.
        loss: Cross entropy on answers, nats a token, smoothed.
        accuracy: Share of answer tokens predicted, teacher-forced, smoothed, in percent.
        tokens_per_second: Training speed.
        seconds_left: Estimated.
    """

    step: int
    loss: float
    accuracy: float
    tokens_per_second: float
    seconds_left: float


class Trainer:
    """One training run in one folder; starting it again goes on where it was stopped."""

    def __init__(self, recipe: Recipe, zoo: Zoo, name: str, folder: Path, device: str = "cpu") -> None:
        self.recipe = recipe
        self.card = zoo.models[name]
        self.folder = folder
        self.device = torch.device(device)
        self.step = 0
        self._zoo = zoo
        self._seconds = 0.0
        self._smoothed: list[float] | None = None
        self.tokenizer, self._prompt_template = prompting(self.card, zoo.folder)
        self._texts: tuple[Mixture, MixedTexts] | None = None
        self.model = self._begun().to(self.device)
        matrices = [p for n, p in self.model.named_parameters() if p.ndim == 2 and "embed" not in n]
        chosen = {id(p) for p in matrices}
        rest = [p for p in self.model.parameters() if id(p) not in chosen]
        self._optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=recipe.learning_rate,
            betas=recipe.betas,
        )
        folder.mkdir(parents=True, exist_ok=True)
        self.log_file = folder / "log.jsonl"
        self._state_file = folder / "state.pt"
        if self._state_file.exists():
            self._load()

    def _begun(self) -> Any:
        """The model before the first step."""
        if self.recipe.architecture is not None:
            return new_model(self.card.family, self.recipe.architecture, self.recipe.seed, self.recipe.embedding_std)
        base = self._zoo.models.get(str(self.recipe.base))
        if base is None or base.family != self.card.family:
            raise ValueError(
                f"{self.recipe.base} cannot be tuned to {self.card.name}: no such card of family {self.card.family}"
            )
        model: Any = load(base, self._zoo.folder, "cpu", EmbeddedCorpora()).decoder
        return model.train().requires_grad_(True)

    def run(self, save_every: int = 100) -> Iterator[Progress]:
        """Trains to the last step; yields after each one and saves every `save_every`."""
        began, before = time.monotonic(), self._seconds
        while self.step < self.recipe.steps:
            loss, accuracy = self._train_step()
            self.step += 1
            self._seconds = before + time.monotonic() - began
            new = [loss, accuracy]
            old = self._smoothed or new
            self._smoothed = [0.95 * a + 0.05 * b for a, b in zip(old, new, strict=True)]
            if self.step % save_every == 0 or self.step == self.recipe.steps:
                self._save()
            yield self.progress

    def evaluate(self, task: str, length: int, samples: int, tokens_to_generate: int) -> float:
        """Free-running accuracy in percent on examples of the training namespace."""
        source = ExampleSource(
            self._zoo.tasks[task],
            length,
            self.tokenizer,
            EmbeddedCorpora(),
            tokens_to_generate,
            namespace=TRAINING,
            prompt_template=self._prompt_template,
        )
        examples = source.examples(samples)
        self.model.eval()
        answers = greedy(
            self.model,
            [example.ids for example in examples],
            GreedySettings(tokens_to_generate, end_of_sequence=self.tokenizer.end_of_sequence, batch_tokens=32768),
        )
        self.model.train()
        score = tasks()[task].score
        scores = [
            score(self.tokenizer.decode(ids), example.references)
            for ids, example in zip(answers, examples, strict=True)
        ]
        return 100 * sum(scores) / len(scores)

    @property
    def record(self) -> TrainingRecord:
        """What is to be known of the run so far."""
        progress = self.progress
        return TrainingRecord(
            steps=self.step,
            tokens=self.step * self.recipe.tokens_per_step,
            seconds=round(self._seconds, 1),
            threads=torch.get_num_threads() if self.device.type == "cpu" else 0,
            loss=round(progress.loss, 4),
            accuracy=round(progress.accuracy, 2),
            torch=torch.__version__,
        )

    @property
    def progress(self) -> Progress:
        """How far the run is; of no meaning before its first step."""
        loss, accuracy = self._smoothed or (math.nan, math.nan)
        per_step = self._seconds / max(self.step, 1)
        return Progress(
            step=self.step,
            loss=loss,
            accuracy=100 * accuracy,
            tokens_per_second=self.recipe.tokens_per_step / max(per_step, 1e-9),
            seconds_left=per_step * (self.recipe.steps - self.step),
        )

    def log(self, progress: Progress) -> None:
        """Appends a line to the run's `log.jsonl`."""
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(progress)) + "\n")

    def _train_step(self) -> tuple[float, float]:
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step)
        ids, answers = self._batch()
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.model(ids[:, :-1].clamp(min=0))
        logits = logits.float().flatten(0, 1)
        targets, answers = ids[:, 1:].flatten(), answers[:, 1:]
        padding = targets == _PADDING
        losses = functional.cross_entropy(logits, targets.masked_fill(padding, 0), reduction="none")
        losses = losses.masked_fill(padding, 0.0)
        alike = self.recipe.mixture_at(self.step).texts_alike
        on_answers = answer_loss(losses.view_as(answers), answers, texts_alike=alike)
        everywhere = losses.sum() / (~padding).sum()
        self._optimizer.zero_grad(set_to_none=True)
        (on_answers + self.recipe.text_weight * everywhere).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self._optimizer.step()
        answers = answers.flatten()
        right = ((logits.argmax(-1) == targets) & answers).sum() / answers.sum().clamp(min=1)
        return on_answers.item(), right.item()

    def _drawn(self) -> MixedTexts:
        """What draws the texts of the step."""
        mixture = self.recipe.mixture_at(self.step)
        if self._texts is None or self._texts[0] != mixture:
            around = ends(self.card, self.tokenizer, self._prompt_template)
            self._texts = mixture, MixedTexts(mixture, self.tokenizer, around, embedded_essays())
        return self._texts[1]

    def _batch(self) -> tuple[Tensor, Tensor]:
        context = self.recipe.stage(self.step).context
        texts = self._drawn()
        rows = self.recipe.tokens_per_step // context
        ids = torch.full((rows, context + 1), _PADDING)
        answers = torch.zeros(rows, context + 1, dtype=torch.bool)
        for row in range(rows):
            random = RandomStream(TRAINING, "texts", self.recipe.seed, self.step, row)
            text = texts.text(random, self.step // _STEPS_A_ROUND, context + 1)
            ids[row, : len(text.ids)] = torch.tensor(text.ids)
            answers[row, : len(text.ids)] = torch.tensor(text.answer)
        return ids.to(self.device), answers.to(self.device)

    def _save(self) -> None:
        state = {
            "step": self.step,
            "seconds": self._seconds,
            "smoothed": self._smoothed,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        partial = self._state_file.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self._state_file)

    def _load(self) -> None:
        state = torch.load(self._state_file, map_location=self.device, weights_only=True)
        self.step = state["step"]
        self._seconds = state["seconds"]
        self._smoothed = state["smoothed"]
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])


def answer_loss(losses: Tensor, answers: Tensor, *, texts_alike: bool) -> Tensor:
    """The mean loss on answers.

    Args:
        losses: Of each token, (texts, tokens).
        answers: Whether it belongs to an answer, (texts, tokens). A small batch of short contexts may hold none.
        texts_alike: Whether the answers of every text weigh alike, however long, rather than every token.
    """
    if not texts_alike:
        return (losses * answers).sum() / answers.sum().clamp(min=1)
    weights = answers / answers.sum(1, keepdim=True).clamp(min=1)
    return (losses * (weights / weights.sum().clamp(min=1))).sum()
