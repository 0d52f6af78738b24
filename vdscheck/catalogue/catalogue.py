"""Finds checks, probes and profiles through entry points, and refuses what is declared wrongly."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vdscheck.catalogue.declarations import (
    CheckEntry,
    HeaderEntry,
    ProbeEntry,
    check_entry,
    header_entry,
    named,
    probe_entry,
    viewed,
)
from vdscheck.catalogue.entry_points import (
    FOR_CLUSTERS,
    FOR_THE_COMMAND_LINE,
    GROUP,
    OF_THE_COMMAND_LINE,
    CatalogueError,
    declared_in,
    entry_points,
    import_plugins,
    refuse,
)
from vdscheck.command_line import OF_INSTRUMENTS
from vdscheck.model.records import frozen
from vdscheck.plugin import (
    AREAS,
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
from vdscheck.process.plugins import OURS, is_ours
from vdscheck.target.interface import TargetKind

OF_THE_HELP = ("--help", "-h")
SOLD = "sold"
"""The limit of a check that `[offer]` sets."""


@frozen
class Catalogue:
    """Everything that can be measured and judged, by first-party code and plugins alike."""

    checks: Mapping[str, CheckEntry]
    probes: Mapping[str, ProbeEntry]
    profiles: Mapping[str, ProfileFile]
    by_type: Mapping[Any, ProbeEntry]
    headers: Mapping[str, HeaderEntry]
    """By the kind of target."""
    views: Mapping[Any, View]
    """By the measurement type that they show."""
    kinds: Mapping[str, FixKind]
    """The kinds of fix by their names."""
    commands: Mapping[str, Command | Instrument]
    options: Mapping[str, Option]
    """What more than one command takes, and the keys of a configuration."""
    offer: Mapping[str, Bought]
    """The keys of `[offer]`."""
    formats: Mapping[str, Format]

    def probes_of(self, entry: CheckEntry) -> tuple[ProbeEntry, ...]:
        """The probes whose measurements a check reads."""
        return tuple(self.by_type[each] for each in entry.measurement_types)

    def options_of(self, name: str) -> tuple[Option, ...]:
        """Everything that can be said to a command, in the order of its help."""
        command = self.commands[name]
        found: list[Option] = []
        for each in (*command.options, *OF_INSTRUMENTS) if isinstance(command, Instrument) else command.options:
            if isinstance(each, Option):
                found.append(each)
            elif each == AREAS:
                found += (option for option in self.options.values() if name in option.commands)
            else:
                found.append(self.options[each])
        return tuple(found)

    @property
    def formerly(self) -> Mapping[str, str]:
        """The ids of today's probes by those that older reports have."""
        return {each.probe.formerly: name for name, each in self.probes.items() if each.probe.formerly is not None}

    def header_probes(self, target: TargetKind) -> tuple[ProbeEntry, ...]:
        """The probes that the head of every report of such a target needs."""
        entry = self.headers.get(target)
        return () if entry is None else tuple(self.by_type[each] for each in entry.always)

    def target_of(self, entry: CheckEntry) -> TargetKind:
        """What a check judges: a host or a cluster."""
        return self.by_type[entry.measurement_types[0]].target


def load(*, clusters: bool = True) -> Catalogue:
    """The catalogue of everything installed in this environment.

    Entry points whose name begins with `cluster-` serve clusters alone; a run on a host does without
    them, and saves their import. Raises CatalogueError for what cannot be loaded or is declared wrongly.
    """
    if sys.flags.optimize > 1:
        message = (
            "python -OO (PYTHONOPTIMIZE=2) takes away the docstrings that checks and probes are documented by: "
            "run vdscheck without it"
        )
        raise CatalogueError(message)
    found: list[tuple[str, Any]] = []
    for name, value in sorted(entry_points(GROUP, sys.path), key=lambda point: (point[1], point[0])):
        if clusters or not name.startswith(FOR_CLUSTERS):
            found.extend(declared_in(import_plugins(name, value)))
    _refuse_checks_of_elsewhere()
    return assemble(found)


