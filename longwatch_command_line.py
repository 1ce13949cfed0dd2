"""A plugin of pytest, loaded before any conftest.py: the value of an option of this suite is no folder of tests.

pytest looks for its ini file and for conftest.py where the tests are that the command line names. At that time it does
not know the options that conftest.py will declare, so that in `pytest --history FILE` it takes a FILE that exists for
tests, looks beside it, finds nothing, and then refuses `--history` as unknown. This plugin looks again, without what
follows an unknown option, and changes something only where that leads into a checkout of longwatch.

It stands alone, outside all packages: in other projects that have longwatch installed beside them its name must be free
and its import cheap.
"""

from __future__ import annotations

import copy
import os
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["DetachedValue", "detached_values", "pytest_load_initial_conftests"]


@dataclass(frozen=True)
class DetachedValue:
    """What follows an option that is not known yet, and may be its value.

    Attributes:
        at: Its index among the arguments.
        option: The option before it.
        value: What follows.
    """

    at: int
    option: str
    value: str


def detached_values(arguments: Sequence[str], unknown: Collection[str]) -> list[DetachedValue]:
    """The arguments that may be values of unknown options, in their order.

    Args:
        arguments: A command line.
        unknown: The options that nobody has declared, as `--name`; those given as `--name=value` are complete.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [
        DetachedValue(at, arguments[at - 1], arguments[at])
        for at in range(1, end)
        if arguments[at - 1] in unknown and "=" not in arguments[at - 1] and not arguments[at].startswith("-")
    ]


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Lets pytest look again for its ini file, where it has taken an option's value for tests.

    Raises:
        pytest.UsageError: This version of pytest does not let it.
    """
    invocation = early_config.invocation_params
    given = [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *map(str, invocation.args)]
    found = detached_values(given, parser.parse_known_and_unknown_args(given)[1])
    # pytest overlooks what does not exist by itself.
    misread = [each for each in found if os.path.exists(os.path.join(invocation.dir, each.value.split("::")[0]))]  # noqa: PTH110, PTH118
    if not misread:
        return
    values = {each.at for each in found}
    try:
        _look_again(early_config, parser, args, given, [each for at, each in enumerate(given) if at not in values])
    except (AttributeError, ImportError, TypeError) as error:
        lines = ", ".join(f"{each.option}={each.value}" for each in misread)
        raise pytest.UsageError(f"this version of pytest takes an option's value for tests; write {lines}") from error


def _look_again(
    config: pytest.Config, parser: pytest.Parser, args: list[str], given: Sequence[str], tests: Sequence[str]
) -> None:
    """Does what pytest did before it called the hook, for another choice of arguments.

    Args:
        config: Of pytest 9, whose `Config.parse` this follows.
        parser: Its options, as far as they are known.
        args: All arguments, those of the ini file first; changed in place where there is another ini file.
        given: All arguments but those of an ini file.
        tests: Those among them that may name tests.
    """
    from _pytest.config.findpaths import determine_setup

    known = parser.parse_known_args(tests, namespace=copy.copy(config.option))
    rootpath, inipath, inicfg, ignored = determine_setup(
        inifile=known.inifilename,
        override_ini=known.override_ini,
        args=known.file_or_dir,
        rootdir_cmd_arg=known.rootdir or None,
        invocation_dir=config.invocation_params.dir,
    )
    if not (rootpath / Path(__file__).name).is_file():
        return
    config._rootpath, config._inipath, config._inicfg, config._ignored_config_files = rootpath, inipath, inicfg, ignored
    config._inicache.clear()
    parser.extra_info |= {"rootdir": str(rootpath), "inifile": str(inipath)}
    addopts = config.getini("addopts")
    args[:] = [*addopts, *given]
    known = parser.parse_known_args([*addopts, *tests], namespace=copy.copy(config.option))
    known.confcutdir = known.confcutdir or str(rootpath if inipath is None else inipath.parent)
    config.known_args_namespace = known
    config._checkversion()
    config._configure_python_path()
    config.pluginmanager.consider_preparse(addopts, exclude_only=False)
