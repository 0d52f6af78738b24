"""What is measured of the network beside the path: resolvers, and loss over a window."""

from vdscheck.model.records import measurement
from vdscheck.stats import Distribution


@measurement
class ResolverTimes:
    """A configured resolver asked for the names of the places' targets."""

    address: str
    first_ms: tuple[float, ...]
    """How long the first answer for each name took."""
    cached: Distribution | None
    """Answers for names that were asked before; None where none came."""
    cached_p95_lost: bool
    """Whether more than one in twenty of these was not answered."""
    sent: int
    answered: int
    codes: dict[str, int]
    """NOERROR, NXDOMAIN, SERVFAIL, ...: how many of each."""


@measurement
class Resolvers:
    """The resolvers of /etc/resolv.conf, each asked over UDP."""

    names: tuple[str, ...]
    resolvers: tuple[ResolverTimes, ...]


@measurement
class NetworkWindow:
    """Counters of the network while the run went on (/proc/net/snmp, softnet_stat, /sys/class/net)."""

    window_s: float
    segments_out: int
    retransmitted: int
    softnet_dropped: int
    rx_missed: int
    rx_fifo: int
    rx_dropped: int
    """Counts packets of unknown protocols too."""
    segments_out_since_boot: int
    retransmitted_since_boot: int
