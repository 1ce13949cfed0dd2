"""An endpoint gives the answers of the model behind it, or says in one line why not."""

from __future__ import annotations

import functools
import importlib.util
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import tenacity
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, pre_tokenizers, processors

from generators.corpora.sets import EmbeddedCorpora
from generators.examples import ExampleSource
from generators.tokenizer_files import FileTokenizer, load_tokenizer
from models.cards import Card
from models.checkpoints.errors import CheckpointError
from models.decoding.greedy import GreedySettings, greedy
from models.families.endpoint import requests as server_requests
from models.families.endpoint.model import Endpoint, EndpointError, PromptTexts, connect
from models.families.endpoint.server import Server
from models.loading import LoadedModel, load
from suites.support.completion_servers import Fault, ScriptedServer, free_port, transformers_serve
from suites.support.runs import REPOSITORY, run
from suites.support.strategies import ByteTokenizer
from zoo.__main__ import main
from zoo.cards import ZooError, load_zoo

quick = settings(max_examples=100)
POCKET = REPOSITORY / "zoo" / "pocket" / "tokenizer.json"
MARK = "<|endoftext|>"
BLANK = "Ġ"
TOKENS = 24
SAMPLES = 20
BYTES = ByteTokenizer()
PROMPTS = [tuple(f"prompt {row}: what comes".encode()) for row in range(6)]

CARD = """\
[models.served]
family = "endpoint"
tokenizer = "tokenizer.json"
server = {{ {server} }}
{more}
"""
ZOO = """\
samples = 20
batch_tokens = 4096

[tokens_to_generate]
niah_single_1 = 24

[sweeps.ruler]
tasks = ["niah_single_1"]
lengths = [256]

"""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """No waits between attempts but those that a server asks for, and no proxy between."""
    monkeypatch.setattr(server_requests, "_BACKOFF", tenacity.wait_none())
    monkeypatch.setenv("NO_PROXY", "*")


def own_zoo(folder: Path, *, more: str = "", **server: object) -> Path:
    """Writes a zoo with one endpoint."""
    fields = ", ".join(f"{name} = {written(value)}" for name, value in server.items())
    path = folder / "own.toml"
    path.write_text(ZOO + CARD.format(server=fields, more=more), encoding="utf-8")
    (folder / "tokenizer.json").write_bytes(POCKET.read_bytes())
    return path


def written(value: object) -> str:
    """A value in TOML, for the kinds that a server's table has."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {written(each)}" for name, each in value.items()) + " }"
    return json.dumps(value)


def loaded(file: Path) -> LoadedModel:
    """The endpoint of a zoo's file."""
    zoo = load_zoo(str(file))
    return load(zoo.models["served"], zoo.folder, "cpu", EmbeddedCorpora())


def greedy_texts(model: LoadedModel, prompts: Sequence[Sequence[int]], tokens: int) -> list[str]:
    """What our own decoding makes of the prompts."""
    return [model.tokenizer.decode(ids) for ids in greedy_ids(model, prompts, tokens)]


