"""Takes the measurements that a selection of checks needs: plans, runs, and keeps what was found."""

import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from vdscheck.catalogue.declarations import ProbeEntry
from vdscheck.codec import CodecError, convert, decode
from vdscheck.measure.jobs import Frame, Job, now, register_told
from vdscheck.measure.pauses import Waits, lasting
from vdscheck.measure.supervisor import spawn
from vdscheck.model.absence import Absent, Reason, limited, not_applicable, unmeasured
from vdscheck.model.records import frozen
from vdscheck.model.report import Taken
from vdscheck.process.guard import Countdown
from vdscheck.process.limits import limit_of_death, oom_kills, why_refused
from vdscheck.target.interface import Target
from vdscheck.target.secrets import redacted
from vdscheck.target.text import safe_text

GRACE_S = 5.0
"""How long after the last deadline the report is out at the latest."""
STOP_GRACE_S = 1.0
"""How long those that measure may take to end at a signal."""
TICK_S = 0.1


class Effort(StrEnum):
    """How long and how hard the probes may measure."""

    PASSIVE = "passive"
    QUICK = "quick"
    DEFAULT = "default"
    THOROUGH = "thorough"

    @property
    def budget_s(self) -> float:
        """The time that a run of this effort is meant to take; all deadlines end within twice of it."""
        return {"passive": 2.0, "quick": 4.0, "default": 12.0, "thorough": 60.0}[self.value]


class Observer(Protocol):
    """Told how the measuring goes on, so that the engine itself never prints."""

    def started(self, probe_id: str) -> None:
        """A probe has started."""

    def measured(self, key: str, taken: Taken, /) -> None:
        """A probe has measured; one that goes on will measure again, and better."""

    def finished(self, probe_id: str) -> None:
        """A probe has ended."""

    def tick(self) -> None:
        """A tenth of a second has gone by."""


@dataclass
class Outcome:
    """What was measured, and whether all of it."""

    measurements: dict[str, Taken] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    complete: bool = True
    failed: bool = False
    """Whether the measuring itself failed, so that what is missing is nobody's fault but ours."""
    limit: str | None = None
    """The limit of this session that ended the measuring as a whole."""
    given_up: bool = False
    """Whether the measuring was not done when it had to be."""
    has_secrets: bool = False
    """Whether a process that measured has learnt a secret: others, which did not know it, may have been told it."""

    @property
    def is_empty(self) -> bool:
        """Whether there is not one measurement, and not because the call left all of them out."""
        absences = [taken.absent for taken in self.measurements.values()]
        return all(absences) and any(
            absent.kind == "unmeasured" and absent.reason is not Reason.NOT_RUN for absent in filter(None, absences)
        )


@frozen
class Options:
    """What a run may do to a host, and what it looks at one by one."""

    effort: Effort = Effort.DEFAULT
    offline: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the subjects of probes are chosen from."""
    durations_s: Mapping[str, float] = field(default_factory=dict)
    """How long a probe that goes on measures, by its id, instead of what its effort says."""
    budget_s: float | None = None
    """How long the whole is meant to take, instead of what its effort says."""


def measure(
    host: Target,
    entries: Iterable[ProbeEntry],
    options: Options,
    *,
    observer: Observer | None = None,
    stopped: Callable[[], bool] = lambda: False,
    meanwhile: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run the probes on the host. Never raises for what a probe does, and never waits for one for good.

    Raises SubjectError, before anything is measured, for what cannot be a subject.

    When `stopped` turns true, what was measured so far is kept and the rest is `not-run`. What is to
    be done `meanwhile` is done while children measure, unless one of them must run alone.
    """
    outcome = Outcome()
    jobs: list[tuple[Job, ProbeEntry]] = []
    for entry in entries:
        for key, planned in _planned(entry, host, options).items():
            if isinstance(planned, Absent):
                outcome.measurements[key] = _absence(entry, planned)
            else:
                jobs.append((planned, entry))
    by_key = {job.key: entry for job, entry in jobs}
    if jobs and not stopped():
        try:
            running = _spawned(host, [job for job, _ in jobs], options)
        except (OSError, MemoryError) as error:
            outcome.failed, outcome.limit = True, why_refused(error)
        else:
            if not any(job.probe.alone for job, _ in jobs):
                meanwhile()
            _follow(running, by_key, outcome, observer, stopped)
    outcome.complete = not (stopped() or outcome.failed or outcome.given_up)
    absent = _why_missing(outcome, interrupted=stopped())
    missing = {key: _absence(entry, absent) for key, entry in by_key.items() if key not in outcome.measurements}
    if outcome.has_secrets:
        outcome.measurements = {key: _without_secrets(taken) for key, taken in outcome.measurements.items()}
    outcome.measurements = dict(sorted((outcome.measurements | missing).items()))
    return outcome


