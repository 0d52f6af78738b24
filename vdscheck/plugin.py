"""The whole public API of a plugin: how a check, a probe and a profile are declared, and what they are made with."""

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vdscheck.command_line import (
    AREAS,
    Argument,
    Bought,
    Command,
    Files,
    Format,
    Instrument,
    Matter,
    Option,
    Terminal,
)
from vdscheck.fix_kind import AtBoot, FixKind, Restored, Surroundings
from vdscheck.model.absence import Absent, Reason, UnavailableError, not_applicable, unmeasured
from vdscheck.model.fixes import ByHand, FixChange, LeftAlone, SettingFix
from vdscheck.model.judgement import (
    Confidence,
    Evidence,
    Expected,
    Finding,
    Gate,
    Judgement,
    Observed,
    Score,
    Severity,
    Verdict,
)
from vdscheck.model.records import AMOUNT_LIMIT, frozen, measurement
from vdscheck.model.report import SCHEMA_VERSION, Measurements, Report, Taken
from vdscheck.model.tables import Column, Row, Shown, Table
from vdscheck.stats import (
    Distribution,
    Estimate,
    Recorder,
    difference_of_proportions,
    exact,
    median,
    paired_difference,
    percentile,
    proportion,
)
from vdscheck.target import secrets
from vdscheck.target.host import Host, NotFoundError
from vdscheck.target.interface import TargetKind
from vdscheck.target.text import absolute, safe_text
from vdscheck.threshold import AtLeast, AtMost, OneOf, absent_judgement, spoken, with_unit
from vdscheck.units import counted, short_figure, spoken_seconds, whole_number

__all__ = [
    "AMOUNT_LIMIT",
    "AREAS",
    "SCHEMA_VERSION",
    "Absent",
    "Argument",
    "AtBoot",
    "AtLeast",
    "AtMost",
    "Bought",
    "ByHand",
    "Check",
    "Cluster",
    "Column",
    "Command",
    "Confidence",
    "Distribution",
    "Estimate",
    "Evidence",
    "Expected",
    "Facts",
    "Files",
    "Finding",
    "FixChange",
    "FixKind",
    "ForbiddenError",
    "Format",
    "Gate",
    "GoneError",
    "Header",
    "Host",
    "Instrument",
    "Judgement",
    "LeftAlone",
    "Limits",
    "Matter",
    "Measurements",
    "NotFoundError",
    "Observed",
    "OneOf",
    "Option",
    "Probe",
    "ProfileFile",
    "Reason",
    "Recorder",
    "Report",
    "RequestCounts",
    "Restored",
    "Row",
    "Score",
    "SettingFix",
    "Severity",
    "Shown",
    "SubjectError",
    "Surroundings",
    "Table",
    "Taken",
    "TargetKind",
    "Terminal",
    "UnavailableError",
    "Verdict",
    "View",
    "Window",
    "absent_judgement",
    "absolute",
    "check",
    "counted",
    "difference_of_proportions",
    "evidence",
    "exact",
    "frozen",
    "header",
    "measurement",
    "median",
    "not_applicable",
    "paired_difference",
    "percentile",
    "plain_yaml",
    "probe",
    "proportion",
    "safe_text",
    "secrets",
    "short_figure",
    "spoken",
    "spoken_seconds",
    "unmeasured",
    "view",
    "whole_number",
    "with_unit",
]

_LATER = {
    **dict.fromkeys(("Cluster", "ForbiddenError", "GoneError", "RequestCounts"), "vdscheck.target.cluster"),
    "plain_yaml": "vdscheck.target",
}
"""What is imported when it is asked for first: it serves clusters alone, and a run on a host does without."""
if TYPE_CHECKING:
    from vdscheck.target import plain_yaml
    from vdscheck.target.cluster import Cluster, ForbiddenError, GoneError, RequestCounts


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever has that name
    """What is imported late (PEP 562)."""
    if name not in _LATER:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    where = _LATER[name]
    return (
        importlib.import_module(f"{where}.{name}") if name.islower() else getattr(importlib.import_module(where), name)
    )


class SubjectError(ValueError):
    """What the user named cannot be a subject: one line, without secrets. Nothing is measured then."""


Judged = Judgement | Absent | dict[str, Judgement | Absent]
"""What a check may return: one judgement, or one for each of the subjects that it names itself."""


@frozen
class Limits:
    """All thresholds of the ruleset, by check id and name, for a check that judges other checks' keys."""

    by_check: dict[str, dict[str, Any]]

    def of(self, check_id: str) -> dict[str, Any]:
        """The thresholds of one check by name; empty where no chosen profile limits it."""
        return self.by_check.get(check_id, {})


@frozen
class Window:
    """How long a probe of the generator kind measures, in seconds, by the effort asked for.

    `passive_s` is None for a probe that puts a load on the host: `--passive` leaves it out.
    """

    passive_s: float | None
    quick_s: float
    default_s: float
    thorough_s: float