def greedy_ids(model: LoadedModel, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
    """The same as token ids."""
    end = model.tokenizer.end_of_sequence
    return greedy(model.decoder, prompts, GreedySettings(tokens, end_of_sequence=end, batch_tokens=2048))


def cell_prompts(model: LoadedModel) -> list[tuple[int, ...]]:
    """All prompts of one needle cell at 256."""
    task = load_zoo("pocket").tasks["niah_single_1"]
    source = ExampleSource(task, 256, model.tokenizer, EmbeddedCorpora(), TOKENS, prompt_template=model.prompt_template)
    return [example.ids for example in source.examples(SAMPLES)]


@functools.cache
def local(folder: Path, beginning: str | None) -> LoadedModel:
    """The checkpoint in a folder, decoded by ourselves."""
    card = Card("local", "llama", "tokenizer.json", ".", end_of_sequence=MARK, beginning_of_sequence=beginning)
    return load(card, folder, "cpu", EmbeddedCorpora())


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """By name, two copies of a tiny random Llama in a hub cache; one's tokenizer begins texts by itself."""
    cache = tmp_path_factory.mktemp("hub")
    configuration = transformers.LlamaConfig(
        vocab_size=1024, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=512, bos_token_id=0, eos_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = transformers.LlamaForCausalLM(configuration).requires_grad_(False)
    # Some answers shall end by themselves.
    made.lm_head.weight[0] *= 2
    folders = {}
    for name in ("plain", "marking"):
        repository = cache / f"models--pocket--{name}"
        folders[name] = repository / "snapshots" / ("0" * 40)
        folders[name].mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0" * 40, encoding="utf-8")
        made.save_pretrained(folders[name])
        backend = Backend.from_file(str(POCKET))
        if name == "marking":
            backend.post_processor = processors.TemplateProcessing(single=f"{MARK} $A", special_tokens=[(MARK, 0)])
        backend.save(str(folders[name] / "tokenizer.json"))
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": MARK, "bos_token": MARK}
        (folders[name] / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folders


@pytest.fixture(scope="module")
def served(checkpoints) -> Iterator[str]:
    """The url of a server that has the checkpoints."""
    if missing := [name for name in ("fastapi", "uvicorn", "openai") if importlib.util.find_spec(name) is None]:
        pytest.skip(f"transformers serve needs {', '.join(missing)} (transformers[serving])")
    with transformers_serve(checkpoints["plain"].parents[2]) as url:
        yield url


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "beginning", "adds"),
    [("plain", None, False), ("plain", MARK, False), ("marking", MARK, True)],
    ids=["none", "spelled", "added"],
)
def test_a_real_server_answers_as_our_own_decoding(name, beginning, adds, served, checkpoints, tmp_path):
    """Every answer of `transformers serve` is our own greedy decoding's, whoever writes the beginning of sequence."""
    more = f"end_of_sequence = {json.dumps(MARK)}\n"
    more += "" if beginning is None else f"beginning_of_sequence = {json.dumps(beginning)}\n"
    file = own_zoo(tmp_path, url=served, model=f"pocket/{name}", adds_beginning=adds, more=more)
    model, own = loaded(file), local(checkpoints[name], beginning)
    prompts = cell_prompts(model)
    if beginning is not None:
        # The whole cell is asked once; of the others a few show the frame.
        prompts = prompts[:3]
    found = model.decoder.continued(prompts, tokens_to_generate=TOKENS)
    assert found == greedy_texts(own, prompts, TOKENS)
    assert len(set(found)) == len(prompts)
    assert model.environment["prompts"] == "text"
    assert (model.environment["url"], model.environment["served_model"]) == (served, f"pocket/{name}")


def test_real_answers_end_at_the_budget_and_before(checkpoints):
    """The checkpoint served ends some answers by itself and others not, so that both are compared."""
    own = local(checkpoints["plain"], None)
    lengths = [len(ids) for ids in greedy_ids(own, cell_prompts(own), TOKENS)]
    assert 3 < lengths.count(TOKENS) < len(lengths) - 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "server", "more", "said"),
    [
        ("other", {}, "", r"/models lists pocket/(plain|marking), pocket/(plain|marking), but .* pocket/other"),
        ("marking", {}, "", "it seems to add a beginning of sequence by itself: .* adds_beginning = true"),
        ("plain", {"adds_beginning": True}, 'beginning_of_sequence = "<|endoftext|>"', "set adds_beginning = false"),
        ("plain", {"prompts": "ids"}, "", "answered 400 Bad Request: .*prompt must be a string"),
        ("plain", {"request": {"repetition": 1}}, "", "answered 422 .*Unexpected fields in the request"),
    ],
)
def test_a_real_server_that_is_not_as_the_card_says_is_refused(name, server, more, said, served, tmp_path):
    """Another model's name, another beginning of sequence or unknown fields are refused when the model is loaded."""
    file = own_zoo(tmp_path, url=served, model=f"pocket/{name}", **server, more=more)
    with pytest.raises(CheckpointError, match=f"model served: .*{served}.*{said}"):
        loaded(file)


