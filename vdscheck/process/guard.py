"""Guards around what may fail or never end: code of others in our own process, and paths that never answer."""

import errno
import marshal
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NamedTuple, NoReturn, TypeVar, cast

from vdscheck.process import nowhere
from vdscheck.process.signals import StoppedError, hand_over, interrupted, listen

T = TypeVar("T")
ANSWER_LIMIT_S = 5.0
"""How long a path may take to answer: one that takes longer answers nobody."""
KILL_LIMIT_S = 0.2
"""How long a killed process may take to end before it is left behind."""
ENDING_LIMIT_S = 0.3
"""How long a process that has answered may take to end by itself."""
TICK_S = 0.05
"""How often whoever waits looks whether a signal has come."""
COUNTED_S = 1.0
"""The most that counts of the time between two looks at the clock: what is beyond it was a pause."""


@contextmanager
def last_to_be_killed() -> Iterator[None]:
    """Around what must not end in the middle: where others use up the memory, the kernel ends this process last.

    Source: proc_pid_oom_score_adj(5).
    """
    file = "/proc/self/oom_score_adj"
    before = ""
    with suppress(OSError):
        with open(file, encoding="ascii") as adjustment:
            before = adjustment.read()
        _adjust(file, "-1000")
    try:
        yield
    finally:
        if before:
            with suppress(OSError):
                _adjust(file, before)


def _adjust(file: str, text: str) -> None:
    with open(file, "w", encoding="ascii") as adjustment:
        adjustment.write(text)


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


# What may never answer


class NoAnswerError(TimeoutError):
    """Something did not answer in time; `strerror` says so, and is to stand behind its name."""


class LostChildError(OSError):
    """The process that looked at something ended before it answered."""

    how: str = ""
    """How it ended."""


class Countdown:
    """Seconds that are left until a deadline. Time in which this process was paused does not count."""

    def __init__(self, seconds: float) -> None:
        self._left_s = seconds
        self._asked_at_s = time.monotonic()

    def extend(self, seconds: float) -> None:
        """Give it more time."""
        self._left_s += seconds

    def over(self) -> bool:
        """Whether nothing is left. To be asked once a second at least: more than that is never counted at once."""
        now_s = time.monotonic()
        self._left_s -= min(now_s - self._asked_at_s, COUNTED_S)
        self._asked_at_s = now_s
        return self._left_s <= 0


def in_child(
    function: Callable[[], T],
    seconds: float = ANSWER_LIMIT_S,
    *,
    keeps: Iterable[int] = (),
    stopped: Callable[[], bool] = interrupted,
) -> T:
    """What a function returns that is called in a process of its own: a path that never answers holds up nobody.

    The function returns, or raises, what pickle can carry. It finds nothing open but /dev/null on 0,
    1 and 2 and the descriptors that it `keeps`. Where no further process can be had it is called here.

    Raises NoAnswerError when the time is over, StoppedError when `stopped` before it, and LostChildError
    where the process ended without an answer. A process that cannot be ended is left behind.
    """
    return cast("T", _asked(function, seconds, keeps, stopped))


def opened_in_child(
    function: Callable[[], int],
    seconds: float = ANSWER_LIMIT_S,
    *,
    keeps: Iterable[int] = (),
    stopped: Callable[[], bool] = interrupted,
) -> int:
    """The descriptor that a function opens, called like that of in_child; it is this process's to close.

    What is done with it may never answer either, closing it too: that is safe only of one opened with O_PATH.
    """
    return cast("int", _asked(function, seconds, keeps, stopped, passes=True))


def _asked(
    function: Callable[[], Any],
    seconds: float,
    keeps: Iterable[int],
    stopped: Callable[[], bool],
    *,
    passes: bool = False,
) -> Any:  # noqa: ANN401
    try:
        ours, its = _channel(passes=passes)
    except OSError:
        return function()
    try:
        pid = os.fork()
    except OSError:
        os.close(ours)
        os.close(its)
        return function()
    if pid == 0:
        _answer(function, its, keeps, seconds, passes=passes)
    os.close(its)
    try:
        said = _heard(ours, seconds, stopped, passes=passes)
        if said is not None:
            # It ends by itself: what runs at its end (a measurement of coverage is written then) is not cut off.
            _is_ready(ours, ENDING_LIMIT_S)
    finally:
        os.close(ours)
        status = _ended(pid)
    if said is None:
        raise _lost(how_it_ended(status))
    return said.value()


def _channel(*, passes: bool) -> tuple[int, int]:
    """Two ends, of which the second is written to; only a socket can pass a descriptor."""
    if not passes:
        return os.pipe()
    import socket  # noqa: TID251 - within this process, and nothing that only a path needs waits 3 ms for it

    ours, its = socket.socketpair()
    return ours.detach(), its.detach()


def _lost(how: str) -> LostChildError:
    error = LostChildError(errno.EIO, f"the process that looked at it {how}")
    error.how = how
    return error


# In the child

_HEADER = 9
"""Bytes before an answer: what it is, and how long."""