@frozen
class Check:
    """A pure function of measurements and thresholds, with what the catalogue says of it."""

    id: str
    severity: Severity
    function: Callable[..., Judged]
    doc: str

    @property
    def area(self) -> str:
        """The first word of the id."""
        return self.id.partition(".")[0]

    @property
    def where(self) -> str:
        """File and line, for messages about a check that is declared wrongly."""
        return _where(self.function)


@frozen
class Probe:
    """A function of a target that takes one kind of measurement."""

    id: str
    function: Callable[..., Any]
    method: str
    """How it measures, in one sentence: the first line of the function's docstring."""
    deadline_s: float
    """How long it may take beyond its window."""
    window: Window | None = None
    """For a generator of ever better measurements: how long it goes on."""
    alone: bool = False
    """Whether nothing else of ours may run beside it."""
    cheap: bool = False
    """Only reads a few files: shares a child process with others of its kind."""
    sends: bool = False
    """Whether packets leave the host: `--offline` leaves it out."""
    live: bool = False
    """Whether it makes sense on the running host only: `--root` leaves it out."""
    formerly: str | None = None
    """The id by which older reports have it."""

    @property
    def where(self) -> str:
        """File and line, for messages about a probe that is declared wrongly."""
        return _where(self.function)


@frozen
class Facts:
    """What the head of a report says of a target, as far as it was measured; None is not known."""

    name: str | None = None
    machine_id: str | None = None
    boot_id: str | None = None
    os: str | None = None
    kernel: str | None = None
    virtualization: str | None = None
    cpu_model: str | None = None
    cpus: int | None = None
    memory_bytes: int | None = None
    nodes: int | None = None
    """Of a cluster."""


@frozen
class Header:
    """A function of measurements that says what stands in the head of a report of one kind of target."""

    target: TargetKind
    function: Callable[..., Facts]

    @property
    def where(self) -> str:
        """File and line, for messages about a header that is declared wrongly."""
        return _where(self.function)


@frozen
class View:
    """A function of one measurement that says how people watch it."""

    function: Callable[..., Shown]

    @property
    def where(self) -> str:
        """File and line, for messages about a view that is declared wrongly."""
        return _where(self.function)


@frozen
class ProfileFile:
    """A profile as a TOML file inside an importable package."""

    package: str
    file: str


def _where(function: Callable[..., Any]) -> str:
    code = inspect.unwrap(function).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def check(check_id: str, *, severity: Severity, doc: str | None = None) -> Callable[[Callable[..., Judged]], Check]:
    """Declare a check: `@check("area.name", severity=Severity.HIGH)` over a pure function.

    The type of each parameter says what it gets (docs/writing-a-check.md). The docstring, or `doc`
    where a family of checks shares a function, is the check's documentation: a summary line and the
    headings Why, False positives, By hand, Sources.
    """

    def declare(function: Callable[..., Judged]) -> Check:
        text = inspect.cleandoc(doc if doc is not None else function.__doc__ or "")
        return Check(check_id, severity, function, text)

    return declare


def probe(  # noqa: PLR0913 - one a fact of a probe
    probe_id: str,
    *,
    deadline_s: float = 5.0,
    window: Window | None = None,
    alone: bool = False,
    cheap: bool = False,
    sends: bool = False,
    live: bool = False,
    formerly: str | None = None,
) -> Callable[[Callable[..., Any]], Probe]:
    """Declare a probe: `@probe("area.name")` over a function from a Host to a measurement.

    The return type says what it provides: a measurement type, alone or with `| Absent`; an
    `Iterator` of either makes a probe whose last measurement before its deadline counts, and such a
    probe states its `window`. A second parameter makes it run once for each subject of that type.
    `formerly` is the id that it had in older reports, which are read by either.
    """

    def declare(function: Callable[..., Any]) -> Probe:
        method = inspect.cleandoc(function.__doc__ or "").partition("\n")[0]
        return Probe(probe_id, function, method, deadline_s, window, alone, cheap, sends, live, formerly)

    return declare


def header(target: TargetKind) -> Callable[[Callable[..., Facts]], Header]:
    """Declare what the head of a report says: `@header("host")` over a function from measurements to Facts.

    A parameter `T | Absent` is measured in every run, whatever was selected; one that is `T | None` is
    what the run measured anyway, or None.
    """

    def declare(function: Callable[..., Facts]) -> Header:
        return Header(target, function)

    return declare


def view(function: Callable[..., Shown]) -> View:
    """Declare how people watch a measurement: `@view` over a function from the measurement to tables."""
    return View(function)


def evidence(found: object, *names: str, source: str) -> tuple[Evidence, ...]:
    """Fields of a measurement as evidence; nothing of an absent one, and of fields that are None.

    `source` is the file or the call that they are from. The unit is read from the end of a field's
    name (`_bytes`, `_us`, `_ms`, `_s`, `_percent`).
    """
    if isinstance(found, Absent):
        return ()
    values = ((name, getattr(found, name)) for name in names)
    return tuple(Evidence(name, value, _unit_of(name), source) for name, value in values if value is not None)


def _unit_of(name: str) -> str | None:
    suffix = name.rpartition("_")[2]
    return {"bytes": "B", "us": "us", "ms": "ms", "ns": "ns", "s": "s", "percent": "%"}.get(suffix)
