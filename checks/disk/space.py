"""Whether the disk that was bought is here, has room left, is what it should be, and is fast."""

from dataclasses import replace

from vdscheck.measurements import Disks, FileSystem, FileSystems, Machine
from vdscheck.plugin import (
    Absent,
    AtLeast,
    Evidence,
    Judgement,
    Severity,
    Verdict,
    check,
    evidence,
    not_applicable,
    spoken,
)

from .kind import nvme, scheduler
from .speed import fsync_latency, iops, iowait, read_latency

ELSEWHERE = (nvme, scheduler, read_latency, fsync_latency, iops, iowait)
"""The checks of this area that have a file of their own: found through this module as well."""
STATVFS = "statvfs(3)"
GB = 1e9
GIB = 2**30

_WORST_FIRST = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.WARN, Verdict.PASS)


@check("disk.contract", severity=Severity.HIGH)
def contract(
    disks: Disks | Absent, file_systems: FileSystems | Absent, machine: Machine | Absent, sold: AtLeast | Absent
) -> Judgement | Absent:
    """All disk space that was bought is here.

    Why: A missing disk is paid for every month.
    False positives: A plan in GiB (2^30 bytes) written as GB (10^9): write what the offer says. A volume
        over the network (NFS) is not counted.
    By hand: lsblk -bd -o NAME,SIZE,RM; in a container df -B1 /
    Sources: the [offer] table of the configuration
    """
    if isinstance(sold, Absent):
        return not_applicable('no [offer] in the configuration says what was bought: add disk = "80 GB", for example')
    if isinstance(machine, Machine) and machine.container is not None:
        if isinstance(file_systems, Absent):
            return file_systems
        got = sum(each.size_bytes for each in file_systems.by_mount.values())
        how, seen = "file systems of this container", _sizes(file_systems)
    elif isinstance(disks, Absent):
        return disks
    else:
        got, how, seen = disks.attached_bytes, "all fixed disks", evidence(disks, "attached_bytes", source="/sys/block")
    judged = sold.judge(got / GB, "disk space", evidence=seen)
    text = f"{spoken(got / GB)} GB are here ({how}), {spoken(sold.limit)} GB were bought"
    return replace(judged, summary=text)


def _sizes(found: FileSystems) -> tuple[Evidence, ...]:
    return tuple(Evidence(mount, each.size_bytes, "B", STATVFS) for mount, each in found.by_mount.items())


@check("disk.space", severity=Severity.HIGH)
def space(found: FileSystems, free: AtLeast, free_bytes: AtLeast, inodes: AtLeast) -> dict[str, Judgement | Absent]:
    """There is room left where services write.

    Why: A full disk stops databases, logs and package upgrades at once, and most programs do not survive it.
    False positives: A small file system that is meant to be full. One smaller than the free space wanted
        is judged by its share and its inodes alone.
    By hand: df -h / /var /home; df -i / /var /home
    Sources: house rules, each with its reason in the profile; statvfs(3); mke2fs(8), -m
    """
    return {mount: _room(each, free, free_bytes, inodes) for mount, each in found.by_mount.items()}


def _room(found: FileSystem, free: AtLeast, free_bytes: AtLeast, inodes: AtLeast) -> Judgement:
    """The worst of three judgements: the share free, the bytes free, the inodes free."""
    share = 100 * found.free_bytes / found.size_bytes if found.size_bytes else 0.0
    judged = [_said(free, share, "% of it is free")]
    if found.size_bytes / GIB >= free_bytes.limit:
        judged.append(_said(free_bytes, found.free_bytes / GIB, "GiB are free"))
    if found.inodes > 0:
        judged.append(_said(inodes, 100 * found.inodes_free / found.inodes, "% of its inodes are free"))
    worst = min(judged, key=lambda each: _WORST_FIRST.index(each.verdict))
    kind = Evidence("file_system", f"{found.type} on {found.device}", None, "/proc/self/mountinfo")
    numbers = evidence(found, "size_bytes", "free_bytes", "inodes", "inodes_free", source=STATVFS)
    return replace(worst, evidence=(kind, *numbers))


def _said(limit: AtLeast, value: float, what: str) -> Judgement:
    return replace(limit.judge(value, what), summary=f"{spoken(value)} {what}, {limit.phrase()}")
