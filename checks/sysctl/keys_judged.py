"""Kernel settings: judged now or, where there is no running kernel, as they will be after the next boot."""

from dataclasses import replace

from vdscheck.measurements import (
    BootTruth,
    HugePages,
    HugePagesAtBoot,
    KernelOwner,
    Listeners,
    SwapSpace,
    Sysctls,
    TcpCounters,
    not_ours,
)
from vdscheck.plugin import (
    Absent,
    AtLeast,
    AtMost,
    Check,
    Confidence,
    Evidence,
    Judgement,
    OneOf,
    SettingFix,
    Severity,
    Verdict,
    check,
    counted,
    evidence,
    not_applicable,
    whole_number,
)

from .buffers import socket_buffers
from .capacity import conntrack, file_handles, inotify
from .key_table import Setting, beside, ports, proposal, setting, worst
from .persistence import persistence

ELSEWHERE = (conntrack, file_handles, inotify, persistence, socket_buffers)
"""The checks of this area that have a file of their own: found through this module as well."""
NETSTAT = "/proc/net/netstat since boot"
LONGEST_LIST = 200


def _one_of(check_id: str, key: str, severity: Severity, doc: str) -> Check:
    """A check of one key that must be one of a few values, with nothing else to look at."""

    @check(check_id, severity=severity, doc=doc)
    def judged(
        owner: KernelOwner | Absent, kernel: Sysctls, boot: BootTruth | Absent, mode: OneOf
    ) -> Judgement | Absent:
        found = setting(key, owner, kernel, boot)
        return found if isinstance(found, Absent) else found.judge(mode)

    return judged


# Connections that come in


@check("sysctl.somaxconn", severity=Severity.HIGH)
def somaxconn(
    owner: KernelOwner | Absent,
    kernel: Sysctls,
    boot: BootTruth | Absent,
    tcp: TcpCounters | Absent,
    listeners: Listeners | Absent,
    backlog: AtLeast,
) -> Judgement | Absent:
    """The accept queue holds a burst of connections.

    Why: When the accept queue of a listening socket is full, a new connection waits for a retransmission,
        a second or more. The kernel cuts the backlog that a service asks for to this value, when it starts.
    False positives: A machine with few clients never fills the queue: ListenOverflows stays 0.
    By hand: sysctl net.core.somaxconn; nstat -az TcpExtListenOverflows TcpExtListenDrops; ss -ltn
        (column Send-Q is the limit of each socket)
    Sources: https://docs.kernel.org/admin-guide/sysctl/net.html;
        https://man7.org/linux/man-pages/man2/listen.2.html
    """
    found = setting("net.core.somaxconn", owner, kernel, boot)
    if isinstance(found, Absent):
        return found
    overflows = 0 if isinstance(tcp, Absent) else tcp.listen_overflows
    here = f"{counted(overflows, 'connection')} found an accept queue full since boot" if overflows else ""
    proof = evidence(tcp, "listen_overflows", "listen_drops", source=NETSTAT)
    return found.judge(backlog, here, (*proof, *_held_back(found, listeners)))


def _held_back(found: Setting, listeners: Listeners | Absent) -> tuple[Evidence, ...]:
    """Sockets whose limit is somaxconn or less: they may have asked for more, and keep it until a restart."""
    value = found.value
    if isinstance(listeners, Absent) or value is None or found.after_boot:
        return ()
    held = [listener for listener in listeners.sockets if listener.backlog <= value]
    owners = sorted({f"{each.owner} ({each.backlog})" for each in held if each.owner is not None})
    said = [
        Evidence("listening_sockets", len(listeners.sockets), None, "sock_diag now"),
        Evidence("limited_to_somaxconn_or_less", len(held), None, "sock_diag now"),
        Evidence("longest_accept_queue", max((e.waiting for e in listeners.sockets), default=0), None, "sock_diag now"),
    ]
    if owners:
        said.append(Evidence("may_profit_from_a_restart", ", ".join(owners)[:LONGEST_LIST], None, "/proc/PID/fd"))
    return tuple(said)


