"""A load of our own on every CPU that we may use, and what was taken from it: steal, gaps, throttling."""

from collections.abc import Iterator

from vdscheck.measurements import Spin
from vdscheck.plugin import Host, Window, probe


@probe(
    "cpu.spin",
    window=Window(passive_s=None, quick_s=1.0, default_s=5.0, thorough_s=20.0),
    alone=True,
    live=True,
)
def spin(host: Host) -> Iterator[Spin]:
    """Spins on every CPU that it may use, at most 64, and asks the kernel where each gap over 1 ms went."""
    from vdscheck.probes.cpu.spin import watched

    yield from watched(host)
