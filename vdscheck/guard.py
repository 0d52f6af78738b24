"""Guards around code of others that runs in our own process: plugin imports and check functions."""

import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

OURS = ("vdscheck", "vdscheck_checks")
"""The packages whose code is not tried in a process of its own first."""

TRIAL_GRACE_S = 0.5
"""How much longer than its deadline a trial may take before it is ended from outside."""


def is_ours(module: str) -> bool:
    """Whether a module is part of this program."""
    return module.partition(".")[0] in OURS


@contextmanager
def guarded(seconds: float) -> Iterator[None]:
    """Run a block of others: with a deadline, with its output going nowhere, and ending any fork of it.

    Raises TimeoutError inside the block when it takes longer. That interrupts Python code only, and
    only in the main thread. Probes, which may hang in the kernel, run in processes of their own instead.
    """
    pid = os.getpid()
    try:
        with _unheard(), deadline(seconds):
            yield
    finally:
        if os.getpid() != pid:
            os._exit(0)


@contextmanager
def _unheard() -> Iterator[None]:
    """Standard output carries the report and nothing else."""
    _flush()
    kept = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, 1)
    os.close(null)
    try:
        yield
    finally:
        _flush()
        os.dup2(kept, 1)
        os.close(kept)


def _flush() -> None:
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what takes longer, where it is Python code that the main thread runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_signal: int, _frame: FrameType | None) -> None:
        message = f"did not end within {seconds:g} s"
        raise TimeoutError(message)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def trial(function: Callable[[], str], seconds: float) -> str:
    """What a function returns when it is called in a process of its own: why the real call would fail, or "".

    A function that ends its process, or that no deadline inside it can stop, is told by how it ended.
    """
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        _try(function, send)
    os.close(send)
    said, over = _heard(receive, seconds + TRIAL_GRACE_S)
    os.close(receive)
    for end in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            end(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if said.endswith(b"\0"):
        return said[:-1].decode("utf-8", "replace")
    return f"did not end within {seconds:g} s" if over else f"the process that tried it {how_it_ended(status)}"


def _try(function: Callable[[], str], send: int) -> None:
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        said = function().encode("utf-8", "replace").replace(b"\0", b"")
        os.write(send, said[:4000] + b"\0")
    finally:
        os._exit(0)


def _heard(pipe: int, seconds: float) -> tuple[bytes, bool]:
    """What came up the pipe until it said that it is done, or closed; and whether the time was over before."""
    until = time.monotonic() + seconds
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not said.endswith(b"\0"):
            if not selector.select(max(0.0, until - time.monotonic())):
                return said, True
            piece = os.read(pipe, 1 << 12)
            if not piece:
                break
            said += piece
    return said, False


def how_it_ended(status: int | None) -> str:
    """How a process ended that was to go on, from what waitpid(2) says of it."""
    if status is None:
        return "ended"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended in the middle of it (exit code {code})"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