def _without_secrets(taken: Taken) -> Taken:
    """A measurement without what another process than its own has registered."""
    absent = taken.absent
    if absent is not None:
        return replace(taken, absent=replace(absent, detail=redacted(absent.detail)))
    return replace(taken, value=redacted(taken.value))


def _why_missing(outcome: Outcome, *, interrupted: bool) -> Absent:
    """Why nothing came of a probe that was to run."""
    if interrupted:
        return unmeasured(Reason.NOT_RUN, "the run was interrupted before this was measured")
    if outcome.limit is not None:
        return limited(outcome.limit)
    if outcome.failed:
        return unmeasured(Reason.ERROR, "the process that measures failed before this was measured")
    return unmeasured(Reason.TIMEOUT, "the time of the whole run was over before this was measured")


def _absence(entry: ProbeEntry, absent: Absent) -> Taken:
    return Taken(now(), 0.0, entry.probe.method, None, absent)


def _planned(entry: ProbeEntry, host: Target, options: Options) -> dict[str, Job | Absent]:
    """What there is to do for a probe, by key: a job, or why there is none. Raises SubjectError."""
    if entry.subject is None:
        return {entry.probe.id: _job(entry.probe.id, entry, None, host, options)}
    subjects = entry.subject.chosen(options.settings)
    if not subjects:
        return {entry.probe.id: not_applicable(f"nothing is configured for {entry.probe.id}")}
    keyed = {f"{entry.probe.id}[{name}]" if name else entry.probe.id: each for name, each in subjects.items()}
    return {key: _job(key, entry, subject, host, options) for key, subject in keyed.items()}


def _job(key: str, entry: ProbeEntry, subject: Any, host: Target, options: Options) -> Job | Absent:  # noqa: ANN401
    probe, window_s = entry.probe, 0.0
    if not host.live and (probe.live or probe.sends):
        return unmeasured(Reason.NOT_RUN, f"needs a running host, and {safe_text(host.root)} is a folder")
    if probe.sends and options.offline and not getattr(subject, "local", False):
        return unmeasured(Reason.NOT_RUN, "--offline lets no packet leave; run without it")
    if probe.window is not None:
        chosen: float | None = getattr(probe.window, f"{options.effort.value}_s")
        if chosen is None:
            return unmeasured(Reason.NOT_RUN, "--passive neither loads the host nor waits; run without it")
        window_s = options.durations_s.get(probe.id, chosen)
    return Job(key, probe, entry.provides, subject, window_s, window_s + probe.deadline_s)


@frozen
class _Running:
    """The parent of the children, and how long it may go on."""

    pid: int
    pipe: int
    hold: int
    limit_s: float
    oom_kills: int
    """How many processes of this cgroup had been ended for want of memory when it began."""


def _spawned(host: Target, jobs: list[Job], options: Options) -> _Running:
    cheap = [job for job in jobs if job.probe.cheap and not job.probe.alone]
    # The longest first: what is short finds a place beside it, and the whole is as long as the longest.
    separate = (job for job in jobs if not job.probe.cheap and not job.probe.alone)
    own = [[job] for job in sorted(separate, key=lambda job: -job.window_s)]
    alone = [job for job in jobs if job.probe.alone]
    # Of several disks or servers each is measured as long as one: then the run takes longer than its effort says.
    windows_s = max((job.window_s for job in jobs if not job.probe.alone), default=0.0) + sum(
        job.window_s for job in alone
    )
    budget_s = options.effort.budget_s if options.budget_s is None else options.budget_s
    limit_s = 2 * max(budget_s, windows_s)
    pid, pipe, hold = spawn(host, own + ([cheap] if cheap else []), alone, time.monotonic() + limit_s)
    return _Running(pid, pipe, hold, limit_s + GRACE_S, oom_kills())


def _follow(
    running: _Running,
    by_key: Mapping[str, ProbeEntry],
    outcome: Outcome,
    observer: Observer | None,
    stopped: Callable[[], bool],
) -> None:
    lines = _Lines(running.pipe, Countdown(running.limit_s), observer, stopped)
    try:
        for line in lines:
            _keep(line, by_key, outcome, observer, lines)
        if lines.given_up:
            outcome.given_up = True
            outcome.warnings.append("the measuring did not end in time and was given up")
        if lines.paused_s:
            outcome.warnings.append(f"stopped {lasting(lines.paused_s)}; the measuring went on meanwhile")
    finally:
        os.close(running.hold)
        os.close(running.pipe)
        status = _wait(running.pid, STOP_GRACE_S if stopped() else GRACE_S)
        outcome.failed = status != 0 and not stopped()
        if outcome.failed and outcome.limit is None:
            outcome.limit = limit_of_death(status, running.oom_kills)


