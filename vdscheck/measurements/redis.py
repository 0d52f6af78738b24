"""What is measured of a Redis or Valkey server: how fast it answers, its state, and who may use it."""

from typing import Literal

from vdscheck.model.absence import Absent
from vdscheck.model.records import measurement
from vdscheck.stats import Distribution


@measurement
class CommandTime:
    """One command in the window, by the server's own account (INFO commandstats)."""

    name: str
    calls: int
    total_us: int


@measurement
class CallTime:
    """Calls that took about as long: no longer than this, and more than half of it."""

    at_most_us: int
    calls: int


@measurement
class RedisServing:
    """What the server itself did while it was measured, by its own account."""

    window_s: float
    commands: tuple[CommandTime, ...]
    """Those of everybody else (what this measurement sends itself left out), most time first; no more than ten."""
    others_us: int
    """The time in all commands of everybody else."""
    calls: tuple[CallTime, ...] | None
    """By how long they took, PING left out (LATENCY HISTOGRAM, from 7.0 on); None where the server does not
    keep it, or may not be asked."""
    slowest: str | None
    """The command with the longest calls of these."""
    forks: int | None
    fork_us: int | None
    """How long the latest fork took, where there was one in the window."""
    slow_commands: int | None
    """New entries of the slow log; None where it is off, or may not be asked."""
    slow_limit_us: int | None
    """From where on the slow log takes a command."""
    events_ms: dict[str, int]
    """Of the latency monitor, where it is on: the longest of each kind of event in the window."""
    missing: dict[str, Absent]
    """What could not be asked, by command."""


@measurement
class RedisLatency:
    """PING and its answer, one after the other on one connection, and what lies below: network, box and server."""

    transport: Literal["tcp", "tls", "unix"]
    here: bool | None
    """Whether the server runs on this machine; None where that cannot be seen."""
    window_s: float
    warm_up: int
    """PINGs before the window, which do not count."""
    ping: Distribution
    unanswered: int
    """Requests without an answer in time, a PING or one for the server's own account, which end the measurement:
    in the distribution of PINGs they stand with the time that was waited."""
    connect: Distribution | None
    """TCP handshakes beside it, which the kernels make without the server's process; None of a unix socket."""
    tcp_rtt_us: int | None
    tcp_min_rtt_us: int | None
    retransmits: int | None
    """Of the measuring connection in the window."""
    waited_us: float | None
    """How long this probe was ready and waited for a CPU in the window (/proc/self/schedstat)."""
    server_waited_us: float | None
    """The same of the server's process, where it runs here and may be looked at."""
    usual_wait_us: float | None
    """Of these two together, what an ordinary PING takes: the median of the warm-up."""
    serving: RedisServing | None
    serving_absent: Absent | None
    """Why there is nothing of the server's own account, where there is nothing."""


@measurement
class RedisMemory:
    """INFO memory, and evictions."""

    used_bytes: int
    maximum_bytes: int | None
    """0 is no limit; None where the server does not say."""
    policy: str | None
    system_bytes: int | None
    peak_bytes: int | None
    evicted_keys: int | None
    fragmentation_ratio: float | None
    fragmentation_bytes: int | None


@measurement
class RedisPersistence:
    """INFO persistence, and which kinds of it are switched on."""

    loading: bool
    saves: bool | None
    """Whether snapshots are scheduled (CONFIG GET save); None where that may not be asked."""
    save_status: str | None
    since_save_s: int | None
    """Since the last snapshot, or since the server started."""
    changes_since_save: int | None
    aof: bool
    aof_write_status: str | None
    aof_rewrite_status: str | None


@measurement
class RedisReplica:
    """A replica as its master sees it."""

    address: str
    state: str
    lag_s: int | None
    behind_bytes: int | None


@measurement
class RedisReplication:
    """INFO replication."""

    role: Literal["master", "replica", "other"]
    link: str | None
    """Of a replica: up or down."""
    syncing: bool
    last_io_s: int | None
    """Since the master was last heard of."""
    replicas: tuple[RedisReplica, ...]


@measurement
class RedisClients:
    """INFO clients."""

    connected: int
    maximum: int | None
    blocked: int | None
    rejected: int | None
    """Since the server started."""


@measurement
class RedisProcess:
    """The server's process, where it runs on this machine and may be seen."""

    pid: int
    name: str
    huge_pages: bool | None
    """Whether it takes transparent huge pages (THP_enabled of /proc/PID/status); None before Linux 5.0."""


@measurement
class RedisServerState:
    """A server by its own account (INFO, CONFIG GET), and its process."""

    flavour: str
    """redis or valkey."""
    version: str | None
    mode: str | None
    here: bool | None
    """Whether it runs on this machine; None where that cannot be seen."""
    process: RedisProcess | None
    full: bool
    """Whether it refused us because its maximum number of clients was reached."""
    memory: RedisMemory | None
    persistence: RedisPersistence | None
    replication: RedisReplication | None
    clients: RedisClients | None
    backlog: int | None
    """tcp-backlog of its configuration."""
    missing: dict[str, Absent]
    """What could not be asked, by command: INFO, CONFIG GET."""


Entry = Literal["usable", "ping-only", "refused", "closed", "silent"]
"""How an unauthenticated connection ended: a command worked; only PING did; all was refused (a password,
protected mode, no TLS certificate of ours); nobody listens; no answer."""


@measurement
class RedisDoor:
    """One address and port of this machine, and what an unauthenticated connection to it could do."""

    address: str
    port: int
    public: bool
    """Whether the address is routed on the internet (the IANA registries of special-purpose addresses)."""
    entry: Entry
    said: str | None
    """What the server answered instead, on one line."""


@measurement
class RedisExposure:
    """Unauthenticated connections to the server through each address of this machine beyond loopback."""

    ports: tuple[int, ...]
    """Those of the server that were tried; empty where it listens on none."""
    doors: tuple[RedisDoor, ...]
    untried: int
    """Addresses beyond the number that is tried."""
