"""Zoo files: the built-in ones are sound, and mistakes in others are named."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cells import Cell
from generators.corpora.sets import EmbeddedCorpora
from generators.examples import ExampleSource
from generators.tasks.registry import tasks
from models.cards import Card
from suites.support.odd_names import ODD_NAMES
from suites.support.runs import run
from suites.support.strategies import ByteTokenizer
from zoo.cards import LeftOut, Sweep, Zoo, ZooError, load_zoo

built_in = pytest.mark.parametrize("name", ["pocket", "paper", "sanity"])
KEY = re.compile(r"(?P<task>[a-z0-9_-]+?)-(?P<length>\d+)(?:-d(?P<depth>\d+))?")

SOUND = """\
samples = 40
batch_tokens = 4096

[tokens_to_generate]
niah_single_1 = 48

[smallest_length]
niah_multikey_3 = 512

[sweeps.ruler]
tasks = ["niah_single_1", "niah_multikey_3"]
lengths = [256, 512]

[sweeps.niah_position]
tasks = ["essay-word-uuid"]
lengths = [256]
depths = [0, 50, 100]

[models.m2a]
family = "state-spaces"
path = "pocket/m2a"
tokenizer = "pocket/tokenizer.json"
dtype = "float32"
"""


def _written(folder: Path, text: str) -> Path:
    path = folder / "own.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _refusal(path: Path) -> str:
    with pytest.raises(ZooError) as refusal:
        load_zoo(str(path))
    assert str(refusal.value).startswith(f"{path}: ")
    return str(refusal.value).removeprefix(f"{path}: ")


@built_in
def test_built_in_zoos_parse(name):
    """A built-in zoo is read by its name and has models, suites and cells, each with tokens kept for its answer."""
    zoo = load_zoo(name)
    assert zoo.name == name
    assert zoo.models
    assert set(zoo.sweeps) == {"ruler", "niah_position", "niah_format"}
    assert all(zoo.cells(sweep) for sweep in zoo.sweeps)
    assert all(0 < zoo.budget(cell.task) < cell.length for cell in zoo.matrix())
    assert all(name == card.name for name, card in zoo.models.items())


@built_in
def test_keys_have_the_format_of_ids(name):
    """A cell's key is its task, its length and, where it has one, its depth; its id has the model before."""
    for cell in load_zoo(name).matrix():
        read = KEY.fullmatch(cell.key)
        assert read["task"] == cell.task
        assert int(read["length"]) == cell.length
        assert (None if read["depth"] is None else int(read["depth"])) == cell.depth
        assert str(cell) == f"{cell.model}-{cell.key}"


@built_in
def test_ids_are_unique(name):
    """No two cells of a zoo share an id."""
    ids = [str(cell) for cell in load_zoo(name).matrix()]
    assert len(set(ids)) == len(ids)


def test_files_named_by_the_pocket_zoo_are_there():
    """The checkpoints and tokenizers of the pocket zoo are shipped with it."""
    zoo = load_zoo("pocket")
    for card in zoo.models.values():
        assert (zoo.folder / card.path).is_dir()
        assert (zoo.folder / card.tokenizer).is_file()


