"""What is measured of a disk: what lies under a path, what it does at rest, and how fast it answers."""

from typing import Literal

from vdscheck.measurements.virt import DriverKind
from vdscheck.model.absence import Absent
from vdscheck.model.records import measurement
from vdscheck.stats import Distribution

LayerKind = Literal[
    "overlay", "bind", "partition", "lvm", "crypt", "multipath", "dm", "raid", "loop", "memory", "stacked", "disk"
]


@measurement
class DiskLayer:
    """One layer between a path and a disk."""

    name: str
    kind: LayerKind
    detail: str | None
    """The name of a dm device, the level of a RAID, the file behind a loop device."""


@measurement
class DiskDevice:
    """A whole disk at the bottom."""

    name: str
    driver: str | None
    kind: DriverKind
    transport: str | None
    """nvme over pcie, tcp, rdma or fc; virtio, ata, scsi, usb, mmc, xen; None where nothing says."""
    model: str | None
    network: str | None
    """The network storage that shows as this disk, where it can be known; None is not known to be any."""
    rotational: bool | None
    """What the kernel says; of a virtual disk it knows nothing."""
    scheduler: str | None
    """The I/O scheduler that is chosen; None where the device has none to choose."""
    size_bytes: int

    @property
    def is_nvme(self) -> bool:
        """Whether it shows as NVMe, wherever its medium is."""
        return self.kind == "nvme"

    @property
    def is_unknowable(self) -> bool:
        """Whether its medium cannot be known from inside: a hypervisor stands before it."""
        return self.kind in ("paravirtual", "unknown")

    @property
    def in_words(self) -> str:
        """`nvme0n1 (Samsung MZQL23T8HCLS, nvme over pcie)`."""
        said = ", ".join(filter(None, (self.model, self.transport or self.driver)))
        return f"{self.name} ({said})" if said else self.name


@measurement
class DiskStack:
    """What lies under a path, from its mount down to whole disks (/proc/self/mountinfo, /sys/class/block)."""

    path: str
    mount: str
    file_system: str
    source: str
    layers: tuple[DiskLayer, ...]
    """From above."""
    devices: tuple[DiskDevice, ...]
    followed: bool
    """Whether every step could be followed; otherwise it is the only disk that this machine has."""

    @property
    def in_words(self) -> str:
        """`ext4 on dm-0 (lvm vg-root) on dm-1 (crypt) on nvme0n1p3 (partition) on nvme0n1 (...)`."""
        between = [
            f"{each.name} ({' '.join(filter(None, (each.kind, each.detail)))})"
            for each in self.layers
            if each.kind != "disk"
        ]
        whole = " and ".join(each.in_words for each in self.devices)
        return " on ".join([self.file_system, *between, whole])


@measurement
class DeviceActivity:
    """What one disk did in a window: differences of its counters in /proc/diskstats."""

    name: str
    reads_per_s: float
    writes_per_s: float
    read_await_ms: float | None
    """Mean time from request to answer; None where there was no read."""
    write_await_ms: float | None
    queue: float
    """Requests under way, on average."""
    busy_percent: float
    """Share of the window in which at least one request was under way."""

    @property
    def in_words(self) -> str:
        """`vda busy 98 % with 3.1 under way, 31 reads/s of 12 ms, 120 writes/s of 3 ms`."""
        read = "" if self.read_await_ms is None else f" of {self.read_await_ms:.3g} ms"
        wrote = "" if self.write_await_ms is None else f" of {self.write_await_ms:.3g} ms"
        return (
            f"{self.name} busy {self.busy_percent:.0f} % with {self.queue:.2g} under way, "
            f"{self.reads_per_s:.0f} reads/s{read}, {self.writes_per_s:.0f} writes/s{wrote}"
        )


@measurement
class DiskActivity:
    """The disks under a path at rest, before any load of ours (/proc/stat, /proc/diskstats, /proc/pressure/io)."""

    window_s: float
    cpu_ticks: int
    """Ticks of all CPUs in the window: one of them is the resolution of the next field."""
    iowait_ticks: int
    pressure_percent: float | None
    """PSI: share of the window in which some task waited for I/O; None where the kernel does not count it."""
    devices: tuple[DeviceActivity, ...]


@measurement
class DiskLatency:
    """How fast the disk under a path answers: three instruments, in turn, on files of ours."""

    folder: str
    """Where the files were made."""
    stands_for: str | None
    """The path meant, where we may not write there and `folder` is on the same device."""
    named: bool
    """Whether the files had a name for a moment: the file system has no O_TMPFILE."""
    file_bytes: int
    """How much was written to read from; 0 where nothing is read."""
    prepared_s: float
    window_s: float
    rounds: int
    warm_up_reads: int
    warm_up_syncs: int
    """Left out of the distributions."""
    read: Distribution | None
    """One 4 KiB read at a random place of our file, O_DIRECT, the next when it is there."""
    reads_per_s: float | None
    read_absent: Absent | None
    """Why there is neither `read` nor `iops`."""
    fdatasync: Distribution
    """fdatasync after an append of 2,300 bytes to a preallocated file, as etcd writes its log."""
    iops: float | None
    """4 KiB random reads per second with 32 under way."""
    iops_method: str | None
    device: str | None
    """The whole disk that was read from as well."""
    device_read: Distribution | None
    """As `read`, but anywhere on the whole disk."""
    device_absent: Absent | None
    """Why there is no `device_read`."""


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
