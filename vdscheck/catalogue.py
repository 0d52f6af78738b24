"""Finds checks, probes and profiles through entry points, and refuses what is declared wrongly."""

import importlib
import os
import re
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from vdscheck import guard, limits
from vdscheck.model import Absent, Judgement, frozen
from vdscheck.plugin import Check, Limits, Probe, ProfileFile
from vdscheck.target import TargetKind
from vdscheck.threshold import AtLeast, AtMost, OneOf

GROUP = "vdscheck.plugins"
HEADINGS = ("Why", "False positives", "By hand", "Sources")
OPTIONAL_HEADINGS = ("Fix", "Undo")
"""How a finding is mended by hand, where that does not hang on what was found."""
IMPORT_LIMIT_S = 5.0

FOR_CLUSTERS = "cluster-"
_ID = re.compile(r"[a-z][a-z0-9]*\.[a-z0-9]+(-[a-z0-9]+)*")
_THRESHOLDS = (AtMost, AtLeast, OneOf)


class CatalogueError(Exception):
    """A plugin is declared wrongly, or cannot be loaded: the message names file and line."""


@frozen
class Need:
    """What one parameter of a check gets."""

    name: str
    kind: Literal["measurement", "every-subject", "threshold", "limits"]
    type: Any
    bears_absence: bool


@frozen
class CheckEntry:
    """A check with its needs and the sections of its documentation."""

    check: Check
    needs: tuple[Need, ...]
    title: str
    sections: Mapping[str, str]

    @property
    def measurement_types(self) -> tuple[Any, ...]:
        """The measurement types that the check reads."""
        return tuple(need.type for need in self.needs if need.kind in ("measurement", "every-subject"))

    @property
    def required_thresholds(self) -> tuple[str, ...]:
        """The thresholds without which the check is not part of a ruleset."""
        return tuple(need.name for need in self.needs if need.kind == "threshold" and not need.bears_absence)

    def need(self, name: str) -> Need | None:
        """The need of that name that is a threshold, if there is one."""
        return next((need for need in self.needs if need.name == name and need.kind == "threshold"), None)


@frozen
class ProbeEntry:
    """A probe with what it provides and, where it measures one by one, the type of its subjects."""

    probe: Probe
    provides: Any
    subject: Any
    generates: bool
    target: TargetKind = "host"
    """What it is a probe of."""


@frozen
class Catalogue:
    """Everything that can be measured and judged, by first-party code and plugins alike."""

    checks: Mapping[str, CheckEntry]
    probes: Mapping[str, ProbeEntry]
    profiles: Mapping[str, ProfileFile]
    by_type: Mapping[Any, ProbeEntry]

    def probes_of(self, entry: CheckEntry) -> tuple[ProbeEntry, ...]:
        """The probes whose measurements a check reads."""
        return tuple(self.by_type[each] for each in entry.measurement_types)

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
            found.extend(_declared(_imported(name, value)))
    return assemble(found)


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


def assemble(found: Iterable[tuple[str, Any]]) -> Catalogue:
    """A catalogue of declared values, each with the name of the module that it was found in."""
    checks: dict[str, CheckEntry] = {}
    probes: dict[str, ProbeEntry] = {}
    profiles: dict[str, ProfileFile] = {}
    by_type: dict[Any, ProbeEntry] = {}
    for module, value in {id(value): (module, value) for module, value in found}.values():
        if isinstance(value, Check):
            _add(checks, value.id, _check_entry(value), value.where)
        elif isinstance(value, Probe):
            entry = _probe_entry(value)
            _add(probes, value.id, entry, value.where)
            _only_one(by_type, entry)
        elif isinstance(value, ProfileFile):
            _add(profiles, value.file.removesuffix(".toml"), value, module)
    for check in checks.values():
        for wanted in check.measurement_types:
            if wanted not in by_type:
                _refuse(check.check.where, f"no probe provides {getattr(wanted, '__name__', wanted)}")
        if len({by_type[wanted].target for wanted in check.measurement_types}) > 1:
            _refuse(check.check.where, f"{check.check.id} reads measurements of a host and of a cluster")
    return Catalogue(checks, probes, profiles, by_type)