def test_a_sound_file_is_read(tmp_path):
    """A zoo file of one's own is read field by field, and its paths are relative to it."""
    zoo = load_zoo(str(_written(tmp_path, SOUND)))
    assert (zoo.name, zoo.folder, zoo.samples, zoo.batch_tokens) == ("own", tmp_path, 40, 4096)
    assert zoo.models == {
        "m2a": Card("m2a", "state-spaces", "pocket/tokenizer.json", path="pocket/m2a", dtype="float32")
    }
    assert [str(cell) for cell in zoo.cells("ruler")] == [
        "m2a-niah_single_1-256",
        "m2a-niah_single_1-512",
        "m2a-niah_multikey_3-512",
    ]
    assert zoo.sweeps["niah_position"].depths == (0, 50, 100)
    assert zoo.left_out() == [LeftOut("niah_multikey_3", (256,))]
    assert zoo.budget("niah_single_1") == 48
    assert zoo.budget("niah_single_2") == tasks()["niah_single_2"].tokens_to_generate


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        # Unknown names, and the nearest that exist.
        ("samples = 40", "sample = 40", ["unknown field sample ", "did you mean samples?"]),
        ("dtype =", "dtyp =", ["models.m2a", "unknown field dtyp ", "did you mean dtype?"]),
        ("depths =", "depth =", ["sweeps.niah_position", "unknown field depth ", "did you mean depths?"]),
        ('"essay-word-uuid"', '"essay-word-uid"', ["sweeps.niah_position", "task", "did you mean essay-word-uuid?"]),
        ("niah_multikey_3 = 512", "niah_multikey3 = 512", ["smallest_length", "task", "did you mean niah_multikey_3?"]),
        ("niah_single_1 = 48", "nia_single_1 = 48", ["tokens_to_generate", "task", "did you mean niah_single_1?"]),
        ('"float32"', '"float23"', ["models.m2a", "dtype", "did you mean float32?"]),
        ('"state-spaces"', '"state-space"', ["models.m2a: unknown family", "did you mean state-spaces?"]),
        # Missing fields.
        ("samples = 40", "", ["samples is missing"]),
        (SOUND[SOUND.index("[models") :], "", ["models is missing"]),
        (SOUND[SOUND.index("[sweeps") : SOUND.index("[models")], "", ["sweeps is missing"]),
        ('family = "state-spaces"', "", ["models.m2a", "lacks the field family"]),
        ('tokenizer = "pocket/tokenizer.json"', "", ["models.m2a", "lacks the field tokenizer"]),
        ('tasks = ["essay-word-uuid"]', "", ["sweeps.niah_position", "lacks the field tasks"]),
        ("lengths = [256, 512]", "", ["sweeps.ruler", "lacks the field lengths"]),
        # Values out of range.
        ("samples = 40", "samples = 0", ["samples", "at least 1", "not 0"]),
        ("samples = 40", "samples = -4", ["samples", "at least 1", "not -4"]),
        ("samples = 40", "samples = 4.5", ["samples", "whole number", "not 4.5"]),
        ("samples = 40", 'samples = "many"', ["samples", "whole number", "not 'many'"]),
        ("batch_tokens = 4096", "batch_tokens = 0", ["batch_tokens", "at least 1", "not 0"]),
        ("[0, 50, 100]", "[0, 50, 101]", ["sweeps.niah_position", "depths", "0 and 100", "not 101"]),
        ("[0, 50, 100]", "[-1]", ["sweeps.niah_position", "depths", "0 and 100", "not -1"]),
        ("[256, 512]", "[0, 512]", ["sweeps.ruler", "lengths", "not 0"]),
        # Values of another kind.
        ("[256, 512]", '["256", "512"]', ["sweeps.ruler", "lengths"]),
        ("[256, 512]", "256", ["sweeps.ruler", "lengths"]),
        ("[0, 50, 100]", '["middle"]', ["sweeps.niah_position", "depths"]),
        ("tokenizer = ", "tokenizer = 5 #", ["models.m2a.tokenizer must be a text", "not 5"]),
        ("dtype =", 'trained_length = "512"\ndtype =', ["models.m2a.trained_length", "whole number", "not '512'"]),
        ("dtype =", "end_of_sequence = []\ndtype =", ["models.m2a.end_of_sequence must be a text", "not []"]),
        ("dtype =", "extrapolate = 1\ndtype =", ["models.m2a.extrapolate must be true or false, not 1"]),
        ("dtype =", "emulate = [5]\ndtype =", ["models.m2a.emulate[0] must be a text", "not 5"]),
        ("dtype =", 'name = "other"\ndtype =', ["models.m2a: unknown field name"]),
        (
            "dtype =",
            "smallest_length = { niah_single_1 = true }\ndtype =",
            ["models.m2a.smallest_length.niah_single_1"],
        ),
        ("niah_single_1 = 48", "niah_single_1 = 48.0", ["tokens_to_generate.niah_single_1", "not 48.0"]),
        ("batch_tokens = 4096", "batch_tokens = 1979-05-27", ["batch_tokens cannot be 1979-05-27, a date"]),
        ("[256, 512]", "[256, 256]", ["sweeps.ruler.lengths must be a list of different values"]),
        # Nothing to ask, or nobody.
        ("[256, 512]", "[]", ["sweeps.ruler.lengths must be a list of different values, not []"]),
        ('["essay-word-uuid"]', "[]", ["sweeps.niah_position.tasks must be a list of different values, not []"]),
        (SOUND[SOUND.index("[models") :], "[models]", ["models must be a table of models, not {}"]),
        (SOUND[SOUND.index("[sweeps") : SOUND.index("[models")], "[sweeps]\n", ["sweeps must be a table of sweeps"]),
        # Where a model comes from.
        ("path =", 'hub = "state-spaces/m2a"\nrevision = "main"\npath =', ["models.m2a", "either path or hub"]),
        ('path = "pocket/m2a"', "", ["models.m2a", "either path or hub"]),
        ('path = "pocket/m2a"', 'hub = "state-spaces/m2a"', ["models.m2a", "revision", "state-spaces/m2a"]),
        # Not TOML at all.
        ("samples = 40", "samples = ", ["line 1"]),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, said):
    """A mistake is refused with the file, the field and, where a name is wrong, the nearest one that exists."""
    assert SOUND.count(old) == 1
    message = _refusal(_written(tmp_path, SOUND.replace(old, new)))
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'\xff\xfe"samples" = 40', "is no text in UTF-8"),
        (b"\x7fELF\x01\x00", "is not readable as TOML"),
        (b"samples = " + b"[" * 100_000, "is not readable as TOML: nested too deeply"),
    ],
    ids=["encoding", "binary", "depth"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, said):
    """A zoo file that is not UTF-8, not TOML, or nested too deeply is refused by its name and why."""
    path = tmp_path / "own.toml"
    path.write_bytes(content)
    assert said in _refusal(path)


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("table", ["models", "tasks", "sweeps"])
def test_an_odd_name_is_refused(tmp_path, table, name):
    """A model, task or sweep whose name cannot be a path and an id is refused in one line."""
    fields = {
        "models": SOUND[SOUND.index("family") :],
        "tasks": 'like = "vt"\n',
        "sweeps": 'tasks = ["vt"]\nlengths = [512]\n',
    }
    path = _written(tmp_path, f"{SOUND}\n[{table}.{_quoted(name)}]\n{fields[table]}")
    refusal = _refusal(path)
    assert f"the name of a {table.removesuffix('s')} " in refusal
    assert len(refusal.splitlines()) == 1


