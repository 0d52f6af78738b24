"""Child processes that take measurements, and the small parent that keeps their deadlines.

The parent is forked from the program before any thread exists. It is a child subreaper, so whatever
a probe leaves behind, also a process that made a session of its own, becomes its child and can be
ended. Everything it learns goes up one pipe as lines of JSON.
"""

import gc
import itertools
import os
import selectors
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from vdscheck.codec import CodecError, decode, encode
from vdscheck.measure.jobs import FRAME_LIMIT_BYTES, Frame, FrameHead, Job, register_told, speaker, told, work
from vdscheck.measure.pauses import SHORTEST_S, Halts, Waits, lasting
from vdscheck.measure.worker import be_child, prctl
from vdscheck.model.absence import Absent, Reason, limited, unmeasured
from vdscheck.process.guard import deadline, how_it_ended, silence
from vdscheck.process.limits import limit_of, limit_of_death, oom_kills, why_refused
from vdscheck.process.signals import hand_over
from vdscheck.process.tree import descendants
from vdscheck.target.interface import Target
from vdscheck.target.secrets import leave_out_of, what_failed

CHILDREN_LIMIT = 3
"""How many children run at once: each costs some 10 MB, and a small server has two CPUs."""
KILL_LIMIT_S = 1.0
"""How long a killed process may take to end before it is abandoned."""
ENDING_LIMIT_S = 2.0
"""How long a child whose jobs are done may take to end by itself before it is killed."""

_PR_SET_CHILD_SUBREAPER = 36


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
    again: bool = False
    """Whether that job met a limit, and is to be tried again when nothing runs beside it."""


