"""What is to be measured, how it is done in the process that measures, and what that process says of it."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, cast

from vdscheck.codec import encode
from vdscheck.model.absence import Absent, Reason, UnavailableError, limited, unmeasured
from vdscheck.model.records import frozen
from vdscheck.plugin import Probe
from vdscheck.process.limits import limit_of
from vdscheck.target.interface import Target
from vdscheck.target.secrets import register, tell_of_new, what_failed, without_logins_in

FRAME_LIMIT_BYTES = 16 << 20
"""The largest measurement that is taken: far beyond any sensible one."""


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
    """started, registered, measured, ended, abandoned; failed, paused, prolonged, of the parent itself."""
    key: str
    taken_at: str = ""
    duration_s: float = 0.0
    value: Any = None
    absent: Absent | None = None
    detail: str = ""
    """Of what was registered the secret itself, in hexadecimal digits: between processes, and no further."""
    limit: str | None = None
    """The limit that the parent itself failed for."""


@frozen
class FrameHead:
    """What the parent needs to know of a frame: to read a value too would cost it more than all else."""

    event: str
    key: str
    absent: Absent | None = None


def now() -> str:
    """The time as RFC 3339 in UTC."""
    seconds, rest_ns = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest_ns // 1_000_000:03d}Z"


def work(host: Target, jobs: Iterable[Job], say: Callable[[Frame], None]) -> None:
    """Do the jobs one after the other; a job that fails is an absence, not the end."""
    for job in jobs:
        began = time.monotonic()
        say(Frame("started", job.key))
        here = replace(cast("Any", host), ends_at=began + job.window_s if job.window_s else None)
        met: list[str] = getattr(here, "limits_met", [])
        met.clear()
        tell_of_new(partial(_registered, say, job.key))
        measured = False
        try:
            for value in _values(job, here):
                found = _promised(job, value)
                say(told(job.key, limited(met[0]) if met else found, time.monotonic() - began))
                measured = True
            if not measured:
                why = f"{job.key} measured nothing within its window of {job.window_s:g} s"
                absent = limited(met[0]) if met else unmeasured(Reason.TIMEOUT, why)
                say(told(job.key, absent, time.monotonic() - began))
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, and so may a library
            say(told(job.key, _lost(job, error, met), time.monotonic() - began))
        say(Frame("ended", job.key))


def _registered(say: Callable[[Frame], None], key: str, secret: str) -> None:
    say(Frame("registered", key, detail=secret.encode("utf-8", "surrogatepass").hex()))


def register_told(frame: Frame) -> None:
    """Keep a secret that another process has learnt."""
    register(bytes.fromhex(frame.detail).decode("utf-8", "surrogatepass"))


def _lost(job: Job, error: BaseException, met: list[str]) -> Absent:
    """Why there is no measurement. What a probe left out for a limit cannot be told from what is not there."""
    limit = met[0] if met else limit_of(error)
    if limit is not None:
        return limited(limit)
    if isinstance(error, UnavailableError):
        return error.absent
    why = f"{job.probe.id} failed ({job.probe.where}): {what_failed(error)}{_raised_in(error)}"
    return unmeasured(Reason.ERROR, why)


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
    if isinstance(value, Absent):
        return value
    if isinstance(value, job.provides):
        return without_logins_in(value)  # a text of the host or of a server may be anything
    message = f"it returned {type(value).__name__}, not {job.provides.__name__}"
    raise TypeError(message)


def told(key: str, value: Any, duration_s: float = 0.0) -> Frame:  # noqa: ANN401
    """What is said of a measurement, or of its absence."""
    if isinstance(value, Absent):
        return Frame("measured", key, now(), duration_s, None, value)
    return Frame("measured", key, now(), duration_s, value, None)


def speaker(pipe: int) -> Callable[[Frame], None]:
    """What writes frames to a pipe, each as a line of JSON."""

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
