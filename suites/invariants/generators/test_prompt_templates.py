"""Prompt templates: a model's own tokens and chat template around a prompt, as transformers puts them."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from generators.corpora.essays import Corpus
from generators.corpora.sets import EmbeddedCorpora
from generators.examples import Example, ExampleSource
from generators.prompt_templates import (
    PromptTemplate,
    PromptTemplateError,
    Special,
    chat_prompt_template,
    plain_template,
    read_chat_template,
)
from generators.tasks.registry import tasks
from generators.tokenization import Tokenizer, TokenizerError
from generators.tokenizer_files import load_tokenizer
from suites.support.strategies import CorporaOf
from suites.support.tokenizer_forms import library

TASK = tasks()["niah_single_2"]
SPECIALS = ("<s>", "</s>", "<start_of_turn>", "<end_of_turn>")
# Their templates, cut down to one user turn.
LLAMA_2 = "{% for message in messages %}{{ bos_token + '[INST] ' + message['content'] + ' [/INST]' }}{% endfor %}"
GEMMA = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\n' "
    "+ message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
TEXT_ONLY = "USER: {{ messages[0]['content'] }} ASSISTANT:"
LINES = (
    "{% for message in messages %}\n  ### {{ message['role'] }}\n\n{{ message['content'] }}\n\n{% endfor %}\n"
    "### answer:"
)
TEMPLATES = {"Llama 2": LLAMA_2, "Gemma": GEMMA, "text only": TEXT_ONLY, "lines": LINES}

each_form = pytest.mark.parametrize("form", ["GPT-NeoX", "Llama 3", "LLaMA 2", "newer LLaMA 2", "Gemma", "lower case"])
each_template = pytest.mark.parametrize("name", TEMPLATES)


@cache
def _both(form: str) -> tuple[Tokenizer, PreTrainedTokenizerFast]:
    """One tokenizer file, as the generators load it and as transformers does."""
    backend = Backend.from_str(library(form).to_str())
    backend.add_special_tokens(list(SPECIALS))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        backend.save(str(path))
        ours = load_tokenizer(path, end_of_sequence="</s>")
        return ours, PreTrainedTokenizerFast(tokenizer_file=str(path), bos_token="<s>", eos_token="</s>")


def _chat(tokenizer: Tokenizer, template: str, begin: str | None = "<s>") -> PromptTemplate:
    return chat_prompt_template(
        tokenizer, template, beginning_of_sequence=begin, end_of_sequence="</s>", specials=SPECIALS
    )


def _source(tokenizer: Tokenizer, prompt_template: PromptTemplate) -> ExampleSource:
    return ExampleSource(TASK, 700, tokenizer, EmbeddedCorpora(), 40, prompt_template=prompt_template)


def _content(source: ExampleSource, example: Example) -> str:
    """The user's turn of an example, its template taken off."""
    before, after = (
        "".join(part if isinstance(part, str) else part.text * part.spelled for part in side)
        for side in (source.prompt_template.before, source.prompt_template.after)
    )
    assert example.prompt.startswith(before)
    assert example.prompt.endswith(after)
    return example.prompt[len(before) : len(example.prompt) - len(after)]


@each_form
@each_template
def test_chat_prompts_are_those_of_transformers(form, name):
    """A framed example has the text and the ids that transformers' chat template and the answer prefix give."""
    ours, theirs = _both(form)
    source = _source(ours, _chat(ours, TEMPLATES[name]))
    begin = theirs.bos_token_id
    for example in source.examples(2):
        turn = [{"role": "user", "content": _content(source, example)}]
        options = {"chat_template": TEMPLATES[name], "add_generation_prompt": True}
        rendered = theirs.apply_chat_template(turn, tokenize=False, **options)
        assert example.text == rendered + example.answer_prefix
        whole = theirs(example.text, add_special_tokens=False)["input_ids"]
        assert list(example.ids) == (whole if "bos_token" in TEMPLATES[name] else [begin, *whole])
        templated = theirs.apply_chat_template(turn, tokenize=True, return_dict=False, **options)
        # The last token of a template may merge with the answer prefix.
        assert whole[: len(templated) - 1] == templated[:-1]
        assert example.ids.count(begin) == 1
        assert example.ids[0] == begin
        assert len(example.ids) <= 700 - 40


