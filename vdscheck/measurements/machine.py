"""What is measured of the machine: its kind, processors, memory, disks, clock, and who it is."""

from typing import Literal

from vdscheck.model import measurement

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
