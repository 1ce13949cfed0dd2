"""The pocket zoo's own page: what its models are, how they were trained and what they score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from core.cells import Cell
from drift.records.snapshots import Baseline, SnapshotFile
from drift.reports.markdown import task_by_length
from models.cards import Card
from zoo.cards import Zoo
from zoo.observations import kept_by_kind, kind_of, observed, undecided
from zoo.training.curve import CURVE
from zoo.training.records import TrainingRecord, read_record

__all__ = ["draw_pictures", "needles_by_length", "page"]

_TEMPLATE: Final = "pocket_zoo.md.jinja"


@dataclass(frozen=True)
class _Model:
    """What the page says of one model.

    Attributes:
        card: Its card.
        configuration: Its checkpoint's `config.json`.
        parameters: How many there are.
        record: Of its training.
        baselines: Its accepted accuracies, by the cell's key.
        curve: The picture of its training, relative to the zoo; none where its run left none.
    """

    card: Card
    configuration: Mapping[str, Any]
    parameters: int
    record: TrainingRecord
    baselines: Mapping[str, Baseline]
    curve: str | None

    @property
    def tasks(self) -> str:
        return task_by_length(self.baselines)


def page(zoo: Zoo, snapshots: Path) -> str:
    """The page as Markdown.

    Args:
        zoo: The zoo; its models are trained and have snapshots.
        snapshots: The folder of the zoo's snapshots.

    Raises:
        ValueError: A model has no record of its training.
        drift.records.snapshots.SnapshotError: A snapshot is damaged.
    """
    import jinja2

    models = list(_models(zoo, snapshots))
    observations = [observed(zoo, each.card, kind_of(each.card, each.configuration), each.baselines) for each in models]
    trained = min(each.trained for each in observations)
    loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(_TEMPLATE).render(
        models=models,
        left_out=zoo.left_out(),
        samples=zoo.baseline_samples,
        by_length=_by_length(zoo, models),
        by_depth=_table(models, "depth", zoo.sweeps["niah_position"].depths, _depth_of(zoo)),
        by_format=_table(models, "format", zoo.sweeps["niah_format"].tasks, _format_of(zoo)),
        observations=observations,
        trained=trained,
        four_times=4 * trained,
        longest=max(zoo.sweeps["ruler"].lengths),
        kept=kept_by_kind(observations, 4 * trained),
        undecided=undecided([each.baselines for each in models]),
    )


def needles_by_length(zoo: Zoo, snapshots: Path) -> str:
    """The page's first table alone: one needle, a row a model, a column a length; as `page` in all else."""
    return _by_length(zoo, list(_models(zoo, snapshots)))


def _by_length(zoo: Zoo, models: Sequence[_Model]) -> str:
    return _table(models, "length", zoo.sweeps["ruler"].lengths, _needles_at(zoo))


def _models(zoo: Zoo, snapshots: Path) -> Iterator[_Model]:
    from models.checkpoints.files import read_configuration, read_tensors

    for card in zoo.models.values():
        directory = zoo.folder / str(card.path)
        tensors = {tensor.data_ptr(): tensor.numel() for tensor in read_tensors(directory).values()}
        yield _Model(
            card,
            read_configuration(directory),
            sum(tensors.values()),
            read_record(directory),
            SnapshotFile(snapshots / f"{card.name}.json").read(),
            f"{card.path}/{CURVE}" if (directory / CURVE).is_file() else None,
        )


def _table(models: Sequence[_Model], corner: str, columns: Sequence[Any], keys: Callable[[Any], list[str]]) -> str:
    """A row a model, a column a place; the mean accuracy of the cells there, in percent."""
    lines = [f"| model \\ {corner} | " + " | ".join(map(str, columns)) + " |", "|---|" + "---:|" * len(columns)]
    for model in models:
        found = [
            [model.baselines[key].accuracy for key in keys(column) if key in model.baselines] for column in columns
        ]
        values = (f"{fmean(each):.1f}" if each else "" for each in found)
        lines.append(f"| {model.card.name} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def _needles_at(zoo: Zoo) -> Callable[[int], list[str]]:
    """The single-needle cells of a length."""
    tasks = [task for task in zoo.sweeps["ruler"].tasks if task.startswith("niah_single")]
    return lambda length: [Cell("", task, length).key for task in tasks]


def _depth_of(zoo: Zoo) -> Callable[[int], list[str]]:
    """The cells of a depth at all lengths beyond the shortest trained one."""
    trained = min(card.trained_length or 0 for card in zoo.models.values())
    sweep = zoo.sweeps["niah_position"]
    lengths = [length for length in sweep.lengths if length > trained]
    return lambda depth: [Cell("", task, length, depth).key for task in sweep.tasks for length in lengths]


def _format_of(zoo: Zoo) -> Callable[[str], list[str]]:
    """The cells of a format: the same lengths and depths for each."""
    sweep = zoo.sweeps["niah_format"]
    return lambda task: [Cell("", task, length, depth).key for length in sweep.lengths for depth in sweep.depths]


def draw_pictures(zoo: Zoo, snapshots: Path, folder: Path) -> None:
    """Draws for each model the accuracy of a needle by length and depth, one PNG a model; blank where it is not asked.

    Args:
        zoo: The zoo.
        snapshots: The folder of its snapshots.
        folder: Where the pictures go.
    """
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    sweep = zoo.sweeps["niah_position"]
    lengths = sorted({*sweep.lengths, *zoo.sweeps["niah_format"].lengths})
    for name in zoo.models:
        baselines = SnapshotFile(snapshots / f"{name}.json").read()
        figure = Figure(figsize=(9, 2.6), layout="constrained")
        for place, task in enumerate(sweep.tasks, 1):
            axes = figure.add_subplot(1, len(sweep.tasks), place)
            cells = [[baselines.get(Cell("", task, length, depth).key) for depth in sweep.depths] for length in lengths]
            image = axes.imshow(
                [[float("nan") if cell is None else cell.accuracy for cell in row] for row in cells],
                vmin=0,
                vmax=100,
                cmap="RdYlGn",
                aspect="auto",
            )
            axes.set_title(task, fontsize=9)
            axes.set_xticks(range(len(sweep.depths)), [f"{depth}%" for depth in sweep.depths], fontsize=7)
            axes.set_yticks(range(len(lengths)), list(map(str, lengths)), fontsize=7)
        figure.colorbar(image, ax=figure.axes, label="accuracy (%)")
        # Nothing that changes from one drawing to the next.
        figure.savefig(folder / f"{name}.png", dpi=90, metadata={"Software": None})