@check("sysctl.syn-backlog", severity=Severity.MEDIUM)
def syn_backlog(
    owner: KernelOwner | Absent,
    kernel: Sysctls,
    boot: BootTruth | Absent,
    tcp: TcpCounters | Absent,
    cookies: AtLeast,
    queue: AtLeast,
) -> Judgement | Absent:
    """A flood of SYNs does not shut real clients out.

    Why: Without SYN cookies, half-open connections fill a queue and new clients are turned away. With
        cookies the queue is bounded by the listener's backlog, and tcp_max_syn_backlog is not asked.
    False positives: A machine behind something that filters SYN floods.
    By hand: sysctl net.ipv4.tcp_syncookies net.ipv4.tcp_max_syn_backlog;
        nstat -az | grep -i -e Syncookies -e ReqQFull
    Sources: https://docs.kernel.org/networking/ip-sysctl.html (tcp_syncookies, tcp_max_syn_backlog)
    """
    found = setting("net.ipv4.tcp_syncookies", owner, kernel, boot)
    if isinstance(found, Absent):
        return found
    names = ("req_q_full_do_cookies", "req_q_full_drop", "syncookies_sent", "syncookies_failed")
    proof = evidence(tcp, *names, source=NETSTAT)
    drops = 0 if isinstance(tcp, Absent) else tcp.req_q_full_drop
    here = f"{counted(drops, 'connection')} lost to a full SYN queue since boot" if drops else ""
    judged = found.judge(cookies, here, proof)
    if isinstance(judged, Absent) or found.value != 0:
        return judged
    size = setting("net.ipv4.tcp_max_syn_backlog", owner, kernel, boot)
    if isinstance(size, Absent):
        return judged
    return worst(judged, size.judge(queue, f"SYN cookies are off{'; ' if here else ''}{here}", proof))


# Connections that go out


@check("sysctl.tcp-tw-reuse", severity=Severity.MEDIUM)
def tcp_tw_reuse(
    owner: KernelOwner | Absent,
    kernel: Sysctls,
    boot: BootTruth | Absent,
    tcp: TcpCounters | Absent,
    mode: OneOf,
) -> Judgement | Absent:
    """Outgoing connections may reuse a port that is in TIME_WAIT.

    Why: A gateway that opens a connection for each request runs out of local ports, since each stays in
        TIME_WAIT for 60 s after its connection. It helps outgoing connections only, and it needs TCP
        timestamps.
    False positives: Services that keep their connections alive; those that talk to their own machine
        only, for which the default 2 is enough.
    By hand: sysctl net.ipv4.tcp_tw_reuse net.ipv4.tcp_timestamps net.ipv4.ip_local_port_range;
        ss -Htan state time-wait | wc -l
    Sources: https://docs.kernel.org/networking/ip-sysctl.html (tcp_tw_reuse, tcp_timestamps)
    """
    found = setting("net.ipv4.tcp_tw_reuse", owner, kernel, boot)
    if isinstance(found, Absent):
        return found
    stamps = beside("net.ipv4.tcp_timestamps", found, kernel, boot)
    proof = evidence(tcp, "time_wait", "active_opens", source="/proc/net/sockstat now, /proc/net/snmp since boot")
    if stamps is not None:
        proof += (Evidence("tcp_timestamps", stamps, None, "net.ipv4.tcp_timestamps"),)
    judged = found.judge(mode, _waiting(tcp, beside("net.ipv4.ip_local_port_range", found, kernel, boot)), proof)
    if stamps is None or whole_number(stamps) != 0 or isinstance(judged, Absent):
        return judged
    return _without_timestamps(judged, stamps)


def _waiting(tcp: TcpCounters | Absent, span: str | None) -> str:
    if isinstance(tcp, Absent) or not tcp.time_wait:
        return ""
    room = None if span is None else ports(span)
    return f"{tcp.time_wait:,} {'' if room is None else f'of {room:,} '}local ports in TIME_WAIT now"


def _without_timestamps(judged: Judgement, stamps: str) -> Judgement:
    said = f"{judged.summary}; without net.ipv4.tcp_timestamps it has no effect"
    if judged.verdict is not Verdict.PASS:
        return replace(judged, summary=said)
    return replace(judged, verdict=Verdict.WARN, summary=said, fix=proposal("net.ipv4.tcp_timestamps", "1", stamps))