def _only_one(by_type: dict[Any, ProbeEntry], entry: ProbeEntry) -> None:
    if entry.provides in by_type:
        other = by_type[entry.provides].probe
        why = f"{entry.provides.__name__} is measured by {other.id} already ({other.where})"
        _refuse(entry.probe.where, why)
    by_type[entry.provides] = entry


def _imported(name: str, value: str) -> ModuleType:
    why = "" if guard.is_ours(value) else guard.trial(lambda: _import(value)[1], IMPORT_LIMIT_S)
    module = None
    if not why:
        module, why = _import(value)
    if module is None:
        message = f"plugin {name} ({value}) cannot be loaded: {why}"
        raise CatalogueError(message)
    return module


def _import(value: str) -> tuple[ModuleType | None, str]:
    """The module, or why there is none."""
    try:
        with guard.guarded(IMPORT_LIMIT_S):
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


def _declared(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for value in list(vars(module).values()):
        values = value if isinstance(value, tuple | list) else (value,)
        for each in values:
            if isinstance(each, Check | Probe | ProfileFile):
                yield module.__name__, each


def _add(into: dict[str, Any], key: str, entry: Any, where: str) -> None:  # noqa: ANN401
    if key in into:
        other = into[key]
        first = other.check.where if isinstance(other, CheckEntry) else getattr(other, "probe", other)
        at = first.where if isinstance(first, Probe) else first
        _refuse(where, f"{key} is declared twice; first at {at}")
    into[key] = entry


def _refuse(where: str, why: str) -> typing.NoReturn:
    message = f"{where}: {why}"
    raise CatalogueError(message)


def _refuse_bad_id(name: str, where: str) -> None:
    if not _ID.fullmatch(name):
        _refuse(where, f"{name!r} is not an id: it is written area.name, in lower case, with hyphens")


def _hints(function: Any, where: str) -> dict[str, Any]:  # noqa: ANN401
    written = getattr(function, "__annotations__", {})
    if not any(_is_text(hint) for hint in written.values()):
        # To evaluate what is no text takes a tenth of the time that a run of a few checks has.
        return {name: NoneType if hint is None else hint for name, hint in written.items()}
    try:
        return typing.get_type_hints(function)
    except Exception as error:  # noqa: BLE001 - annotations are arbitrary code
        _refuse(where, f"an annotation cannot be evaluated: {error}")


def _is_text(hint: Any) -> bool:  # noqa: ANN401
    """Whether an annotation, or a part of it, is written as a text that has to be evaluated first."""
    return isinstance(hint, str | typing.ForwardRef) or any(map(_is_text, get_args(hint)))


def _without_absence(hint: Any) -> tuple[Any, bool]:  # noqa: ANN401
    if get_origin(hint) not in (Union, UnionType):
        return hint, False
    rest = tuple(each for each in get_args(hint) if each is not Absent)
    bears = len(rest) < len(get_args(hint))
    return (rest[0], bears) if len(rest) == 1 else (hint, bears)


def _is_measurement(hint: Any) -> bool:  # noqa: ANN401
    return isinstance(hint, type) and is_dataclass(hint) and hint not in _THRESHOLDS


def _need(name: str, hint: Any, where: str) -> Need:  # noqa: ANN401
    if hint is Limits:
        return Need(name, "limits", Limits, bears_absence=False)
    plain, bears = _without_absence(hint)
    if plain in _THRESHOLDS:
        return Need(name, "threshold", plain, bears)
    if get_origin(plain) is Mapping and len(get_args(plain)) == 2 and get_args(plain)[0] is str:  # noqa: PLR2004
        inner, inner_bears = _without_absence(get_args(plain)[1])
        if _is_measurement(inner) and not bears:
            return Need(name, "every-subject", inner, inner_bears)
    if _is_measurement(plain):
        return Need(name, "measurement", plain, bears)
    shown = getattr(hint, "__name__", None) or str(hint)
    _refuse(
        where,
        f"parameter {name}: {shown} is neither a measurement type, nor a threshold "
        "(AtMost, AtLeast, OneOf), nor Limits, nor Mapping[str, a measurement type]",
    )


def _check_entry(check: Check) -> CheckEntry:
    where = check.where
    _refuse_bad_id(check.id, where)
    hints = _hints(check.function, where)
    _parameters_annotated(check.function, hints, where)
    returned = hints.pop("return", NoneType)
    if not _returns_judgement(returned):
        _refuse(where, f"{check.id} returns {returned}: a check returns a Judgement, Absent, or a dict of them")
    title, sections = _documentation(check.doc, check.id, where)
    needs = tuple(_need(name, hint, where) for name, hint in hints.items())
    if not any(need.kind in ("measurement", "every-subject") for need in needs):
        _refuse(where, f"{check.id} reads no measurement")
    return CheckEntry(check, needs, title, sections)


def _parameters_annotated(function: Any, hints: Mapping[str, Any], where: str) -> None:  # noqa: ANN401
    code = function.__code__
    for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
        if name not in hints:
            _refuse(where, f"parameter {name} has no annotation: its type is what it gets")


def _returns_judgement(hint: Any) -> bool:  # noqa: ANN401
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for member in members:
        if get_origin(member) in (dict, Mapping):
            if get_args(member)[0] is not str or not _returns_judgement(get_args(member)[1]):
                return False
        elif member not in (Judgement, Absent):
            return False
    return True


def _documentation(doc: str, check_id: str, where: str) -> tuple[str, dict[str, str]]:
    title, _, rest = doc.partition("\n")
    if not title.strip():
        _refuse(where, f"{check_id} has no docstring: it is the documentation of the check")
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in rest.splitlines():
        heading, colon, text = line.partition(":")
        if colon and heading in HEADINGS + OPTIONAL_HEADINGS:
            current = sections.setdefault(heading, [])
            current.append(text.strip())
        else:
            current.append(line.strip())
    for heading in HEADINGS:
        if not "".join(sections.get(heading, ())).strip():
            _refuse(where, f"{check_id}: the docstring has no `{heading}:`")
    return title.strip().rstrip("."), {name: "\n".join(lines).strip() for name, lines in sections.items()}


def _probe_entry(probe: Probe) -> ProbeEntry:
    where = probe.where
    _refuse_bad_id(probe.id, where)
    if not probe.method:
        _refuse(where, f"{probe.id} has no docstring: its first line says how it measures")
    hints = _hints(probe.function, where)
    _parameters_annotated(probe.function, hints, where)
    returned = hints.pop("return", NoneType)
    parameters = list(hints.values())
    target = getattr(parameters[0], "target_kind", None) if parameters else None
    if target not in ("host", "cluster") or len(parameters) > 2:  # noqa: PLR2004
        _refuse(
            where, f"{probe.id}: the first parameter of a probe is a Host or a Cluster, and a second one its subject"
        )
    subject = parameters[1] if len(parameters) > 1 else None
    if subject is not None and not hasattr(subject, "chosen"):
        _refuse(where, f"{probe.id}: {subject} has no classmethod `chosen(settings)` that names the subjects")
    generates = get_origin(returned) is not None and issubclass(_class_of(returned), Iterator)
    if generates:
        returned = get_args(returned)[0]
    provides, _ = _without_absence(returned)
    if not _is_measurement(provides) or provides is Absent:
        _refuse(where, f"{probe.id} returns {returned}: a probe returns a measurement type")
    if generates is not (probe.window is not None):
        _refuse(where, f"{probe.id}: a generator states its window, and only a generator has one")
    return ProbeEntry(probe, provides, subject, generates, target)


def _class_of(hint: Any) -> type:  # noqa: ANN401
    origin = get_origin(hint)
    return origin if isinstance(origin, type) else object