@pytest.mark.slow
def test_a_served_model_is_checked(served, tmp_path, capsys):
    """`python -m zoo check` says where a model is served and how it goes on."""
    file = own_zoo(tmp_path, url=served, model="pocket/plain", more=f'end_of_sequence = "{MARK}"')
    assert main(["check", "served", "--zoo", str(file)]) == 0
    shown = capsys.readouterr().out
    assert f"url: {served}" in shown
    assert "served_model: pocket/plain" in shown
    assert "goes on: '" in shown
    assert main(["list", "--zoo", str(file)]) == 0
    # Narrow columns fold the url over lines.
    assert served[:10] in capsys.readouterr().out


def answering(model: LoadedModel) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A server that decodes token ids with a model, and takes nothing else."""
    lock = threading.Lock()

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["prompt"]
        if not isinstance(prompt, list) or not all(type(each) is int for each in prompt):
            raise ValueError("prompt must be a list of token ids")
        with lock:
            (text,) = greedy_texts(model, [prompt], body["max_tokens"])
        return completion(text, len(prompt))

    return answer


def completion(text: str, read: int, end: str | None = "length") -> dict[str, Any]:
    """The answer to a request as the OpenAI API has it."""
    return {"choices": [{"index": 0, "text": text, "finish_reason": end}], "usage": {"prompt_tokens": read}}


def echo(body: dict[str, Any]) -> dict[str, Any]:
    """Answers with the number of the prompt."""
    return completion(f"answer {bytes(body['prompt'])[7:8].decode()}", len(body["prompt"]))


def server_of(scripted: ScriptedServer, **fields: Any) -> Server:
    """A scripted server as a card describes it."""
    return Server(**{"url": scripted.url, "model": "pocket", "prompts": "ids", "attempts": 2, **fields})


def endpoint_of(scripted: ScriptedServer, **fields: Any) -> Endpoint:
    """The endpoint of a server, not asked anything yet."""
    return Endpoint(server_of(scripted, **fields), "ids", PromptTexts(BYTES, {}))


@pytest.mark.parametrize("beginning", [None, MARK])
def test_token_ids_are_answered_as_by_our_own_decoding(beginning, checkpoints, tmp_path):
    """Where a server takes token ids it gets exactly those of the prompts, and its answers are our own decoding's."""
    own = local(checkpoints["plain"], beginning)
    more = f'end_of_sequence = "{MARK}"\n' + ("" if beginning is None else f'beginning_of_sequence = "{beginning}"')
    with ScriptedServer(answering(own), told={"/version": {"version": "1.2.3"}}) as scripted:
        model = loaded(own_zoo(tmp_path, url=scripted.url, model="pocket", more=more))
        prompts = cell_prompts(model)
        assert model.decoder.continued(prompts, tokens_to_generate=TOKENS) == greedy_texts(own, prompts, TOKENS)
    asked = scripted.bodies[1:]
    assert sorted(body["prompt"] for body in asked) == sorted(map(list, prompts))
    assert {(body["model"], body["max_tokens"], body["temperature"]) for body in asked} == {("pocket", TOKENS, 0)}
    known = ("url", "served_model", "owned_by", "server_version", "prompts")
    assert tuple(model.environment[name] for name in known) == (
        f"{scripted.url}/v1", "pocket", "tests", "1.2.3", "ids",
    )  # fmt: skip
    assert model.decoder.max_positions == 512