@check("sysctl.port-range", severity=Severity.MEDIUM)
def port_range(
    owner: KernelOwner | Absent,
    kernel: Sysctls,
    boot: BootTruth | Absent,
    listeners: Listeners | Absent,
    ports: AtLeast,
) -> Judgement | Absent:
    """There are ports enough for outgoing connections.

    Why: Each outgoing connection to one destination takes a local port of its own, and keeps it for 60 s
        after it is closed.
    False positives: A machine that opens few connections.
    By hand: sysctl net.ipv4.ip_local_port_range net.ipv4.ip_local_reserved_ports; ss -Htan | wc -l
    Sources: https://docs.kernel.org/networking/ip-sysctl.html (ip_local_port_range,
        ip_local_reserved_ports)
    """
    found = setting("net.ipv4.ip_local_port_range", owner, kernel, boot)
    if isinstance(found, Absent):
        return found
    proof = evidence(listeners, "local_ports_in_use", source="sock_diag now")
    proof += (Evidence("range", found.text, None, "net.ipv4.ip_local_port_range"),)
    reserved = beside("net.ipv4.ip_local_reserved_ports", found, kernel, boot)
    if reserved:
        proof += (Evidence("reserved_ports", reserved[:LONGEST_LIST], None, "net.ipv4.ip_local_reserved_ports"),)
    used = None if isinstance(listeners, Absent) else listeners.local_ports_in_use
    return found.judge(ports, "" if used is None else f"{counted(used, 'port')} in use now", proof)


slow_start_idle = _one_of(
    "sysctl.slow-start-idle",
    "net.ipv4.tcp_slow_start_after_idle",
    Severity.LOW,
    """A connection that was idle goes on at full speed.

    Why: A kept-alive connection that was idle for one retransmission timeout starts with a small window
        again, and the first large answer on it takes several round trips.
    False positives: Services that keep no connections alive.
    By hand: sysctl net.ipv4.tcp_slow_start_after_idle
    Sources: https://docs.kernel.org/networking/ip-sysctl.html (tcp_slow_start_after_idle);
        https://www.rfc-editor.org/rfc/rfc2861
    """,
)

# Packets that pass through

ip_forward = _one_of(
    "sysctl.ip-forward",
    "net.ipv4.ip_forward",
    Severity.MEDIUM,
    """The kernel forwards packets where it has to.

    Why: Pods and containers reach others through the kernel of their node; with forwarding off they are
        cut off until something turns it on.
    False positives: A network plugin that turns it on itself, and has not been started yet.
    By hand: sysctl net.ipv4.ip_forward
    Sources: https://docs.kernel.org/networking/ip-sysctl.html (ip_forward)
    """,
)


@check("sysctl.rp-filter", severity=Severity.MEDIUM)
def rp_filter(
    owner: KernelOwner | Absent, kernel: Sysctls, boot: BootTruth | Absent, mode: OneOf
) -> Judgement | Absent:
    """Packets are checked for where they come from as this host needs it.

    Why: Strict filtering (1) drops packets that come in by another interface than answers leave by, as
        with several uplinks and in container networks; without any (0) forged addresses come through.
        What counts for an interface is the larger one of conf.all and its own, which begins as
        conf.default.
    False positives: Hosts with one interface, where 1 does no harm; firewalls that filter by themselves.
    By hand: sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.default.rp_filter;
        nstat -az TcpExtIPReversePathFilter
    Sources: https://docs.kernel.org/networking/ip-sysctl.html (rp_filter);
        https://www.rfc-editor.org/rfc/rfc3704
    """
    found = setting("net.ipv4.conf.all.rp_filter", owner, kernel, boot)
    if isinstance(found, Absent):
        return found
    fresh = beside("net.ipv4.conf.default.rp_filter", found, kernel, boot)
    begun = None if fresh is None else whole_number(fresh)
    if found.value is None or begun is None or begun <= found.value:
        return found.judge(mode)
    return _new_interfaces(found, begun, mode)


def _new_interfaces(found: Setting, begun: int, mode: OneOf) -> Judgement | Absent:
    """New interfaces begin with more than conf.all says, so conf.default is what counts for them."""
    proof = (Evidence("conf.all.rp_filter", found.text, None, found.rule.key),)
    judged = replace(found, value=begun).judge(mode, evidence=proof)
    if isinstance(judged, Absent):
        return judged
    outdone = [value for value in mode.values if isinstance(value, int) and value > begun]
    fix = proposal(found.rule.key, str(outdone[0]), found.text) if outdone else None
    said = judged.summary.replace("conf.all", "conf.default", 1)
    return replace(judged, summary=said, fix=judged.fix and fix)


# Memory


