"""What is measured of the kernel: its settings, now and after the next boot, and what shows that they matter."""

from typing import Literal

from vdscheck.model.absence import Absent, Reason, not_applicable
from vdscheck.model.records import measurement

ASK = "ask who runs the host"
"""What can be done about a kernel that is another's."""
KERNEL_KEYS = (
    "fs.file-max",
    "fs.inotify.max_user_instances",
    "fs.inotify.max_user_watches",
    "fs.nr_open",
    "net.core.somaxconn",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.default.rp_filter",
    "net.ipv4.ip_forward",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_tw_reuse",
    "net.netfilter.nf_conntrack_max",
    "vm.max_map_count",
    "vm.overcommit_memory",
    "vm.swappiness",
)
"""The kernel settings that are read: those that a check judges, and those that it needs beside them."""


@measurement
class KernelOwner:
    """Whose kernel this is, by facts that root and an ordinary user see alike.

    From the inode numbers of the initial pid and user namespaces, /proc/self/uid_map, the name of PID 2
    and whether / is the root of PID 1; the mount options of /proc/sys say whether it may be written.
    """

    ours: bool
    writable: bool
    """Whether /proc/sys is mounted read-write."""
    clues: tuple[str, ...]
    """The facts that decided, each a short sentence."""


def not_ours(key: str, owner: KernelOwner | Absent, *, host_wide: bool) -> Absent | None:
    """Why a key is another's to set; None where it is ours.

    An image that is not running has no owner yet: it will be started on a kernel of its own.
    """
    if isinstance(owner, Absent):
        return None if owner.reason is Reason.NOT_RUN else owner
    if owner.ours:
        return None
    if host_wide:
        return not_applicable(f"{key} belongs to the whole kernel, which is not this machine's own: {ASK}")
    if not owner.writable:
        return not_applicable(f"{key} cannot be set from in here, where /proc/sys is read-only: {ASK}")
    return None


@measurement
class Sysctls:
    """Kernel settings now, as /proc/sys gives them."""

    values: dict[str, str]
    """Fields separated by one blank."""
    missing: dict[str, Absent]
    """The keys that could not be read: no such key on this kernel, not namespaced, no permission."""


@measurement
class LateWriter:
    """Something on disk that sets kernel settings after systemd-sysctl has run."""

    name: str
    """What it is: tuned, docker, cloud-init, a unit's name."""
    file: str
    keys: tuple[str, ...]
    """The keys that it was seen to set; empty where that cannot be read from disk."""
    values: dict[str, str]
    """What it sets them to, where that can be read."""
    enabled: bool


@measurement
class KeyAtBoot:
    """One kernel setting after the next boot."""

    value: str | None
    """None where it is not known: nobody sets it and the default is not known, or a file could not be read."""
    origin: Literal["file", "kernel-command-line", "default", "unread", "unknown"]
    where: str
    """What decides: `/etc/sysctl.d/99-x.conf:3`, `kernel command line`, the source of a default."""
    overridden: tuple[str, ...]
    """Lines that also set it and do not win, as `FILE:LINE = VALUE`."""
    procps_value: str | None
    """What procps' `sysctl --system` would leave instead, where that differs."""
    needs_module: str | None
    """The module without which the key does not exist, where it does not exist yet."""


SETS_NOTHING = "the init sets nothing at all"
"""How a problem ends that keeps the init from every line of its files."""
NOT_LOOKED_AT = "was not looked at, and is not counted"
"""How a problem ends that leaves open whether there is something."""


@measurement
class BootTruth:
    """What the kernel settings will be after the next boot, as the installed init will set them."""

    init: str
    """What applies them: `systemd-sysctl`, `procps`, or `none`."""
    keys: dict[str, KeyAtBoot]
    late_writers: tuple[LateWriter, ...]
    problems: tuple[str, ...]
    """Files that could not be read, lines that the init will refuse, as `FILE:LINE: why`."""


@measurement
class TcpCounters:
    """Counters of TCP since boot (/proc/net/netstat, /proc/net/snmp, /proc/net/sockstat)."""

    listen_overflows: int
    listen_drops: int
    req_q_full_do_cookies: int
    req_q_full_drop: int
    syncookies_sent: int
    syncookies_failed: int
    time_wait: int
    """Sockets in TIME_WAIT now."""
    active_opens: int


@measurement
class Listener:
    """A listening TCP socket, with the accept-queue limit that its service asked for and got."""

    address: str
    port: int
    backlog: int
    waiting: int
    owner: str | None
    """The process, where it may be seen."""


@measurement
class Listeners:
    """All listening TCP sockets of this network namespace, asked over netlink (sock_diag)."""

    sockets: tuple[Listener, ...]
    local_ports_in_use: int | None
    """Distinct local ports of TCP sockets in any state; None where there were too many to count in time."""


@measurement
class FileHandles:
    """Open files of the whole system (/proc/sys/fs/file-nr), and the tightest limit of a service."""

    allocated: int
    maximum: int
    lowest_service_limit: int | None
    """The lowest soft RLIMIT_NOFILE among the services; None where none may be seen."""
    lowest_service: str | None
    fullest_service: str | None
    """The service that is nearest to its own limit; None where the open files of none may be counted."""
    fullest_service_open: int | None
    fullest_service_limit: int | None


@measurement
class SwapSpace:
    """Swap now, and what came back from it since boot (/proc/meminfo, /proc/vmstat)."""

    total_bytes: int
    used_bytes: int
    pages_in_since_boot: int
    pages_out_since_boot: int


@measurement
class HugePagesAtBoot:
    """The mode of transparent huge pages after the next boot, before what is started late; and who comes late."""

    value: str | None
    """`always`, `madvise` or `never`; None where it is not known."""
    where: str
    """What decides it, or why it is not known."""
    applied: bool
    """Whether systemd-tmpfiles applies the files of tmpfiles.d when the machine boots."""
    not_applied: str | None
    """Why it does not."""
    overridden: tuple[str, ...]
    """The lines that others come after, each as `FILE:LINE = VALUE`."""
    late_writers: tuple[LateWriter, ...]

    @property
    def in_the_end(self) -> tuple[str | None, str]:
        """The mode once all have written, and what decides; None where that cannot be told, and then why."""
        writers = [each for each in self.late_writers if each.enabled]
        if not writers:
            return self.value, self.where
        last = writers[-1]
        said = {value for each in writers for value in (each.values.values() or (None,))}
        if len(said) > 1 or None in said:
            named = dict.fromkeys(f"{each.name} ({each.file})" for each in writers)
            return None, f"{', '.join(named)}: to what it is set there after each boot cannot be told"
        return said.pop(), f"{last.name} ({last.file})"


@measurement
class HugePages:
    """The mode of transparent huge pages: always, madvise or never."""

    enabled: str
    defrag: str | None


@measurement
class Conntrack:
    """Connection tracking of this network namespace."""

    count: int
    maximum: int


@measurement
class InotifyUse:
    """inotify instances and watches in use, of the processes that may be seen (/proc/PID/fdinfo)."""

    instances: int
    watches: int
    most_watches_of_a_user: int
    processes_unseen: int


@measurement
class TcpBuffers:
    """The largest buffers that a TCP connection may grow to (the third number of tcp_rmem and tcp_wmem)."""

    receive_max_bytes: int
    send_max_bytes: int


@measurement
class NodeAgents:
    """Whether this host is a Kubernetes node, by files (/var/lib/kubelet, /etc/cni) and processes (/proc/PID/comm)."""

    is_node: bool
    evidence: tuple[str, ...]
    """What shows it, each a file, a folder or a process."""
