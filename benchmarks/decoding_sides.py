"""The two sides of `decoding.py`, and the cost of a token by length; each run is a process of its own.

A process measures one request, so that the peak of its memory is that of this side and setting alone.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from generators.examples import Example
    from models.loading import LoadedModel
    from zoo.cards import Zoo

__all__ = ["OURS", "THEIRS", "Answered", "ReadingCost", "Request", "Workload", "measured_answers", "measured_reading"]

OURS: Final = "longwatch"
THEIRS: Final = "transformers"

_REPOSITORY: Final = Path(__file__).resolve().parents[1]
_STEPS: Final = 32


@dataclass(frozen=True)
class Workload:
    """Cells that are asked together.

    Attributes:
        task: A task of the zoo.
        length: Prompt plus answer, in tokens.
        depths: One cell each; None leaves the depth to the task.
    """

    task: str
    length: int
    depths: tuple[int | None, ...] = (None,)

    def __str__(self) -> str:
        depths = "" if self.depths == (None,) else f", {len(self.depths)} depths"
        return f"{self.task} at {self.length}{depths}"


@dataclass(frozen=True)
class Request:
    """What one process measures.

    Attributes:
        zoo: A zoo's name or file.
        model: A card of it.
        side: `OURS` or `THEIRS`.
        workload: What is asked.
        samples: Examples a cell.
        batch: Prompts that transformers is given at once; ours chooses by itself.
        chunk: Tokens a chunk of transformers' Mamba2.
    """

    zoo: str
    model: str
    side: str
    workload: Workload
    samples: int
    batch: int = 1
    chunk: int = 64


@dataclass(frozen=True)
class Answered:
    """What a side made of a workload.

    Attributes:
        scores: By cell, then example.
        predictions: In the same order.
        processor_seconds: Of reading, writing, detokenizing and scoring; loading and prompts are left out.
        wall_seconds: The same by the clock.
        peak: Largest resident memory, in MiB.
        loaded: That before the first prompt was read, in MiB.
    """

    scores: tuple[float, ...]
    predictions: tuple[str, ...]
    processor_seconds: float
    wall_seconds: float
    peak: int
    loaded: int


@dataclass(frozen=True)
class ReadingCost:
    """What one prompt of some length costs a model of ours.

    Attributes:
        length: In tokens.
        prefill_seconds: Processor time of reading it.
        step_seconds: Processor time of each token written after it.
        state: The state after it, in MiB.
        peak: Largest resident memory, in MiB.
        loaded: That before it, in MiB.
    """

    length: int
    prefill_seconds: float
    step_seconds: float
    state: float
    peak: int
    loaded: int


def measured_answers(request: Request) -> Answered:
    """Lets a fresh process answer a request."""
    found = _in_a_process("answers", asdict(request))
    return Answered(**{**found, "scores": tuple(found["scores"]), "predictions": tuple(found["predictions"])})


def measured_reading(zoo: str, model: str, length: int) -> ReadingCost:
    """Lets a fresh process read one random prompt with a model of a zoo."""
    return ReadingCost(**_in_a_process("reading", {"zoo": zoo, "model": model, "length": length}))


def _in_a_process(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.decoding_sides", kind, json.dumps(given)],
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"measuring {given} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _loaded(zoo: Zoo, model: str) -> LoadedModel:
    import torch

    from generators.corpora.sets import EmbeddedCorpora
    from models.loading import load

    torch.set_num_threads(1)
    return load(zoo.models[model], zoo.folder, "cpu", EmbeddedCorpora())


def _answers(request: Request) -> Answered:
    from generators.corpora.sets import EmbeddedCorpora
    from generators.examples import ExampleSource
    from zoo.cards import load_zoo

    zoo = load_zoo(request.zoo)
    model = _loaded(zoo, request.model)
    workload, task, budget = request.workload, zoo.tasks[request.workload.task], zoo.budget(request.workload.task)
    corpora = EmbeddedCorpora()
    cells = [
        ExampleSource(
            task, workload.length, model.tokenizer, corpora, budget, depth, prompt_template=model.prompt_template
        ).examples(request.samples)
        for depth in workload.depths
    ]
    # A side is told of cells, and gives the predictions and scores of all of them.
    side = _our_side(zoo, model, request) if request.side == OURS else _their_side(model, request, budget, task.score)
    loaded = _peak()
    wall, processor = time.perf_counter(), time.process_time()
    predictions, scores = side(cells)
    processor_seconds, wall_seconds = time.process_time() - processor, time.perf_counter() - wall
    return Answered(tuple(scores), tuple(predictions), processor_seconds, wall_seconds, _peak(), loaded)


_Side = Callable[[Sequence[Sequence["Example"]]], tuple[list[str], list[float]]]


def _our_side(zoo: Zoo, model: LoadedModel, request: Request) -> _Side:
    """Cell by cell, as the suite asks them."""
    from models.evaluation import answer

    task = zoo.tasks[request.workload.task]

    def answered(cells: Sequence[Sequence[Example]]) -> tuple[list[str], list[float]]:
        predictions: list[str] = []
        scores: list[float] = []
        for cell in cells:
            answers = answer(
                model,
                cell,
                score=task.score,
                expected=task.answer,
                tokens_to_generate=zoo.budget(task.name),
                batch_tokens=zoo.batch_tokens,
            )
            predictions += answers.predictions
            scores += answers.scores
        return predictions, scores

    return answered


def _their_side(
    model: LoadedModel, request: Request, budget: int, score: Callable[[str, Sequence[str]], float]
) -> _Side:
    """In batches across cells, which suits them better than cell by cell; padded at the left, as they ask."""
    import torch
    from transformers import GenerationConfig

    library: Any = _library_model(model, request.chunk)
    end = model.tokenizer.end_of_sequence
    settings: Any = GenerationConfig(max_new_tokens=budget, do_sample=False, eos_token_id=end, pad_token_id=end or 0)

    def answered(cells: Sequence[Sequence[Example]]) -> tuple[list[str], list[float]]:
        examples = [example for cell in cells for example in cell]
        predictions: list[str] = []
        for first in range(0, len(examples), request.batch):
            prompts = [example.ids for example in examples[first : first + request.batch]]
            longest = max(map(len, prompts))
            ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
            mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
            written = library.generate(input_ids=ids, attention_mask=mask, generation_config=settings)[:, longest:]
            for new in written.tolist():
                predictions.append(model.tokenizer.decode(new[: new.index(end)] if end in new else new))
        scores = [score(text, example.references) for text, example in zip(predictions, examples, strict=True)]
        return predictions, scores

    return answered


def _library_model(model: LoadedModel, chunk: int) -> Any:
    """The same weights in transformers' own class."""
    from models.families.llama.checkpoint import published_tensors
    from models.families.llama.model import LlamaModel
    from models.families.state_spaces.model import StateSpacesModel
    from models.families.transformers.model import TransformersModel

    decoder = model.decoder
    library: Any
    if isinstance(decoder, TransformersModel):
        return decoder.model
    if isinstance(decoder, LlamaModel):
        from transformers import LlamaConfig, LlamaForCausalLM

        library = LlamaForCausalLM(LlamaConfig(**decoder.configuration.to_json()))
        library.load_state_dict(published_tensors(decoder), strict=False)
        library.tie_weights()
        return library.eval().requires_grad_(False)
    if not isinstance(decoder, StateSpacesModel) or decoder.configuration.attn_layer_idx:
        raise SystemExit(f"transformers has no class for {model.card.name}")
    from transformers import Mamba2Config, Mamba2ForCausalLM

    c, mixer = decoder.configuration, decoder.configuration.mamba2
    configuration = Mamba2Config(
        vocab_size=c.padded_vocabulary,
        hidden_size=c.d_model,
        num_hidden_layers=c.n_layer,
        num_heads=mixer.expand * c.d_model // mixer.headdim,
        head_dim=mixer.headdim,
        state_size=mixer.d_state,
        expand=mixer.expand,
        conv_kernel=mixer.d_conv,
        n_groups=mixer.ngroups,
        use_bias=mixer.bias,
        use_conv_bias=mixer.conv_bias,
        layer_norm_epsilon=1e-5,
        chunk_size=chunk,
        tie_word_embeddings=c.tie_embeddings,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    if c.padded_vocabulary != c.vocab_size:
        raise SystemExit(f"{model.card.name} pads its vocabulary, which transformers' class would predict")
    library = Mamba2ForCausalLM(configuration)
    tensors = {name.replace("embedding.", "embeddings."): tensor for name, tensor in decoder.state_dict().items()}
    library.load_state_dict(tensors, strict=True)
    return library.eval().requires_grad_(False)


def _reading(zoo: str, model: str, length: int) -> ReadingCost:
    import torch

    from models.decoding.decoder import read_in_pieces
    from models.decoding.greedy import TOKENS_ON_CPU
    from models.families.endpoint.model import Endpoint
    from zoo.cards import load_zoo

    loaded_model = _loaded(load_zoo(zoo), model)
    decoder = loaded_model.decoder
    if isinstance(decoder, Endpoint):
        raise SystemExit(f"{model} is decoded elsewhere")
    torch.manual_seed(0)
    vocabulary = loaded_model.tokenizer.vocabulary_size
    ids = torch.randint(1, vocabulary, (1, length))
    with torch.inference_mode():
        # What the first call sets up once is not the prompt's.
        decoder.prefill(ids[:, :256], torch.tensor([256]), decoder.empty_state(1, 256))
        loaded = _peak()
        began = time.process_time()
        _, state = read_in_pieces(decoder, ids[0].tolist(), decoder.empty_state(1, length + _STEPS), TOKENS_ON_CPU)
        read = time.process_time()
        for token in ids[0, :_STEPS]:
            _, state = decoder.step(token[None], state)
        written = time.process_time()
    return ReadingCost(length, read - began, (written - read) / _STEPS, state.bytes / 2**20, _peak(), loaded)


def main() -> None:
    """Measures what the arguments ask for; the last line printed is the result as JSON."""
    kind, given = sys.argv[1], json.loads(sys.argv[2])
    if kind == "reading":
        print(json.dumps(asdict(_reading(**given))))
        return
    workload = Workload(**{**given["workload"], "depths": tuple(given["workload"]["depths"])})
    print(json.dumps(asdict(_answers(Request(**{**given, "workload": workload})))))


if __name__ == "__main__":
    main()