@check("sysctl.swappiness", severity=Severity.MEDIUM)
def swappiness(
    owner: KernelOwner | Absent,
    kernel: Sysctls,
    boot: BootTruth | Absent,
    swap: SwapSpace | Absent,
    swappiness: AtMost,
) -> Judgement | Absent:
    """The kernel does not swap services out to keep files cached.

    Why: A request that touches a page in swap waits for the disk. The authorities disagree on the number,
        so each profile cites its own.
    False positives: Swap in compressed memory (zram), for which large values are right.
    By hand: sysctl vm.swappiness; cat /proc/swaps; vmstat 1 5 (columns si, so)
    Sources: https://docs.kernel.org/admin-guide/sysctl/vm.html (swappiness)
    """
    found = setting("vm.swappiness", owner, kernel, boot)
    if isinstance(found, Absent):
        return found
    if isinstance(swap, SwapSpace) and swap.total_bytes == 0 and not found.after_boot:
        return not_applicable("this machine has no swap, so vm.swappiness decides nothing")
    proof = evidence(swap, "total_bytes", "used_bytes", source="/proc/meminfo now")
    proof += evidence(swap, "pages_in_since_boot", "pages_out_since_boot", source="/proc/vmstat")
    back = 0 if isinstance(swap, Absent) else swap.pages_in_since_boot
    return found.judge(swappiness, f"{counted(back, 'page')} came back from swap since boot" if back else "", proof)


overcommit = _one_of(
    "sysctl.overcommit",
    "vm.overcommit_memory",
    Severity.MEDIUM,
    """Memory is promised the way the services here need it.

    Why: Redis forks to save, and the fork needs a promise of as much memory again; PostgreSQL is safer
        where the kernel promises no more than it has.
    False positives: A host of both: the authorities contradict each other.
    By hand: sysctl vm.overcommit_memory vm.overcommit_ratio; grep -e CommitLimit -e Committed_AS /proc/meminfo
    Sources: https://docs.kernel.org/mm/overcommit-accounting.html
    """,
)


@check("sysctl.max-map-count", severity=Severity.MEDIUM)
def max_map_count(
    owner: KernelOwner | Absent, kernel: Sysctls, boot: BootTruth | Absent, maps: AtLeast
) -> Judgement | Absent:
    """A process may have memory maps enough.

    Why: A search engine or database that maps its files cannot open one more at the limit.
    False positives: Machines that run no such service.
    By hand: sysctl vm.max_map_count; wc -l /proc/PID/maps
    Sources: https://docs.kernel.org/admin-guide/sysctl/vm.html (max_map_count)
    """
    found = setting("vm.max_map_count", owner, kernel, boot)
    return found if isinstance(found, Absent) else found.judge(maps)


@check("sysctl.thp", severity=Severity.MEDIUM)
def huge_pages(
    owner: KernelOwner | Absent, pages: HugePages, boot: HugePagesAtBoot | Absent, mode: OneOf
) -> Judgement | Absent:
    """Transparent huge pages do not stall the services here, now and after the next boot.

    Why: With `always` the kernel may stop a service while it compacts memory, and after a fork it copies
        2 MiB at a time.
    False positives: Redis turns them off for itself from 6.2 on. A service that sets the mode when it starts, in a
        way that cannot be read from disk.
    By hand: cat /sys/kernel/mm/transparent_hugepage/enabled; systemd-analyze cat-config tmpfiles.d | grep hugepage
    Sources: https://docs.kernel.org/admin-guide/mm/transhuge.html
    """
    foreign = not_ours("transparent_hugepage", owner, host_wide=True)
    if foreign is not None:
        return foreign
    what = "the mode of transparent huge pages"
    proof = evidence(pages, "defrag", source="/sys/kernel/mm/transparent_hugepage")
    fix = SettingFix("huge-pages", "transparent_hugepage.enabled", str(mode.values[0]), pages.enabled)
    now = mode.judge(pages.enabled, what, evidence=proof, fix=fix)
    if isinstance(boot, Absent) or now.verdict is not Verdict.PASS:
        return now
    value, where = boot.in_the_end
    proof = (*proof, Evidence("after_boot", value or "not known", None, where))
    kept = replace(fix, value=pages.enabled)
    if value is None:
        said = f"{now.summary}; what it will be after the next boot is not known: {where}"
        return replace(now, verdict=Verdict.WARN, summary=said, evidence=proof, confidence=Confidence.LOW, fix=kept)
    then = mode.judge(value, what, evidence=proof, fix=kept)
    if then.verdict is Verdict.PASS:
        return replace(now, evidence=proof)
    return replace(then, summary=f"{what} is {pages.enabled} now and {value} after the next boot: {where}")