@pytest.mark.parametrize(
    ("path", "told"),
    [("/server_info", {"version": "0.5"}), ("/info", {"version": "3.1"}), ("/props", {"build_info": "b4000-abc"})],
)
def test_each_kind_of_server_tells_its_version(path, told):
    """The version is found wherever SGLang, TGI and llama.cpp tell theirs."""
    with ScriptedServer(echo, told={path: told}) as scripted:
        endpoint = connect(server_of(scripted), BYTES, probe=PROMPTS[0])
    assert endpoint.environment["server_version"] in told.values()


@functools.cache
def backends(kind: str) -> tuple[Backend, FileTokenizer]:
    """The tokenizer of a server, which reads special tokens in texts, and our own of the same file."""
    served = Backend.from_file(str(POCKET))
    if kind != "bytes":
        # As of SentencePiece: a blank before the text, or before each part between special tokens.
        served.pre_tokenizer = pre_tokenizers.Metaspace(BLANK, kind)
        served.decoder = decoders.Metaspace(BLANK, kind)
    served.post_processor = processors.TemplateProcessing(single=f"{MARK} $A", special_tokens=[(MARK, 0)])
    own = Backend.from_str(served.to_str())
    own.encode_special_tokens = True
    return served, FileTokenizer(own, end_of_sequence=MARK)


@pytest.mark.parametrize("kind", ["bytes", "always", "first"])
@given(data=st.data())
@quick
def test_texts_give_the_ids_back(kind, data):
    """A server that tokenizes the text of a prompt has the prompt's ids, special tokens and beginning included."""
    served, own = backends(kind)
    others = st.text(st.sampled_from("abc XYZ 019 .,\n" if kind == "bytes" else "abcde "), max_size=20)
    # A blank at the beginning is one that SentencePiece's tokenizers take off.
    turns = data.draw(st.lists(st.builds("a{}".format, others), min_size=1, max_size=4))
    adds = data.draw(st.booleans())
    ids = [0] if adds else []
    for turn, text in enumerate(turns):
        ids += ([0] if turn else []) + list((own.after_special if turn else own.encode)(text).ids)
    text = PromptTexts(own, {0: MARK}, 0 if adds else None).text(ids)
    assert served.encode(text, add_special_tokens=adds).ids == ids


@pytest.mark.parametrize("kind", ["bytes", "always", "first"])
def test_ids_that_no_text_gives_are_refused(kind):
    """Ids that a server would not make of their text, token by token or behind a special token, are not sent."""
    own = backends(kind)[1]
    letters = [own.special(letter) for letter in "the"]
    texts = PromptTexts(own, {0: MARK})
    with pytest.raises(EndpointError, match=r"no text gives the prompt's tokens, .*'the'.* prompts = .ids"):
        texts.text([0, *letters])
    whole = [0, *own.encode("the sea").ids]
    if kind == "first":
        # Behind the spelled token a server puts no blank.
        with pytest.raises(EndpointError, match="no text gives the prompt's tokens"):
            texts.text(whole)
    else:
        assert texts.text(whole) == f"{MARK}the sea"


@pytest.mark.parametrize("ids", [(), (5, 6)])
def test_a_prompt_without_the_beginning_that_is_added_is_refused(ids):
    """A prompt that has no beginning of sequence is not sent to a server that would add one."""
    with pytest.raises(EndpointError, match="adds_beginning"):
        PromptTexts(BYTES, {0: MARK}, 0).text(ids)


PASSING = {
    "500": Fault(500),
    "503": Fault(503, b"loading"),
    "429": Fault(429, b"slow down", {"Retry-After": "0"}),
    "408": Fault(408),
    "garbage": Fault(200, b"<html>Bad gateway</html>"),
    "list": Fault(200, b"[1, 2]"),
    "cut": Fault(200, b'{"choices": [{"te', missing=40),
    "dropped": Fault(200, b"", missing=1),
    "silent": Fault(silent=True),
}


