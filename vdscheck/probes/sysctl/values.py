"""The kernel's settings and counters: whose kernel it is, what it is set to, and how it fares."""

import re

from vdscheck.linux import cgroups, ownership, procfs
from vdscheck.linux.mounts import Mount, covering, mounts
from vdscheck.measurements import (
    KERNEL_KEYS,
    Conntrack,
    HugePages,
    KernelOwner,
    SwapSpace,
    Sysctls,
    TcpCounters,
)
from vdscheck.measurements.sysctl import TcpBuffers
from vdscheck.plugin import (
    Absent,
    Host,
    NotFoundError,
    Reason,
    UnavailableError,
    not_applicable,
    probe,
    safe_text,
    unmeasured,
)


@probe("sysctl.owner", formerly="kernel.owner", cheap=True, deadline_s=10.0)
def owner(host: Host) -> KernelOwner:
    """Compares namespaces, uid_map, PID 2 and / with those of the machine; reads how /proc/sys is mounted."""
    found = ownership.look(host)
    if found.kernel is None:
        why = "nothing that tells whose kernel this is can be read: /proc/self/ns/pid and /proc/self/ns/user"
        raise UnavailableError(unmeasured(Reason.UNSUPPORTED if host.live else Reason.NOT_RUN, why))
    clues = [fact.clue for fact in sorted(found.facts, key=lambda fact: fact.ours)]
    clues.append(f"/proc/sys is {'not ' if found.writable else ''}mounted read-only")
    return KernelOwner(ours=found.kernel and not found.contained, writable=found.writable, clues=tuple(clues))


@probe("sysctl.values", formerly="kernel.sysctls", cheap=True, deadline_s=2.0)
def sysctls(host: Host) -> Sysctls:
    """Reads the judged keys below /proc/sys."""
    values: dict[str, str] = {}
    missing: dict[str, Absent] = {}
    nowhere: list[str] = []
    table = _mount_table(host)
    for key in KERNEL_KEYS:
        path = f"/proc/sys/{key.replace('.', '/')}"
        try:
            values[key] = " ".join(host.read(path).split())
        except NotFoundError:
            hidden = covering(table, path)
            if hidden is not None:
                missing[key] = _covered(path, hidden)
            else:
                nowhere.append(key)
        except UnavailableError as error:
            missing[key] = error.absent
    # A captured tree that holds some keys was taken from a kernel that had no others.
    had_kernel = host.live or bool(values)
    return Sysctls(
        values=values,
        missing=missing | {key: _no_such_key(key) if had_kernel else _not_running(key, host) for key in nowhere},
    )


def _mount_table(host: Host) -> tuple[Mount, ...]:
    try:
        return mounts(host)
    except UnavailableError:
        return ()


def _covered(path: str, hidden: str) -> Absent:
    return unmeasured(Reason.ERROR, f"{path} cannot be seen: {hidden}")


def _refuse_covered(host: Host, path: str) -> None:
    """That a file is not there says nothing of the kernel then."""
    hidden = covering(_mount_table(host), path)
    if hidden is not None:
        raise UnavailableError(_covered(path, hidden))


def _not_running(key: str, host: Host) -> Absent:
    why = f"only a running kernel knows {key}: {safe_text(host.root)} holds no captured /proc/sys"
    return unmeasured(Reason.NOT_RUN, why)


def _no_such_key(key: str) -> Absent:
    if key.startswith("net.netfilter."):
        return not_applicable(f"{key} does not exist: the module nf_conntrack is not loaded")
    if key.startswith("net."):
        return not_applicable(f"{key} does not exist: the kernel does not show it in this network namespace")
    return unmeasured(Reason.UNSUPPORTED, f"{key} does not exist: this kernel was built without it")


@probe("sysctl.tcp-counters", formerly="kernel.tcp-counters", cheap=True, deadline_s=2.0)
def tcp_counters(host: Host) -> TcpCounters:
    """Reads /proc/net/netstat, /proc/net/snmp and /proc/net/sockstat."""
    counters = procfs.paired(host, "/proc/net/netstat", "TcpExt") | procfs.paired(host, "/proc/net/snmp", "Tcp")
    return TcpCounters(
        listen_overflows=_counter(counters, "ListenOverflows"),
        listen_drops=_counter(counters, "ListenDrops"),
        req_q_full_do_cookies=_counter(counters, "TCPReqQFullDoCookies"),
        req_q_full_drop=_counter(counters, "TCPReqQFullDrop"),
        syncookies_sent=_counter(counters, "SyncookiesSent"),
        syncookies_failed=_counter(counters, "SyncookiesFailed"),
        time_wait=_time_wait(host.read("/proc/net/sockstat")),
        active_opens=_counter(counters, "ActiveOpens"),
    )