def test_a_run_of_an_odd_name_writes_nothing(tmp_path):
    """A run of a zoo whose model's name leads out of a folder ends before it writes any file."""
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    path = _written(folder, SOUND.replace("[models.m2a]", '[models."../../../x"]'))
    done = run("suites/evaluation", f"--zoo={path}", f"--results={folder / 'results'}")
    assert done.returncode == 4
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert line.startswith(f"ERROR: --zoo: {path}: the name of a model must be ")
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]


@pytest.mark.parametrize("name", ["a b", "-x", "con", "é", "x[0]", "a" * 65])
def test_an_odd_name_of_a_file_is_refused(tmp_path, name):
    """A zoo whose file's name cannot be a folder of snapshots everywhere is refused."""
    path = _written(tmp_path, SOUND).rename(tmp_path / f"{name}.toml")
    assert "the name of a zoo, which is its file's, " in _refusal(path)


@pytest.mark.parametrize(
    ("table", "names"), [("models", ["M2A", "m2a"]), ("tasks", ["VT", "vt"]), ("sweeps", ["ruler", "Ruler"])]
)
def test_names_that_differ_in_capital_letters_are_refused(tmp_path, table, names):
    """Names that some file systems take for one are refused, also where one of them is a registered task's."""
    fields = {
        "models": 'family = "oracle"\ntokenizer = "t"',
        "tasks": 'like = "vt"',
        "sweeps": 'tasks = ["vt"]\nlengths = [9]',
    }
    new = next(name for name in names if name not in ("m2a", "vt", "ruler"))
    refusal = _refusal(_written(tmp_path, f"{SOUND}\n[{table}.{new}]\n{fields[table]}\n"))
    assert "differ in capital letters alone" in refusal
    assert all(name in refusal for name in names)