@each_form
@pytest.mark.parametrize("begin", [None, "<s>"])
def test_a_plain_template_is_one_beginning_or_nothing(form, begin):
    """A base model's prompt begins with its one token where it wants one, and is bare where it wants none."""
    ours, theirs = _both(form)
    example = _source(ours, plain_template(ours, begin)).example(0)
    bare = tuple(theirs(example.text, add_special_tokens=False)["input_ids"])
    assert example.ids == (bare if begin is None else (theirs.bos_token_id, *bare))
    assert theirs.bos_token_id not in bare
    assert not example.text.startswith("<s>")


@each_form
@each_template
def test_no_beginning_where_the_model_wants_none(form, name):
    """A model that wants no beginning-of-sequence token gets none from its template either."""
    ours, theirs = _both(form)
    prompt_template = _chat(ours, TEMPLATES[name], None)
    assert theirs.bos_token_id not in _source(ours, prompt_template).example(0).ids


def test_a_template_that_spells_the_token_itself_is_given_no_other():
    """A template that writes the beginning-of-sequence token in full has it once."""
    ours, theirs = _both("LLaMA 2")
    prompt_template = _chat(ours, LLAMA_2.replace("bos_token", "'<s>'"))
    assert prompt_template == _chat(ours, LLAMA_2)
    assert prompt_template.before == (Special("<s>", theirs.bos_token_id), "[INST] ")


def test_a_template_holds_its_special_tokens_in_order():
    """What a template writes around the turn is cut into special tokens and words."""
    ours, _ = _both("Gemma")
    begin, start, end = (Special(name, ours.special(name)) for name in ("<s>", "<start_of_turn>", "<end_of_turn>"))
    prompt_template = _chat(ours, GEMMA)
    assert prompt_template.before == (begin, start, "user\n")
    assert prompt_template.after == (end, "\n", start, "model\n")


