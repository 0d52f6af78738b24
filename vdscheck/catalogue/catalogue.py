"""Finds checks, probes and profiles through entry points, and refuses what is declared wrongly."""

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from vdscheck.catalogue.declarations import (
    CheckEntry,
    HeaderEntry,
    ProbeEntry,
    check_entry,
    header_entry,
    probe_entry,
    viewed,
)
from vdscheck.catalogue.entry_points import (
    FOR_CLUSTERS,
    GROUP,
    CatalogueError,
    declared_in,
    entry_points,
    import_plugins,
    refuse,
)
from vdscheck.model.records import frozen
from vdscheck.plugin import Check, FixKind, Header, Probe, ProfileFile, View
from vdscheck.process.plugins import OURS, is_ours
from vdscheck.target.interface import TargetKind


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

    def probes_of(self, entry: CheckEntry) -> tuple[ProbeEntry, ...]:
        """The probes whose measurements a check reads."""
        return tuple(self.by_type[each] for each in entry.measurement_types)

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


def assemble(found: Iterable[tuple[str, Any]]) -> Catalogue:
    """A catalogue of declared values, each with the name of the module that it was found in."""
    made = _Assembly()
    for module, value in {id(value): (module, value) for module, value in found}.values():
        made.take(module, value)
    made.check()
    return Catalogue(made.checks, made.probes, made.profiles, made.by_type, made.headers, made.views, made.kinds)


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
        self._where: dict[tuple[int, Any], str] = {}

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
                self._add(self.kinds, value.name, value, module)
            case ProfileFile():
                self._add(self.profiles, value.file.removesuffix(".toml"), value, module)

    def check(self) -> None:
        """See that everything that is read is provided. Raises CatalogueError."""
        for check in self.checks.values():
            _provided(self.by_type, check.measurement_types, check.check.where)
            if len({self.by_type[wanted].target for wanted in check.measurement_types}) > 1:
                refuse(check.check.where, f"{check.check.id} reads measurements of a host and of a cluster")
        for header in self.headers.values():
            _provided(self.by_type, header.kinds.values(), header.header.where)
        for kind in self.kinds.values():
            _provided(self.by_type, (*kind.deciding, *kind.beside, kind.boot), type(kind).__module__)

    def _add(self, into: dict[Any, Any], key: Any, entry: Any, where: str) -> None:  # noqa: ANN401
        if key in into:
            refuse(where, f"{key} is declared twice; first at {self._where[id(into), key]}")
        into[key] = entry
        self._where[id(into), key] = where

    def _only_one(self, entry: ProbeEntry) -> None:
        if entry.provides in self.by_type:
            other = self.by_type[entry.provides].probe
            why = f"{entry.provides.__name__} is measured by {other.id} already ({other.where})"
            refuse(entry.probe.where, why)
        self.by_type[entry.provides] = entry


def _provided(by_type: Mapping[Any, ProbeEntry], kinds: Iterable[Any], where: str) -> None:
    for wanted in kinds:
        if wanted not in by_type:
            refuse(where, f"no probe provides {getattr(wanted, '__name__', wanted)}")
