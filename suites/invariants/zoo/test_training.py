"""Training: its texts, and that a stopped run goes on as if nothing had happened."""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from itertools import pairwise
from statistics import fmean

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from generators.corpora.essays import embedded_essays
from generators.corpora.people import people_questions
from generators.corpora.sets import EmbeddedCorpora
from generators.examples import ExampleSource
from generators.oracles import oracle_answer
from generators.prompt_templates import PromptTemplate, Special
from generators.random_streams import TRAINING, RandomStream
from generators.tasks.question_answering import question_set
from generators.tasks.registry import RULER, tasks
from generators.tokenizer_files import load_tokenizer
from models.cards import Card
from models.loading import load, prompting
from suites.support.runs import REPOSITORY
from zoo.__main__ import main
from zoo.cards import load_zoo
from zoo.training.families import new_model, publish, trained_families
from zoo.training.mixed_texts import MixedTexts
from zoo.training.needle_texts import NeedleTexts
from zoo.training.recipes import CurriculumStage, Recipe, load_recipe, recipe_names
from zoo.training.task_texts import TaskTexts, TrainingCorpora
from zoo.training.texts import TrainingText, ends
from zoo.training.tokenizer import SPECIAL_TOKENS, make_tokenizer
from zoo.training.trainer import Trainer, answer_loss

ZOO = load_zoo("pocket")
RECIPE = load_recipe("m2a")
NEEDLE = re.compile(r"One of the special magic \w+ for (.+?) is: (.+?)\.(?=[ \n])")

# As small as models of each kind can be.
SMALL = {
    "m2a": {
        "d_model": 32,
        "d_intermediate": 0,
        "ssm_cfg": {"layer": "Mamba2", "d_state": 16, "headdim": 16, "chunk_size": 64},
        "attn_cfg": {"causal": True, "d_conv": 4, "head_dim": 16, "num_heads": 2, "rotary_emb_dim": 8},
    },
    "tpp": {
        "d_model": 32,
        "d_intermediate": 0,
        "n_layer": 1,
        "attn_layer_idx": [0],
        "attn_cfg": {"causal": True, "head_dim": 16, "num_heads": 2, "rotary_emb_dim": 8},
    },
    "rg": {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "head_dim": 16, "lru_width": 32},
    "rwkv6": {
        "hidden_size": 32,
        "attention_hidden_size": 32,
        "head_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
    },
    "sl": {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    },
}


def _small(name: str, *stages: CurriculumStage, tokens: int = 512) -> Recipe:
    """The recipe of a model, of a smaller one and of fewer tokens."""
    recipe = load_recipe(name)
    small = {**(recipe.architecture or {}), **SMALL[name]}
    mixture = dataclasses.replace(recipe.mixture, texts={"needles": 0.8, "vt": 0.2})
    return dataclasses.replace(
        recipe,
        architecture=small,
        stages=stages,
        tokens_per_step=tokens,
        learning_rate=0.01,
        warmup=2,
        mixture=mixture,
    )


every_model = pytest.mark.parametrize("name", ZOO.models)


def _trainer(folder, steps: int) -> Trainer:
    return Trainer(_small("m2a", CurriculumStage(128, steps)), ZOO, "m2a", folder)


@cache
def _texts(kind, name: str):
    card = ZOO.models[name]
    tokenizer, prompt_template = prompting(card, ZOO.folder)
    return (
        tokenizer,
        prompt_template,
        kind(RECIPE.mixture, tokenizer, ends(card, tokenizer, prompt_template), embedded_essays()),
    )


def _answers(text: TrainingText, tokenizer) -> list[str]:
    """Each answer of a text, without the token that ends it."""
    answers, current = [], []
    for token, answer in zip(text.ids, text.answer, strict=True):
        if answer and token != tokenizer.end_of_sequence:
            current.append(token)
        elif answer:
            answers.append(tokenizer.decode(current))
            current = []
    return answers


