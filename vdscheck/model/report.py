"""The report: everything that one run found."""

from collections.abc import Mapping
from typing import Any, Literal

from vdscheck.model.absence import Absent
from vdscheck.model.fixes import FixRecord
from vdscheck.model.judgement import Finding, Gate, Score
from vdscheck.model.records import frozen, named

SCHEMA_VERSION = 1


@frozen
class Taken:
    """One measurement as it was taken: when, how, how long, and the value or its absence."""

    taken_at: str
    duration_s: float
    method: str
    value: Any
    absent: Absent | None

    @property
    def outcome(self) -> Any:  # noqa: ANN401 - the type is the probe's
        """The value, or the Absent that stands for it."""
        return self.value if self.absent is None else self.absent


Measurements = Mapping[str, Taken]
"""By probe id, or probe id and subject as `redis.ping[127.0.0.1:6379]`."""


@frozen
class Tool:
    """The program that made the report."""

    name: str
    version: str


@frozen
class RulesetNote:
    """What the measurements were judged by; scores compare only within one id."""

    id: str
    profiles: tuple[str, ...]
    overrides: dict[str, Any]


@frozen
class Run:
    """When and how the report came about."""

    id: str
    started_at: str
    duration_s: float
    complete: bool
    command: tuple[str, ...]


@named
class TargetNote:
    """What was examined. None is "not known"."""

    kind: Literal["host", "cluster"]
    name: str
    machine_id: str | None
    boot_id: str | None
    os: str | None
    kernel: str | None
    virtualization: str | None
    cpu_model: str | None
    cpus: int | None
    memory_bytes: int | None
    root: str | None
    """The directory examined instead of the running host."""
    nodes: int | None = None
    """Of a cluster."""


@named
class Report:
    """Everything that one run found; every output format is a function of it."""

    schema_version: int
    tool: Tool
    ruleset: RulesetNote
    run: Run
    target: TargetNote
    score: Score
    gates: tuple[Gate, ...]
    findings: tuple[Finding, ...]
    fix: FixRecord | None
    """What `--fix` did; None where it was not asked for."""
    measurements: dict[str, Taken]
    warnings: tuple[str, ...]
