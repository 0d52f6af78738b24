"""Every first-party measurement type: what the probes provide, the checks judge, the report stores."""

from typing import Literal

from vdscheck.model import Absent, measurement

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

    From the mount options of /proc/sys in /proc/self/mountinfo, the name of PID 2, /proc/self/uid_map
    and the inode numbers of the initial pid and user namespaces.
    """

    ours: bool
    writable: bool
    """Whether /proc/sys is mounted read-write."""
    clues: tuple[str, ...]
    """The facts that decided, each a short sentence."""


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
    """None where nobody sets it and the kernel's default is not known."""
    origin: Literal["file", "kernel-command-line", "default", "unknown"]
    where: str
    """What decides: `/etc/sysctl.d/99-x.conf:3`, `kernel command line`, the source of a default."""
    overridden: tuple[str, ...]
    """Lines that also set it and do not win, as `FILE:LINE = VALUE`."""
    procps_value: str | None
    """What procps' `sysctl --system` would leave instead, where that differs."""
    needs_module: str | None
    """The module without which the key does not exist, where it does not exist yet."""


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


UNNAMED_CONTAINER = "container"
"""That it is one is known for sure, and nothing tells of which kind."""


@measurement
class Machine:
    """What kind of machine this is: two answers, since a container may run inside a VM."""

    hypervisor: str | None
    """kvm, xen, xen-pv (no hardware virtualisation), vmware, hyper-v, ...; `none` is bare metal; `qemu`
    is QEMU where nothing says whether with KVM or in full emulation; None is not known."""
    emulated: bool
    """Full emulation (QEMU's TCG): every instruction is interpreted or translated."""
    container: str | None
    """docker, lxc, openvz, ..., UNNAMED_CONTAINER; None is not in a container."""
    sure: bool
    """Whether a fact decided, not only clues."""
    clues: tuple[str, ...]
    """Each as `SOURCE: what it says`."""

    @property
    def container_in_words(self) -> str | None:
        """`this docker container`, or `this container` where its kind is not known."""
        if self.container is None:
            return None
        return "this container" if self.container == UNNAMED_CONTAINER else f"this {self.container} container"


DriverKind = Literal["paravirtual", "nvme", "passthrough", "emulated", "unknown"]


@measurement
class Nic:
    """A network interface that packets really leave by."""

    name: str
    driver: str | None
    kind: DriverKind
    rx_queues: int
    tx_queues: int
    more_queues: bool | None
    """Whether the card can have more than one of each; None is not known."""
    up: bool


@measurement
class Nics:
    """Network interfaces in use, with bridges, bonds and veth resolved to what lies under them."""

    nics: tuple[Nic, ...]


@measurement
class SoftNet:
    """Packets that the kernel dropped or put off for want of CPU, all CPUs (/proc/net/softnet_stat)."""

    dropped: int
    squeezed: int


@measurement
class Disk:
    """A whole disk that holds something in use."""

    name: str
    driver: str | None
    kind: DriverKind
    model: str | None
    size_bytes: int


@measurement
class Disks:
    """Disks in use, with partitions, dm, md and loop resolved to what lies under them."""

    disks: tuple[Disk, ...]
    attached_bytes: int
    """All whole fixed disks together, whether in use or not."""


@measurement
class ClockSource:
    """The clock source of the kernel, and what reading the clock costs."""

    current: str
    available: tuple[str, ...]
    read_ns: float | None
    """Median cost of one clock_gettime; None where there is no running kernel to ask."""


@measurement
class Cpu:
    """The processors as the machine shows them."""

    model: str
    architecture: str
    online: int
    flags: tuple[str, ...]
    """Only those that are judged or shown."""
    level: str | None
    """The highest x86-64 level, `x86-64-v1` to `x86-64-v4`; None on another architecture."""
    quota: float | None
    """CPUs that the cgroup allows at most; None without a limit."""


@measurement
class Memory:
    """Memory as the kernel counts it."""

    total_bytes: int
    """Without what firmware and the kernel itself keep."""
    available_bytes: int
    installed_bytes: int | None
    """What the machine has in all, from the memory blocks in /sys; None where it does not say."""
    ballooned_bytes: int | None
    """Taken away by a balloon driver now; None where there is none, or it does not say."""
    balloon_driver: str | None
    limit_bytes: int | None
    """What the cgroup allows at most, where that is not more than all; None without such a limit."""
    limit_used_bytes: int | None
    """Used of that limit, less the page cache that can be given back at once."""

    @property
    def with_kernel_share_bytes(self) -> int:
        """About what must be installed for this MemTotal.

        The kernel keeps one `struct page` of 64 bytes for each page of 4 KiB, 1/64 of all memory
        (include/linux/mm_types.h), and, house: 128 MiB for itself, firmware tables and the initial
        memory disk (a guest of 24 GiB was seen to keep 97 MiB of these).
        """
        return self.total_bytes + self.total_bytes // 64 + (128 << 20)


@measurement
class Swapping:
    """Swap, and what was read back from it while the run went on."""

    total_bytes: int
    used_bytes: int
    window_s: float
    pages_in: int
    pages_out: int
    pages_in_since_boot: int


@measurement
class Pressure:
    """Pressure stall information: the share of time in which some task waited, in percent."""

    some_avg10_percent: float
    some_avg60_percent: float
    some_avg300_percent: float
    full_avg60_percent: float | None
    some_total_us: int


@measurement
class CpuPressure(Pressure):
    """/proc/pressure/cpu."""


@measurement
class MemoryPressure(Pressure):
    """/proc/pressure/memory."""


@measurement
class KernelClock:
    """The kernel's clock discipline (adjtimex), and who steers it."""

    synchronised: bool
    """STA_UNSYNC is clear."""
    maximum_error_us: int
    """Grows by 500 us/s between polls, by design."""
    estimated_error_us: int
    offset_us: float
    source: str | None
    """chrony or systemd-timesyncd with its server, where one says so."""
    service: str | None
    """The time service that runs, also where it has reached no server yet."""


@measurement
class FileSystem:
    """A mounted file system where services write."""

    device: str
    type: str
    size_bytes: int
    free_bytes: int
    """Free to an ordinary user."""
    inodes: int
    """0 where the file system has no fixed number."""
    inodes_free: int


@measurement
class FileSystems:
    """The file systems of /, /var, /var/lib, /var/log, /home, /srv, /opt and /tmp, by mount point."""

    by_mount: dict[str, FileSystem]


@measurement
class Identity:
    """Who the host is. None is "not known"."""

    name: str
    machine_id: str | None
    boot_id: str | None
    os: str | None
    kernel: str | None
    cpu_model: str | None
    cpus: int | None
    memory_bytes: int | None