@every_model
@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([128, 256, 512]))
def test_needle_texts_hold_what_they_ask_for(name, index, context):
    """A text stays within its context, and every value of a whole answer stands in a needle before it."""
    tokenizer, _, texts = _texts(NeedleTexts, name)
    text = texts.text(RandomStream(TRAINING, "test", index), context)
    assert 0 < len(text.ids) == len(text.answer) <= context
    read = tokenizer.decode([i for i, answer in zip(text.ids, text.answer, strict=True) if not answer])
    values = {value for _, value in NEEDLE.findall(read)}
    for answer in _answers(text, tokenizer):
        assert set(re.split(r", and |, ", answer.strip().removesuffix("."))) <= values


@every_model
@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_training_prompts_are_those_of_the_evaluation(name, index):
    """A text's first question stands in the model's prompt template, its answer where the evaluation expects one."""
    tokenizer, prompt_template, texts = _texts(NeedleTexts, name)
    text = texts.text(RandomStream(TRAINING, "test", index), 512)
    # Four keys and values of UUIDs leave no room for the answer.
    assume(any(text.answer))
    before = [part.id for part in prompt_template.before if isinstance(part, Special)]
    assert list(text.ids[: len(before)]) == before
    first = text.answer.index(True)
    prompt = tokenizer.decode(text.ids[:first])
    assert tokenizer.encode(prompt).ids == tuple(
        i for i in text.ids[:first] if i not in _special_ids(tokenizer, prompt_template)
    )


def _special_ids(tokenizer, prompt_template: PromptTemplate) -> set[int]:
    return {part.id for part in (*prompt_template.before, *prompt_template.after) if isinstance(part, Special)}


@pytest.mark.parametrize("task", ["vt", "fwe", "cwe", "qa_1", "qa_2"])
@settings(max_examples=10)
@given(st.integers(0, 10**6), st.integers(0, 5))
def test_task_texts_end_in_the_right_answer(task, index, round_number):
    """What a text trains for is what the oracle reads from its prompt, and scores full marks."""
    tokenizer, _, texts = _texts(TaskTexts, "m2a")
    text = texts.text(task, RandomStream(TRAINING, "test", index), round_number, 513)
    assert text is not None
    assert len(text.ids) <= 513
    (answer,) = _answers(text, tokenizer)
    prompt = tokenizer.decode(text.ids[: text.answer.index(True)])
    right = re.findall(r"\w+", oracle_answer(prompt, EmbeddedCorpora()))
    assert tasks()[task].score(answer, right) == 1
    if task.startswith("qa"):
        corpus = getattr(
            TrainingCorpora(embedded_essays(), round_number), "single_hop" if task == "qa_1" else "two_hop"
        )
        asked = re.search(r"Question: (.*) Answer:$", prompt)
        assert asked
        (question,) = [each for each in corpus.questions if each.text == asked[1]]
        assert answer.strip() in question.answers
        assert all(corpus.documents[document] in prompt for document in question.gold)


@pytest.mark.parametrize(("name", "round_number"), [("qa_1", 0), ("qa_1", 7), ("qa_2", 0), ("qa_2", 7)])
def test_the_pocket_zoo_asks_about_other_people_than_were_trained_on(name, round_number):
    """No document of the pocket zoo's questions is one of the training's, and none of the two sets is empty."""
    tokenizer, prompt_template = prompting(ZOO.models["m2a"], ZOO.folder)
    source = ExampleSource(ZOO.tasks[name], 512, tokenizer, EmbeddedCorpora(), 48, prompt_template=prompt_template)
    evaluated = question_set(source.task.parameters, source.context(0))
    trained = getattr(TrainingCorpora(embedded_essays(), round_number), tasks()[name].parameters.questions)
    assert len(evaluated.documents) == 400
    assert len(trained.documents) == 96
    assert not set(evaluated.documents) & set(trained.documents)


@given(st.lists(st.lists(st.tuples(st.floats(0, 9), st.booleans()), min_size=6, max_size=6), min_size=1, max_size=5))
def test_what_the_loss_on_answers_averages(texts):
    """By tokens it is the mean over all tokens of answers; with texts alike, the mean over texts of their means."""
    losses = torch.tensor([[loss for loss, _ in text] for text in texts])
    answers = torch.tensor([[answer for _, answer in text] for text in texts])
    means = [fmean(kept) for text in texts if (kept := [loss for loss, answer in text if answer])]
    tokens = [loss for text in texts for loss, answer in text if answer]
    assert answer_loss(losses, answers, texts_alike=True).item() == pytest.approx(fmean(means or [0]), abs=1e-5)
    assert answer_loss(losses, answers, texts_alike=False).item() == pytest.approx(fmean(tokens or [0]), abs=1e-5)


