"""Entry points of installed packages: found, imported, and what they declare."""

import importlib
import os
import typing
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from types import ModuleType
from typing import Any

from vdscheck.plugin import (
    Bought,
    Check,
    Command,
    FixKind,
    Format,
    Header,
    Instrument,
    Option,
    Probe,
    ProfileFile,
    View,
)
from vdscheck.process import guard, limits, plugins

GROUP = "vdscheck.plugins"
IMPORT_LIMIT_S = 5.0

FOR_CLUSTERS = "cluster-"
"""So begins the name of an entry point that serves clusters alone."""
FOR_THE_COMMAND_LINE = "commands-"
"""So begins the name of one of ours that the command line and the configuration are made of."""
OF_THE_COMMAND_LINE = (Bought, Command, Format, Instrument, Option)
DECLARED = (*OF_THE_COMMAND_LINE, Check, FixKind, Header, Probe, ProfileFile, View)
"""What a module may declare, as values."""


class CatalogueError(Exception):
    """A plugin is declared wrongly, or cannot be loaded: the message names file and line."""


def entry_points(group: str, path: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name and value of each entry point of a group, of the packages installed on a path.

    Does what importlib.metadata.entry_points does, which takes a tenth of the time of a whole run
    to import. Source: https://packaging.python.org/en/latest/specifications/entry-points/
    """
    seen: set[str] = set()
    for folder in path:
        with suppress(OSError):
            for name in sorted(os.listdir(folder or ".")):
                stem = name.removesuffix(".egg-info").removesuffix(".dist-info")
                package = stem.partition("-")[0].lower().replace("_", "-")
                if name.endswith((".dist-info", ".egg-info")) and package not in seen:
                    seen.add(package)
                    yield from _points_in(os.path.join(folder, name, "entry_points.txt"), group)


def _points_in(file: str, group: str) -> Iterator[tuple[str, str]]:
    inside = False
    with suppress(OSError, UnicodeDecodeError), open(file, encoding="utf-8") as lines:
        for line in map(str.strip, lines):
            if line.startswith("["):
                inside = line == f"[{group}]"
            elif inside and line and not line.startswith(("#", ";")):
                name, _, value = line.partition("=")
                yield name.strip(), value.partition("[")[0].strip()


def import_plugins(name: str, value: str) -> ModuleType:
    """The module that an entry point names. Raises CatalogueError where it cannot be loaded."""
    # Our own modules do not hang: a machine that is paused while they are loaded has no broken plugin.
    is_ours = plugins.is_ours(value)
    why = "" if is_ours else plugins.trial(lambda: _import(value)[1], IMPORT_LIMIT_S)
    module = None
    if not why:
        module, why = _import(value, nullcontext() if is_ours else None)
    if module is None:
        message = f"plugin {name} ({value}) cannot be loaded: {why}"
        raise CatalogueError(message)
    return module


def _import(value: str, bounds: AbstractContextManager[None] | None = None) -> tuple[ModuleType | None, str]:
    """The module, or why there is none."""
    try:
        with bounds or plugins.guarded(IMPORT_LIMIT_S):
            return importlib.import_module(value), ""
    except BaseException as error:
        if limits.limit_of(error) is not None:
            raise
        return None, f"{_line_of(error)}{type(error).__name__}: {error}"


_BESIDE_THE_POINT = (__file__, importlib.__file__, guard.__file__)
"""Files of ours that stand in the trace of every plugin's error."""


def _line_of(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: "
    trace, where = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<frozen") and file not in _BESIDE_THE_POINT:
            where = f"{file}:{trace.tb_lineno}: "
        trace = trace.tb_next
    return where


def declared_in(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What a module declares, then what the modules declare that a package imports from within itself, by their names.

    Which of them was imported first, and so stands first in the package, is not the same in each process.
    """
    inner = f"{module.__name__}."

    def within(value: object) -> str:
        return value.__name__ if isinstance(value, ModuleType) and value.__name__.startswith(inner) else ""

    for value in sorted(vars(module).values(), key=within):
        if isinstance(value, ModuleType) and within(value):
            yield from declared_in(value)
        values = value if isinstance(value, tuple | list) else (value,)
        for each in values:
            if isinstance(each, DECLARED):
                yield module.__name__, each


def refuse(where: str, why: str) -> typing.NoReturn:
    """Refuse what is declared at a place. Raises CatalogueError."""
    message = f"{where}: {why}"
    raise CatalogueError(message)
