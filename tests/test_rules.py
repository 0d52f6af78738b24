"""The rules of the house that a linter alone does not keep, and that the gate refuses what breaks one."""

import ast
import dataclasses
import re
import shutil
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.project import PROJECT
from vdscheck.catalogue.catalogue import load
from vdscheck.plugin import Instrument, TargetKind

IMPURE = {
    *("open", "print", "input", "exec", "eval", "compile", "breakpoint", "__import__"),
    *("globals", "locals", "setattr", "delattr"),
}
"""What a check could leave its measurements by, or change them with."""
UNITS = re.compile(r"_(ns|us|ms|s|min|bytes|percent|share|ratio|cpus|1min|avg\d+)$")
ARE_UNITS = {"percent", "iops", "queue", "latitude", "longitude", "quota"}
"""Names that say themselves what is counted: requests a second, requests that wait, degrees, CPUs."""
OF_STATISTICS = "vdscheck.stats"


def modules(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for file in sorted((PROJECT / folder).rglob("*.py")):
            yield file, ast.parse(file.read_text())


def impure(tree: ast.Module) -> list[str]:
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [each.id for each in calls if isinstance(each, ast.Name) and each.id in IMPURE]


def test_a_check_calls_nothing_that_is_no_function_of_what_it_gets() -> None:
    found = {file.name: impure(tree) for file, tree in modules("checks")}
    assert {name: calls for name, calls in found.items() if calls} == {}


def fields(kind: Any, seen: set[Any]) -> Iterator[tuple[str, str, Any]]:
    """Every field of a measurement, and of what it is made of: its class, its name, its type."""
    for part in typing.get_args(kind):
        yield from fields(part, seen)
    is_new = isinstance(kind, type) and kind not in seen and kind.__module__ != OF_STATISTICS
    if is_new and isinstance(kind, type) and dataclasses.is_dataclass(kind):
        seen.add(kind)
        hints = typing.get_type_hints(kind)
        for each in dataclasses.fields(kind):
            yield kind.__name__, each.name, hints[each.name]
            yield from fields(hints[each.name], seen)


def is_amount(kind: Any) -> bool:
    return kind is float or any(map(is_amount, typing.get_args(kind)))


def nameless(kinds: Iterator[Any]) -> list[str]:
    """The amounts whose name does not say in what they are; whole numbers without a unit are counts."""
    seen: set[Any] = set()
    return [
        f"{where}.{name}"
        for kind in kinds
        for where, name, hint in fields(kind, seen)
        if is_amount(hint) and not UNITS.search(name) and name not in ARE_UNITS
    ]


def test_an_amount_that_is_measured_says_in_what() -> None:
    assert nameless(entry.provides for entry in load().probes.values()) == []


AREAS_OF_CODE = ("checks", "commands", "fixes", "linux", "measurements", "probes", "profiles", "views")
"""Folders that are of areas: all else is the engine."""
NOT_MEANT = {
    ("fix/journal.py", "sysctl"): "entries of the first format name no kind, and all were of this one",
    ("process/limits.py", "memory"): "a controller of cgroups",
}
"""Words of the engine that are those of an area and mean something else."""


def texts(tree: ast.Module) -> Iterator[str]:
    """All texts of a module but its documentation."""
    bodies = (getattr(node, "body", None) for node in ast.walk(tree))
    stated = (each for body in bodies if isinstance(body, list) for each in body if isinstance(each, ast.Expr))
    documentation = {id(each.value) for each in stated}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def names_of_areas() -> tuple[set[str], set[str]]:
    """Every id and measurement, which mean nothing else wherever they stand, and the words that an area is called."""
    found = load()
    ids = {*found.checks, *found.probes, *(entry.provides.__name__ for entry in found.probes.values())}
    commands = {name for name, each in found.commands.items() if isinstance(each, Instrument)}
    of_areas = {each.partition(".")[0] for each in (*found.checks, *found.probes)}
    return ids, (of_areas | commands | set(found.offer)) - set(typing.get_args(TargetKind))


def test_the_engine_knows_no_area() -> None:
    ids, words = names_of_areas()
    found = []
    for file, tree in modules("vdscheck"):
        name = file.relative_to(PROJECT / "vdscheck")
        if name.parts[0] not in AREAS_OF_CODE:
            for text in texts(tree):
                met = set(re.findall(r"[A-Za-z][\w.-]*\w", text)) & ids | {text} & words
                found += [(str(name), each) for each in met]
    assert set(found) == set(NOT_MEANT)


CHECK, PROBE = "checks/cpu.py", "vdscheck/probes/time/sync.py"
BREACHES = {
    "a check opens a file": (CHECK, "", "def _read() -> str:\n    return open('/etc/hostname').read()\n", "rules"),
    "a check knows the time": (CHECK, "", "import time\n\nNOW = time.time()\n", "imports"),
    "a probe starts a program": (PROBE, "", "import subprocess\n\nDONE = subprocess.run(['true'])\n", "imports"),
    "a probe opens a socket": (PROBE, "", "import socket\n\nDOOR = socket.socket()\n", "imports"),
    "the engine imports a probe": ("vdscheck/judge/score.py", "", "from vdscheck.probes.time import sync\n", "imports"),
    "an area of probes imports another": (PROBE, "", "from vdscheck.probes.memory import memory\n", "imports"),
    "a new folder has no layer": ("vdscheck/clouds/__init__.py", "", '"""Nothing yet."""\n', "imports"),
    "a check imports what is not public": (CHECK, "", "from vdscheck.model.records import frozen\n", "imports"),
    "redis is imported at the top": ("vdscheck/probes/redis/url.py", "", "import redis\n\nREDIS = redis\n", "lint"),
    "a check has a number of its own": (CHECK, "", "def _many(count: int) -> bool:\n    return count > 17\n", "lint"),
    "an amount has no unit": (
        "vdscheck/measurements/time.py",
        "    offset_us: float\n",
        "    offset_us: float\n    drift: float\n",
        "rules",
    ),
}
"""Each with the file that breaks a rule, what is replaced in it (or added), by what, and which gate is to refuse it."""
GATES = {
    "imports": ("lint-imports", "--no-cache"),
    "lint": ("ruff", "check", "--no-cache", "."),
    "rules": (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_rules.py"),
}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the project, as one may break it."""
    folder = tmp_path_factory.mktemp("breaches") / "project"
    left_out = shutil.ignore_patterns(".git", ".venv", "*.egg-info", "golden", ".*_cache", "__pycache__")
    shutil.copytree(PROJECT, folder, ignore=left_out)
    # The package of the checks has another name than its folder: so it is found where nothing is installed.
    (folder.parent / "path").mkdir()
    (folder.parent / "path/vdscheck_checks").symlink_to(folder / "checks")
    return folder


def held(gate: str, folder: Path) -> tuple[bool, str]:
    programs = Path(sys.executable).parent
    program, *words = GATES[gate]
    command = [program if program.startswith("/") else str(programs / program), *words]
    variables = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "PYTHONPATH": f"{folder}:{folder.parent}/path",
        "HOME": str(folder),
    }
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("gate", GATES)
def test_the_tree_as_it_is_breaks_nothing(copied: Path, gate: str) -> None:
    holds, said = held(gate, copied)
    assert holds, said[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("breach", BREACHES)
def test_the_gate_refuses_a_breach(copied: Path, breach: str) -> None:
    name, replaced, new, gate = BREACHES[breach]
    file = copied / name
    before = file.read_text() if file.exists() else None
    file.parent.mkdir(exist_ok=True)
    assert replaced in (before or "")
    file.write_text((before or "").replace(replaced, new) if replaced else f"{before or ''}\n\n{new}")
    try:
        holds, said = held(gate, copied)
    finally:
        if before is None:
            shutil.rmtree(file.parent)
        else:
            file.write_text(before)
    assert not holds, said[-2000:]
