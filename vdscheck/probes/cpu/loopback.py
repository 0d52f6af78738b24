"""A request and its reply between two processes of this machine: what a Redis here would see at best."""

import errno
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from vdscheck.measurements import LoopbackRtt
from vdscheck.plugin import Absent, Host, Reason, Recorder, UnavailableError, Window, probe, unmeasured

if TYPE_CHECKING:
    from socket import socket

REQUEST = b"*1\r\n$4\r\nPING\r\n"
REPLY = b"+PONG\r\n"

_ADDRESS = "127.0.0.1"
_PATIENCE_S = 1.0
"""How long a reply may take; a firewall that drops packets of the loopback interface answers never."""
_STEP_S = 0.2
_WARM_UP = 50
_BEYOND_S = 3


@probe(
    "cpu.loopback",
    window=Window(passive_s=None, quick_s=0.25, default_s=0.5, thorough_s=4.0),
    alone=True,
    live=True,
)
def loopback(host: Host) -> Iterator[LoopbackRtt]:
    """Sends a PING of 14 bytes to a process of its own over 127.0.0.1 again and again, and waits for 7 bytes."""
    from vdscheck.linux import own_processes

    elders = own_processes.elders(host)[1:]
    began = time.monotonic()
    recorder = Recorder()
    try:
        with _Answering(host.time_left_s) as connection:
            _batch(connection, time.monotonic() + _STEP_S, _WARM_UP)
            while host.time_left_s > 0:
                recorder.add(_batch(connection, time.monotonic() + min(_STEP_S, host.time_left_s)))
                found = recorder.distribution()
                if found is not None:
                    yield LoopbackRtt(
                        window_s=round(time.monotonic() - began, 3),
                        request_bytes=len(REQUEST),
                        reply_bytes=len(REPLY),
                        rtt=found,
                    )
                # whoever draws this snapshot must not be in the next batch
                own_processes.settle(elders)
    except OSError as error:
        raise UnavailableError(_refusal(error)) from error


def _batch(connection: "socket", until: float, most: int = 1 << 30) -> list[int]:
    """Round trips in nanoseconds, until a moment on the monotonic clock."""
    send, receive, clock = connection.send, connection.recv, time.perf_counter_ns
    ends_ns = int(until * 1e9)
    found: list[int] = []
    now = time.monotonic_ns()
    while now < ends_ns and len(found) < most:
        began = clock()
        send(REQUEST)
        got = receive(len(REPLY))
        found.append(clock() - began)
        if got != REPLY:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
        now = time.monotonic_ns()
    return found


class _Answering:
    """A process that answers on a connection, and its end that asks; it ends with the `with`, or with us."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._pid: int | None = None

    def __enter__(self) -> "socket":
        import socket

        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
            listening.bind((_ADDRESS, 0))
            listening.listen(1)
            asking = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                _prepare(asking)
                asking.connect(listening.getsockname())
                _prepare(answering := listening.accept()[0])
                with answering:
                    self._pid = _answer(answering, self._window_s)
            except BaseException:
                asking.close()
                raise
        self._asking = asking
        return asking

    def __exit__(self, *_: object) -> None:
        self._asking.close()
        if self._pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)


def _prepare(end: "socket") -> None:
    """Blocking, with a limit that the kernel keeps: Python's own would add a poll() to every call."""
    import socket
    import struct

    patience = struct.pack("@ll", int(_PATIENCE_S), 0)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)


def _answer(connection: "socket", window_s: float) -> int:
    import gc

    from vdscheck.linux import own_processes

    def run() -> None:
        gc.disable()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, window_s + _BEYOND_S)
        receive, send = connection.recv, connection.send
        while receive(len(REQUEST)):
            send(REPLY)

    return own_processes.fork(run, connection.fileno())


def _refusal(error: OSError) -> Absent:
    if error.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.EHOSTUNREACH):
        why = f"{_ADDRESS} cannot be reached: the loopback interface is down here: ip link set lo up"
        return unmeasured(Reason.UNREACHABLE, why)
    if error.errno in (errno.EAGAIN, errno.EINPROGRESS, errno.ETIMEDOUT):
        why = f"no answer over {_ADDRESS} within {_PATIENCE_S:g} s: does a firewall drop packets on lo?"
        return unmeasured(Reason.TIMEOUT, why)
    why = f"the exchange over {_ADDRESS} broke: {os.strerror(error.errno or errno.EIO)}: run it again"
    return unmeasured(Reason.ERROR, why)