@pytest.mark.parametrize(("model", "task"), [("m2a-fine", "vt"), ("M2A-Fine", "vt")])
def test_two_cells_with_one_id_are_refused(tmp_path, model, task):
    """Two cells whose ids are equal, in small letters, are named by model and task."""
    text = SOUND.replace('"niah_single_1", "niah', f'"{task}", "fine-{task}", "niah')
    oracle = f'\n[models.{model}]\nfamily = "oracle"\ntokenizer = "t"\n'
    refusal = _refusal(_written(tmp_path, f'{text}{oracle}[tasks.fine-{task}]\nlike = "vt"\n'))
    assert refusal.startswith("two cells would have the id ")
    assert f"model m2a with task fine-{task}" in refusal
    assert f"model {model} with task {task}" in refusal


def test_sweeps_keep_the_order_of_the_file(tmp_path):
    """Sweeps of any name are kept, in the file's order."""
    names = ["zeta", "ruler", "a.b", "niah_position", "2nd"]
    sweep = 'tasks = ["vt"]\nlengths = [512]\n'
    tables = "".join(f'[sweeps."{name}"]\n{sweep}' for name in names)
    text = SOUND[: SOUND.index("[sweeps")] + tables + SOUND[SOUND.index("[models") :]
    assert list(load_zoo(str(_written(tmp_path, text))).sweeps) == names


@pytest.mark.parametrize(("given_name", "nearest"), [("pockett", "pocket"), ("Paper", "paper"), ("poket", "pocket")])
def test_an_unknown_zoo_is_named(given_name, nearest):
    """A zoo that does not exist is refused with the nearest that does, and all of them."""
    with pytest.raises(ZooError, match=rf"unknown zoo {given_name} \(did you mean {nearest}\?\); .*paper, pocket"):
        load_zoo(given_name)


def test_a_missing_file_is_named(tmp_path):
    """A zoo file that is not there is refused by its path."""
    with pytest.raises(ZooError) as refusal:
        load_zoo(str(tmp_path / "own.toml"))
    assert str(tmp_path / "own.toml") in str(refusal.value)


TASKS = ("niah_single_1", "niah_multikey_3", "essay-word-uuid")
sweeps = st.builds(
    Sweep,
    st.lists(st.sampled_from(TASKS), min_size=1, unique=True).map(tuple),
    st.lists(st.sampled_from([256, 512, 1024]), min_size=1, unique=True).map(tuple),
    st.sampled_from([(None,), (0, 50), (50, 100), (None, 50)]),
)
smallest_lengths = st.dictionaries(st.sampled_from(TASKS), st.sampled_from([1, 256, 257, 1024, 2048]))
zoos = st.builds(
    Zoo,
    name=st.just("drawn"),
    folder=st.just(Path()),
    samples=st.just(1),
    batch_tokens=st.just(1),
    tokens_to_generate=st.just({}),
    tasks=st.just({}),
    smallest_length=smallest_lengths,
    models=st.dictionaries(
        st.sampled_from(["m2a", "tpp", "rg-it"]),
        smallest_lengths.map(lambda lengths: Card("some", "f", "t", smallest_length=lengths)),
        min_size=1,
    ),
    sweeps=st.dictionaries(st.sampled_from(["ruler", "position"]), sweeps, min_size=1),
)


