"""Child processes that take measurements, and the small parent that keeps their deadlines.

The parent is forked from the program before any thread exists. It is a child subreaper, so whatever
a probe leaves behind, also a process that made a session of its own, becomes its child and can be
ended. Everything it learns goes up one pipe as lines of JSON.
"""

import gc
import os
import resource
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, NoReturn, cast

from vdscheck.codec import CodecError, decode, encode
from vdscheck.guard import hand_over, how_it_ended, silence
from vdscheck.model import Absent, Reason, UnavailableError, frozen, unmeasured
from vdscheck.plugin import Probe
from vdscheck.secrets import leave_out_of, what_failed
from vdscheck.target import Target

FRAME_LIMIT_BYTES = 16 << 20
"""The largest measurement that is taken: far beyond any sensible one."""
MEMORY_LIMIT_BYTES = 1 << 30
"""How much address space a child may take beyond what it starts with."""
CHILDREN_LIMIT = 3
"""How many children run at once: each costs some 10 MB, and a small server has two CPUs."""
KILL_LIMIT_S = 1.0
"""How long a killed process may take to end before it is abandoned."""
ENDING_LIMIT_S = 2.0
"""How long a child whose jobs are done may take to end by itself before it is killed."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@frozen
class Job:
    """One probe to run, on one subject where it measures one by one."""

    key: str
    probe: Probe
    provides: type[Any]
    """The measurement type that it promises."""
    subject: Any
    window_s: float
    """How long its generator goes on; 0 for a probe that returns once."""
    deadline_s: float
    """When it is ended, counted from its start."""


@frozen
class Frame:
    """What a child says: that a job has started, what it measured, or that it has ended."""

    event: str
    """started, measured, ended, abandoned."""
    key: str
    taken_at: str = ""
    duration_s: float = 0.0
    value: Any = None
    absent: Absent | None = None
    detail: str = ""


@dataclass
class _Child:
    """A running child and the jobs that it has still to do; the first is the one that it is in."""

    pid: int
    pipe: int
    jobs: list[Job]
    until: float
    unread: bytearray = field(default_factory=bytearray)
    measured: bool = False
    """Whether the job that it is in has said anything yet."""


def now() -> str:
    """The time as RFC 3339 in UTC."""
    seconds, rest_ns = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest_ns // 1_000_000:03d}Z"


# In the child


def work(host: Target, jobs: Iterable[Job], say: Callable[[Frame], None]) -> None:
    """Do the jobs one after the other; a job that fails is an absence, not the end."""
    for job in jobs:
        began = time.monotonic()
        say(Frame("started", job.key))
        here = replace(cast("Any", host), ends_at=began + job.window_s if job.window_s else None)
        measured = False
        try:
            for value in _values(job, here):
                say(_measured(job.key, _promised(job, value), time.monotonic() - began))
                measured = True
            if not measured:
                why = f"{job.key} measured nothing within its window of {job.window_s:g} s"
                say(_measured(job.key, unmeasured(Reason.TIMEOUT, why), time.monotonic() - began))
        except UnavailableError as error:
            say(_measured(job.key, error.absent, time.monotonic() - began))
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, and so may a library
            why = f"{job.probe.id} failed ({job.probe.where}): {what_failed(error)}{_raised_in(error)}"
            say(_measured(job.key, unmeasured(Reason.ERROR, why), time.monotonic() - began))
        say(Frame("ended", job.key))


def _raised_in(error: BaseException) -> str:
    """Where an error came from: its own text is not repeated, since a library may quote a secret in it."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return "" if last is None else f" at {os.path.basename(last.tb_frame.f_code.co_filename)}:{last.tb_lineno}"


def _values(job: Job, host: Target) -> Iterator[Any]:
    subject = () if job.subject is None else (job.subject,)
    found = job.probe.function(host, *subject)
    if job.probe.window is None:
        yield found
    else:
        yield from found


def _promised(job: Job, value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Absent | job.provides):
        return value
    message = f"it returned {type(value).__name__}, not {job.provides.__name__}"
    raise TypeError(message)


def _measured(key: str, value: Any, duration_s: float) -> Frame:  # noqa: ANN401
    if isinstance(value, Absent):
        return Frame("measured", key, now(), duration_s, None, value)
    return Frame("measured", key, now(), duration_s, value, None)


