"""How fast the disk under a path answers, and whether anything waits for it at rest."""

from dataclasses import replace

from vdscheck.measurements import DiskActivity, DiskLatency, HostLoad
from vdscheck.plugin import (
    Absent,
    AtLeast,
    AtMost,
    Confidence,
    Distribution,
    Evidence,
    Judgement,
    Reason,
    Severity,
    Verdict,
    check,
    evidence,
    exact,
    spoken,
    unmeasured,
    with_unit,
)

READS = "O_DIRECT reads, fdatasync(2)"
SURE_UP_TO = 50_000
"""Reads per second: beyond, a single thread of ours may be what limits them."""
LEAST_TICKS = 100
"""CPU ticks in a window of which one is 1 %: with fewer a single tick could decide."""


@check("disk.read-latency", severity=Severity.MEDIUM)
def read_latency(latency: DiskLatency, load: HostLoad | Absent, p99: AtMost) -> Judgement | Absent:
    """A read from the disk is fast.

    Why: What is not in memory is waited for, by a request, one read after the other.
    False positives: The file that is read was written just before, so that the host or the controller may
        still have it in a cache: as root the whole disk is read as well, and stands beside it. A rate
        limit of the provider shows as a few very slow reads.
    By hand: fio --name=read --filename=/var/lib/fio.test --size=256m --rw=randread --bs=4k
        --ioengine=psync --direct=1 --runtime=10 --time_based; rm /var/lib/fio.test
    Sources: https://fio.readthedocs.io/en/latest/fio_doc.html; the source of the limit
    """
    if latency.read is None:
        return latency.read_absent or unmeasured(Reason.ERROR, "no read was timed")
    judged = p99.judge(
        latency.read.percentile_ms(0.99),
        f"the p99 of 4 KiB reads in {latency.folder}",
        evidence=(*_distribution("read", latency.read), *_device(latency), *_how(latency)),
    )
    return _with(judged, _cache(latency), *_circumstances(latency, latency.warm_up_reads, load))


@check("disk.fsync-latency", severity=Severity.HIGH)
def fsync_latency(latency: DiskLatency, load: HostLoad | Absent, p99: AtMost) -> Judgement:
    """A small write is safe on the disk soon.

    Why: Databases, etcd and Redis with AOF wait for fdatasync at every commit, and no cache can hide
        what it takes.
    False positives: A volume that answers before the data is safe (a write cache without a battery, an
        unsafe cache mode of the hypervisor) passes, and loses data with the power.
    By hand: fio --name=log --directory=/var/lib --size=22m --bs=2300 --rw=write --ioengine=sync
        --fdatasync=1; rm /var/lib/log.0.0
    Sources: https://etcd.io/docs/v3.5/faq/ (the p99 of wal_fsync_duration_seconds under 10 ms);
        IBM, Using Fio to Tell Whether Your Storage is Fast Enough for Etcd (2019)
    """
    judged = p99.judge(
        latency.fdatasync.percentile_ms(0.99),
        f"the p99 of fdatasync in {latency.folder}",
        evidence=(*_distribution("fdatasync", latency.fdatasync), *_how(latency)),
    )
    return _with(judged, *_circumstances(latency, latency.warm_up_syncs, load))


@check("disk.iops", severity=Severity.MEDIUM)
def iops(latency: DiskLatency, load: HostLoad | Absent, depth_32: AtLeast) -> Judgement | Absent:
    """The disk bears many reads at once.

    Why: Many requests read at the same time, and providers limit how many a second are answered.
    False positives: A limit that is part of a cheap plan: then it is what was bought.
    By hand: fio --name=iops --filename=/var/lib/fio.test --size=256m --rw=randread --bs=4k
        --ioengine=libaio --iodepth=32 --direct=1 --runtime=10 --time_based; rm /var/lib/fio.test
    Sources: https://fio.readthedocs.io/en/latest/fio_doc.html; the source of the limit
    """
    if latency.iops is None:
        return latency.read_absent or unmeasured(Reason.ERROR, "no read was counted")
    what = "4 KiB reads per second with 32 under way"
    at_depth_1 = () if latency.reads_per_s is None else (Evidence("one_by_one", latency.reads_per_s, "/s", READS),)
    proof = (*evidence(latency, "iops_method", source=READS), *at_depth_1, *_how(latency))
    judged = depth_32.judge(exact(latency.iops), what, evidence=proof)
    least = "at least " if latency.iops > SURE_UP_TO else ""
    text = f"{least}{spoken(round(latency.iops))} {what} in {latency.folder}, {depth_32.phrase()}"
    return _with(replace(judged, summary=text), *_circumstances(latency, None, load))