def load_command_line(*, plugins: bool) -> tuple[Catalogue, tuple[str, ...]]:
    """The commands, options, keys of `[offer]` and formats alone, and what is to be said of broken plugins.

    Without plugins it takes as little time as can be: every start needs it.
    """
    points = sorted(entry_points(GROUP, sys.path), key=lambda point: (point[1], point[0]))
    found = [
        each
        for name, value in points
        if name.startswith(FOR_THE_COMMAND_LINE) and is_ours(value)
        for each in declared_in(import_plugins(name, value))
    ]
    said = []
    for name, value in points if plugins else ():
        if not is_ours(value):
            try:
                more = [*found, *_of_the_command_line(name, value)]
                assemble(more, whole=False)
            except CatalogueError as error:
                said.append(f"passed over: {error}")
            else:
                found = more
    made = assemble(found, whole=False)
    if not made.commands:
        message = "the entry points of vdscheck itself are not those of this version: install it again"
        raise CatalogueError(message)
    return made, tuple(said)


def _of_the_command_line(name: str, value: str) -> Iterator[tuple[str, Any]]:
    return (each for each in declared_in(import_plugins(name, value)) if isinstance(each[1], OF_THE_COMMAND_LINE))


def _refuse_checks_of_elsewhere() -> None:
    """Refuse first-party checks of another checkout or installation than the program's own. Raises CatalogueError."""
    places = [
        os.path.dirname(os.path.realpath(sys.modules[name].__file__ or "")) for name in OURS if name in sys.modules
    ]
    if len({os.path.dirname(place) for place in places}) > 1:
        message = f"{' and '.join(places)} are not of one installation: install vdscheck anew, and look at PYTHONPATH"
        raise CatalogueError(message)


def load_what_can_be(*, clusters: bool = True) -> tuple[Catalogue, tuple[str, ...]]:
    """The catalogue without the plugins that are broken, and what is to be said of each of those.

    For what has to work whatever else is installed, such as `undo`.
    """
    try:
        return load(clusters=clusters), ()
    except CatalogueError as error:
        if sys.flags.optimize > 1:
            raise
        first = str(error)
    points = [point for point in entry_points(GROUP, sys.path) if clusters or not point[0].startswith(FOR_CLUSTERS)]
    ours, others = ([each for each in points if is_ours(each[1]) is wanted] for wanted in (True, False))
    found = [each for name, value in ours for each in declared_in(import_plugins(name, value))]
    said = []
    for name, value in sorted(others, key=lambda point: (point[1], point[0])):
        try:
            more = [*found, *declared_in(import_plugins(name, value))]
            assemble(more)
        except CatalogueError as error:
            said.append(f"passed over: {error}")
        else:
            found = more
    return assemble(found), tuple(said) or (f"passed over: {first}",)


def assemble(found: Iterable[tuple[str, Any]], *, whole: bool = True) -> Catalogue:
    """A catalogue of declared values, each with the name of the module that it was found in.

    Where it is not the whole of it what one value needs of another need not be there.
    """
    made = _Assembly()
    for module, value in {id(value): (module, value) for module, value in found}.values():
        made.take(module, value)
    catalogue = made.catalogue()
    made.check_command_line(catalogue)
    if whole:
        made.check()
    return catalogue


