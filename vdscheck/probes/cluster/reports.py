"""What `vdscheck run --json` found on the nodes: from a folder, or from ConfigMaps."""

import datetime as dt
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from vdscheck.measurements import DiskLatency, DiskStack
from vdscheck.measurements.cluster import NodeReport, NodeReports
from vdscheck.plugin import (
    AMOUNT_LIMIT,
    SCHEMA_VERSION,
    Absent,
    Cluster,
    Host,
    UnavailableError,
    not_applicable,
    safe_text,
    secrets,
)
from vdscheck.probes.cluster.objects import ConfigMap
from vdscheck.probes.cluster.reading import listed
from vdscheck.probes.cluster.templates import NAME_LIMIT

NAMESPACE = "vdscheck"
"""The only namespace whose ConfigMaps are read: a right to those of all would show much that is secret."""
LABEL = "vdscheck/node-report"
FILE_LIMIT_BYTES = 16 << 20
FILE_LIMIT_S, ALL_LIMIT_S = 2.0, 8.0
"""How long one file, and all of them, may take to be read: they may lie on a file system whose server is gone."""
REFUSED_SHOWN = 20
SHOWN_LIMIT = 40


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
    return _told(found, refused)


def _from_folder(folder: str) -> NodeReports:
    host = Host()
    found: list[NodeReport] = []
    refused: list[str] = []
    files = [os.path.join(folder, name) for name in host.names(folder) if name.endswith(".json")]
    for file, content in _read_in_time(host, files):
        if isinstance(content, bytes):
            _add(file, content, found, refused)
        else:
            refused.append(content)
    return _told(found, refused)


def _read_in_time(host: Host, files: Sequence[str]) -> Iterator[tuple[str, bytes | str]]:
    """The content of each file, or why it is not there; one that never answers holds up no other for long."""
    waiting, ends_at = deque(files), time.monotonic() + ALL_LIMIT_S
    while waiting:
        answers: queue.Queue[bytes | str] = queue.Queue(maxsize=1)
        threading.Thread(target=_read_all, args=(host, tuple(waiting), answers), daemon=True).start()
        content: bytes | str | None = ""
        while waiting and content is not None:
            left_s = ends_at - time.monotonic()
            content = _answer(answers, min(FILE_LIMIT_S, left_s)) if left_s > 0 else None
            file = waiting.popleft()
            yield file, f"{safe_text(file)} does not answer" if content is None else content
        if time.monotonic() >= ends_at:
            yield from ((file, f"{safe_text(file)} was not read: others took too long") for file in waiting)
            return


def _answer(answers: "queue.Queue[bytes | str]", limit_s: float) -> bytes | str | None:
    try:
        return answers.get(timeout=limit_s)
    except queue.Empty:
        return None


def _read_all(host: Host, files: Sequence[str], answers: "queue.Queue[bytes | str]") -> None:
    for file in files:
        try:
            answers.put(host.read_bytes(file, limit_bytes=FILE_LIMIT_BYTES))
        except UnavailableError as error:
            answers.put(error.absent.detail)


def _told(found: list[NodeReport], refused: list[str]) -> NodeReports:
    shown = tuple(refused[:REFUSED_SHOWN])
    return NodeReports(reports=tuple(found), refused=shown, refused_more=len(refused) - len(shown))


def _add(source: str, content: bytes, found: list[NodeReport], refused: list[str]) -> None:
    shown = safe_text(source)[:NAME_LIMIT]
    try:
        found.append(_report(shown, content))
    except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError) as error:
        refused.append(f"{shown} is no report of a host: {secrets.without_logins(safe_text(str(error)))[:200]}")


def _report(source: str, content: bytes) -> NodeReport:
    _refuse(len(content) > FILE_LIMIT_BYTES, f"it is larger than {FILE_LIMIT_BYTES:,} bytes")
    report = msgspec.json.decode(content, type=_Report)
    version = f"schema version {report.schema_version}"[:SHOWN_LIMIT]
    _refuse(report.schema_version != SCHEMA_VERSION, f"{version}, but this version of vdscheck reads {SCHEMA_VERSION}")
    _refuse(not _begins_with_a_day(report.run.started_at), "run.started_at is not a time: the newest report counts")
    _refuse(_is_of_the_future(report.run.started_at), "run.started_at is after tomorrow: the newest report counts")
    machine_id, boot_id = report.target.machine_id or "", report.target.boot_id or ""
    named = report.target.kind == "host" and machine_id and boot_id
    _refuse(not named, "it does not say of which machine and boot it is")
    stacks = _values(report, "disk.stack", DiskStack)
    sizes = [device.size_bytes for stack in stacks for device in stack.devices]
    _refuse(any(not 0 <= each <= AMOUNT_LIMIT for each in sizes), "the size of a disk is none that a disk can have")
    latencies = _values(report, "disk.latency", DiskLatency)
    typical = [each.fdatasync.percentile_ms(0.5).value for each in latencies]
    return NodeReport(
        source=source,
        node=safe_text(report.target.name)[:NAME_LIMIT],
        machine_id=machine_id[:NAME_LIMIT],
        boot_id=boot_id[:NAME_LIMIT],
        taken_at=report.run.started_at[:NAME_LIMIT],
        stacks=tuple(stacks),
        typical_fdatasync_ms=min(typical, default=None),
    )


def _refuse(wrong: bool, why: str) -> None:  # noqa: FBT001 - what is wrong
    if wrong:
        raise ValueError(why)


def _begins_with_a_day(text: str) -> bool:
    with suppress(ValueError):
        return dt.date.fromisoformat(text[:10]).isoformat() == text[:10]
    return False


def _is_of_the_future(text: str) -> bool:
    """Clocks differ, and so do zones: a day more is no lie."""
    return dt.date.fromisoformat(text[:10]) > dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)


def _values(report: _Report, probe_id: str, kind: type[Any]) -> list[Any]:
    """The measurements of a probe, of any subject."""
    taken = (each for key, each in report.measurements.items() if key == probe_id or key.startswith(f"{probe_id}["))
    found = [msgspec.json.decode(bytes(each.value), type=kind | None) for each in taken]
    return [each for each in found if each is not None]
