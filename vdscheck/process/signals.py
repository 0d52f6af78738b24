"""Signals that end a run: heard, told, handed over."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# Signals

ENDING = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU),
    *(signal.SIGABRT, signal.SIGALRM, signal.SIGIO, signal.SIGPROF, signal.SIGPWR, signal.SIGSTKFLT, signal.SIGVTALRM),
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)
"""Those that end the program, as in __main__, which imports nothing before it waits for them."""


class StoppedError(BaseException):
    """A signal came that ends the program. No `except Exception` on the way to its end takes it for a failure."""


_received: Sequence[int] = ()


def listen(received: Sequence[int]) -> None:
    """Take the list of the signals that have come, which grows as they come."""
    global _received  # noqa: PLW0603 - signals are the process's, and so is what is known of them
    _received = received


def interrupted() -> bool:
    """Whether a signal has come that ends the program."""
    return bool(_received)


@contextmanager
def deaf() -> Iterator[None]:
    """Around what may not be left half done: the signals that come meanwhile are heard after it, however many.

    A process that is forked meanwhile is deaf as well. Alarms are heard: deadlines are kept by them.
    """
    received = _received
    listen(())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(ENDING) - {signal.SIGALRM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        listen(received)


def hand_over(handler: signal.Handlers) -> None:
    """In a child: let the kernel do what it does at a signal that ends the program, or nothing."""
    for number in ENDING:
        signal.signal(number, handler)
