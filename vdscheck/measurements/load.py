"""What is measured of the host's own work: whether it was busy before any load of ours."""

from vdscheck.model import measurement

BUSY_SHARE = 0.25
"""House: with a quarter of all CPU time taken, a measurement meets other work often enough to show it."""
BUSY_IO_PERCENT = 5.0
"""House: as for the CPU, of the time in which some task waited for a disk."""


@measurement
class HostLoad:
    """The work of others while we put no load on the host (/proc/stat, /proc/loadavg, /proc/pressure/io)."""

    window_s: float
    cpus: int
    busy_cpus: float
    """CPU time that others used in the window, as so many CPUs; steal and iowait do not count."""
    load_1min: float
    io_some_avg10_percent: float | None
    """None where the kernel counts no stalls."""

    @property
    def in_words(self) -> str:
        """`the host was busy before this: 1.8 of 2 CPUs, load 3.2`; empty where it was not."""
        said = []
        if self.busy_cpus > BUSY_SHARE * self.cpus:
            said.append(f"{self.busy_cpus:.1f} of {self.cpus} CPUs, load {self.load_1min:.1f}")
        if self.io_some_avg10_percent is not None and self.io_some_avg10_percent > BUSY_IO_PERCENT:
            said.append(f"io pressure {self.io_some_avg10_percent:.0f} %")
        return f"the host was busy before this: {', '.join(said)}" if said else ""