@pytest.mark.parametrize("kind", PASSING)
def test_what_passes_changes_no_answer(kind):
    """After failures that pass, every answer is there in order, and each was told once, in the caller's thread."""
    told: list[tuple[int, str, int]] = []

    def finished(row: int, text: str) -> None:
        told.append((row, text, threading.get_ident()))

    with ScriptedServer(echo, faults=[PASSING[kind]] * 3) as scripted:
        endpoint = endpoint_of(scripted, attempts=4, timeout=0.4 if kind == "silent" else 20.0, concurrency=3)
        found = endpoint.continued(PROMPTS, tokens_to_generate=5, finished=finished)
    assert found == [f"answer {row}" for row in range(6)]
    assert sorted(told) == [(row, text, threading.get_ident()) for row, text in enumerate(found)]
    assert len(scripted.bodies) == 6 + 3


SAID = {
    "500": "answered 500 Internal Server Error: out of order, 3 times; its own log may say why",
    "503": "answered 503 Service Unavailable: loading, 3 times; its own log may say why",
    "429": "answered 429 Too Many Requests: slow down, 3 times; a lower concurrency in the card's server may help",
    "408": "answered 408 Request Timeout: out of order, 3 times; its own log may say why",
    "garbage": "answered with what is not a JSON object: '<html>Bad gateway</html>', 3 times; is the url of ",
    "list": "answered with what is not a JSON object: '[1, 2]', 3 times; is the url of ",
    "cut": "broke off: ",
    "dropped": "broke off: ",
    "silent": "gave no answer within 0.3 s, 3 times; a longer timeout or a lower concurrency ",
}


@pytest.mark.parametrize("kind", PASSING)
def test_what_does_not_pass_is_one_clear_line(kind):
    """A failure that stays is given up after so many attempts, in one line; the answers before it have been told."""
    told = []
    with ScriptedServer(echo) as scripted:

        def answer(body: dict[str, Any]) -> dict[str, Any]:
            if len(scripted.bodies) == 2:
                scripted.faults[:] = [PASSING[kind]] * 100
            return echo(body)

        scripted.answer = answer
        timeout = 0.3 if kind == "silent" else 20.0
        endpoint = endpoint_of(scripted, attempts=3, concurrency=1, timeout=timeout)
        with pytest.raises(EndpointError) as failure:
            endpoint.continued(PROMPTS, tokens_to_generate=5, finished=lambda row, text: told.append((row, text)))
    assert told == [(0, "answer 0"), (1, "answer 1")]
    assert str(failure.value).startswith(f"example 2: POST {scripted.url}/v1/completions {SAID[kind]}")
    assert "3 times" in str(failure.value)
    assert "\n" not in str(failure.value)
    assert sum(body["prompt"] == list(PROMPTS[2]) for body in scripted.bodies) == 3


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 422])
def test_a_refusal_is_final(status):
    """A request that the server refuses is made once; the error has its status, its words and what to do."""
    with (
        ScriptedServer(echo, faults=[Fault(status, b"no\n  such thing")] * 100) as scripted,
        pytest.raises(EndpointError, match=f"answered {status} .*: no such thing") as failure,
    ):
        endpoint_of(scripted).continued(PROMPTS[:1], tokens_to_generate=5)
    assert len(scripted.bodies) == 1
    assert failure.value.status == status
    advice = {401: "api_key_variable", 403: "api_key_variable", 404: "is the url"}.get(status, "")
    assert advice in str(failure.value)


@pytest.mark.parametrize("date", [False, True])
def test_a_server_is_left_alone_as_long_as_it_asks(date):
    """A server that names a time to come back at, in seconds or as a date, gets no request before."""
    free = time.time() + 1.5

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        # The second and last attempt: one that came early would find the server busy still.
        if time.time() < free - 0.1:
            scripted.faults.append(Fault(429))
        return echo(body)

    wait = formatdate(free + 1, usegmt=True) if date else "2"
    with ScriptedServer(reply, faults=[Fault(429, b"", {"Retry-After": wait})]) as scripted:
        assert endpoint_of(scripted).continued(PROMPTS[:1], tokens_to_generate=5) == ["answer 0"]
    assert not scripted.faults
    assert len(scripted.bodies) == 2


