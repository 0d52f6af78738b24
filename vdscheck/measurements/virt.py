"""What is measured of the machine: its kind, processors, memory, disks, clock, and who it is."""

from typing import Literal

from vdscheck.model.records import measurement

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
class ClockSource:
    """The clock source of the kernel, and what reading the clock costs."""

    current: str
    available: tuple[str, ...]
    read_ns: float | None
    """Median cost of one clock_gettime; None where there is no running kernel to ask."""
