"""What is measured of the host as a whole: who it is, and how busy."""

from vdscheck.model.records import measurement


@measurement
class Pressure:
    """Pressure stall information: the share of time in which some task waited, in percent."""

    some_avg10_percent: float
    some_avg60_percent: float
    some_avg300_percent: float
    full_avg60_percent: float | None
    some_total_us: int


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
