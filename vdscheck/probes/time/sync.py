"""The clock: where the kernel takes the time from, what reading it costs, and who keeps it right."""

import errno
import os
import struct
from typing import Any

from vdscheck.measurements import KernelClock
from vdscheck.plugin import Host, Reason, UnavailableError, probe, unmeasured

_ASKED = ("status", "offset", "maxerror", "esterror")
STA_UNSYNC = 0x0040
STA_NANO = 0x2000
"""Bits of the status (include/uapi/linux/timex.h)."""


TIMEX = struct.Struct("@I4li")
"""The start of struct timex, adjtimex(2): modes, offset, freq, maxerror, esterror, status."""
TIMEX_LIMIT_BYTES = 256
"""More than the whole of it, on any architecture."""


_TIMESYNC = "/run/systemd/timesync"


@probe("time.clock", formerly="clock.kernel", deadline_s=3.0)
def kernel_clock(host: Host) -> KernelClock:
    """Asks adjtimex(2), changing nothing, and chrony or systemd-timesyncd for its server."""
    found = host.fact("adjtimex", _adjtimex)
    try:
        status, offset, most, estimate = (_signed(found[name]) for name in _ASKED)
        return KernelClock(
            synchronised=not status & STA_UNSYNC,
            maximum_error_us=most,
            estimated_error_us=estimate,
            offset_us=offset / 1000 if status & STA_NANO else float(offset),
            source=_source(host),
            service=_service(host),
        )
    except (TypeError, KeyError, ValueError) as error:
        why = "the captured fact adjtimex is not what adjtimex(2) returns"
        raise UnavailableError(unmeasured(Reason.ERROR, why)) from error


def _adjtimex() -> dict[str, Any]:
    import ctypes  # 3 ms that only this probe needs

    answer = ctypes.create_string_buffer(TIMEX_LIMIT_BYTES)
    if ctypes.CDLL(None, use_errno=True).adjtimex(answer) < 0:
        number = ctypes.get_errno() or errno.EIO
        raise OSError(number, os.strerror(number))
    _, offset, _, most, estimate, status = TIMEX.unpack_from(answer)
    return dict(zip(_ASKED, (status, offset, most, estimate), strict=True))


def _signed(value: object) -> int:
    if type(value) is not int or not -(1 << 62) < value < 1 << 62:
        message = "not a number of struct timex"
        raise ValueError(message)
    return value


def _service(host: Host) -> str | None:
    """The time service that runs: each has a folder of its own while it does."""
    if any(host.exists(f"{folder}/chronyd.pid") for folder in ("/run/chrony", "/var/run/chrony")):
        return "chrony"
    return "systemd-timesyncd" if host.exists(_TIMESYNC) else None


def _source(host: Host) -> str | None:
    """Who steers the clock, where that can be had without waiting."""
    if _service(host) == "chrony":
        return _chrony(host)
    return "systemd-timesyncd" if host.exists(f"{_TIMESYNC}/synchronized") else None


def _chrony(host: Host) -> str:
    try:
        fields = host.run(("chronyc", "-n", "-c", "tracking"), timeout_s=1.0).strip().split(",")
    except UnavailableError:
        return "chrony"
    return f"chrony, from {fields[1][:64]}" if len(fields) > 1 and fields[1] else "chrony"
