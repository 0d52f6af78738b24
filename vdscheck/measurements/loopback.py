"""What is measured of a request and its reply between two processes of this machine."""

from vdscheck.model import measurement
from vdscheck.stats import Distribution


@measurement
class LoopbackRtt:
    """A Redis PING and its answer between two processes over TCP on 127.0.0.1 (TCP_NODELAY, blocking)."""

    window_s: float
    request_bytes: int
    reply_bytes: int
    rtt: Distribution