def _declared(zoo: Zoo, sweep: Sweep) -> list[Cell]:
    return [Cell(*values) for values in product(zoo.models, sweep.tasks, sweep.lengths, sweep.depths)]


@given(zoos)
def test_what_does_not_fit_is_left_out(zoo):
    """A suite's cells are those that fit by the zoo's file and by the card, in order; the others are left out."""

    def fits(cell: Cell) -> bool:
        needed = (zoo.smallest_length, zoo.models[cell.model].smallest_length)
        return cell.length >= max(lengths.get(cell.task, 0) for lengths in needed)

    dropped = set()
    for name, sweep in zoo.sweeps.items():
        declared = _declared(zoo, sweep)
        assert zoo.cells(name) == [cell for cell in declared if fits(cell)]
        assert set(zoo.cells(name)) == {cell for cell in declared if zoo.fits(cell)}
        dropped |= {(cell.model, cell.task, cell.length) for cell in declared if not fits(cell)}
    said = [
        (model, out.task, length)
        for out in zoo.left_out()
        for length in out.lengths
        for model in out.models or zoo.models
    ]
    assert sorted(said) == sorted(dropped)
    assert all(out.lengths == tuple(sorted(out.lengths)) for out in zoo.left_out())


@given(zoos)
def test_the_matrix_holds_each_cell_once(zoo):
    """The matrix holds every cell of every suite, and one that suites share only once."""
    matrix = list(zoo.matrix())
    assert len({str(cell) for cell in matrix}) == len(matrix)
    assert {str(cell) for cell in matrix} == {str(cell) for sweep in zoo.sweeps for cell in zoo.cells(sweep)}


def test_suites_of_the_pocket_zoo_share_cells():
    """The position and format suites ask some of the same cells, which the matrix counts once."""
    zoo = load_zoo("pocket")
    position, form = set(zoo.cells("niah_position")), set(zoo.cells("niah_format"))
    assert position & form
    assert len(zoo.matrix()) == len(zoo.cells("ruler")) + len(position | form)


@given(zoos)
def test_without_smallest_lengths_everything_fits(zoo):
    """Where no smallest length is given, nothing is left out."""
    models = {name: replace(card, smallest_length={}) for name, card in zoo.models.items()}
    assert replace(zoo, smallest_length={}, models=models).left_out() == []


def test_a_card_may_fit_less_than_the_others(tmp_path):
    """What one model's prompt template leaves no room for is left out for that model alone, and said so."""
    other = SOUND[SOUND.index("[models") :].replace("m2a", "tpp")
    text = f"{SOUND}smallest_length = {{ niah_single_1 = 512 }}\n\n{other}"
    zoo = load_zoo(str(_written(tmp_path, text)))
    asked = {str(cell) for cell in zoo.cells("ruler")}
    assert "m2a-niah_single_1-256" not in asked
    assert {"tpp-niah_single_1-256", "m2a-niah_single_1-512"} <= asked
    assert "; ".join(map(str, zoo.left_out())) == "niah_single_1 at 256 of m2a; niah_multikey_3 at 256"
    refusal = _refusal(_written(tmp_path, text.replace("niah_single_1 = 512", "niah_singl_1 = 512")))
    assert "models.m2a.smallest_length" in refusal
    assert "did you mean niah_single_1?" in refusal


VARIANTS = """
[tasks.vt]
demonstrations = 0

[tasks.long-chains]
like = "vt"
hops = 8

[tasks.essay-three-keys]
like = "niah_single_1"
haystack = "essay"
keys = 3

[tasks.questions-again]
like = "qa_1"
"""