def _speaker(pipe: int) -> Callable[[Frame], None]:
    def say(frame: Frame) -> None:
        try:
            line = encode(frame)
        except (ValueError, TypeError, RecursionError, UnicodeError) as error:
            why = f"the measurement cannot be written as JSON: {what_failed(error)}"
            line = encode(replace(frame, value=None, absent=unmeasured(Reason.ERROR, why)))
        if len(line) > FRAME_LIMIT_BYTES:
            why = f"the measurement is {len(line):,} bytes, more than the {FRAME_LIMIT_BYTES:,} that are taken"
            line = encode(replace(frame, value=None, absent=unmeasured(Reason.ERROR, why)))
        view = memoryview(line + b"\n")
        while view:
            view = view[os.write(pipe, view) :]

    return say


def _become_child(parent: int, *kept: int) -> None:
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    silence(*kept)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    hand_over(signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    gc.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("/proc/self/statm", "rb") as statm:
        in_use = int(statm.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = in_use + MEMORY_LIMIT_BYTES
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@cache
def _libc() -> Any:  # noqa: ANN401 - ctypes.CDLL
    import ctypes  # 3 ms, which the parent has while the program is at something else

    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    _libc().prctl(option, value, 0, 0, 0)


# In the parent


class Parent:
    """Runs jobs in children, ends them at their deadlines with all their descendants, and reports."""

    def __init__(self, host: Target, up: int, control: int, ends_at: float) -> None:
        self._host, self._up, self._control, self._ends_at = host, up, control, ends_at
        self._children: dict[int, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._stopped = False
        self._waiting: list[list[Job]] = []
        self._lost: set[int] = set()
        self._statuses: dict[int, int] = {}

    def run(self, together: list[list[Job]], alone: list[Job]) -> None:
        """Run groups of jobs, each in a child of its own and all at once, and then the others one by one."""
        self._selector.register(self._control, selectors.EVENT_READ)
        self._waiting = list(together)
        self._until_all_ended()
        for job in alone:
            if not self._stopped:
                self._waiting = [[job]]
                self._until_all_ended()
        self._end_all()

    def _start_waiting(self) -> None:
        if time.monotonic() >= self._ends_at:
            self._waiting.clear()
        while self._waiting and len(self._children) < CHILDREN_LIMIT:
            self._start(self._waiting.pop(0))

    def _start(self, jobs: list[Job]) -> None:
        receive, send = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                _become_child(parent, send, *self._host.descriptors)
                work(self._host, jobs, _speaker(send))
            finally:
                os._exit(0)
        os.close(send)
        os.set_blocking(receive, False)
        child = _Child(pid, receive, list(jobs), self._deadline(jobs[0]))
        self._children[receive] = child
        self._selector.register(receive, selectors.EVENT_READ)

    def _deadline(self, job: Job) -> float:
        return min(time.monotonic() + job.deadline_s, self._ends_at)

    def _until_all_ended(self) -> None:
        while (self._children or self._waiting) and not self._stopped:
            self._start_waiting()
            if not self._children:
                return
            soonest = min(child.until for child in self._children.values())
            for key, _ in self._selector.select(max(0.0, min(soonest - time.monotonic(), 0.5))):
                if key.fd == self._control:
                    self._stopped = True
                elif key.fd in self._children:
                    self._read(self._children[key.fd])
            self._reap()
            for child in list(self._children.values()):
                # A descendant may hold the pipe open that the child has left.
                if time.monotonic() >= child.until or (not child.jobs and child.pid in self._statuses):
                    self._overdue(child)

    def _read(self, child: _Child) -> None:
        try:
            piece = os.read(child.pipe, 1 << 16)
        except BlockingIOError:
            return
        if not piece:
            self._ended(child)
            return
        child.unread += piece
        while child.jobs and (end := child.unread.find(b"\n")) >= 0:
            line = bytes(child.unread[:end])
            del child.unread[: end + 1]
            self._heard(child, line)
        if len(child.unread) > FRAME_LIMIT_BYTES + 1:
            self._fail(child, unmeasured(Reason.ERROR, "it wrote more than a measurement can be"))

    def _heard(self, child: _Child, line: bytes) -> None:
        try:
            frame = decode(line, Frame)
        except CodecError:
            self._fail(child, unmeasured(Reason.ERROR, "it wrote what is not a measurement"))
            return
        if not child.jobs or frame.key != child.jobs[0].key:
            return
        if frame.event == "started":
            child.until = self._deadline(child.jobs[0])
        elif frame.event == "measured":
            child.measured = True
        elif frame.event == "ended":
            child.jobs.pop(0)
            child.measured = False
        self._say(line)
        if not child.jobs:
            # It ends by itself: what runs at its end (a measurement of coverage is written then) is not cut off.
            child.until = min(time.monotonic() + ENDING_LIMIT_S, self._ends_at)
        elif frame.event == "ended":
            child.until = self._deadline(child.jobs[0])

    def _say(self, line: bytes) -> None:
        view = memoryview(line + b"\n")
        while view and not self._stopped:
            try:
                view = view[os.write(self._up, view) :]
            except BrokenPipeError:
                self._stopped = True

    def _ended(self, child: _Child) -> None:
        """The child closed its pipe: it is done, or it died in a job."""
        if child.jobs:
            self._kill(child)
            how = how_it_ended(self._statuses.get(child.pid))
            self._fail(child, unmeasured(Reason.ERROR, f"the process that measured it {how}"))
        else:
            self._forget(child)

    def _overdue(self, child: _Child) -> None:
        if not child.jobs:
            self._forget(child)
            return
        job = child.jobs[0]
        why = f"{job.probe.id} was not done within {job.deadline_s:g} s"
        if time.monotonic() >= self._ends_at:
            why = f"{job.probe.id} was not done when the time of the whole run was over"
        self._fail(child, unmeasured(Reason.TIMEOUT, why))

    def _fail(self, child: _Child, absent: Absent) -> None:
        """The job that a child is in is lost, unless it had measured already; the others go on elsewhere."""
        self._kill(child)
        if child.jobs:
            job, *rest = child.jobs
            if not child.measured:
                self._say(encode(_measured(job.key, absent, 0.0)))
            self._say(encode(Frame("ended", job.key)))
            child.jobs = []
            self._waiting += [[other] for other in rest]
        self._forget(child)

    def _forget(self, child: _Child) -> None:
        if child.pipe in self._children:
            del self._children[child.pipe]
            self._selector.unregister(child.pipe)
            os.close(child.pipe)
            self._kill(child)

    def _kill(self, child: _Child) -> None:
        """End a child with its descendants and all orphans. What cannot be ended is abandoned, and said."""
        others = {each.pid for each in self._children.values()} - {child.pid}
        give_up = time.monotonic() + KILL_LIMIT_S
        while True:
            pids = _descendants(os.getpid(), besides=others) - self._lost
            for pid in pids:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._reap()
            if not pids:
                return
            if time.monotonic() > give_up:
                for pid in sorted(pids):
                    self._lost.add(pid)
                    self._say(encode(Frame("abandoned", child.jobs[0].key if child.jobs else "", detail=str(pid))))
                return
            time.sleep(0.002)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                self._statuses[pid] = status

    def _end_all(self) -> None:
        for child in list(self._children.values()):
            child.jobs = []
            self._forget(child)


def _descendants(top: int, besides: set[int]) -> set[int]:
    """The processes below `top` that have not ended, but not those in `besides` nor what is below them."""
    found: set[int] = set()
    below = [top]
    while below:
        for pid in _children_of(below.pop()):
            if pid not in besides and pid not in found:
                found.add(pid)
                below.append(pid)
    return {pid for pid in found if _stat(pid)[:1] not in ((b"Z",), (b"X",), ())}


def _children_of(parent: int) -> list[int]:
    """The children of a process, from proc(5) `children`, or by a look at every process without it."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{parent}/task"):
            with open(f"/proc/{parent}/task/{thread}/children", "rb") as children:
                found.extend(int(pid) for pid in children.read().split())
    except OSError:
        if os.path.exists("/proc/self/task") and not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
            everyone = (int(name) for name in os.listdir("/proc") if name.isdecimal())
            return [pid for pid in everyone if _stat(pid)[1:2] == (b"%d" % parent,)]
    return found


def _stat(pid: int) -> tuple[bytes, ...]:
    """The state and the parent of a process, as proc(5) `stat` has them; empty when it is gone."""
    with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as stat:
        return tuple(stat.read().rpartition(b")")[2].split()[:2])
    return ()


def spawn(host: Target, together: list[list[Job]], alone: list[Job], ends_at: float) -> tuple[int, int, int]:
    """Fork the parent and let it run the jobs.

    Returns its pid, the descriptor that its frames come from, and one that ends everything when
    it is closed, which also happens when this process dies.
    """
    receive, up = os.pipe()
    control, hold = os.pipe()
    pid = os.fork()
    if pid == 0:
        _parent(host, together, alone, ends_at, up, control)
    os.close(up)
    os.close(control)
    return pid, receive, hold


def _parent(
    host: Target, together: list[list[Job]], alone: list[Job], ends_at: float, up: int, control: int
) -> NoReturn:
    code = 1
    try:
        os.setsid()
        leave_out_of(os.environ)
        # What is there already is not collected in the children either: a look at it all would copy it.
        gc.freeze()
        silence(up, control, *host.descriptors)
        hand_over(signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        Parent(host, up, control, ends_at).run(together, alone)
        code = 0
    finally:
        os._exit(code)
