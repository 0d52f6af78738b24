"""How fast the disk under a path answers."""

from collections.abc import Iterator

from vdscheck.measurements import DiskLatency
from vdscheck.plugin import Host, Window, probe
from vdscheck.probes.disk.subject import DiskPath


@probe(
    "disk.latency",
    alone=True,
    live=True,
    deadline_s=4.0,
    window=Window(passive_s=None, quick_s=1.2, default_s=3.0, thorough_s=20.0),
)
def latency(host: Host, disk: DiskPath) -> Iterator[DiskLatency]:
    """Times 4 KiB reads (O_DIRECT) and fdatasync of 2,300 bytes, counts reads at depth 32, in files without a name."""
    from vdscheck.probes.disk.bench import measured  # six modules that only this needs

    yield from measured(host, disk)
