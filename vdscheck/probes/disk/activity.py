"""What the disks under a path do at rest: time spent waiting for them, requests, queues, answers."""

import time
from collections.abc import Iterator, Mapping

from vdscheck.linux import optional_files
from vdscheck.linux.block_devices import Blocks
from vdscheck.linux.cgroups import whole
from vdscheck.measurements import DeviceActivity, DiskActivity
from vdscheck.plugin import Host, Reason, UnavailableError, Window, frozen, probe, unmeasured
from vdscheck.probes.disk.stack import followed
from vdscheck.probes.disk.subject import DiskPath

_STEP_S = 0.25
_STAT_FIELDS = 8
"""user to steal; guest time is in user already (proc_stat(5))."""
_IOWAIT = 4
_COUNTERS = 11
"""Of a line in /proc/diskstats, after the name: those that every kernel since 2.6 has."""
_WRAPS = 1 << 32
"""Milliseconds are kept in 32 bits (Documentation/admin-guide/iostats.rst): busy ones wrap within weeks."""


@frozen
class Counters:
    """One disk's line of /proc/diskstats, as far as it is used."""

    reads: int
    reading_ms: int
    writes: int
    writing_ms: int
    busy_ms: int
    weighted_ms: int


@frozen
class _Look:
    """What stood in the counters at one moment."""

    at_s: float
    ticks: tuple[int, ...]
    pressure_us: int | None
    disks: Mapping[str, Counters]


@probe("disk.activity", live=True, deadline_s=3.0, window=Window(None, 1.0, 2.0, 10.0))
def activity(host: Host, disk: DiskPath) -> Iterator[DiskActivity]:
    """Differences of /proc/stat, /proc/diskstats and /proc/pressure/io over a window without any load of ours."""
    names = _names(host, disk)
    first = _look(host)
    for _ in host.looks(_STEP_S):
        yield between(first, _look(host), names)


def _names(host: Host, disk: DiskPath) -> tuple[str, ...]:
    """The whole disks under the path; none where they cannot be seen. What has no disk is not applicable."""
    try:
        return tuple(each.name for each in followed(Blocks.of(host), disk).devices)
    except UnavailableError as error:
        if error.absent.kind == "not-applicable":
            raise
        return ()


def _look(host: Host) -> _Look:
    return _Look(
        time.monotonic(),
        ticks(host.read("/proc/stat")),
        stalled_us(optional_files.text(host, "/proc/pressure/io") or ""),
        counters(optional_files.text(host, "/proc/diskstats") or ""),
    )


def ticks(text: str) -> tuple[int, ...]:
    """The first line of a /proc/stat text, from user to steal. Raises UnavailableError for anything else."""
    words = text.partition("\n")[0].split()
    found = [whole(word) for word in words[1 : _STAT_FIELDS + 1]]
    numbers = tuple(each for each in found if each is not None)
    if words[:1] != ["cpu"] or len(numbers) != len(found) or len(numbers) <= _IOWAIT:
        raise UnavailableError(unmeasured(Reason.ERROR, "/proc/stat is not what a kernel writes there"))
    return numbers


def stalled_us(text: str) -> int | None:
    """The total of the line `some` of a /proc/pressure/io text; None where there is none."""
    for line in text.split("\n"):
        kind, _, rest = line.partition(" ")
        if kind == "some":
            return whole(rest.rpartition("total=")[2].strip())
    return None


def counters(text: str) -> dict[str, Counters]:
    """The disks of a /proc/diskstats text by name; what is not a line of it is left out."""
    found: dict[str, Counters] = {}
    for line in text.split("\n"):
        words = line.split()
        numbers = [whole(word) for word in words[3 : 3 + _COUNTERS]]
        values = [each for each in numbers if each is not None]
        if len(values) == _COUNTERS:
            found[words[2]] = Counters(values[0], values[3], values[4], values[7], values[9], values[10])
    return found


def between(first: _Look, last: _Look, names: tuple[str, ...]) -> DiskActivity:
    """What happened between two looks."""
    passed_s = last.at_s - first.at_s
    spent = [max(0, after - before) for before, after in zip(first.ticks, last.ticks, strict=True)]
    pressure = None
    if first.pressure_us is not None and last.pressure_us is not None and passed_s > 0:
        pressure = min(100.0, max(0, last.pressure_us - first.pressure_us) / passed_s / 10_000)
    both = [name for name in names if name in first.disks and name in last.disks]
    return DiskActivity(
        window_s=round(passed_s, 3),
        cpu_ticks=sum(spent),
        iowait_ticks=spent[_IOWAIT],
        pressure_percent=None if pressure is None else round(pressure, 2),
        devices=tuple(_activity(name, first.disks[name], last.disks[name], passed_s) for name in both if passed_s > 0),
    )


def _activity(name: str, before: Counters, after: Counters, passed_s: float) -> DeviceActivity:
    reads, writes = max(0, after.reads - before.reads), max(0, after.writes - before.writes)
    busy_percent = _passed_ms(before.busy_ms, after.busy_ms) / passed_s / 10
    return DeviceActivity(
        name=name,
        reads_per_s=round(reads / passed_s, 1),
        writes_per_s=round(writes / passed_s, 1),
        read_await_ms=round(_passed_ms(before.reading_ms, after.reading_ms) / reads, 3) if reads else None,
        write_await_ms=round(_passed_ms(before.writing_ms, after.writing_ms) / writes, 3) if writes else None,
        queue=round(_passed_ms(before.weighted_ms, after.weighted_ms) / passed_s / 1000, 3),
        busy_percent=round(min(100.0, busy_percent), 2),
    )


def _passed_ms(before: int, after: int) -> int:
    return after - before if after >= before else max(0, after + _WRAPS - before)