def _answer(
    function: Callable[[], Any], channel: int, keeps: Iterable[int], seconds: float, *, passes: bool
) -> NoReturn:
    try:
        listen(())
        hand_over(signal.SIG_DFL)
        # Where the program is killed nobody else ends this process.
        signal.setitimer(signal.ITIMER_REAL, seconds + ENDING_LIMIT_S)
        with suppress(OSError):
            os.setsid()
        silence(channel, *keeps)
        descriptor = None
        try:
            value = function()
            kind, content = (b"d", b"") if passes else _packed(value)
            descriptor = value if passes else None
        except BaseException as error:  # noqa: BLE001 - all of it is raised again by whoever asked
            kind, content = b"e", _packed_error(error)
        _say(channel, kind + len(content).to_bytes(_HEADER - 1), descriptor)
        _say(channel, content)
    finally:
        os._exit(0)


def silence(*kept: int) -> None:
    """Leave nothing open but what is kept; on 0, 1 and 2 nothing comes in and what is written goes nowhere."""
    low = 3
    for descriptor in (*sorted(number for number in kept if number >= low), 1 << 20):
        os.closerange(low, descriptor)
        low = descriptor + 1
    null = _nowhere()
    for standard in {0, 1, 2}.difference(kept):
        if null is None:
            with suppress(OSError):
                os.close(standard)
        else:
            os.dup2(null, standard)
    if null is not None and null > 2:  # noqa: PLR2004 - the standard streams
        os.close(null)


def _nowhere() -> int | None:
    """A descriptor to read nothing from, and to write nothing to; None where there can be none."""
    try:
        return nowhere.opened()
    except OSError:
        return None


def _packed(value: Any) -> tuple[bytes, bytes]:  # noqa: ANN401
    if type(value) is bytes:
        return b"b", value
    try:
        return b"m", marshal.dumps(value)
    except ValueError:
        import pickle  # 3 ms, where it is no plain value

        return b"p", pickle.dumps(value)


def _packed_error(error: BaseException) -> bytes:
    """An exception as something that surely can be raised again."""
    import pickle

    # What its class takes to be made is not known; what it holds is.
    parts = error if isinstance(error, OSError) else (type(error), error.args, vars(error))
    try:
        packed = pickle.dumps(parts)
        _unpacked_error(packed)
    except Exception:  # noqa: BLE001 - a class that is not there by its name, or holds what cannot be carried
        return pickle.dumps((RuntimeError, (f"{type(error).__name__}: {error}",), {}))
    return packed


def _say(channel: int, content: bytes, descriptor: int | None = None) -> None:
    if descriptor is not None:
        import socket  # noqa: TID251 - as above

        with socket.socket(fileno=os.dup(channel)) as its:
            socket.send_fds(its, [content], [descriptor])
        return
    view = memoryview(content)
    while view:
        view = view[os.write(channel, view) :]


# In who asked


class _Said(NamedTuple):
    """An answer."""

    kind: int
    content: bytes
    descriptor: int | None

    def value(self) -> Any:  # noqa: ANN401
        """What the function returned; or what it raised is raised."""
        if self.kind == ord("d"):
            return self.descriptor
        if self.kind == ord("b"):
            return self.content
        if self.kind == ord("m"):
            return marshal.loads(self.content)  # noqa: S302 - of our own process, as below
        import pickle

        if self.kind == ord("p"):
            return pickle.loads(self.content)  # noqa: S301
        raise _unpacked_error(self.content)


def _unpacked_error(packed: bytes) -> BaseException:
    import pickle

    parts = pickle.loads(packed)  # noqa: S301 - of our own process
    if isinstance(parts, BaseException):
        return parts
    kind, arguments, more = parts
    error: BaseException = kind.__new__(kind, *arguments)
    vars(error).update(more)
    return error


def _heard(channel: int, seconds: float, stopped: Callable[[], bool], *, passes: bool) -> _Said | None:
    """The whole answer; None where it ended without. What has come is read before it is too late for it."""
    countdown = Countdown(seconds)
    said, descriptor = bytearray(), None
    while len(said) < _HEADER or len(said) < _HEADER + int.from_bytes(said[1:_HEADER]):
        over = countdown.over()
        if not _is_ready(channel, 0.0 if over else TICK_S):
            if over:
                message = f"does not answer within {seconds:g} s"
                raise NoAnswerError(errno.ETIMEDOUT, message)
            if stopped():
                raise StoppedError
            continue
        if passes and not said:
            piece, descriptor = _received_with(channel)
        else:
            piece = os.read(channel, 1 << 16)
        if not piece:
            return None
        said += piece
    with memoryview(said) as view:
        return _Said(said[0], bytes(view[_HEADER:]), descriptor)


def _received_with(channel: int) -> tuple[bytes, int | None]:
    import socket  # noqa: TID251 - as above

    with socket.socket(fileno=os.dup(channel)) as ours:
        piece, descriptors, _, _ = socket.recv_fds(ours, 1 << 16, 1)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return piece, next(iter(descriptors), None)


def _is_ready(channel: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(1000 * seconds))


def _ended(pid: int) -> int | None:
    """End a process with those of its session, and its status; None where it cannot be ended, and is left behind."""
    give_up_s = time.monotonic() + KILL_LIMIT_S
    for end in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            end(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return status
            if time.monotonic() > give_up_s:
                break
            time.sleep(0.001)
    return None


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
