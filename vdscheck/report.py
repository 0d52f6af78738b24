"""Builds the report: one value from which every output format is made."""

import os
from collections.abc import Sequence
from typing import TypeVar

from vdscheck.judge import Judged
from vdscheck.measurements import Identity, Machine
from vdscheck.model import (
    SCHEMA_VERSION,
    Measurements,
    Report,
    RulesetNote,
    Run,
    TargetNote,
    Tool,
)

T = TypeVar("T")


def build(
    *,
    version: str,
    run: Run,
    target: TargetNote,
    ruleset: RulesetNote,
    judged: Judged,
    measurements: Measurements,
    warnings: Sequence[str],
) -> Report:
    """The report of one run, without gates."""
    return Report(
        schema_version=SCHEMA_VERSION,
        tool=Tool("vdscheck", version),
        ruleset=ruleset,
        run=run,
        target=target,
        score=judged.score,
        gates=(),
        findings=judged.findings,
        fix=None,
        measurements=dict(measurements),
        warnings=(*warnings, *judged.warnings),
    )


def new_run_id() -> str:
    """An id for a run that no other run has."""
    return os.urandom(6).hex()


def target_note(measurements: Measurements, root: str) -> TargetNote:
    """What the report says of the host that was examined under `root`."""
    identity = _of(measurements, Identity)
    machine = _of(measurements, Machine)
    return TargetNote(
        kind="host",
        name="unnamed" if identity is None else identity.name,
        machine_id=None if identity is None else identity.machine_id,
        boot_id=None if identity is None else identity.boot_id,
        os=None if identity is None else identity.os,
        kernel=None if identity is None else identity.kernel,
        virtualization=None if machine is None else machine.container or machine.hypervisor,
        cpu_model=None if identity is None else identity.cpu_model,
        cpus=None if identity is None else identity.cpus,
        memory_bytes=None if identity is None else identity.memory_bytes,
        root=None if root == "/" else root,
    )


def _of(measurements: Measurements, kind: type[T]) -> T | None:
    return next((taken.value for taken in measurements.values() if isinstance(taken.value, kind)), None)