@check("disk.iowait", severity=Severity.MEDIUM)
def iowait(activity: DiskActivity, iowait: AtMost) -> Judgement | Absent:
    """Nothing waits for the disk while the host is at rest.

    Why: A disk that is busy before the service starts has nothing left for it.
    False positives: iowait alone lies: it is idle time of a CPU whose task waits, so that other work on
        that CPU hides it. The pressure (PSI) counts every task and stands beside it, with what each disk did.
        A backup that happens to run.
    By hand: vmstat 1 3; cat /proc/pressure/io; iostat -x 1 2
    Sources: https://docs.kernel.org/filesystems/proc.html (iowait: "not reliable"); https://docs.kernel.org/accounting/psi.html
    """
    if activity.cpu_ticks < LEAST_TICKS:
        why = (
            f"a window of {activity.window_s:.1f} s holds {activity.cpu_ticks} ticks of the CPUs, too few to tell "
            "one from many: run without --passive"
        )
        return unmeasured(Reason.TOO_FEW_SAMPLES, why)
    share = round(100 * activity.iowait_ticks / activity.cpu_ticks, 2)
    judged = iowait.judge(
        share, f"time that CPUs waited for I/O at rest, over {activity.window_s:.1f} s,", evidence=_at_rest(activity)
    )
    pressed = activity.pressure_percent is not None and activity.pressure_percent > iowait.limit
    said = f"tasks waited for I/O in {activity.pressure_percent:.0f} % of it (PSI)" if pressed else ""
    is_bad = pressed or judged.verdict is not Verdict.PASS
    judged = _with(judged, said, *(each.in_words for each in activity.devices if is_bad))
    if pressed and judged.verdict is Verdict.PASS:
        return replace(judged, confidence=Confidence.LOW)
    return judged


def _at_rest(activity: DiskActivity) -> tuple[Evidence, ...]:
    return (
        *evidence(activity, "iowait_ticks", "cpu_ticks", source="/proc/stat"),
        *evidence(activity, "pressure_percent", source="/proc/pressure/io"),
        *(Evidence("disk", each.in_words, None, "/proc/diskstats") for each in activity.devices),
    )


def _with(judged: Judgement, *notes: str) -> Judgement:
    return replace(judged, summary="; ".join((judged.summary, *filter(None, notes))))


def _distribution(name: str, found: Distribution) -> tuple[Evidence, ...]:
    typical = found.percentile_us(0.5).value
    return (
        Evidence(f"{name}_p50", round(typical, 1), "us", READS),
        Evidence(f"{name}_max", round(found.max_us, 1), "us", READS),
        Evidence(f"{name}_count", found.count, None, READS),
    )


def _device(latency: DiskLatency) -> tuple[Evidence, ...]:
    found = latency.device_read
    if found is None:
        why = "" if latency.device_absent is None else latency.device_absent.detail
        return (Evidence("device_read", f"not measured: {why}", None, READS),)
    tail = round(found.percentile_us(0.99).value, 1)
    return (Evidence("device_read_p99", tail, "us", f"{latency.device}"), *_distribution("device_read", found))


def _how(latency: DiskLatency) -> tuple[Evidence, ...]:
    names = ("file_bytes", "prepared_s", "window_s", "rounds", "warm_up_reads", "warm_up_syncs")
    return evidence(latency, *names, source=READS)


def _cache(latency: DiskLatency) -> str:
    text = "the file was just written, so it may come from the host's cache"
    if latency.device_read is None:
        return text
    tail = with_unit(latency.device_read.percentile_ms(0.99).value, "ms")
    return f"{text}: anywhere on {latency.device} the p99 is {tail}"


def _circumstances(latency: DiskLatency, warm_up: int | None, load: HostLoad | Absent) -> tuple[str, ...]:
    """What a reader must know to believe the figure."""
    elsewhere = f"on the device of {latency.stands_for}, where we may not write" if latency.stands_for else ""
    left_out = f"the first {warm_up:,} left out (warm-up)" if warm_up else ""
    return elsewhere, left_out, "" if isinstance(load, Absent) else load.in_words
