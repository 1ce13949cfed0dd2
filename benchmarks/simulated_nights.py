"""Nights of the paper's matrix without models: scores drawn from per-example probabilities.

Whether a model gives a reference of an example is a latent number above zero: the reference's own
part, which stays from night to night, plus a night's noise. The sizes of the two are such that the
cell has the paper's accuracy, and that a given share of its examples differs between two nights. Both
parts are to a half shared by all cells of a model that ask the same question: such cells rise and
fall together, as do real ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, owens_t

from core.cells import Cell
from drift.statistics.pools import Pool, pools

__all__ = ["ModelNights", "paper_models"]

# Beside this file: appendix C; for position and format Table 4, or, for what it leaves out, the mean over
# formats in Tables 2 and 3 (that of 2048 tokens also at 1024).
ACCURACIES = Path(__file__).with_name("paper_accuracies.json")

# What a right answer holds; one reference elsewhere.
REFERENCES = {"niah_multivalue": 4, "niah_multiquery": 4, "vt": 5, "cwe": 10, "fwe": 3}
SHARED = 0.5

Scores = npt.NDArray[np.int16]


# Compared and hashed as the one thing it is, since what it works out is kept with it.
@dataclass(frozen=True, eq=False)
class ModelNights:
    """The nights of one model.

    Attributes:
        cells: What it is asked.
        accuracies: Of each cell, in [0, 1].
        flips: The share of a cell's examples that differ between two nights.
        examples: How many each cell has, at most.
        seed: Of the parts that stay.
    """

    cells: tuple[Cell, ...]
    accuracies: tuple[float, ...]
    flips: float
    examples: int
    seed: int

    @cached_property
    def references(self) -> npt.NDArray[np.int64]:
        """How many each example of each cell has."""
        return np.array([REFERENCES.get(cell.task, 1) for cell in self.cells])

    @cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        """The cell of every reference."""
        return np.repeat(np.arange(len(self.cells)), self.references)

    @cached_property
    def questions(self) -> npt.NDArray[np.int64]:
        """The number of every cell's task."""
        tasks = list(dict.fromkeys(cell.task for cell in self.cells))
        return np.array([tasks.index(cell.task) for cell in self.cells])

    @cached_property
    def pools(self) -> dict[Pool, npt.NDArray[np.int64]]:
        """The numbers of the cells of each of its pools."""
        places = {cell: place for place, cell in enumerate(self.cells)}
        return {pool: np.array([places[cell] for cell in members]) for pool, members in pools(self.cells).items()}

    @cached_property
    def _reference_flips(self) -> npt.NDArray[np.float64]:
        return 1 - (1 - self.flips) ** (1 / self.references)

    @cached_property
    def chances(self) -> npt.NDArray[np.float64]:
        """The accuracies, where too near 0 or 1 for the flips moved just as far as needed."""
        lowest = (1 - np.sqrt(1 - 2 * self._reference_flips)) / 2
        return np.clip(self.accuracies, lowest, 1 - lowest)

    @cached_property
    def _cuts(self) -> npt.NDArray[np.float32]:
        """For each reference of each example, the noise that makes a right answer: [references, examples]."""
        centre = ndtri(self.chances)
        # Two numbers of correlation r lie on different sides of the centre with chance 4 T(centre, k) by
        # Owen's function, where k = sqrt((1 - r) / (1 + r)).
        low, high = np.zeros_like(centre), np.ones_like(centre)
        for _ in range(60):
            middle = (low + high) / 2
            too_few = 4 * owens_t(centre, middle) < self._reference_flips
            low, high = np.where(too_few, middle, low), np.where(too_few, high, middle)
        steady = ((1 - high**2) / (1 + high**2))[self.rows, None]
        own = _partly_shared(np.random.default_rng(self.seed), 1, self._askings(self.examples)).reshape(
            -1, self.examples
        )
        noise = np.sqrt(np.maximum(1 - steady, 1e-12))
        return ((-centre[self.rows, None] - np.sqrt(np.maximum(steady, 0)) * own) / noise).astype(np.float32)

    def scores(self, generator: np.random.Generator, nights: int, examples: slice, lost: npt.ArrayLike = 0.0) -> Scores:
        """The references given in some nights: [nights, cells, examples].

        Args:
            generator: Of the noise.
            nights: How many.
            examples: Which of each cell.
            lost: How much of each cell's accuracy is lost, in [0, 1]; where it has less, all.
        """
        cuts = self._cuts[:, examples]
        right = np.repeat(cuts[None] < 0, nights, axis=0)
        # Further out, noise decides less often than once in three million times.
        unsteady = np.flatnonzero(np.abs(cuts) < 5)
        noise = _partly_shared(generator, nights, self._askings(cuts.shape[1])[unsteady])
        right.reshape(nights, -1)[:, unsteady] = noise > cuts.ravel()[unsteady]
        share = np.minimum(np.broadcast_to(lost, self.chances.shape) / self.chances, 1.0)
        for row in np.flatnonzero(share[self.rows]):
            right[:, row] &= generator.random(right[:, row].shape) >= share[self.rows[row]]
        return np.add.reduceat(right, np.flatnonzero(np.diff(self.rows, prepend=-1)), axis=1, dtype=np.int16)

    def _askings(self, examples: int) -> npt.NDArray[np.int64]:
        """For each reference of each example the number of its question, flat."""
        return (self.questions[self.rows, None] * examples + np.arange(examples)).ravel()

    def only(self, cell: int) -> ModelNights:
        """The nights of one of the cells."""
        return ModelNights((self.cells[cell],), (self.accuracies[cell],), self.flips, self.examples, self.seed + cell)


def _partly_shared(
    generator: np.random.Generator, nights: int, questions: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Normal numbers that are in part the same where the question is: [nights, questions]."""
    shared = generator.standard_normal((nights, int(questions.max(initial=0)) + 1), dtype=np.float32)
    own = generator.standard_normal((nights, len(questions)), dtype=np.float32)
    own *= np.float32(np.sqrt(1 - SHARED))
    shared *= np.float32(np.sqrt(SHARED))
    own += shared[:, questions]
    return own


def paper_models(flips: float, examples: int) -> Iterator[ModelNights]:
    """The paper's eight models and all their cells."""
    for number, (model, given) in enumerate(json.loads(ACCURACIES.read_text(encoding="utf-8")).items()):
        cells = tuple(Cell.of_key(model, key) for key in given)
        yield ModelNights(cells, tuple(each / 100 for each in given.values()), flips, examples, seed=1000 * number)
