"""Code of others within this process: tried, bounded, unheard."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from vdscheck.process import nowhere
from vdscheck.process.guard import LostChildError, NoAnswerError, deadline, in_child

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
    null = nowhere.opened()
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


def trial(function: Callable[[], str], seconds: float) -> str:
    """What a function returns when it is called in a process of its own: why the real call would fail, or "".

    A function that ends its process, or that no deadline inside it can stop, is told by how it ended.
    Raises StoppedError.
    """
    try:
        return in_child(function, seconds + TRIAL_GRACE_S)
    except NoAnswerError:
        return f"did not end within {seconds:g} s"
    except LostChildError as error:
        return f"the process that tried it {error.how}"
