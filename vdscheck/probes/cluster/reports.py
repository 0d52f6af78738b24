"""What `vdscheck run --json` found on the nodes: from a folder, or from ConfigMaps."""

import os
from collections.abc import Callable
from typing import Any

import msgspec

from vdscheck.cluster import Cluster
from vdscheck.measurements import DiskLatency, DiskStack
from vdscheck.measurements.cluster import NodeReport, NodeReports
from vdscheck.model import UnavailableError
from vdscheck.plugin import Absent, Host, not_applicable
from vdscheck.probes.cluster.objects import ConfigMap
from vdscheck.probes.cluster.reading import listed
from vdscheck.probes.cluster.templates import NAME_LIMIT
from vdscheck.target import safe_text

NAMESPACE = "vdscheck"
"""The only namespace whose ConfigMaps are read: a right to those of all would show much that is secret."""
LABEL = "vdscheck/node-report"
FILE_LIMIT_BYTES = 16 << 20
REFUSED_SHOWN = 20


class _Target(msgspec.Struct):
    kind: str = ""
    name: str = ""
    machine_id: str | None = None
    boot_id: str | None = None


class _Run(msgspec.Struct):
    started_at: str = ""


class _Taken(msgspec.Struct):
    value: msgspec.Raw = msgspec.Raw(b"null")


class _Report(msgspec.Struct):
    schema_version: int
    target: _Target
    run: _Run
    measurements: dict[str, _Taken]


def read(cluster: Cluster) -> NodeReports | Absent:
    """All reports that there are."""
    if cluster.reports_folder is not None:
        return _from_folder(cluster.reports_folder)
    found: list[NodeReport] = []
    refused: list[str] = []

    def begin() -> Callable[[ConfigMap], None]:
        found.clear()
        refused.clear()

        def take(each: ConfigMap) -> None:
            for name, text in (each.data or {}).items():
                _add(f"ConfigMap {NAMESPACE}/{each.metadata.name} ({name})", text.encode(), found, refused)

        return take

    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps?labelSelector={LABEL}"
    listed(cluster, path, "configmaps", ConfigMap, begin)
    if not found and not refused:
        return not_applicable(
            "no reports of nodes: --node-reports DIR names a folder of them (vdscheck run --json on each node), "
            f"or a ConfigMap each in the namespace {NAMESPACE} with the label {LABEL}"
        )
    return NodeReports(reports=tuple(found), refused=tuple(refused[:REFUSED_SHOWN]))


def _from_folder(folder: str) -> NodeReports:
    host = Host()
    found: list[NodeReport] = []
    refused: list[str] = []
    for name in host.names(folder):
        if name.endswith(".json"):
            file = os.path.join(folder, name)
            try:
                content = host.read_bytes(file, limit_bytes=FILE_LIMIT_BYTES)
            except UnavailableError as error:
                refused.append(error.absent.detail)
                continue
            _add(file, content, found, refused)
    return NodeReports(reports=tuple(found), refused=tuple(refused[:REFUSED_SHOWN]))


def _add(source: str, content: bytes, found: list[NodeReport], refused: list[str]) -> None:
    shown = safe_text(source)[:NAME_LIMIT]
    try:
        found.append(_report(shown, content))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        refused.append(f"{shown} is no report of a host: {safe_text(str(error))[:200]}")


def _report(source: str, content: bytes) -> NodeReport:
    report = msgspec.json.decode(content, type=_Report)
    if report.target.kind != "host" or not report.target.machine_id or not report.target.boot_id:
        message = "it does not say of which machine and boot it is"
        raise ValueError(message)
    stacks = [_value(taken, DiskStack) for key, taken in report.measurements.items() if _is(key, "disk.stack")]
    latencies = [_value(taken, DiskLatency) for key, taken in report.measurements.items() if _is(key, "disk.latency")]
    typical = [each.fdatasync.percentile_ms(0.5).value for each in latencies if each is not None]
    return NodeReport(
        source=source,
        node=safe_text(report.target.name)[:NAME_LIMIT],
        machine_id=report.target.machine_id[:NAME_LIMIT],
        boot_id=report.target.boot_id[:NAME_LIMIT],
        taken_at=report.run.started_at[:NAME_LIMIT],
        stacks=tuple(each for each in stacks if each is not None),
        typical_fdatasync_ms=min(typical, default=None),
    )


def _is(key: str, probe_id: str) -> bool:
    return key == probe_id or key.startswith(f"{probe_id}[")


def _value(taken: _Taken, kind: type[Any]) -> Any:  # noqa: ANN401 - of that type
    return msgspec.json.decode(bytes(taken.value), type=kind | None)