class _Lines:
    """The lines that come up the pipe until it closes, its time is over, or all is stopped."""

    def __init__(self, pipe: int, countdown: Countdown, observer: Observer | None, stopped: Callable[[], bool]) -> None:
        self._pipe, self.countdown, self._observer, self._stopped = pipe, countdown, observer, stopped
        self._waits = Waits()
        self.given_up = False
        self.paused_s = 0.0
        """How long this process was stopped, and those that measure were not, as far as they have said."""

    def __iter__(self) -> Iterator[bytes]:
        unread = bytearray()
        while not self._stopped():
            over = self.countdown.over()
            # What has come is read before it is too late for it.
            piece = self._piece(0.0 if over else TICK_S)
            if piece is None:
                if over:
                    self.given_up = True
                    return
                if self._observer:
                    self._observer.tick()
                continue
            if not piece:
                return
            unread += piece
            while (end := unread.find(b"\n")) >= 0:
                yield bytes(unread[:end])
                del unread[: end + 1]

    def _piece(self, wait_s: float) -> bytes | None:
        """What comes in a while; None where nothing does, and nothing of it where the pipe is closed."""
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        ready = poll.poll(1000 * wait_s)
        self.paused_s += self._waits.paused_s(wait_s)
        return os.read(self._pipe, 1 << 16) if ready else None


def _keep(
    line: bytes, by_key: Mapping[str, ProbeEntry], outcome: Outcome, observer: Observer | None, lines: _Lines
) -> None:
    with suppress(CodecError):
        frame = decode(line, Frame)
        if frame.event == "abandoned":
            outcome.warnings.append(
                f"process {frame.detail} of {frame.key or 'a probe'} could not be ended and was left behind"
            )
        if frame.event == "failed":
            outcome.limit = frame.limit
            outcome.warnings.append(f"the process that measures failed: {frame.detail}")
        if frame.event == "prolonged":
            lines.countdown.extend(frame.duration_s)
        if frame.event == "paused":
            _note_pause(frame, outcome, lines)
        if frame.event == "registered":
            register_told(frame)
            outcome.has_secrets = True
        entry = by_key.get(frame.key)
        if entry is None:
            return
        if frame.event == "measured":
            outcome.measurements[frame.key] = _taken(frame, entry)
        if observer is not None:
            _observe(frame, outcome, observer)


def _observe(frame: Frame, outcome: Outcome, observer: Observer) -> None:
    if frame.event == "measured":
        observer.measured(frame.key, outcome.measurements[frame.key])
    if frame.event == "started":
        observer.started(frame.key)
    if frame.event == "ended":
        observer.finished(frame.key)


def _note_pause(frame: Frame, outcome: Outcome, lines: _Lines) -> None:
    """What was being measured in a pause is measured again, which takes as long again."""
    lines.countdown.extend(frame.duration_s)
    if frame.key:
        outcome.warnings.append(f"{frame.key} was stopped {lasting(frame.duration_s)}; it was measured again")
        return
    # A pause of all was that of this process as well.
    lines.paused_s = max(0.0, lines.paused_s - frame.duration_s - 1.0)
    outcome.warnings.append(f"stopped {lasting(frame.duration_s)}; what was being measured then was measured again")


def _taken(frame: Frame, entry: ProbeEntry) -> Taken:
    method, duration_s = entry.probe.method, round(frame.duration_s, 6)
    if frame.absent is not None:
        return Taken(frame.taken_at, duration_s, method, None, frame.absent)
    try:
        value = convert(frame.value, entry.provides)
    except CodecError as error:
        why = f"{entry.probe.id} returned what is not {entry.provides.__name__} ({entry.probe.where}): {error}"
        return Taken(frame.taken_at, duration_s, method, None, unmeasured(Reason.ERROR, why[:500]))
    return Taken(frame.taken_at, duration_s, method, value, None)


def _wait(pid: int, seconds: float) -> int:
    """Wait for the parent of the children, which ends them all first; no longer than it may take.

    Returns what waitpid(2) says of it; 0 where it is not known.
    """
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        with suppress(ChildProcessError):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended == 0:
                time.sleep(0.002)
                continue
            return status
        return 0
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return 0