class _Assembly:
    """What was found so far; each may be declared once."""

    def __init__(self) -> None:
        self.checks: dict[str, CheckEntry] = {}
        self.probes: dict[str, ProbeEntry] = {}
        self.profiles: dict[str, ProfileFile] = {}
        self.by_type: dict[Any, ProbeEntry] = {}
        self.headers: dict[str, HeaderEntry] = {}
        self.views: dict[Any, View] = {}
        self.kinds: dict[str, FixKind] = {}
        self.commands: dict[str, Command | Instrument] = {}
        self.options: dict[str, Option] = {}
        self.offer: dict[str, Bought] = {}
        self.formats: dict[str, Format] = {}
        self._where: dict[tuple[int, Any], str] = {}

    def catalogue(self) -> Catalogue:
        """All of it."""
        return Catalogue(
            checks=self.checks,
            probes=self.probes,
            profiles=self.profiles,
            by_type=self.by_type,
            headers=self.headers,
            views=self.views,
            kinds=self.kinds,
            commands=self.commands,
            options=self.options,
            offer=self.offer,
            formats=self.formats,
        )

    def take(self, module: str, value: Any) -> None:  # noqa: ANN401 - whatever was declared
        """Put a declared value where it belongs. Raises CatalogueError."""
        match value:
            case Check():
                self._add(self.checks, value.id, check_entry(value), value.where)
            case Probe():
                entry = probe_entry(value)
                self._add(self.probes, value.id, entry, value.where)
                self._only_one(entry)
            case Header():
                self._add(self.headers, value.target, header_entry(value), value.where)
            case View():
                self._add(self.views, viewed(value), value, value.where)
            case FixKind():
                self._add(self.kinds, value.name, value, _file_of(module))
            case ProfileFile():
                self._add(self.profiles, value.file.removesuffix(".toml"), value, _file_of(module))
            case Command() | Instrument() | Option() | Bought() | Format():
                self._take_named(_file_of(module), value)

    def _take_named(self, file: str, value: Command | Instrument | Option | Bought | Format) -> None:
        into: dict[str, Any]
        match value:
            case Command() | Instrument():
                into, what = self.commands, "command"
            case Option():
                into, what = self.options, "option"
            case Bought():
                into, what = self.offer, "[offer]"
            case Format():
                into, what = self.formats, "format"
        self._add(into, named(value.name, file), value, file, f"{what} ")

    def check(self) -> None:
        """See that everything that is read is provided. Raises CatalogueError."""
        for check in self.checks.values():
            _provided(self.by_type, check.measurement_types, check.check.where)
            if len({self.by_type[wanted].target for wanted in check.measurement_types}) > 1:
                refuse(check.check.where, f"{check.check.id} reads measurements of a host and of a cluster")
        for header in self.headers.values():
            _provided(self.by_type, header.kinds.values(), header.header.where)
        for kind in self.kinds.values():
            _provided(self.by_type, (*kind.deciding, *kind.beside, kind.boot), _file_of(type(kind).__module__))
        for bought in self.offer.values():
            judged = self.checks.get(bought.check)
            if judged is None or judged.need(SOLD) is None:
                refuse(self._place(self.offer, bought.name), f"no check {bought.check} has a limit `{SOLD}`")
        for command in self.commands.values():
            if isinstance(command, Instrument) and command.probe not in self.probes:
                refuse(self._place(self.commands, command.name), f"there is no probe {command.probe}")

    def check_command_line(self, catalogue: Catalogue) -> None:
        """See that every command can be told all that is said to it. Raises CatalogueError."""
        for name, command in self.commands.items():
            of_instruments = OF_INSTRUMENTS if isinstance(command, Instrument) else ()
            for each in (*command.options, *of_instruments):
                if isinstance(each, str) and each not in {*self.options, AREAS}:
                    refuse(self._place(self.commands, name), f"there is no option {each}")
        for option in self.options.values():
            for name in option.commands:
                if name not in self.commands or option not in catalogue.options_of(name):
                    why = f"option {option.name}: there is no command {name} that takes options of others"
                    refuse(self._place(self.options, option.name), why)
        for name, command in self.commands.items():
            options = catalogue.options_of(name)
            self._refuse_one_flag_for_two(name, options)
            if command.argument is not None and command.argument.name in {each.name for each in options}:
                why = f"{command.argument.name} is the argument of {name}, and an option of it"
                refuse(self._place(self.commands, name), why)

    def _refuse_one_flag_for_two(self, command: str, options: Iterable[Option]) -> None:
        taken: dict[str, Option] = {}
        for option in options:
            for flag in option.flags:
                if flag in OF_THE_HELP:
                    refuse(self._place_of_option(option, command), f"option {flag} is that of the help")
                if flag in taken:
                    later, first = (self._place_of_option(each, command) for each in (option, taken[flag]))
                    refuse(later, f"option {flag} of {command} is declared twice; first at {first}")
                taken[flag] = option

    def _place_of_option(self, option: Option, command: str) -> str:
        """Where an option was declared: by itself, or with its command."""
        if self.options.get(option.name) is option:
            return self._place(self.options, option.name)
        return self._place(self.commands, command)

    def _place(self, of: Mapping[str, Any], key: str) -> str:
        return self._where[id(of), key]

    def _add(self, into: dict[Any, Any], key: Any, entry: Any, where: str, what: str = "") -> None:  # noqa: ANN401
        if key in into:
            refuse(where, f"{what}{key} is declared twice; first at {self._where[id(into), key]}")
        into[key] = entry
        self._where[id(into), key] = where

    def _only_one(self, entry: ProbeEntry) -> None:
        if entry.provides in self.by_type:
            other = self.by_type[entry.provides].probe
            why = f"{entry.provides.__name__} is measured by {other.id} already ({other.where})"
            refuse(entry.probe.where, why)
        self.by_type[entry.provides] = entry


def _file_of(module: str) -> str:
    """The file of a module, for messages about what has no line of its own."""
    return getattr(sys.modules.get(module), "__file__", None) or module


def _provided(by_type: Mapping[Any, ProbeEntry], kinds: Iterable[Any], where: str) -> None:
    for wanted in kinds:
        if wanted not in by_type:
            refuse(where, f"no probe provides {getattr(wanted, '__name__', wanted)}")
