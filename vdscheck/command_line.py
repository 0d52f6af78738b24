"""What areas and plugins add to the command line and to the configuration, as values: only the engine reads words."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from enum import Enum
from typing import Any, Literal

from vdscheck.fix_kind import FixKind
from vdscheck.model.records import frozen
from vdscheck.model.report import Report
from vdscheck.model.tables import Shown
from vdscheck.target.interface import TargetKind


class Matter(Enum):
    """What a key of the configuration is about: each has one, and from it follows who may set it, and who is told."""

    REACH = "what is examined, connected to, read or run"
    """Not in a file that is found in the current folder: that may be anybody's who brings files there."""
    MEASURING = "what is measured, and how much"
    JUDGING = "what measurements are judged by"
    GATE = "a gate"
    SHOWING = "how the report is shown"


@frozen
class Files:
    """What an option of `cluster` reads of the files that it names before anything is measured, for `Cluster.files`."""

    read: Callable[[Sequence[str], str, Callable[[], bytes]], Any]
    """A function of the names, the namespace that counts and all of standard input. Raises SubjectError."""
    checks: tuple[str, ...]
    """What is judged where nobody says `--only`."""


@frozen
class Option:
    """What a caller can say: on the command line, and under the same name in a configuration where it has a matter."""

    name: str
    """As `min-score`: a key of the configuration, and `--min-score`."""
    help: str
    takes: Literal["flag", "text", "texts", "whole", "seconds", "table"] = "text"
    """A flag is said or not; `texts` can be said again and again; a table stands in a configuration alone."""
    metavar: str | None = None
    matter: Matter | None = None
    """None where it is about one call alone, and no key of the configuration."""
    target: TargetKind | None = None
    """What it is about; None is either."""
    commands: tuple[str, ...] = ()
    """The commands of the program that take it; those of an instrument stand with the instrument."""
    short: str = ""
    """As `-q`."""
    only_short: bool = False
    off: str = ""
    """As `--online`: what says the contrary of a flag."""
    default: Any = None
    least: float | None = None
    most: float | None = None
    among: tuple[str, ...] = ()
    """The only words that it takes."""
    excludes: tuple[str, ...] = ()
    """Options that cannot be said beside it."""
    completed: Callable[[str], list[str]] | None = None
    """The values that begin so, for the completion of a shell."""
    is_place: bool = False
    """Whether it names what is connected to: what stands before the last @ of a value is a login."""
    variable: str = ""
    """The environment variable that says it where the command line does not, unseen by who lists processes."""
    limits: Callable[[Any], Mapping[str, Mapping[str, Any]]] | None = None
    """Which limits a value changes, as a configuration has them: by check id and name. Raises SubjectError."""
    files: Files | None = None

    @property
    def flag(self) -> str:
        """How it is written on the command line."""
        return self.short if self.only_short else f"--{self.name}"

    @property
    def flags(self) -> tuple[str, ...]:
        """Every way to write it there."""
        if self.takes == "table":
            return ()
        return tuple(filter(None, ("" if self.only_short else f"--{self.name}", self.short, self.off)))


@frozen
class Argument:
    """The word after a command, or all words; those of an instrument are values of an option of `run`."""

    name: str
    """For an instrument: that of the option."""
    metavar: str
    """Empty is its name."""
    help: str
    many: bool = True
    is_place: bool = False
    """As of an option."""
    completed: Callable[[str], list[str]] | None = None


AREAS = "..."
"""Stands among the options of a command for those that areas and plugins add to it."""
OF_INSTRUMENTS = (AREAS, "profile", "config", "no-config", "format", "json", "output", "fail-on", "no-color")
"""What every instrument takes, behind its own options."""


@frozen
class Command:
    """A command of the program itself: what can be said to it, in the order of its help."""

    name: str
    help: str
    options: tuple[Option | str, ...] = ()
    """Its own, and the names of those that others share."""
    argument: Argument | None = None


@frozen
class Instrument:
    """A command that measures one thing alone, live on a terminal, and judges it by the limits of a run."""

    name: str
    help: str
    checks: tuple[str, ...]
    """The checks that it decides: ids or patterns."""
    probe: str
    """The id of the probe that measures so long."""
    argument: Argument | None = None
    options: tuple[Option | str, ...] = ("duration",)
    """Its own, and by their names those of the program's that not every instrument takes: `duration`, `report`."""
    duration_s: Callable[[Mapping[str, Any]], float] | None = None
    """How long it measures, by what was said; None is as `--duration` says, or 10 s. Raises SubjectError."""
    settings: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    """What its options tell the probes, beside what the options of `run` do. Raises SubjectError."""


@frozen
class Bought:
    """A key of `[offer]`: what was bought, and the check that holds it against what is there."""

    name: str
    check: str
    """Its limit `sold`, an AtLeast, becomes what was bought."""
    unit: str
    whole: bool = False
    """Whether it is written as a whole number, without its unit."""


@frozen
class Terminal:
    """What the text of a report is drawn on."""

    width: int = 80
    colour: bool = False
    utf8: bool = True
    verbose: bool = False
    quiet: bool = False
    instrument: Callable[[Report], Shown | None] | None = None
    """Where one instrument is shown alone: what a view makes of its report, if it has one."""
    kinds: Mapping[str, FixKind] = field(default_factory=dict)
    """The kinds of fix that a plan may hold."""
    plain: bool = False
    """Whether it is text to be pasted elsewhere: nothing side by side."""

    @classmethod
    def of(cls, environment: Mapping[str, str], *, no_color: bool, verbose: bool, quiet: bool) -> "Terminal":
        """Standard output as it is: a terminal with its width and colours, or a pipe without."""
        is_terminal = os.isatty(1)
        dumb = environment.get("TERM", "dumb") == "dumb"
        plain = no_color or bool(environment.get("NO_COLOR")) or dumb or not is_terminal
        width = _columns(environment) if is_terminal else 80
        return cls(width, not plain, _utf8(environment), verbose, quiet)


def _columns(environment: Mapping[str, str]) -> int:
    """The width of the terminal: COLUMNS, where it is set to a number, or what the kernel says."""
    said = environment.get("COLUMNS", "")
    if said.isascii() and said.isdecimal() and int(said[:6]) > 0:
        return int(said[:6])
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


def _utf8(environment: Mapping[str, str]) -> bool:
    """Whether the locale says UTF-8, by the variable that counts (POSIX: LC_ALL, LC_CTYPE, LANG)."""
    names = ("LC_ALL", "LC_CTYPE", "LANG")
    locale = next((environment[name] for name in names if environment.get(name)), "")
    return "utf-8" in locale.lower() or "utf8" in locale.lower()


@frozen
class Format:
    """A form of the report: `--format NAME`, and `-o NAME=FILE`."""

    name: str
    function: Callable[[Report, Terminal], bytes]
    exit_code: Callable[[Report], int] | None = None
    """Of a report that was written to standard output so; None is as of any other: 0, or 1 where a gate does not hold.

    What went wrong meanwhile (4), and the signal that ended it, stay above it.
    """
    plans: bool = False
    """Whether it shows a plan of fixes, which is made then."""

    @property
    def where(self) -> str:
        """File and line, for messages about a format that fails."""
        code = inspect.unwrap(self.function).__code__
        return f"{code.co_filename}:{code.co_firstlineno}"
