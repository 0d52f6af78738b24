"""What a check and a probe declare: refused where it is declared wrongly."""

import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from vdscheck.catalogue.entry_points import refuse
from vdscheck.model.absence import Absent
from vdscheck.model.judgement import Judgement
from vdscheck.model.records import frozen
from vdscheck.plugin import Check, Facts, Header, Limits, Probe, Shown, View
from vdscheck.target.interface import TargetKind
from vdscheck.threshold import AtLeast, AtMost, OneOf

HEADINGS = ("Why", "False positives", "By hand", "Sources")
OPTIONAL_HEADINGS = ("Fix", "Undo")
"""How a finding is mended by hand, where that does not hang on what was found."""
_ID = re.compile(r"[a-z][a-z0-9]*\.[a-z0-9]+(-[a-z0-9]+)*")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_THRESHOLDS = (AtMost, AtLeast, OneOf)


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


def _refuse_bad_id(name: str, where: str) -> None:
    if not _ID.fullmatch(name):
        refuse(where, f"{name!r} is not an id: it is written area.name, in lower case, with hyphens")


def named(name: str, where: str) -> str:
    """The name of a command, an option or a format. Raises CatalogueError."""
    if not _NAME.fullmatch(name):
        refuse(where, f"{name!r} is no name: it is written in lower case, with hyphens")
    return name


def _hints(function: Any, where: str) -> dict[str, Any]:  # noqa: ANN401
    written = getattr(function, "__annotations__", {})
    if not any(_is_text(hint) for hint in written.values()):
        # To evaluate what is no text takes a tenth of the time that a run of a few checks has.
        return {name: NoneType if hint is None else hint for name, hint in written.items()}
    try:
        return typing.get_type_hints(function)
    except Exception as error:  # noqa: BLE001 - annotations are arbitrary code
        refuse(where, f"an annotation cannot be evaluated: {error}")


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
    message = (
        f"parameter {name}: {shown} is neither a measurement type, nor a threshold "
        "(AtMost, AtLeast, OneOf), nor Limits, nor Mapping[str, a measurement type]"
    )
    return refuse(where, message)


def check_entry(check: Check) -> CheckEntry:
    """What a check declares, with what it needs. Raises CatalogueError where it is declared wrongly."""
    where = check.where
    _refuse_bad_id(check.id, where)
    hints = _hints(check.function, where)
    _parameters_annotated(check.function, hints, where)
    returned = hints.pop("return", NoneType)
    if not _returns_judgement(returned):
        refuse(where, f"{check.id} returns {returned}: a check returns a Judgement, Absent, or a dict of them")
    title, sections = _documentation(check.doc, check.id, where)
    needs = tuple(_need(name, hint, where) for name, hint in hints.items())
    if not any(need.kind in ("measurement", "every-subject") for need in needs):
        refuse(where, f"{check.id} reads no measurement")
    return CheckEntry(check, needs, title, sections)


def _parameters_annotated(function: Any, hints: Mapping[str, Any], where: str) -> None:  # noqa: ANN401
    code = function.__code__
    for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
        if name not in hints:
            refuse(where, f"parameter {name} has no annotation: its type is what it gets")


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
        refuse(where, f"{check_id} has no docstring: it is the documentation of the check")
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
            refuse(where, f"{check_id}: the docstring has no `{heading}:`")
    return title.strip().rstrip("."), {name: "\n".join(lines).strip() for name, lines in sections.items()}


def probe_entry(probe: Probe) -> ProbeEntry:
    """What a probe declares: its measurement and its target. Raises CatalogueError."""
    where = probe.where
    _refuse_bad_id(probe.id, where)
    if not probe.method:
        refuse(where, f"{probe.id} has no docstring: its first line says how it measures")
    hints = _hints(probe.function, where)
    _parameters_annotated(probe.function, hints, where)
    returned = hints.pop("return", NoneType)
    parameters = list(hints.values())
    target = getattr(parameters[0], "target_kind", None) if parameters else None
    if target not in ("host", "cluster") or len(parameters) > 2:  # noqa: PLR2004
        refuse(
            where, f"{probe.id}: the first parameter of a probe is a Host or a Cluster, and a second one its subject"
        )
    subject = parameters[1] if len(parameters) > 1 else None
    if subject is not None and not hasattr(subject, "chosen"):
        refuse(where, f"{probe.id}: {subject} has no classmethod `chosen(settings)` that names the subjects")
    generates = get_origin(returned) is not None and issubclass(_class_of(returned), Iterator)
    if generates:
        returned = get_args(returned)[0]
    provides, _ = _without_absence(returned)
    if not _is_measurement(provides) or provides is Absent:
        refuse(where, f"{probe.id} returns {returned}: a probe returns a measurement type")
    if generates is not (probe.window is not None):
        refuse(where, f"{probe.id}: a generator states its window, and only a generator has one")
    return ProbeEntry(probe, provides, subject, generates, target)


@frozen
class HeaderEntry:
    """The header of a kind of target: the measurement type of each parameter, and which are measured in every run."""

    header: Header
    kinds: Mapping[str, Any]
    always: tuple[Any, ...]


def header_entry(header: Header) -> HeaderEntry:
    """What a header declares. Raises CatalogueError where it is declared wrongly."""
    hints = _hints(header.function, header.where)
    _parameters_annotated(header.function, hints, header.where)
    if hints.pop("return", NoneType) is not Facts:
        refuse(header.where, "a header returns Facts")
    kinds: dict[str, Any] = {}
    always = []
    for name, hint in hints.items():
        members = get_args(hint) if get_origin(hint) in (Union, UnionType) else ()
        kind = next((each for each in members if _is_measurement(each) and each is not Absent), None)
        if kind is None or {*members} - {kind} not in ({Absent}, {NoneType}):
            refuse(header.where, f"parameter {name}: a header takes a measurement type, `| Absent` or `| None`")
        kinds[name] = kind
        always += [kind] if Absent in members else []
    return HeaderEntry(header, kinds, tuple(always))


def viewed(view: View) -> Any:  # noqa: ANN401
    """The measurement type that a view shows. Raises CatalogueError where it is declared wrongly."""
    hints = _hints(view.function, view.where)
    _parameters_annotated(view.function, hints, view.where)
    if hints.pop("return", NoneType) is not Shown or len(hints) != 1:
        refuse(view.where, "a view takes one measurement and returns Shown")
    (kind,) = hints.values()
    if not _is_measurement(kind):
        refuse(view.where, "a view takes a measurement type")
    return kind


def _class_of(hint: Any) -> type:  # noqa: ANN401
    origin = get_origin(hint)
    return origin if isinstance(origin, type) else object
