"""The imports of the house: none in a circle, none up a floor, no name that two classes bear."""

from __future__ import annotations

import ast
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest

from suites.support.runs import REPOSITORY

# From the ground up; rooms of one floor do not import each other.
FLOORS = [
    {"core"},
    {"generators"},
    {"models", "drift"},
    {"zoo"},
    {"fixtures", "longwatch_command_line"},
    {"suites.support"},
    {"benchmarks", "conftest"},
    {"suites"},
]
FLOORS_OF_DRIFT = [
    {"drift.statistics"},
    {"drift.records"},
    {"drift"},
    {"drift.reports"},
    {"drift.commands"},
    {"drift.__main__"},
]


@dataclass(frozen=True)
class Import:
    """One module takes something from another one of the repository.

    Attributes:
        module: Who imports.
        target: From which module.
        name: What; None is the module itself.
    """

    module: str
    target: str
    name: str | None = None

    def __str__(self) -> str:
        return f"{self.module} -> {self.target}"


@cache
def _modules() -> dict[str, ast.Module]:
    """Every module of the repository, by its dotted name."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [REPOSITORY / line for line in listed.stdout.splitlines()]
    return {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for path in paths
        if path.exists()
    }


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def _nodes(tree: ast.AST, *, typing_only: bool) -> Iterator[ast.AST]:
    """All nodes; those under `if TYPE_CHECKING` only where asked for."""
    for node in ast.iter_child_nodes(tree):
        if typing_only or not _is_type_checking(node):
            yield node
            yield from _nodes(node, typing_only=typing_only)


def _imports_of(module: str, *, typing_only: bool = True) -> Iterator[Import]:
    modules = _modules()
    for node in _nodes(modules[module], typing_only=typing_only):
        if isinstance(node, ast.Import):
            yield from (Import(module, alias.name) for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by a relative name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in modules:
                    yield Import(module, whole)
                elif node.module in modules:
                    yield Import(module, str(node.module), alias.name)


def _plugins_of_conftest() -> Iterator[Import]:
    """What conftest.py loads by its name, as pytest does."""
    for node in ast.walk(_modules()["conftest"]):
        if isinstance(node, ast.Constant) and node.value in _modules():
            yield Import("conftest", str(node.value))


@cache
def _imports() -> list[Import]:
    found = [each for module in _modules() for each in _imports_of(module)]
    return [*found, *_plugins_of_conftest()]


def _floor(module: str, floors: list[set[str]]) -> tuple[int, str] | None:
    """The floor and the room of a module, by the longest name of a room that fits."""
    fitting = [
        (len(room), floor, room)
        for floor, rooms in enumerate(floors)
        for room in rooms
        if module == room or module.startswith(f"{room}.")
    ]
    return max(fitting)[1:] if fitting else None


def _runs_up(found: Import, floors: list[set[str]]) -> bool:
    own, other = _floor(found.module, floors), _floor(found.target, floors)
    return own is not None and other is not None and own[1] != other[1] and own[0] <= other[0]


def _public_classes(module: str) -> Iterator[str]:
    """Those that `__all__` lists; where there is none, those whose names do not begin with `_`."""
    listed: set[str] | None = None
    for node in _modules()[module].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            listed = set(ast.literal_eval(node.value))
    for node in _modules()[module].body:
        if isinstance(node, ast.ClassDef) and (
            not node.name.startswith("_") if listed is None else node.name in listed
        ):
            yield node.name


def _arrows_up(floors: list[set[str]]) -> set[str]:
    return {f"{each} runs up" for each in _imports() if _runs_up(each, floors)}


def _circles() -> set[str]:
    """A circle for each import that would have to go."""
    needs = defaultdict(set)
    for module in sorted(_modules()):
        for each in _imports_of(module, typing_only=False):
            needs[module].add(each.target)
    found: set[str] = set()
    while True:
        try:
            TopologicalSorter(needs).prepare()
        except CycleError as error:
            circle = error.args[1][:-1]
            found.add("a circle of " + ", ".join(sorted(circle)))
            needs[circle[1 % len(circle)]].discard(circle[0])
        else:
            return found


def _imports_of_tests() -> set[str]:
    return {f"{each}, a test" for each in _imports() if each.target.rpartition(".")[2].startswith("test_")}


def _names_of_several_classes() -> set[str]:
    bearers = defaultdict(list)
    for module in sorted(_modules()):
        if not module.startswith(("suites.invariants", "suites.evaluation")):
            for name in _public_classes(module):
                bearers[name].append(module)
    return {f"{name} of {', '.join(modules)}" for name, modules in bearers.items() if len(modules) > 1}


def _private_names_imported() -> set[str]:
    return {f"{each}.{each.name}" for each in _imports() if (each.name or "").startswith("_")}


def test_every_module_has_its_floor():
    """Every module of the repository stands on a floor, and every room has one."""
    floors = {module: _floor(module, FLOORS) for module in _modules()}
    assert [module for module, floor in floors.items() if floor is None] == []
    assert {room for _, room in floors.values()} == set.union(*FLOORS)


@pytest.mark.parametrize("floors", [FLOORS, FLOORS_OF_DRIFT], ids=["the house", "drift"])
def test_no_import_runs_up_a_floor(floors):
    """A module imports only from its own room and from floors below, within functions and for types alone as well."""
    assert _arrows_up(floors) == set()


def test_no_import_runs_in_a_circle():
    """The modules can be put into an order in which each imports only earlier ones, types alone left aside."""
    assert _circles() == set()


def test_nobody_imports_a_test():
    """No module imports a test module; what tests share is in `suites.support`."""
    assert _imports_of_tests() == set()


def test_a_name_is_one_class():
    """No two public classes bear one name."""
    assert _names_of_several_classes() == set()


def test_private_names_stay_where_they_are():
    """No module takes a name that begins with `_` from another one."""
    assert _private_names_imported() == set()


@pytest.mark.parametrize(
    ("found", "up"),
    [
        (Import("generators.a", "core.b"), False),
        (Import("generators.a", "generators.b"), False),
        (Import("generators.a", "models.b"), True),
        (Import("models.a", "drift.b"), True),
        (Import("drift.a", "models.b"), True),
        (Import("zoo.a", "fixtures.b"), True),
        (Import("benchmarks.a", "suites.support.b"), False),
        (Import("benchmarks.a", "suites.invariants.b"), True),
        (Import("conftest", "suites.support.b"), False),
        (Import("suites.support.a", "suites.invariants.b"), True),
        (Import("longwatch_command_line", "fixtures.b"), True),
    ],
    ids=str,
)
def test_which_way_an_arrow_runs(found, up):
    """An import is up where it leads to a higher floor, or to another room of the same one."""
    assert _runs_up(found, FLOORS) == up
