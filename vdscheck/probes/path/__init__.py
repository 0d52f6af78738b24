"""Measures the ways to places: hops, round trips, loss, the largest packet, for all places at one time."""

from collections.abc import Iterator

from vdscheck.measurements.path import Paths
from vdscheck.plugin import Host, Window, probe
from vdscheck.probes.path.places import Places


@probe(
    "path.trace",
    deadline_s=4.0,
    window=Window(passive_s=None, quick_s=1.3, default_s=3.2, thorough_s=8.0),
    sends=True,
    live=True,
)
def paths(host: Host, places: Places) -> Iterator[Paths]:
    """Sends ICMP echoes with rising TTL (UDP where those may not be sent), 100 echoes to each place, and listens."""
    from vdscheck.probes.path.survey import survey

    yield from survey(host, places)