@each_form
def test_needles_are_where_they_say_inside_a_template(form):
    """The recorded token of a needle holds its first character, the template's tokens counted."""
    ours, theirs = _both(form)
    source = _source(ours, _chat(ours, GEMMA))
    example = source.example(3)
    (token,) = example.needle_tokens
    place = example.text.index("One of the special magic numbers")
    offsets = theirs(example.text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert offsets[token][0] <= place < offsets[token][1]


@each_form
@pytest.mark.parametrize("name", ["Llama 2", "Gemma"])
def test_special_tokens_in_a_corpus_stay_text(form, name):
    """Special tokens spelled out in the haystack begin and end nothing: only the prompt template's own are special."""
    ours, _ = _both(form)
    words = " ".join(f"Grass {special} is {special}green{special}." for special in SPECIALS)
    corpora = CorporaOf(Corpus.from_text("with special tokens", words))
    prompt_template = _chat(ours, TEMPLATES[name])
    example = replace(_source(ours, prompt_template), corpora=corpora).example(0)
    assert all(example.prompt.count(special) > 2 for special in SPECIALS)
    own = [part.id for part in (*prompt_template.before, *prompt_template.after) if isinstance(part, Special)]
    numbers = {ours.special(special) for special in SPECIALS}
    assert [number for number in example.ids if number in numbers] == own


@pytest.mark.parametrize(
    "template",
    [
        "no turn at all",
        "",
        "{{ messages[0]['content'] }} and again {{ messages[0]['content'] }}",
        "{{ messages[0]['content'][:5] }}",
        "{{ messages[0]['content'] | length }}",
        "{{ raise_exception('a system turn is needed') }}",
        "{{ messages[1]['content']['text'] }}{{ messages[0]['content'] }}",
        "{% if %}",
        "{{ messages[0]['content'] ",
        "{{ nothing_of_this_name(messages[0]['content']) }}",
        "{{ messages[0]['content'] + 1 }}",
        "{{ messages[0]['content'] }}{{ 1 / 0 }}",
        "{{ messages.append(1) }}{{ messages[0]['content'] }}",
    ],
)
def test_a_template_without_the_turn_is_refused(template):
    """A template that drops, cuts or repeats the user's turn, or cannot be rendered, is refused."""
    ours, _ = _both("LLaMA 2")
    with pytest.raises(PromptTemplateError):
        _chat(ours, template)


def test_what_a_template_objects_to_is_said():
    """What a template says as it refuses a conversation is passed on."""
    ours, _ = _both("LLaMA 2")
    with pytest.raises(PromptTemplateError, match="a system turn is needed"):
        _chat(ours, "{{ raise_exception('a system turn is needed') }}")


def test_a_token_that_the_vocabulary_lacks_is_refused():
    """A beginning or a special token that the tokenizer does not have is refused by its name."""
    ours, _ = _both("LLaMA 2")
    options = {"beginning_of_sequence": None, "end_of_sequence": None}
    template = "<|user|>" + TEXT_ONLY
    with pytest.raises(TokenizerError, match=re.escape("'<|user|>'")):
        chat_prompt_template(ours, template, **options, specials=["<|user|>"])
    with pytest.raises(TokenizerError, match="'<begin>'"):
        chat_prompt_template(ours, TEXT_ONLY, **options | {"beginning_of_sequence": "<begin>"}, specials=[])
    with pytest.raises(TokenizerError, match="'<begin>'"):
        plain_template(ours, "<begin>")
    # One that the template never writes is not needed.
    assert chat_prompt_template(ours, TEXT_ONLY, **options, specials=["<|user|>"]).before == ("USER: ",)


def test_of_two_names_the_longer_is_the_token():
    """Where one special token's name begins another's, a template means the longer one."""
    backend = Backend.from_str(library("LLaMA 2").to_str())
    backend.add_special_tokens(["<s>!", "<s>"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        backend.save(str(path))
        tokenizer = load_tokenizer(path)
    prompt_template = chat_prompt_template(
        tokenizer,
        "<s>!" + TEXT_ONLY,
        beginning_of_sequence=None,
        end_of_sequence=None,
        specials=["<s>", "<s>!"],
    )
    assert prompt_template.before == (Special("<s>!", tokenizer.special("<s>!")), "USER: ")


def _written(folder: Path, config: object, name: str = "tokenizer_config.json") -> Path:
    path = folder / name
    path.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    return path


ADDED = {
    "0": {"content": "<s>", "special": True},
    "1": {"content": "  ", "special": False},
    "2": {"content": "<end_of_turn>", "special": True},
    "3": {"content": "word"},
}


@pytest.mark.parametrize(
    "template",
    [
        GEMMA,
        [{"name": "tool_use", "template": "no"}, {"name": "default", "template": GEMMA}],
    ],
)
def test_templates_are_read_from_a_configuration(tmp_path, template):
    """A configuration gives its one or its default template, and the names of its special tokens."""
    path = _written(tmp_path, {"chat_template": template, "added_tokens_decoder": ADDED})
    assert read_chat_template(path) == (GEMMA, ["<s>", "<end_of_turn>"])


def test_a_configuration_may_list_no_tokens(tmp_path):
    """A configuration without added tokens gives its template alone."""
    assert read_chat_template(_written(tmp_path, {"chat_template": LLAMA_2})) == (LLAMA_2, [])


def test_templates_are_read_from_a_file_of_their_own(tmp_path):
    """A .jinja file is the template, to the letter."""
    template = GEMMA + "\n{# é #}\n"
    assert read_chat_template(_written(tmp_path, template, "chat_template.jinja")) == (template, [])


@pytest.mark.parametrize(
    "config",
    [
        "not JSON",
        "",
        "[]",
        '"text"',
        {},
        {"chat_template": None},
        {"chat_template": 3},
        {"chat_template": []},
        {"chat_template": [{"name": "tool_use", "template": "no"}]},
        {"chat_template": [{"name": "default"}]},
    ],
)
def test_a_configuration_without_a_template_is_named(tmp_path, config):
    """A configuration that is not JSON or has no template to use is refused by its path."""
    path = _written(tmp_path, config)
    with pytest.raises(PromptTemplateError, match=re.escape(str(path))):
        read_chat_template(path)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.jinja", ""])
def test_a_missing_template_is_named(tmp_path, name):
    """A template file that is not there, or is a folder, is refused by its path."""
    with pytest.raises(PromptTemplateError, match=re.escape(str(tmp_path / name))):
        read_chat_template(tmp_path / name)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.jinja"])
def test_a_template_that_is_not_text_is_named(tmp_path, name):
    """A template file that is not UTF-8 is refused by its path."""
    path = tmp_path / name
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(PromptTemplateError, match=re.escape(str(path))):
        read_chat_template(path)