class Supervisor:
    """Runs jobs in children, ends them at their deadlines with all their descendants, and reports."""

    def __init__(self, host: Target, up: int, control: int, ends_at: float) -> None:
        self._host, self._up, self._control, self._ends_at = host, up, control, ends_at
        self._children: dict[int, _Child] = {}
        # Unlike that of epoll it takes no descriptor.
        self._selector = selectors.PollSelector()
        self._stopped = False
        self._waiting: list[list[Job]] = []
        self._again: list[Job] = []
        self._at_once = CHILDREN_LIMIT
        self._tries_again = True
        self._limit: str | None = None
        """What keeps children from running beside each other."""
        self._oom_kills = oom_kills()
        self._lost: set[int] = set()
        self._statuses: dict[int, int] = {}
        self._waits = Waits()
        self._halts = Halts()
        self._anew: set[str] = set()
        """The jobs that are done anew after a pause: not more than once."""
        self._has_measured: set[str] = set()

    def run(self, together: list[list[Job]], alone: list[Job]) -> None:
        """Run groups of jobs, each in a child of its own and all at once, and then the others one by one."""
        self._selector.register(self._control, selectors.EVENT_READ)
        self._waiting = list(together)
        self._until_all_ended()
        for job in alone:
            self._waiting.append([job])
            self._until_all_ended()
        self._at_once, self._tries_again = 1, False
        self._waiting = [[job] for job in self._again]
        self._until_all_ended()
        self._end_all()

    def _start_waiting(self) -> None:
        if time.monotonic() >= self._ends_at:
            self._give_up_waiting()
        while self._waiting and len(self._children) < self._at_once and not self._stopped:
            jobs = self._waiting.pop(0)
            refusal = self._start(jobs)
            if refusal is None:
                continue
            self._limit = refusal
            if not self._children:
                self._work_here(jobs)
                return
            # It is tried again when one of those that run has ended.
            self._waiting.insert(0, jobs)
            self._at_once = len(self._children)

    def _give_up_waiting(self) -> None:
        """The time is over: what a limit let wait so long is told of it, and the rest by who started us."""
        if self._limit is not None:
            for job in itertools.chain.from_iterable(self._waiting):
                self._say(encode(told(job.key, limited(self._limit))))
        self._waiting.clear()

    def _start(self, jobs: list[Job]) -> str | None:
        """Fork a child for some jobs. Returns why not, where there can be none."""
        opened: tuple[int, ...] = ()
        parent = os.getpid()
        try:
            receive, send = opened = os.pipe()
            pid = os.fork()
        except (OSError, MemoryError) as error:
            for descriptor in opened:
                os.close(descriptor)
            return why_refused(error)
        if pid == 0:
            try:
                be_child(self._host, jobs, send, parent)
            finally:
                os._exit(0)
        os.close(send)
        os.set_blocking(receive, False)
        child = _Child(pid, receive, list(jobs), self._deadline(jobs[0]))
        self._children[receive] = child
        self._waits.begin()
        self._selector.register(receive, selectors.EVENT_READ)
        return None

    def _work_here(self, jobs: list[Job]) -> None:
        """Do jobs in this very process: there cannot be another one. The program ends it if it hangs."""
        for job in jobs:
            self._stopped = bool(self._selector.select(0))
            if self._stopped or time.monotonic() >= self._ends_at:
                return
            try:
                with deadline(min(job.deadline_s, max(0.1, self._ends_at - time.monotonic()))):
                    work(self._host, [job], speaker(self._up))
            except TimeoutError:
                self._say(encode(Frame("ended", job.key)))
            self._waits.begin()

    def _deadline(self, job: Job) -> float:
        return min(time.monotonic() + job.deadline_s, self._ends_at)

    def _until_all_ended(self) -> None:
        while (self._children or self._waiting) and not self._stopped:
            self._start_waiting()
            if not self._children:
                continue
            soonest = min(child.until for child in self._children.values())
            wait_s = max(0.0, min(soonest - time.monotonic(), SHORTEST_S))
            ready = self._selector.select(wait_s)
            paused_s = self._waits.paused_s(wait_s)
            if paused_s:
                self._do_anew(paused_s)
                continue
            for key, _ in ready:
                if key.fd == self._control:
                    self._stopped = True
                elif key.fd in self._children:
                    self._read(self._children[key.fd])
            self._reap()
            for child in list(self._children.values()):
                stopped_s = self._halts.ended_s(child.pid)
                if stopped_s is not None:
                    self._interrupted(child, stopped_s, by_itself=True)
                # A descendant may hold the pipe open that the child has left.
                elif time.monotonic() >= child.until or (not child.jobs and child.pid in self._statuses):
                    self._overdue(child)

    def _do_anew(self, paused_s: float) -> None:
        """All was paused: what was being measured holds the pause, and so may what has just been said."""
        self._ends_at += paused_s
        self._say(encode(Frame("paused", "", duration_s=paused_s)))
        for child in list(self._children.values()):
            self._interrupted(child, paused_s)

    def _interrupted(self, child: _Child, paused_s: float, *, by_itself: bool = False) -> None:
        """What a child was measuring while it was stopped is measured anew, once; the rest of its jobs elsewhere."""
        if not child.jobs:
            self._forget(child)
            return
        self._kill(child)
        job = child.jobs.pop(0)
        if job.key not in self._anew:
            if by_itself:
                self._say(encode(Frame("paused", job.key, duration_s=paused_s)))
            self._anew.add(job.key)
            self._waiting.append([job])
        else:
            if job.key not in self._has_measured:
                why = f"stopped {lasting(paused_s)} while this was measured, and before that as well: run it again"
                self._say(encode(told(job.key, unmeasured(Reason.TIMEOUT, why))))
            self._say(encode(Frame("ended", job.key)))
        self._go_on_elsewhere(child)

    def _read(self, child: _Child) -> bool:
        """Take in what a child has said. Returns whether there was anything, and there may be more."""
        try:
            piece = os.read(child.pipe, 1 << 16)
        except BlockingIOError:
            return False
        if not piece:
            self._ended(child)
            return False
        child.unread += piece
        while child.jobs and (end := child.unread.find(b"\n")) >= 0:
            line = bytes(child.unread[:end])
            del child.unread[: end + 1]
            self._heard(child, line)
        if len(child.unread) > FRAME_LIMIT_BYTES + 1:
            self._fail(child, unmeasured(Reason.ERROR, "it wrote more than a measurement can be"))
        return child.pipe in self._children

    def _heard(self, child: _Child, line: bytes) -> None:
        try:
            frame = decode(line, FrameHead)
        except CodecError:
            self._fail(child, unmeasured(Reason.ERROR, "it wrote what is not a measurement"))
            return
        if not child.jobs or frame.key != child.jobs[0].key:
            return
        if frame.event == "registered":
            with suppress(CodecError, ValueError):
                register_told(decode(line, Frame))
                self._say(line)
            return
        if frame.event == "started":
            child.until = self._deadline(child.jobs[0])
        elif frame.event == "measured":
            # What runs beside it may have taken the last process, or the last memory.
            limited_here = frame.absent is not None and frame.absent.limit is not None
            child.again = limited_here and self._tries_again and len(self._children) > 1
            child.measured = not child.again
        if not child.again:
            if frame.event == "measured":
                self._has_measured.add(frame.key)
            self._say(line)
        if frame.event == "ended":
            self._done_with_one(child)

    def _done_with_one(self, child: _Child) -> None:
        job = child.jobs.pop(0)
        if child.again:
            self._again.append(job)
        child.measured = child.again = False
        if child.jobs:
            child.until = self._deadline(child.jobs[0])
        else:
            # It ends by itself: what runs at its end (a measurement of coverage is written then) is not cut off.
            child.until = min(time.monotonic() + ENDING_LIMIT_S, self._ends_at)

    def _say(self, line: bytes) -> None:
        view, began_s = memoryview(line + b"\n"), time.monotonic()
        while view and not self._stopped:
            try:
                view = view[os.write(self._up, view) :]
            except BrokenPipeError:
                self._stopped = True
        waited_s = time.monotonic() - began_s
        # Where whoever reads it is stopped (Ctrl-Z), what is still to be measured does not lose that time.
        self._ends_at += waited_s
        self._waits.begin()

    def _ended(self, child: _Child) -> None:
        """The child closed its pipe: it is done, or it died in a job."""
        if not child.jobs:
            self._forget(child)
            return
        self._kill(child)
        status = self._statuses.get(child.pid)
        limit = limit_of_death(status, self._oom_kills)
        self._oom_kills = oom_kills()
        if limit is None:
            self._fail(child, unmeasured(Reason.ERROR, f"the process that measured it {how_it_ended(status)}"))
        elif child.measured or not self._tries_again:
            self._fail(child, limited(limit))
        else:
            self._limit, self._at_once = limit, 1
            self._again.append(child.jobs.pop(0))
            self._go_on_elsewhere(child)

    def _overdue(self, child: _Child) -> None:
        """The time of a child is over: what it has said by now counts, and may give it more."""
        for _ in range(FRAME_LIMIT_BYTES >> 16):
            if not self._read(child):
                break
        if child.pipe not in self._children or (child.jobs and time.monotonic() < child.until):
            return
        if not child.jobs:
            self._forget(child)
            return
        job, over_at = child.jobs[0], time.monotonic()
        holds_up_others = len(child.jobs) > 1 and over_at < self._ends_at
        why = f"{job.probe.id} was not done within {job.deadline_s:g} s"
        if over_at >= self._ends_at:
            why = f"{job.probe.id} was not done when the time of the whole run was over"
        if self._halts.is_halted(child.pid):
            why = f"{job.probe.id} was stopped by a signal, and not continued"
        self._fail(child, unmeasured(Reason.TIMEOUT, why))
        if holds_up_others:
            self._prolong(job.deadline_s + time.monotonic() - over_at)

    def _prolong(self, seconds: float) -> None:
        """What one job took, and what it took to end it, is not taken from those that come after it in its child."""
        self._ends_at += seconds
        self._say(encode(Frame("prolonged", "", duration_s=seconds)))

    def _fail(self, child: _Child, absent: Absent) -> None:
        """The job that a child is in is lost, unless it had measured already; the others go on elsewhere."""
        self._kill(child)
        if child.jobs:
            job = child.jobs.pop(0)
            if not child.measured:
                self._say(encode(told(job.key, absent)))
            self._say(encode(Frame("ended", job.key)))
        self._go_on_elsewhere(child)

    def _go_on_elsewhere(self, child: _Child) -> None:
        self._waiting += [[other] for other in child.jobs]
        child.jobs = []
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
        if child.pid not in self._statuses:
            # Without /proc nobody else can be seen.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
        while True:
            pids = descendants(os.getpid(), besides=others) - self._lost
            if child.pid not in self._statuses and child.pid not in self._lost:
                pids.add(child.pid)
            for pid in pids:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._reap()
            self._waits.begin()
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
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
                if pid == 0:
                    break
                if not self._halts.note(pid, status):
                    self._statuses[pid] = status

    def _end_all(self) -> None:
        for child in list(self._children.values()):
            child.jobs = []
            self._forget(child)


def spawn(host: Target, together: list[list[Job]], alone: list[Job], ends_at: float) -> tuple[int, int, int]:
    """Fork the parent and let it run the jobs.

    Returns its pid, the descriptor that its frames come from, and one that ends everything when
    it is closed, which also happens when this process dies. Raises OSError and MemoryError where it
    cannot be had.
    """
    opened: list[int] = []
    try:
        opened += os.pipe()
        opened += os.pipe()
        pid = os.fork()
    except (OSError, MemoryError):
        for descriptor in opened:
            os.close(descriptor)
        raise
    receive, up, control, hold = opened
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
        with suppress(OSError):
            os.setsid()
        leave_out_of(os.environ)
        # What is there already is not collected in the children either: a look at it all would copy it.
        gc.freeze()
        silence(up, control, *host.descriptors)
        hand_over(signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
        Supervisor(host, up, control, ends_at).run(together, alone)
        code = 0
    except Exception as error:  # noqa: BLE001 - whatever it is, whoever started us is told
        with suppress(OSError):
            speaker(up)(Frame("failed", "", detail=what_failed(error), limit=limit_of(error)))
    finally:
        os._exit(code)