@pytest.mark.parametrize("hops", [1, 2])
def test_training_asks_other_questions_than_the_evaluation(hops):
    """No question, answer's document or name of the evaluation's corpus occurs in the training's."""
    made = people_questions(RandomStream(TRAINING, "test"), hops=hops)
    evaluated = EmbeddedCorpora().single_hop if hops == 1 else EmbeddedCorpora().two_hop
    assert len(made.questions) >= 90
    assert not {question.text for question in made.questions} & {question.text for question in evaluated.questions}
    assert not set(made.documents) & set(evaluated.documents)
    for question in made.questions:
        assert len(question.gold) == hops
        assert any(question.answers[0] in made.documents[document] for document in question.gold)


def test_more_people_than_names_are_refused():
    """Every invented person has a name of their own; where names would not last, it says how many do."""
    assert len(set(people_questions(RandomStream(TRAINING, "test"), hops=1, people=1000).documents)) == 1000
    with pytest.raises(ValueError, match="at most 1000 invented people"):
        people_questions(RandomStream(TRAINING, "test"), hops=1, people=1001)


def test_every_task_is_in_the_mixture():
    """All thirteen tasks are trained for: the retrieval tasks as texts about needles, the others by name."""
    for name in recipe_names():
        texts = load_recipe(name).mixture.texts
        assert {task for task in RULER if not task.startswith("niah")} | {"needles"} == set(texts)
        assert all(weight > 0 for weight in texts.values())


def test_a_stage_with_a_rate_begins_the_schedule_anew():
    """Each course warms up to its peak and falls to a tenth of it; what follows a restart changes nothing before it."""
    stages = (CurriculumStage(128, 30), CurriculumStage(256, 70))
    plain = dataclasses.replace(RECIPE, stages=stages, warmup=10, learning_rate=1.0)
    restarted = dataclasses.replace(
        plain, stages=(*stages, CurriculumStage(512, 50, learning_rate=0.5), CurriculumStage(512, 50))
    )
    rates = [restarted.rate(step) for step in range(200)]
    assert rates[:100] == [plain.rate(step) for step in range(100)]
    assert rates[9] == max(rates) == 1.0
    assert rates[109] == max(rates[100:]) == 0.5
    assert rates[100] == pytest.approx(0.05)
    assert rates[99] == pytest.approx(0.1, rel=0.01)
    assert rates[199] == pytest.approx(0.05, rel=0.01)
    assert all(a > b for begin, end in ((10, 99), (110, 199)) for a, b in pairwise(rates[begin:end]))
    assert [restarted.stage(step).context for step in (0, 29, 30, 99, 100, 199)] == [128, 128, 256, 256, 512, 512]


def test_a_stage_can_draw_other_texts(tmp_path):
    """A stage that changes the mixture draws by its own, and no other stage does."""
    stages = (
        CurriculumStage(256, 1),
        CurriculumStage(256, 1, mixture={"texts": {"fwe": 1.0}}),
        CurriculumStage(256, 1),
    )
    recipe = dataclasses.replace(RECIPE, stages=stages, tokens_per_step=2048)
    recipe = dataclasses.replace(recipe, mixture=dataclasses.replace(recipe.mixture, texts={"needles": 1.0}))
    trainer = Trainer(recipe, ZOO, "m2a", tmp_path)
    asked = []
    for step in range(3):
        trainer.step = step
        ids, _ = trainer._batch()
        asked.append(["coded" in trainer.tokenizer.decode(row[row >= 0].tolist()) for row in ids])
    assert asked == [[False] * 8, [True] * 8, [False] * 8]


def test_a_text_depends_on_its_draw_alone():
    """Texts are the same in any order and from any maker."""
    *_, first = _texts(MixedTexts, "m2a")
    *_, second = _texts.__wrapped__(MixedTexts, "m2a")
    draws = [(RandomStream, i) for i in range(24)]
    forward = [first.text(draw(TRAINING, "test", i), 3, 513) for draw, i in draws]
    backward = [second.text(draw(TRAINING, "test", i), 3, 513) for draw, i in reversed(draws)]
    assert forward == backward[::-1]


