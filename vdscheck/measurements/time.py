"""What is measured of the kernel's clock."""

from vdscheck.model.records import measurement


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