@given(
    attempt=st.integers(1, 30),
    header=st.one_of(
        st.none(), st.integers(0, 10**6).map(str), st.sampled_from(["soon", "", "-3", "Wed, 21 Oct 2015 07:28:00 GMT"])
    ),
)
@quick
def test_waits_double_up_to_a_bound(attempt, header):
    """The wait after a failure doubles from a second, with up to one more drawn, unless the server asks for longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_requests, "_BACKOFF", BACKOFF)
        state = tenacity.RetryCallState(None, None, (), {})
        state.attempt_number = attempt
        failure = server_requests._Passing("fell", "", server_requests._retry_after(header))
        state.set_exception((type(failure), failure, None))
        waited = server_requests._waiting(state)
    least = min(2.0 ** (attempt - 1), 60)
    asked = min(float(header), 300) if header and header.isdecimal() else 0
    assert max(least, asked) <= waited <= max(min(least + 1, 60), asked)


BACKOFF = server_requests._BACKOFF


def test_no_more_requests_than_allowed_are_under_way():
    """Requests are made together, exactly as many as the card allows."""
    together = threading.Barrier(3)

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        together.wait(20)
        # One request too many would arrive by now.
        time.sleep(0.2)
        return echo(body)

    with ScriptedServer(answer) as scripted:
        found = endpoint_of(scripted, concurrency=3).continued(PROMPTS, tokens_to_generate=5)
    assert found == [f"answer {row}" for row in range(6)]
    assert scripted.at_once == 3


def test_an_error_in_the_callback_is_the_callers():
    """What the callback raises reaches the caller as it is, and ends the requests."""

    def finished(row: int, text: str) -> None:
        raise KeyError(row)

    with ScriptedServer(echo) as scripted, pytest.raises(KeyError):
        endpoint_of(scripted, concurrency=1).continued(PROMPTS, tokens_to_generate=5, finished=finished)
    assert len(scripted.bodies) < len(PROMPTS)


def test_nothing_to_generate_asks_nothing():
    """Without prompts, or without tokens to generate, no request is made and every answer is empty."""
    told = []
    with ScriptedServer(echo) as scripted:
        endpoint = endpoint_of(scripted)
        assert endpoint.continued([], tokens_to_generate=5) == []
        found = endpoint.continued(PROMPTS, tokens_to_generate=0, finished=lambda row, text: told.append((row, text)))
    assert sorted(told) == [(row, "") for row in range(6)]
    assert found == [""] * 6
    assert not scripted.bodies


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_server_that_is_not_there_is_named(attempts):
    """A refused connection gives one line with the url, and asks whether the server runs."""
    url = f"http://127.0.0.1:{free_port()}"
    server = Server(url, "pocket", attempts=attempts)
    times = "" if attempts == 1 else ", 2 times"
    with pytest.raises(EndpointError, match=f"^GET {url}/v1/models cannot connect: .*{times}; is the server running"):
        connect(server, BYTES, probe=PROMPTS[0])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (completion("yes", 7), "read 7 tokens of a prompt of 20; is the card's tokenizer the served model's"),
        (completion("yes", 21), "read 21 tokens of a prompt of 20; is the card's tokenizer the served model's"),
        ({"choices": [{"text": "yes", "finish_reason": "stop"}]}, "does not say how many tokens it read"),
        ({"choices": [{"text": "yes", "finish_reason": "stop"}], "usage": None}, "does not say how many tokens"),
        (completion("ye", 20, "abort"), r"ended an answer early \(finish_reason 'abort'\)"),
        (completion("ye", 20, None), r"ended an answer early \(finish_reason None\)"),
        ({"choices": []}, "answered with no text: {'choices': "),
        ({"choices": [{"message": {"content": "yes"}}]}, "answered with no text: "),
        ({"choices": [{"text": None}]}, "answered with no text: "),
        ({"error": "model overloaded"}, "answered with no text: {'error': 'model overloaded'}"),
    ],
)
def test_an_answer_that_cannot_be_trusted_is_refused(answer, said):
    """An answer to other tokens than were sent, one that was broken off, or none, is an error and no prediction."""
    with ScriptedServer(lambda body: answer) as scripted, pytest.raises(EndpointError, match=f"^example 0: .*{said}"):
        endpoint_of(scripted).continued([tuple(range(20))], tokens_to_generate=5)
    assert len(scripted.bodies) == 1


@pytest.mark.parametrize(
    ("models", "listed"),
    [([], "no model"), ([{"id": "a"}, {"id": "b"}], "a, b"), ([{"name": "pocket"}], "None")],
)
def test_another_model_is_refused(models, listed):
    """A server that lists other models is refused with their names and the card's, before it gets a prompt."""
    said = f"lists {listed}, but the card's server names the model pocket"
    with ScriptedServer(echo, models=models) as scripted, pytest.raises(EndpointError, match=said):
        connect(server_of(scripted), BYTES, probe=PROMPTS[0])
    assert not scripted.bodies


