"""The whole public API of a plugin: how a check, a probe and a profile are declared."""

import inspect
from collections.abc import Callable
from typing import Any

from vdscheck.model import (
    Absent,
    ByHand,
    Confidence,
    Evidence,
    Expected,
    Judgement,
    Observed,
    Reason,
    SetSysctl,
    Severity,
    UnavailableError,
    Verdict,
    frozen,
    measurement,
    not_applicable,
    unmeasured,
)
from vdscheck.stats import Distribution, Estimate, Recorder, exact, median, paired_difference, percentile, proportion
from vdscheck.target import Host
from vdscheck.threshold import AtLeast, AtMost, OneOf, absent_judgement, spoken, with_unit
from vdscheck.units import counted

__all__ = [
    "Absent",
    "AtLeast",
    "AtMost",
    "ByHand",
    "Check",
    "Confidence",
    "Distribution",
    "Estimate",
    "Evidence",
    "Expected",
    "Host",
    "Judgement",
    "Limits",
    "Observed",
    "OneOf",
    "Probe",
    "ProfileFile",
    "Reason",
    "Recorder",
    "SetSysctl",
    "Severity",
    "SubjectError",
    "UnavailableError",
    "Verdict",
    "Window",
    "absent_judgement",
    "check",
    "counted",
    "evidence",
    "exact",
    "frozen",
    "measurement",
    "median",
    "not_applicable",
    "paired_difference",
    "percentile",
    "probe",
    "proportion",
    "spoken",
    "unmeasured",
    "with_unit",
]


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

    @property
    def where(self) -> str:
        """File and line, for messages about a probe that is declared wrongly."""
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


def probe(
    probe_id: str,
    *,
    deadline_s: float = 5.0,
    window: Window | None = None,
    alone: bool = False,
    cheap: bool = False,
    sends: bool = False,
    live: bool = False,
) -> Callable[[Callable[..., Any]], Probe]:
    """Declare a probe: `@probe("area.name")` over a function from a Host to a measurement.

    The return type says what it provides: a measurement type, alone or with `| Absent`; an
    `Iterator` of either makes a probe whose last measurement before its deadline counts, and such a
    probe states its `window`. A second parameter makes it run once for each subject of that type.
    """

    def declare(function: Callable[..., Any]) -> Probe:
        method = inspect.cleandoc(function.__doc__ or "").partition("\n")[0]
        return Probe(probe_id, function, method, deadline_s, window, alone, cheap, sends, live)

    return declare


def evidence(found: object, *names: str, source: str = "") -> tuple[Evidence, ...]:
    """Fields of a measurement as evidence; nothing of an absent one, and of fields that are None.

    The unit is read from the end of a field's name (`_bytes`, `_us`, `_ms`, `_s`, `_percent`).
    """
    if isinstance(found, Absent):
        return ()
    values = ((name, getattr(found, name)) for name in names)
    said = source or type(found).__name__
    return tuple(Evidence(name, value, _unit_of(name), said) for name, value in values if value is not None)


def _unit_of(name: str) -> str | None:
    suffix = name.rpartition("_")[2]
    return {"bytes": "B", "us": "us", "ms": "ms", "ns": "ns", "s": "s", "percent": "%"}.get(suffix)