@pytest.mark.slow
def test_the_tokenizer_can_be_made_again(tmp_path):
    """Both pocket tokenizers are what the training of tokenizers makes, and hold the same entries."""
    make_tokenizer(tmp_path / "rwkv_vocab.txt")
    for name in ("tokenizer.json", "rwkv_vocab.txt"):
        assert (tmp_path / name).read_bytes() == (REPOSITORY / "zoo" / "pocket" / name).read_bytes()
    byte_pairs = load_tokenizer(tmp_path / "tokenizer.json", end_of_sequence="</s>")
    trie = load_tokenizer(tmp_path / "rwkv_vocab.txt")
    assert trie.vocabulary_size == byte_pairs.vocabulary_size - len(SPECIAL_TOKENS) + 1
    text = "A special magic number is hidden within the following text. It is 1234567."
    assert trie.decode(trie.encode(text).ids) == text == byte_pairs.decode(byte_pairs.encode(text).ids)


@every_model
def test_every_pocket_model_has_a_recipe(name):
    """A recipe makes the published shape of each pocket model, of its family, from its seed alone."""
    recipe = load_recipe(name)
    while recipe.base is not None:
        recipe = load_recipe(recipe.base)
    family = ZOO.models[name].family
    model, again = (new_model(family, recipe.architecture, recipe.seed) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    published = load(ZOO.models[name], ZOO.folder, "cpu", EmbeddedCorpora()).decoder
    shapes = {key: tensor.shape for key, tensor in published.state_dict().items()}
    assert {key: tensor.shape for key, tensor in model.state_dict().items()} == shapes
    assert 0.3e6 <= sum(parameter.numel() for parameter in published.parameters()) <= 1.5e6


OF_FAMILY = {"state-spaces": "tpp", "recurrent-gemma": "rg", "rwkv6": "rwkv6", "llama": "sl"}


@pytest.mark.parametrize("family", trained_families())
def test_a_trained_model_is_published_as_its_kind(family, tmp_path):
    """A few steps lower the loss, and the written checkpoint loads and predicts what the trained model does."""
    name = OF_FAMILY[family]
    vocabulary = "pocket/rwkv_vocab.txt" if family == "rwkv6" else "pocket/tokenizer.json"
    end = None if family == "rwkv6" else "</s>"
    card = Card(name, family, vocabulary, path="none", end_of_sequence=end)
    zoo = dataclasses.replace(ZOO, models={name: card})
    trainer = Trainer(_small(name, CurriculumStage(256, 12), tokens=1024), zoo, name, tmp_path / "run")
    progress = list(trainer.run())
    assert progress[-1].loss < progress[0].loss
    publish(family, tmp_path / "model", trainer.model)
    published = dataclasses.replace(card, path=str(tmp_path / "model"))
    loaded = load(published, ZOO.folder, "cpu", EmbeddedCorpora())
    ids = torch.tensor([loaded.tokenizer.encode("The grass is green. The sky is").ids])
    with torch.inference_mode():
        expected, found = trainer.model.eval()(ids), loaded.decoder(ids)
    # Published in half precision.
    assert (expected - found).abs().max() < 0.05 * expected.abs().max()


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    """A run that is dropped and started again ends with the weights of one that was not, bit for bit."""
    whole = _trainer(tmp_path / "whole", 6)
    for _ in whole.run(save_every=2):
        pass
    stopped = _trainer(tmp_path / "stopped", 6)
    for progress in stopped.run(save_every=2):
        if progress.step == 5:  # one step after the last save
            break
    again = _trainer(tmp_path / "stopped", 6)
    assert again.step == 4
    steps = [progress.step for progress in again.run(save_every=2)]
    assert steps == [5, 6]
    for (name, expected), found in zip(
        whole.model.state_dict().items(), again.model.state_dict().values(), strict=True
    ):
        assert torch.equal(expected, found), name


def test_the_command_publishes_a_checkpoint(tmp_path, capsys, monkeypatch):
    """`python -m zoo train` writes a checkpoint that loads, and its curve; and says how to name a model right."""
    recipe = (REPOSITORY / "zoo" / "training" / "recipes" / "m2a.toml").read_text(encoding="utf-8")
    short = tmp_path / "short.toml"
    recipe = re.sub(r"tokens_per_step = \d+", "tokens_per_step = 512", re.sub(r"steps = \d+", "steps = 1", recipe))
    recipe = re.sub(r"d_(model|intermediate) = \d+", r"d_\1 = 64", recipe)
    short.write_text(recipe, encoding="utf-8")
    monkeypatch.setattr("zoo.__main__._CHECKED", ("niah_single_1", "vt"))
    out = tmp_path / "checkpoint"
    options = ["--recipe", str(short), "--run", str(tmp_path / "runs"), "--out", str(out), "--samples", "2"]
    assert main(["train", "m2a", *options]) == 0
    load(dataclasses.replace(ZOO.models["m2a"], path=str(out)), ZOO.folder, "cpu", EmbeddedCorpora())
    assert (out / "training.png").read_bytes().startswith(b"\x89PNG")
    assert main(["train", "m2b"]) == 2
    assert "unknown model m2b (did you mean m2a?)" in capsys.readouterr().err


def test_chains_can_be_of_any_length():
    """Where the mixture says so, texts about variables have chains of each number of hops up to the task's."""
    mixture = dataclasses.replace(RECIPE.mixture, any_hops=True)
    card = ZOO.models["m2a"]
    tokenizer, prompt_template = prompting(card, ZOO.folder)
    texts = TaskTexts(mixture, tokenizer, ends(card, tokenizer, prompt_template), embedded_essays())
    drawn = (texts.text("vt", RandomStream(TRAINING, "test", index), 0, 513) for index in range(40))
    counts = {len(_answers(text, tokenizer)[0].split()) for text in drawn if text is not None}
    assert counts == {2, 3, 4, 5}


SOUND = (REPOSITORY / "zoo" / "training" / "recipes" / "m2a.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed = 1", "seed = ", "is not readable as TOML"),
        ("seed = 1", "", "the field seed is missing"),
        ("seed = 1", "sed = 1\nseed = 1", "unknown field sed (did you mean seed?)"),
        ("seed = 1", 'seed = 1\nbase = "rg"', "either architecture or base is needed"),
        ("warmup = 100", 'warmup = "100"', "warmup must be a whole number of at least 0, not '100'"),
        ("clip = 1.0", "clip = nan", "clip must be a positive number, not nan"),
        ("betas = [0.9, 0.95]", "betas = [0.9]", "betas must be a list of two numbers from 0 to below 1, not [0.9]"),
        ("betas = [0.9, 0.95]", "betas = [0.9, 1.0]", "betas[1] must be a number from 0 to below 1, not 1.0"),
        ("context = 128", "context = true", "stages[0].context must be a whole number of at least 1, not True"),
        ("context = 128", "context = 8192", "stages[0].context must be at most tokens_per_step, 4096"),
        (
            "steps = 800\n\n[[stages]]\ncontext = 512",
            "step = 800\n[[stages]]\ncontext = 512",
            "stages[1]: unknown field step ",
        ),
        ("context = 128", "context = 128\nmixture = { any_hop = true }", "stages[0].mixture: unknown field any_hop "),
        (
            "context = 128",
            "context = 128\nmixture = { filled = 2 }",
            "stages[0].mixture.filled must be a number from 0",
        ),
        ("needles = 8", "needles = 0", "mixture.needles must be a whole number of at least 1, not 0"),
        ("{ word = 0.9, uuid = 0.1 }", "{ word = 0.0 }", "mixture.key must have a weight above 0"),
        ("{ word = 0.9, uuid = 0.1 }", "{ letter = 1 }", "mixture.key.letter must be one of word, number, uuid"),
        ("vt = 0.14", "vtt = 0.14", "mixture.texts: unknown task vtt (did you mean vt?)"),
        ("common = 4", "comon = 4", "mixture.parameters.cwe: task cwe has no parameter comon"),
    ],
)
def test_a_damaged_recipe_is_named(tmp_path, capsys, old, new, said):
    """A recipe that is not TOML, or has a field that cannot be, is refused by its file's name and the field."""
    assert SOUND.count(old) == 1
    path = tmp_path / "damaged.toml"
    path.write_text(SOUND.replace(old, new), encoding="utf-8")
    assert main(["train", "m2a", "--recipe", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: ")
    assert said in line