def test_the_key_comes_from_the_environment_and_stays_there(monkeypatch, tmp_path):
    """The key is sent with every request, and is in no record; a variable that is not set is named."""
    monkeypatch.setenv("LONGWATCH_TEST_KEY", "secret-1")
    with ScriptedServer(lambda body: completion("", len(body["prompt"]))) as scripted:
        file = own_zoo(tmp_path, url=scripted.url, model="pocket", api_key_variable="LONGWATCH_TEST_KEY")
        model = loaded(file)
        model.decoder.continued(PROMPTS, tokens_to_generate=5)
        assert set(scripted.keys) == {"Bearer secret-1"}
        assert "secret-1" not in repr(model)
        monkeypatch.delenv("LONGWATCH_TEST_KEY")
        with pytest.raises(CheckpointError, match=r"the environment variable LONGWATCH_TEST_KEY, .* is not set"):
            loaded(file)


def test_a_missing_key_ends_a_run_before_it_begins(monkeypatch, tmp_path):
    """A run whose endpoint's key is not in the environment ends with one line before any case."""
    monkeypatch.delenv("LONGWATCH_TEST_KEY", raising=False)
    file = own_zoo(tmp_path, url="http://127.0.0.1:1", model="pocket", api_key_variable="LONGWATCH_TEST_KEY")
    ended = run("suites/evaluation", f"--zoo={file}", f"--results={tmp_path / 'results'}")
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert "model served: the environment variable LONGWATCH_TEST_KEY" in ended.stderr


def test_more_fields_go_with_every_request():
    """The fields that a card adds are in every request, and in the record of what may change answers."""
    with ScriptedServer(echo) as scripted:
        endpoint = connect(server_of(scripted, request={"stop_token_ids": [0]}), BYTES, probe=PROMPTS[0])
        endpoint.continued(PROMPTS, tokens_to_generate=5)
    assert all(body["stop_token_ids"] == [0] for body in scripted.bodies)
    assert endpoint.environment["request"] == {"stop_token_ids": [0]}


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_the_version_may_be_left_out_of_a_url(url):
    """A url means the same with and without the version and a slash."""
    assert Server(url, "m").base == "http://h:1/v1"
    assert Server(url, "m").root == "http://h:1"


def test_a_card_names_its_server(tmp_path):
    """A card of five lines is enough, and what it leaves out has its default."""
    card = load_zoo(str(own_zoo(tmp_path, url="https://host/team/v1", model="m"))).models["served"]
    assert card == Card("served", "endpoint", "tokenizer.json", server=Server("https://host/team/v1", "m"))
    assert hash(card) == hash(card)
    assert card.server.concurrency == 8


GOOD = 'url = "http://h:1", model = "m"'