def _variant_zoo(folder: Path) -> Zoo:
    return load_zoo(
        str(_written(folder, SOUND.replace('tasks = ["niah_single_1", ', 'tasks = ["long-chains", ') + VARIANTS))
    )


def test_a_variant_is_like_its_task_but_for_its_changes(tmp_path):
    """A variant has the parameters of the registered task it is like, but for those it gives, and its own name."""
    known = _variant_zoo(tmp_path).tasks
    for name, like, changes in (
        ("vt", "vt", {"demonstrations": 0}),
        ("long-chains", "vt", {"hops": 8}),
        ("essay-three-keys", "niah_single_1", {"haystack": "essay", "keys": 3}),
        ("questions-again", "qa_1", {}),
    ):
        registered = tasks()[like]
        assert known[name] == replace(registered, name=name, parameters=replace(registered.parameters, **changes))


def test_a_variant_leaves_all_other_tasks_as_they_are(tmp_path):
    """A file's variants change neither the other tasks of its zoo nor those of any other."""
    before = dict(tasks())
    known = _variant_zoo(tmp_path).tasks
    assert dict(tasks()) == before
    assert load_zoo(str(_written(tmp_path, SOUND))).tasks == before
    own = {"long-chains", "essay-three-keys", "questions-again"}
    assert set(known) == set(before) | own
    assert all(known[name] == task for name, task in before.items() if name != "vt")
    assert known["vt"] != before["vt"]


def test_a_sweep_asks_a_variant(tmp_path):
    """A variant is asked like any task, with its own tokens kept for the answer and its own smallest length."""
    zoo = _variant_zoo(tmp_path)
    assert [str(cell) for cell in zoo.cells("ruler")] == [
        "m2a-long-chains-256",
        "m2a-long-chains-512",
        "m2a-niah_multikey_3-512",
    ]
    assert zoo.budget("long-chains") == tasks()["vt"].tokens_to_generate
    text = zoo.folder.joinpath("own.toml").read_text(encoding="utf-8")
    text = text.replace("niah_single_1 = 48", "long-chains = 70").replace("niah_multikey_3 = 512", "long-chains = 300")
    zoo = load_zoo(str(_written(tmp_path, text)))
    assert zoo.budget("long-chains") == 70
    assert zoo.left_out() == [LeftOut("long-chains", (256,))]


def test_the_changed_task_makes_other_prompts(tmp_path):
    """A parameter of a variant reaches its prompts: a longer chain is answered by more names."""
    task = _variant_zoo(tmp_path).tasks["long-chains"]
    example = ExampleSource(task, 2000, ByteTokenizer(), EmbeddedCorpora(), 30).example(0)
    assert len(example.references) == 9


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[tasks.vt]\nhop = 6", "tasks.vt: task vt has no parameter hop; there are chains, hops, demonstrations"),
        ('[tasks.mine]\nlike = "vt"\nkeys = 2', "tasks.mine: task vt has no parameter keys; there are chains, "),
        ('[tasks.vt]\nhops = "6"', "tasks.vt: hops must be of the kind of 4, not '6'"),
        ("[tasks.vt]\nhops = true", "tasks.vt: hops must be of the kind of 4, not True"),
        ("[tasks.vt]\nhops = 4.0", "tasks.vt: hops must be of the kind of 4, not 4.0"),
        ("[tasks.niah_single_1]\nkey = 3", "tasks.niah_single_1: key must be of the kind of 'word', not 3"),
        ("[tasks.vt]\nhops = 0", "tasks.vt: hops must be between 1 and 100, not 0"),
        ("[tasks.niah_single_1]\nqueries = 2", "tasks.niah_single_1: queries"),
        ('[tasks.niah_single_1]\nvalue = "letter"', "tasks.niah_single_1: value must be one of "),
        ('[tasks.mine]\nlike = "vtt"', "tasks.mine.like: unknown task vtt (did you mean vt?); there are "),
        ("[tasks.mine]\nlike = 3", "tasks.mine.like: unknown task 3"),
        ("[tasks.mine]\nhops = 3", "tasks.mine.like: unknown task mine"),
        ('[tasks.a]\nlike = "vt"\n[tasks.b]\nlike = "a"', "tasks.b.like: unknown task a"),
        ("[tasks]\nvt = 6", "tasks.vt must be a table, not 6"),
    ],
)
def test_mistakes_in_variants_are_named(tmp_path, table, said):
    """A variant that cannot be is refused with the file, its table and the parameter."""
    assert _refusal(_written(tmp_path, f"{SOUND}\n{table}\n")).startswith(said)


