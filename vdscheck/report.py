"""Builds the report: one value from which every output format is made."""

import os
from collections.abc import Sequence
from typing import TypeVar

from vdscheck.judge import Judged, score
from vdscheck.measurements import Identity, Machine
from vdscheck.model import (
    AMOUNT_LIMIT,
    SCHEMA_VERSION,
    Measurements,
    Report,
    RulesetNote,
    Run,
    TargetNote,
    Tool,
)
from vdscheck.target import TargetKind

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


def of_nothing(version: str, run: Run, kind: TargetKind, why: str) -> Report:
    """The report of a run that ended before anything was examined."""
    return build(
        version=version,
        run=run,
        target=target_note({}, "/") if kind == "host" else cluster_note({}, "unnamed"),
        ruleset=RulesetNote("none", (), {}),
        judged=Judged((), score(()), (), ()),
        measurements={},
        warnings=(why,),
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


def cluster_note(measurements: Measurements, name: str) -> TargetNote:
    """What the report says of the cluster that was examined."""
    from vdscheck.measurements.cluster import ClusterNodes, ClusterServer

    server, nodes = _of(measurements, ClusterServer), _of(measurements, ClusterNodes)
    amounts = [] if nodes is None else [node.allocatable for node in nodes.nodes]
    version = "" if server is None else server.version
    return TargetNote(
        kind="cluster",
        name=name,
        machine_id=None,
        boot_id=None,
        os=f"Kubernetes {version.removeprefix('v')}" if version else None,
        kernel=None,
        virtualization=None,
        cpu_model=None,
        cpus=sum(each.cpu_millicores or 0 for each in amounts) // 1000 if amounts else None,
        memory_bytes=min(AMOUNT_LIMIT, sum(each.memory_bytes or 0 for each in amounts)) if amounts else None,
        root=None,
        nodes=None if nodes is None else len(nodes.nodes),
    )


def _of(measurements: Measurements, kind: type[T]) -> T | None:
    return next((taken.value for taken in measurements.values() if isinstance(taken.value, kind)), None)
