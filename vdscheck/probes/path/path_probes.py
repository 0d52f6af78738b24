"""The ways to places, and the resolvers that are asked for their names."""

from collections.abc import Iterator

from vdscheck.linux import optional_files
from vdscheck.linux.dns_wire import nameservers
from vdscheck.measurements.net import Resolvers
from vdscheck.measurements.path import Paths
from vdscheck.plugin import Host, UnavailableError, Window, not_applicable, probe
from vdscheck.probes.path.subject import Places


@probe(
    "path.resolvers",
    formerly="net.resolvers",
    deadline_s=3.0,
    window=Window(passive_s=None, quick_s=1.3, default_s=2.4, thorough_s=8.0),
    sends=True,
    live=True,
)
def resolvers(host: Host, places: Places) -> Iterator[Resolvers]:
    """Asks each resolver of /etc/resolv.conf for the names of the places' hosts, then 94 times again, over UDP."""
    from vdscheck.probes.path.resolver_times import Asking, asked_over_and_over

    hosts = (target.host for sought in places.sought for target in sought.targets)
    names = tuple(dict.fromkeys(name for name in hosts if not _is_address(name)))
    if not names:
        raise UnavailableError(not_applicable("the places are named by their addresses: there is no name to ask for"))
    found = nameservers(optional_files.text(host, "/etc/resolv.conf") or "")
    asking = [Asking(address, names) for address in found]
    yield from asked_over_and_over(host, asking, names)


def _is_address(name: str) -> bool:
    return ":" in name or name.replace(".", "").isdecimal()


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