@pytest.mark.parametrize("task", ["vt", "cwe", "fwe", "long-chains"])
def test_depths_of_a_task_without_are_refused(tmp_path, task):
    """A sweep with depths is refused where one of its tasks hides nothing at a depth, variants included."""
    text = SOUND.replace('["essay-word-uuid"]', f'["essay-word-uuid", "{task}"]') + VARIANTS
    said = f"sweeps.niah_position: task {task} has no depth; leave depths out of its sweep"
    assert _refusal(_written(tmp_path, text)) == said
    assert task in load_zoo(str(_written(tmp_path, text.replace("depths = [0, 50, 100]\n", "")))).tasks


def _oracle(folder: Path, *fields: str) -> Path:
    card = "\n".join(('family = "oracle"', 'tokenizer = "tokenizer.json"', *fields))
    return _written(folder, f"{SOUND[: SOUND.index('[models')]}[models.oracle]\n{card}\n")


@pytest.mark.parametrize(("fields", "window"), [([], None), (["window = 1"], 1), (["window = 512"], 512)])
def test_an_oracle_needs_no_checkpoint(tmp_path, fields, window):
    """The card of an oracle has a tokenizer and no checkpoint, and may say how far it looks back."""
    assert load_zoo(str(_oracle(tmp_path, *fields))).models == {
        "oracle": Card("oracle", "oracle", "tokenizer.json", window=window)
    }


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (['path = "pocket/m2a"'], "models.oracle: an oracle has no checkpoint, so neither path nor hub"),
        (
            ['hub = "a/b"', 'revision = "c"'],
            "models.oracle: an oracle has no checkpoint, so neither path nor hub",
        ),
        (["window = 0"], "models.oracle.window must be a whole number of at least 1, not 0"),
        (["window = -512"], "models.oracle.window must be a whole number of at least 1, not -512"),
        (["window = 1.5"], "models.oracle.window must be a whole number of at least 1, not 1.5"),
        (['window = "all"'], "models.oracle.window must be a whole number of at least 1, not 'all'"),
        (["window = true"], "models.oracle.window must be a whole number of at least 1, not True"),
    ],
)
def test_an_oracle_with_more_is_refused(tmp_path, fields, said):
    """An oracle with a checkpoint, or with a window that is no number of tokens, is refused."""
    assert _refusal(_oracle(tmp_path, *fields)) == said


@pytest.mark.parametrize("source", ['path = "pocket/m2a"', 'hub = "a/b"\nrevision = "c"'])
def test_only_an_oracle_has_a_window(tmp_path, source):
    """A window on the card of a model with a checkpoint is refused."""
    text = SOUND.replace('path = "pocket/m2a"', f"{source}\nwindow = 512")
    assert _refusal(_written(tmp_path, text)) == "models.m2a: window is for the oracle family only"


def test_the_sanity_zoo_has_only_oracles():
    """The models of the sanity zoo need nothing but a tokenizer, which is shipped, and one sees everything."""
    zoo = load_zoo("sanity")
    assert {card.family for card in zoo.models.values()} == {"oracle"}
    assert all((zoo.folder / card.tokenizer).is_file() for card in zoo.models.values())
    windows = {name: card.window for name, card in zoo.models.items()}
    assert windows.pop("oracle") is None
    assert windows == {f"window-{window}": window for window in windows.values()}
    assert windows
