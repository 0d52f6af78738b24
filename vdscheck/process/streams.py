"""Standard output, standard error, pipes and devices: written so that no reader can hold up or end the program."""

import errno
import io
import os
import select
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from vdscheck.process.guard import NoAnswerError, in_child
from vdscheck.process.signals import StoppedError, interrupted

FILE_LIMIT_S = 30.0
"""How long a disk may take to write a report."""
PATIENCE_S = 1.0
"""How long after a signal readers that take nothing are waited for: once for all that is written then."""
TICK_S = 0.1
"""How often a wait for a reader looks whether a signal has come."""

TOO_LITTLE_S = 0.001
"""How long to wait where there is room, but too little: a terminal takes a line end whole."""


class UnreadError(TimeoutError):
    """A signal came, and nobody takes what is still to be written."""


class Patience:
    """Since the first wait after a signal."""

    def __init__(self) -> None:
        self._until_s: float | None = None

    def is_over(self) -> bool:
        """Whether others have been waited for long enough."""
        if self._until_s is None and interrupted():
            self._until_s = time.monotonic() + PATIENCE_S
        return self._until_s is not None and time.monotonic() >= self._until_s

    def check(self) -> None:
        """Raise UnreadError where it is over."""
        if self.is_over():
            raise UnreadError(errno.ETIMEDOUT, "nobody reads it: the rest was not written")


patience = Patience()


def write(descriptor: int, content: bytes) -> None:
    """Write all of it, however slowly it is read. Raises OSError, and UnreadError where a signal ends the waiting.

    A file may lie on a file system that never answers: it is written by a child, within FILE_LIMIT_S.
    """
    if not is_file(descriptor):
        _write(descriptor, content)
        return
    if descriptor in _unanswered:
        raise NoAnswerError(errno.ETIMEDOUT, "did not answer before")
    try:
        in_child(lambda: _write(descriptor, content), FILE_LIMIT_S, keeps=(descriptor,), stopped=patience.is_over)
    except StoppedError as error:
        raise UnreadError(errno.ETIMEDOUT, "interrupted while it was waited for") from error
    except NoAnswerError:
        _unanswered.add(descriptor)
        raise


_unanswered: set[int] = set()
"""What took nothing within its time: no line after that waits for as long again."""


def is_file(descriptor: int) -> bool:
    """Whether it has a place to go on from, as files have. A file system that is dead is not asked for that.

    Where a child of ours waits in a write, it holds that place: then what was found before it is what counts.
    """
    if not _unanswered:
        _files.update({each: _has_place(each) for each in {1, 2, descriptor}})
    return _files.get(descriptor, True)


_files: dict[int, bool] = {}


def _has_place(descriptor: int) -> bool:
    try:
        os.lseek(descriptor, 0, os.SEEK_CUR)
    except OSError:  # a pipe, a socket, a terminal; or it is closed
        return False
    return True


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    with _ticking():
        while view:
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                _wait_for_room(descriptor)


def _wait_for_room(descriptor: int) -> None:
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    if not room.poll(1000 * TICK_S):
        patience.check()
    else:
        time.sleep(TOO_LITTLE_S)


@contextmanager
def _ticking() -> Iterator[None]:
    """Look for a signal also while write(2) blocks: it is interrupted, and taken up again (PEP 475) or given up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, lambda _number, _frame: patience.check())
    signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_gone(descriptor: int, error: OSError) -> bool:
    """Whether an error of write(2) says that the reader went away: of a pipe, or the person at a terminal."""
    if error.errno == errno.EPIPE:
        return True
    with suppress(OSError):
        # A disk that fails says EIO as well; it is no character device.
        return error.errno in (errno.EIO, errno.ENXIO) and stat.S_ISCHR(os.fstat(descriptor).st_mode)
    return False


def to_stderr(text: str) -> None:
    """Write to standard error what can be written: that it cannot changes nothing of a run."""
    if sys.stderr is None:  # closed by whoever started us
        return
    with suppress(OSError):
        write(2, text.encode(sys.stderr.encoding or "utf-8", "backslashreplace"))


def put_on(stream: TextIO, text: str) -> bool:
    """Whether a text was drawn on a terminal: one that takes nothing at the moment (Ctrl-S) is not waited for."""
    try:
        descriptor = stream.fileno()
        room = select.poll()
        room.register(descriptor, select.POLLOUT)
        if not room.poll(0):
            return False
        write(descriptor, text.encode(stream.encoding, "backslashreplace"))
    except io.UnsupportedOperation:  # it is in memory
        return not stream.closed and stream.write(text) > 0
    except (OSError, ValueError):  # it is gone, or closed
        return False
    return True
