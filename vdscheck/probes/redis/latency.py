"""Measures how long a Redis server takes to answer PING, with what tells box, network and server apart."""

import gc
import time
from collections.abc import Iterator

from vdscheck.measurements import RedisLatency, RedisServing
from vdscheck.plugin import Absent, Host, Reason, Recorder, UnavailableError, unmeasured
from vdscheck.probes.redis.commandstats import CommandStats, no_longer
from vdscheck.probes.redis.connection import OverdueError, TcpState, Wire
from vdscheck.probes.redis.process import here, process, waited_us
from vdscheck.probes.redis.url import RedisServer

WARM_UP_S = 0.1
BATCH_S = 0.1
"""How long PINGs follow each other before something else is done: a TCP handshake, a snapshot."""
BATCHES = 2
"""In each snapshot."""


def measured(host: Host, server: RedisServer, window_s: float) -> Iterator[RedisLatency]:
    """Ever better measurements for as long as the window is, which begins when all is set up."""
    wire = Wire(server)
    wire.ping_ns()
    measuring = _Measuring(host, wire)
    gc.disable()
    ends_at = time.monotonic() + window_s
    while time.monotonic() < ends_at:
        try:
            for _ in range(BATCHES):
                measuring.batch(ends_at)
            found = measuring.snapshot()
        except OverdueError:
            yield measuring.without_answer()
            return
        yield found


class _Measuring:
    """A measurement that goes on, and how things were when it began."""

    def __init__(self, host: Host, wire: Wire) -> None:
        self._host, self._wire = host, wire
        self._account = CommandStats(wire)
        self._process = process(host, wire.peer_pid(), self._account.info)
        self._here = here(wire.server, wire.peer_address(), self._process)
        self._pings, self._connects = Recorder(), Recorder()
        self._usual_waits = self._warmed_up()
        self._waits = self._waiting_us()
        self._tcp = wire.tcp_state()
        self._began = time.monotonic()

    def _warmed_up(self) -> list[float]:
        """How long both ends waited for a CPU in each of the first PINGs, as far as the kernel says."""
        found = []
        ends_at = time.monotonic() + WARM_UP_S
        before = self._waiting_us()
        while time.monotonic() < ends_at:
            self._wire.ping_ns()
            now = self._waiting_us()
            found.append(sum(_grown(*each) or 0.0 for each in zip(before, now, strict=True)))
            before = now
        return sorted(found)

    def batch(self, ends_at: float) -> None:
        """PINGs for a while, and a handshake. Raises OverdueError, with what came before it kept."""
        found: list[int] = []
        try:
            self._wire.pings_ns(found, min(time.monotonic() + BATCH_S, ends_at))
        finally:
            self._pings.add(found)
        handshake_ns = self._wire.handshake_ns()
        if handshake_ns is not None:
            self._connects.add((handshake_ns,))

    def _waiting_us(self) -> tuple[float | None, float | None]:
        theirs = None if self._process is None else waited_us(self._host, self._process.pid)
        return waited_us(self._host, "self"), theirs

    def snapshot(self) -> RedisLatency:
        """What was measured so far."""
        return self._made(self._account.since(time.monotonic() - self._began), self._wire.tcp_state())

    def without_answer(self) -> RedisLatency:
        """What was measured, and a last request without an answer: it took at least as long as was waited for it.

        Where that was a question for the account, a PING at its place would have waited as long: Redis
        serves one command after the other.
        """
        self._pings.add((self._wire.since_sent_ns(),))
        return self._made(no_longer(self._wire.server.name), None, unanswered=1)

    def _made(self, serving: RedisServing | Absent, tcp: TcpState | None, unanswered: int = 0) -> RedisLatency:
        server, pings = self._wire.server, self._pings.distribution()
        if pings is None:
            raise UnavailableError(unmeasured(Reason.TIMEOUT, f"{server.name} answered no PING in the window"))
        (waited, theirs), (waited_before, theirs_before) = self._waiting_us(), self._waits
        return RedisLatency(
            transport="unix" if server.socket_path is not None else "tls" if server.tls else "tcp",
            here=self._here,
            window_s=round(time.monotonic() - self._began, 3),
            warm_up=1 + len(self._usual_waits),
            ping=pings,
            unanswered=unanswered,
            connect=self._connects.distribution(),
            tcp_rtt_us=None if tcp is None else tcp.rtt_us,
            tcp_min_rtt_us=None if tcp is None else tcp.min_rtt_us,
            retransmits=None if tcp is None or self._tcp is None else max(0, tcp.retransmits - self._tcp.retransmits),
            waited_us=_grown(waited_before, waited),
            server_waited_us=_grown(theirs_before, theirs),
            usual_wait_us=None if waited is None else self._usual_waits[len(self._usual_waits) // 2],
            serving=None if isinstance(serving, Absent) else serving,
            serving_absent=serving if isinstance(serving, Absent) else None,
        )


def _grown(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else max(0.0, after - before)
