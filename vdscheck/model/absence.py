"""What could not be measured, and why."""

from enum import StrEnum
from typing import Literal

from vdscheck.model.records import frozen


class Reason(StrEnum):
    """Why something is not known."""

    PERMISSION = "permission"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    UNSUPPORTED = "unsupported"
    TOO_FEW_SAMPLES = "too-few-samples"
    CONFLICT = "conflict"
    NOT_RUN = "not-run"
    ERROR = "error"


@frozen
class Absent:
    """There is no value; `detail` says why, and what to do about it.

    Made with `not_applicable` (makes no sense here) or `unmeasured` (could not be had).
    """

    kind: Literal["not-applicable", "unmeasured"]
    reason: Reason | None
    detail: str
    limit: str | None = None
    """The limit of the session that stopped the measurement, such as `the limit of open files (ulimit -n 8)`."""


def not_applicable(why: str) -> Absent:
    """The value makes no sense on this target."""
    return Absent("not-applicable", None, why)


def unmeasured(reason: Reason, why: str) -> Absent:
    """The value may exist, and could not be had."""
    return Absent("unmeasured", reason, why)


def limited(limit: str) -> Absent:
    """The value may exist, and a limit of this session stopped its measurement."""
    return Absent("unmeasured", Reason.ERROR, f"{limit} stopped this measurement", limit)


class UnavailableError(Exception):
    """A target could not give what was asked of it; `absent` is what the engine keeps of it."""

    def __init__(self, absent: Absent) -> None:
        super().__init__(absent.detail)
        self.absent = absent
