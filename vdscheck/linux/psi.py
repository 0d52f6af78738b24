"""Pressure stall information: /proc/pressure as numbers."""

import math
from typing import TypeVar

from vdscheck.linux.cgroups import whole
from vdscheck.measurements import Pressure
from vdscheck.plugin import Host, Reason, UnavailableError, not_applicable, unmeasured

P = TypeVar("P", bound=Pressure)


def stalls(host: Host, resource: str, kind: type[P]) -> P:
    """What /proc/pressure says of a resource.

    Not applicable where the running kernel was built, or is booted, without it.
    """
    path = f"/proc/pressure/{resource}"
    try:
        text = host.read(path)
    except UnavailableError as error:
        if host.live and error.absent.reason is Reason.UNSUPPORTED:
            why = f"this kernel counts no stalls: there is no {path} (CONFIG_PSI, or psi=1 at boot)"
            raise UnavailableError(not_applicable(why)) from error
        raise
    return parsed(text, path, kind)


def parsed(text: str, path: str, kind: type[P]) -> P:
    """The lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and, where there is one, `full ...`."""
    lines: dict[str, dict[str, str]] = {}
    for line in text.split("\n"):
        name, _, rest = line.partition(" ")
        lines[name] = dict(word.partition("=")[::2] for word in rest.split())
    try:
        some, full = lines["some"], lines.get("full")
        return kind(
            some_avg10_percent=_percent(some["avg10"]),
            some_avg60_percent=_percent(some["avg60"]),
            some_avg300_percent=_percent(some["avg300"]),
            full_avg60_percent=None if full is None else _percent(full["avg60"]),
            some_total_us=_count(some["total"]),
        )
    except (KeyError, ValueError) as error:
        why = f"{path} is not what a kernel writes there"
        raise UnavailableError(unmeasured(Reason.ERROR, why)) from error


def _percent(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0:
        message = "not a share of time"
        raise ValueError(message)
    return value


def _count(text: str) -> int:
    number = whole(text)
    if number is None:
        message = "not a counter"
        raise ValueError(message)
    return number
