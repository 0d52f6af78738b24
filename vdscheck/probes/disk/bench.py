"""The disk instruments at work: three of them in turn, round after round, on files that leave nothing behind."""

import gc
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from vdscheck.measurements import DiskLatency
from vdscheck.plugin import Absent, Distribution, Host, Reason, Recorder, unmeasured
from vdscheck.probes.disk.appends import LOG_BYTES, Log
from vdscheck.probes.disk.files import TestFile, allowed_bytes, filled, made, past_the_cache
from vdscheck.probes.disk.reads import Qd32Reader, qd1_reads, qd32_reader
from vdscheck.probes.disk.subject import DiskPath
from vdscheck.probes.disk.where_to_write import TestFileLocation, may_try_elsewhere, places, refused
from vdscheck.probes.disk.whole_disk import WholeDisk, whole_disk

FILLING_SHARE = 0.2
"""Of the window, at most, to write the file that is read."""
WARM_UP_S = 0.02
"""Of each instrument, left out: the first journal commit, page tables, a drive that wakes up."""
FIRST_ROUND_S = 0.12
ROUND_S = 0.25
READ_SHARE, DEVICE_SHARE, MANY_SHARE = 0.3, 0.1, 0.2
"""Of a round; the rest is for fdatasync, which takes longest, so that its samples are the fewest."""
PLENTY = 4000
"""Reads after which the reads one by one get a third of their share, and fdatasync the rest of it."""


@dataclass
class _Bench:
    """What the instruments work on."""

    place: TestFileLocation
    log: Log
    file: TestFile
    not_direct: Absent | None
    file_bytes: int
    qd32_reader: Qd32Reader | None
    device: WholeDisk | Absent
    prepared_s: float = 0.0


@dataclass
class _Tally:
    """What they have found."""

    read: Recorder = field(default_factory=Recorder)
    device_read: Recorder = field(default_factory=Recorder)
    fdatasync: Recorder = field(default_factory=Recorder)
    reading_ns: int = 0
    many_count: int = 0
    many_ns: int = 0
    rounds: int = 0
    warm_up_reads: int = 0
    warm_up_syncs: int = 0


def measured(host: Host, disk: DiskPath) -> Iterator[DiskLatency]:
    """Ever better figures of the disk under a path. Raises UnavailableError where there can be none."""
    began = time.monotonic()
    collects = gc.isenabled()
    with ExitStack() as opened:
        try:
            bench = _prepared(host, disk, opened)
            bench.prepared_s = time.monotonic() - began
            gc.disable()
            yield from _rounds(host, disk, bench, began)
        except OSError as error:
            raise refused(disk, error) from error
        finally:
            if collects:
                gc.enable()


def _prepared(host: Host, disk: DiskPath, opened: ExitStack) -> _Bench:
    until = time.monotonic() + host.time_left_s * FILLING_SHARE
    place, file = _file(disk, opened)
    opened.callback(file.close)
    allowed = allowed_bytes(place.free_bytes)
    log_bytes = min(LOG_BYTES, allowed // 4)
    log = Log(place.descriptor, log_bytes)
    opened.callback(log.close)
    not_direct = past_the_cache(file)
    file_bytes, by = 0, None
    if not_direct is None:
        file_bytes = filled(file, allowed - log_bytes, until)
        by = qd32_reader(file.descriptor, file_bytes)
        opened.callback(by.close)
    device = whole_disk(host, disk)
    if isinstance(device, WholeDisk):
        opened.callback(device.close)
    return _Bench(place, log, file, not_direct, file_bytes, by, device)


def _file(disk: DiskPath, opened: ExitStack) -> tuple[TestFileLocation, TestFile]:
    """The first folder in which a file can be made, and that file. Raises the first OSError where none is."""
    errors: list[OSError] = []
    for place in places(disk, opened):
        try:
            return place, made(place.descriptor)
        except OSError as error:
            errors.append(error)
            if not may_try_elsewhere(error):
                break
    raise errors[0]


def _rounds(host: Host, disk: DiskPath, bench: _Bench, began: float) -> Iterator[DiskLatency]:
    tally = _Tally()
    if bench.qd32_reader is not None:
        tally.warm_up_reads = len(qd1_reads(bench.file.descriptor, bench.file_bytes, WARM_UP_S)[0])
    tally.warm_up_syncs = len(bench.log.append(WARM_UP_S))
    length_s = FIRST_ROUND_S
    while True:
        _round(disk, bench, tally, length_s)
        yield _found(bench, tally, time.monotonic() - began)
        length_s = min(ROUND_S, host.time_left_s)
        if length_s < FIRST_ROUND_S / 4:
            return


def _round(disk: DiskPath, bench: _Bench, tally: _Tally, length_s: float) -> None:
    """Every instrument for a while; the one that leaves a full queue behind comes last."""
    left_s = length_s
    if bench.qd32_reader is not None:
        share_s = length_s * READ_SHARE / (3 if len(tally.read) >= PLENTY else 1)
        took, in_all_ns = qd1_reads(bench.file.descriptor, bench.file_bytes, share_s)
        tally.read.add(took)
        tally.reading_ns += in_all_ns
        left_s -= share_s + length_s * MANY_SHARE
    if isinstance(bench.device, WholeDisk):
        share_s = length_s * DEVICE_SHARE
        try:
            tally.device_read.add(qd1_reads(bench.device.descriptor, bench.device.size_bytes, share_s)[0])
        except OSError as error:
            why = f"{bench.device.name}, the disk under {disk.shown}: {error.strerror} when it was read: see dmesg"
            bench.device = unmeasured(Reason.ERROR, why)
        left_s -= share_s
    tally.fdatasync.add(bench.log.append(left_s))
    if bench.qd32_reader is not None:
        rate = bench.qd32_reader.run(length_s * MANY_SHARE)
        tally.many_count += rate.count
        tally.many_ns += rate.took_ns
    tally.rounds += 1


def _found(bench: _Bench, tally: _Tally, window_s: float) -> DiskLatency:
    device = bench.device if isinstance(bench.device, WholeDisk) else None
    return DiskLatency(
        folder=bench.place.shown,
        stands_for=bench.place.stands_for,
        named=bench.file.named,
        file_bytes=bench.file_bytes,
        prepared_s=round(bench.prepared_s, 3),
        window_s=round(window_s, 3),
        rounds=tally.rounds,
        warm_up_reads=tally.warm_up_reads,
        warm_up_syncs=tally.warm_up_syncs,
        read=tally.read.distribution(),
        reads_per_s=round(len(tally.read) / tally.reading_ns * 1e9, 1) if tally.reading_ns else None,
        read_absent=bench.not_direct,
        fdatasync=_distribution(tally.fdatasync),
        iops=round(tally.many_count / tally.many_ns * 1e9, 1) if tally.many_ns else None,
        iops_method=None if bench.qd32_reader is None else bench.qd32_reader.method,
        device=None if device is None else device.name,
        device_read=None if device is None else tally.device_read.distribution(),
        device_absent=None if isinstance(bench.device, WholeDisk) else bench.device,
    )


def _distribution(recorder: Recorder) -> Distribution:
    found = recorder.distribution()
    assert found is not None, "a round holds at least one of each"  # noqa: S101 - for the type checker
    return found