def _counter(counters: dict[str, int], name: str) -> int:
    if name not in counters:
        raise UnavailableError(unmeasured(Reason.UNSUPPORTED, f"this kernel does not count {name}"))
    return counters[name]


def _time_wait(text: str) -> int:
    found = re.search(r"^TCP:.*\btw ([0-9]{1,15})\b", text, re.MULTILINE | re.ASCII)
    if not found:
        raise UnavailableError(unmeasured(Reason.UNSUPPORTED, "/proc/net/sockstat does not say how many TIME_WAIT"))
    return int(found[1])


@probe("sysctl.huge-pages", formerly="kernel.hugepages", cheap=True, deadline_s=2.0)
def huge_pages(host: Host) -> HugePages:
    """Reads the chosen modes below /sys/kernel/mm/transparent_hugepage."""
    try:
        enabled = _chosen(host.read("/sys/kernel/mm/transparent_hugepage/enabled"))
    except NotFoundError as error:
        _refuse_covered(host, "/sys/kernel/mm/transparent_hugepage/enabled")
        if host.live:
            why = "this kernel is built without transparent huge pages"
            raise UnavailableError(not_applicable(why)) from error
        raise
    if enabled is None:
        raise UnavailableError(unmeasured(Reason.ERROR, "transparent_hugepage/enabled marks no mode as chosen"))
    try:
        defrag = _chosen(host.read("/sys/kernel/mm/transparent_hugepage/defrag"))
    except UnavailableError:
        defrag = None
    return HugePages(enabled=enabled, defrag=defrag)


def _chosen(text: str) -> str | None:
    found = re.search(r"\[([a-z+]+)\]", text)
    return found[1] if found else None


@probe("sysctl.conntrack-table", formerly="kernel.conntrack", cheap=True, deadline_s=2.0)
def conntrack(host: Host) -> Conntrack:
    """Reads nf_conntrack_count and nf_conntrack_max."""
    numbers = []
    for name in ("count", "max"):
        try:
            text = host.read(f"/proc/sys/net/netfilter/nf_conntrack_{name}").strip()
        except NotFoundError as error:
            _refuse_covered(host, f"/proc/sys/net/netfilter/nf_conntrack_{name}")
            if host.live:
                why = "connections are not tracked: nf_conntrack is not loaded"
                raise UnavailableError(not_applicable(why)) from error
            raise
        if not re.fullmatch("[0-9]{1,18}", text):
            raise UnavailableError(unmeasured(Reason.ERROR, f"nf_conntrack_{name} is not a number"))
        numbers.append(int(text))
    return Conntrack(count=numbers[0], maximum=numbers[1])


@probe("sysctl.swap", formerly="kernel.swap", cheap=True, deadline_s=2.0)
def swap(host: Host) -> SwapSpace:
    """Reads SwapTotal and SwapFree of /proc/meminfo, pswpin and pswpout of /proc/vmstat."""
    amounts, counters = procfs.meminfo_bytes(host), procfs.vmstat(host)
    for path, found, names in (
        ("/proc/meminfo", amounts, ("SwapTotal", "SwapFree")),
        ("/proc/vmstat", counters, ("pswpin", "pswpout")),
    ):
        lacking = next((name for name in names if name not in found), None)
        if lacking is not None:
            raise UnavailableError(unmeasured(Reason.UNSUPPORTED, f"{path} says nothing of {lacking}"))
    return SwapSpace(
        total_bytes=amounts["SwapTotal"],
        used_bytes=max(0, amounts["SwapTotal"] - amounts["SwapFree"]),
        pages_in_since_boot=counters["pswpin"],
        pages_out_since_boot=counters["pswpout"],
    )


@probe("sysctl.buffers", formerly="net.buffers", cheap=True, deadline_s=2.0)
def buffers(host: Host) -> TcpBuffers:
    """Reads net.ipv4.tcp_rmem and tcp_wmem."""
    return TcpBuffers(
        receive_max_bytes=_largest(host, "/proc/sys/net/ipv4/tcp_rmem"),
        send_max_bytes=_largest(host, "/proc/sys/net/ipv4/tcp_wmem"),
    )


def _largest(host: Host, path: str) -> int:
    words = host.read(path).split()
    found = cgroups.whole(words[2]) if len(words) == 3 else None  # noqa: PLR2004 - least, default, largest
    if found is None:
        raise UnavailableError(unmeasured(Reason.ERROR, f"{path} does not hold three numbers"))
    return found