@pytest.mark.parametrize(
    ("server", "more", "said"),
    [
        ('model = "m"', "", "models.served.server lacks the field url"),
        ('url = "http://h:1"', "", "models.served.server lacks the field model"),
        ('url = "h:8000", model = "m"', "", "models.served.server.url must be an address like http://host:8000/v1"),
        ('url = 3, model = "m"', "", "models.served.server.url must be an address"),
        ('url = "http://u:secret@h", model = "m"', "", "models.served.server.url must not hold a user's name or"),
        ('url = "http://h?key=1", model = "m"', "", "models.served.server.url must be an address"),
        ('url = "http://h:1", model = ""', "", "models.served.server.model must be the name"),
        (f"{GOOD}, timeout = 0", "", "models.served.server.timeout must be a number of seconds above 0, not 0"),
        (f"{GOOD}, timeout = nan", "", "models.served.server.timeout must be a number of seconds"),
        (f"{GOOD}, concurrency = 0", "", "models.served.server.concurrency must be a whole number of at least 1"),
        (f"{GOOD}, attempts = 1.5", "", "models.served.server.attempts must be a whole number of at least 1"),
        (f'{GOOD}, prompts = "tokens"', "", "models.served.server.prompts must be one of auto, ids, text"),
        (f'{GOOD}, api_key_variable = "sk-0"', "", "models.served.server.api_key_variable must be the name of an"),
        (f'{GOOD}, api_key = "sk-0"', "", "models.served.server: unknown field api_key (did you mean api_key_"),
        (f"{GOOD}, request = {{ temperature = 1.0 }}", "", "models.served.server.request.temperature cannot be set"),
        (f"{GOOD}, request = {{ at = 2000-01-01 }}", "", "models.served.server.request.at cannot be 2000-01-01"),
        (f"{GOOD}, request = {{ seed = inf }}", "", "models.served.server.request cannot be sent as JSON"),
        (f"{GOOD}, adds_beginning = 1", "", "models.served.server.adds_beginning must be true or false, not 1"),
        (f"{GOOD}, adds_beginning = true", "", "models.served lacks beginning_of_sequence"),
        (GOOD, 'path = "x"', "models.served: an endpoint has its checkpoint at its server, so no path"),
        (GOOD, 'hub = "x"', "models.served: an endpoint has its checkpoint at its server, so no hub"),
        (GOOD, 'dtype = "float32"', "models.served: an endpoint computes as its server does"),
    ],
)
def test_mistakes_in_a_card_are_named(server, more, said, tmp_path):
    """A server that cannot be is refused with the file, the field and what would be right, and no key is repeated."""
    file = tmp_path / "own.toml"
    file.write_text(ZOO + CARD.format(server=server, more=more), encoding="utf-8")
    with pytest.raises(ZooError) as refusal:
        load_zoo(str(file))
    assert str(refusal.value).startswith(f"{file}: {said}")
    assert "sk-0" not in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_a_server_belongs_to_an_endpoint(tmp_path):
    """An endpoint without a server, and a server without an endpoint, are refused."""
    file = tmp_path / "own.toml"
    card = CARD.format(server=GOOD, more="")
    file.write_text(ZOO + "\n".join(line for line in card.splitlines() if "server =" not in line), encoding="utf-8")
    with pytest.raises(ZooError, match=r"models\.served lacks the field server"):
        load_zoo(str(file))
    file.write_text(ZOO + card.replace('"endpoint"', '"llama"') + 'path = "x"', encoding="utf-8")
    with pytest.raises(ZooError, match=r"models\.served: server is for the endpoint family only"):
        load_zoo(str(file))


def test_the_tokenizer_of_a_served_model_is_that_of_its_card():
    """Tokens that the card names and the tokenizer lacks are an error, not another prompt."""
    with ScriptedServer(echo) as scripted, pytest.raises(ValueError, match="<first>"):
        connect(
            server_of(scripted, adds_beginning=True), load_tokenizer(POCKET), probe=[5], beginning_of_sequence="<first>"
        )
