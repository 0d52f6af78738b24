"""The product as a folder for a Python that has no pip: its wheel, what it depends on, compiled."""

import functools
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from .cache import built
from .debian import Suite, rootfs
from .processes import must

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PYTHONS: Final[Mapping[Suite, str]] = {"bookworm": "3.11", "trixie": "3.13"}
"""The Python that each suite has."""

_PIP_TIMEOUT_S: Final = 600.0
_COMPILE_TIMEOUT_S: Final = 300.0
_REVISION: Final = "1"
_PLATFORMS: Final = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
_OF_CLUSTERS: Final = ("kubernetes", "kubernetes-*")
_SOURCES: Final = ("vdscheck", "checks", "pyproject.toml", "README.md", "LICENSE")


def product_tree(suite: Suite, dest: Path, *, repository: Path = REPOSITORY) -> Path:
    """Put the product as it is in the work tree into `dest`, for the Python of that suite.

    Run it there as `PYTHONPATH=DEST python3 -m vdscheck`. What it needs comes from a cache, and the
    wheel is built from a copy, so that nothing appears in the work tree. Takes about 5 s for the first of a
    process, and no time for those after it. A host has no use for what only clusters need, which is most of
    all: an emulated machine is long in unpacking it.
    """
    made = Path(_made(suite, repository).name) / "site"
    shutil.copytree(made, dest, symlinks=True)
    return dest


@functools.cache
def _made(suite: Suite, repository: Path) -> "tempfile.TemporaryDirectory[str]":
    """Return the folder that all trees of this process are copied from; it is gone with the process."""
    needed = dependencies(suite, repository=repository)
    folder = tempfile.TemporaryDirectory(prefix="vdscheck-product-")
    site = Path(folder.name) / "site"
    shutil.copytree(needed, site, symlinks=True, ignore=shutil.ignore_patterns(*_OF_CLUSTERS))
    with tempfile.TemporaryDirectory(prefix="vdscheck-wheel-") as name:
        source = Path(name) / "source"
        source.mkdir()
        for part in _SOURCES:
            _copy(repository / part, source / part)
        _pip("wheel", "--no-deps", "--wheel-dir", name, str(source))
        wheels = [str(wheel) for wheel in Path(name).glob("*.whl")]
        _pip("install", "--no-deps", "--no-compile", "--target", str(site), *wheels)
    _compile(suite, site)
    return folder


def dependencies(suite: Suite, *, repository: Path = REPOSITORY) -> Path:
    """Return the folder of the product's run-time dependencies for the Python of that suite, as wheels only."""
    python_version = PYTHONS[suite]
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted: list[str] = sorted(project["dependencies"])

    def make(folder: Path) -> None:
        site = folder / "site"
        target = ["--target", str(site), "--python-version", python_version]
        platforms = [f"--platform={platform}" for platform in _PLATFORMS]
        options = ["--only-binary=:all:", "--implementation=cp", "--no-compile", *platforms]
        _pip("install", *options, *target, *wanted)
        _compile(suite, site)

    return built(f"site-{python_version}", repr((_REVISION, wanted)), make) / "site"


def _pip(*arguments: str) -> None:
    """Run pip of the Python that runs the tests."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    must([*pip, *arguments], timeout_s=_PIP_TIMEOUT_S)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, or a folder without what was compiled in it; nothing where there is none."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    elif source.exists():
        shutil.copy2(source, target)


def _compile(suite: Suite, site: Path) -> None:
    """Compile a folder with that suite's own Python: an emulated machine takes a minute for it."""
    compiled = ["-q", "-s", str(site), "-p", "/job/site", str(site)]
    must([*python(suite), "-m", "compileall", *compiled], timeout_s=_COMPILE_TIMEOUT_S)


def python(suite: Suite) -> Sequence[str]:
    """Return the command line that runs a suite's Python from its folder, on this machine."""
    usr = rootfs(suite) / "usr"
    library = next(usr.glob("lib/*-linux-gnu*/libc.so.6")).parent
    loader = next(library.glob("ld-linux*.so.*"))
    binary = (usr / "bin/python3").resolve()
    libraries = ["--library-path", str(library), str(binary)]
    return ["env", "-i", f"PYTHONHOME={usr}", str(loader), *libraries, "-I"]


def asked_again(command: str, report: str, *, while_it_says: str = '"reason":"timeout"') -> str:
    """A line of sh: a command with a report as JSON, run anew while that says so, five times at most.

    An emulated server may be too slow for the deadline of a probe, and is told so: its user would ask again.
    """
    return f"for _ in 1 2 3 4 5; do {command} > {report}; code=$?; grep -q '{while_it_says}' {report} || break; done"
