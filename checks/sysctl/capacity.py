"""Kernel tables that can be full: tracked connections, open files, inotify watches."""

from vdscheck.measurements import BootTruth, Conntrack, FileHandles, InotifyUse, KernelOwner, Sysctls
from vdscheck.plugin import (
    Absent,
    AtLeast,
    AtMost,
    ByHand,
    Judgement,
    Reason,
    Severity,
    check,
    evidence,
    unmeasured,
)

from .key_table import Setting, proposal, setting, worst


@check("sysctl.conntrack", severity=Severity.MEDIUM)
def conntrack(
    owner: KernelOwner | Absent,
    kernel: Sysctls,
    boot: BootTruth | Absent,
    tracked: Conntrack | Absent,
    used: AtMost,
    size: AtLeast | Absent,
) -> Judgement | Absent:
    """The table of tracked connections has room.

    Why: When it is full the kernel drops the packets of new connections, and says so only in its log.
    False positives: none known
    By hand: sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max;
        journalctl -k -g 'nf_conntrack: table full'
    Sources: https://docs.kernel.org/networking/nf_conntrack-sysctl.html
    """
    found = setting("net.netfilter.nf_conntrack_max", owner, kernel, boot)
    if isinstance(found, Absent):
        return found
    share = _conntrack_share(found, tracked, used)
    if isinstance(size, Absent):
        return share
    return worst(share, found.judge(size, evidence=evidence(tracked, "count", source="nf_conntrack_count now")))


def _conntrack_share(found: Setting, tracked: Conntrack | Absent, used: AtMost) -> Judgement | Absent:
    if isinstance(tracked, Absent):
        return tracked
    if tracked.maximum <= 0:
        return unmeasured(Reason.ERROR, f"nf_conntrack_max is {tracked.maximum}")
    share = round(100 * tracked.count / tracked.maximum, 3)
    proof = evidence(tracked, "count", "maximum", source="/proc/sys/net/netfilter now")
    fix = proposal(found.rule.key, str(2 * tracked.maximum), found.text)
    return used.judge(share, "use of the table of tracked connections", evidence=proof, fix=fix)


@check("sysctl.file-handles", severity=Severity.MEDIUM)
def file_handles(
    owner: KernelOwner | Absent,
    kernel: Sysctls,
    boot: BootTruth | Absent,
    handles: FileHandles | Absent,
    used: AtMost,
    nr_open: AtLeast,
    service: AtMost | Absent,
) -> Judgement | Absent:
    """There are file handles enough.

    Why: At the limit every accept() and open() fails, since a socket is a file as well.
    False positives: PID 1 (systemd) raises fs.file-max and fs.nr_open by itself.
    By hand: cat /proc/sys/fs/file-nr; sysctl fs.nr_open; grep 'open files' /proc/PID/limits;
        ls /proc/PID/fd | wc -l
    Sources: https://docs.kernel.org/admin-guide/sysctl/fs.html (file-max, file-nr, nr_open)
    """
    most = setting("fs.nr_open", owner, kernel, boot)
    if isinstance(most, Absent) and most.kind == "not-applicable":
        return most
    ceiling = most if isinstance(most, Absent) else most.judge(nr_open)
    if isinstance(handles, Absent):
        return ceiling if handles.reason is Reason.NOT_RUN else worst(ceiling, handles)
    if handles.maximum <= 0:
        return unmeasured(Reason.ERROR, f"fs.file-max is {handles.maximum}")
    names = ("allocated", "maximum", "fullest_service", "fullest_service_open", "fullest_service_limit")
    proof = evidence(handles, *names, "lowest_service", "lowest_service_limit", source="/proc now")
    share = round(100 * handles.allocated / handles.maximum, 3)
    fix = proposal("fs.file-max", str(2 * handles.maximum), kernel.values.get("fs.file-max"))
    whole = used.judge(share, "use of all file handles (fs.file-max)", evidence=proof, fix=fix)
    return worst(whole, _fullest(handles, service, whole), ceiling)


def _fullest(handles: FileHandles, service: AtMost | Absent, otherwise: Judgement) -> Judgement | Absent:
    """The service that is nearest to its own limit, as far as any may be seen."""
    if isinstance(service, Absent) or handles.fullest_service_open is None or not handles.fullest_service_limit:
        return otherwise
    share = round(100 * handles.fullest_service_open / handles.fullest_service_limit, 3)
    name = handles.fullest_service
    fix = ByHand(
        f"raise LimitNOFILE of {name} (systemctl edit UNIT), unless it leaks files: {handles.fullest_service_open:,} "
        f"of {handles.fullest_service_limit:,} are open"
    )
    return service.judge(share, f"use by {name} of its own limit of open files", evidence=otherwise.evidence, fix=fix)


@check("sysctl.inotify", severity=Severity.MEDIUM)
def inotify(
    owner: KernelOwner | Absent,
    kernel: Sysctls,
    boot: BootTruth | Absent,
    use: InotifyUse | Absent,
    watches: AtLeast,
    instances: AtLeast,
) -> dict[str, Judgement | Absent]:
    """Programs that watch files can watch all of theirs.

    Why: Log shippers, kubelets and ingress controllers watch files, and at the limit they fail with "no
        space left on device" or "too many open files", or miss changes.
    False positives: Machines where nothing watches many files.
    By hand: sysctl fs.inotify; find /proc/*/fd -lname anon_inode:inotify 2>/dev/null | wc -l
    Sources: https://man7.org/linux/man-pages/man7/inotify.7.html
    """
    names = ("instances", "watches", "most_watches_of_a_user", "processes_unseen")
    proof = evidence(use, *names, source="/proc/PID/fdinfo now")
    found: dict[str, Judgement | Absent] = {}
    for key, limit in (("fs.inotify.max_user_watches", watches), ("fs.inotify.max_user_instances", instances)):
        value = setting(key, owner, kernel, boot)
        found[key] = value if isinstance(value, Absent) else value.judge(limit, evidence=proof)
    return found
