"""Redis and Valkey servers: how fast they answer, their own account of themselves, and who may use them."""

from collections.abc import Iterator

from vdscheck.measurements import RedisExposure, RedisLatency, RedisServerState
from vdscheck.plugin import Host, Window, probe, secrets
from vdscheck.probes.redis.url import RedisServer

# What these probes need is imported in them: sockets, TLS and redis-py cost a host without Redis nothing.


@probe(
    "redis.latency",
    window=Window(passive_s=None, quick_s=0.6, default_s=1.5, thorough_s=10.0),
    deadline_s=8.0,
    alone=True,
    sends=True,
    live=True,
)
def latency(host: Host, server: RedisServer) -> Iterator[RedisLatency]:
    """Sends PING after PING on one raw connection of redis-py, with a TCP handshake every 0.1 s beside it."""
    window_s = host.time_left_s  # before what is imported takes its share of it
    from vdscheck.probes.redis import latency as redis_latency

    yield from map(secrets.redacted, redis_latency.measured(host, server, window_s))


@probe("redis.state", deadline_s=7.0, sends=True, live=True)
def state(host: Host, server: RedisServer) -> RedisServerState:
    """Asks INFO and CONFIG GET of maxclients, save and tcp-backlog, and looks for the process in /proc."""
    from vdscheck.probes.redis import state as redis_state

    return redis_state.asked(host, server)


@probe("redis.exposure", deadline_s=8.0, sends=True, live=True)
def exposure(host: Host, server: RedisServer) -> RedisExposure:
    """Tries PING and EXISTS without logging in, through each address of this machine beyond loopback."""
    from vdscheck.probes.redis import exposure as redis_doors

    return redis_doors.tried(host, server)
