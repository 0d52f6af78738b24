"""What is measured of memory, swap, and the waiting for them."""

from vdscheck.measurements.host import Pressure
from vdscheck.model.records import measurement


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
class MemoryPressure(Pressure):
    """/proc/pressure/memory."""
