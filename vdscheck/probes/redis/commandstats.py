"""What a Redis server says of its own work between two moments, as far as it may be asked."""

import time
from collections.abc import Mapping
from typing import Any

from vdscheck.measurements import CallTime, RedisServing
from vdscheck.plugin import Absent, Reason, unmeasured
from vdscheck.probes.redis.connection import RefusedError, Wire
from vdscheck.probes.redis.info import (
    LARGEST,
    LOUDEST,
    Histograms,
    Info,
    between,
    command_times,
    events,
    histograms,
    info,
    newest_slow,
    pairs,
    used,
    whole,
)

ANSWER_LIMIT_S = 1.0
OURS = ("auth", "config|get", "info", "latency|histogram", "latency|latest", "ping", "select", "slowlog|get")
"""What the measurement itself sends, by the names that INFO commandstats has."""


class CommandStats:
    """A server's account of its work from one moment on."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._missing: dict[str, Absent] = {}
        self.info = self._info()
        """INFO as it was at the beginning; None where it may not be asked."""
        self._times = self._command_times()
        self._histograms = self._latency_histograms()
        config = self._config("slowlog-log-slower-than") | self._config("latency-monitor-threshold")
        self._slow_limit_us = whole(config.get("slowlog-log-slower-than"))
        self._monitored = bool(whole(config.get("latency-monitor-threshold")))
        self._slow = self._newest_slow()
        self._began_s = int(time.time())

    def since(self, window_s: float) -> RedisServing | Absent:
        """What the server did since then."""
        times = self._command_times()
        if times is None or self._times is None:
            return self._missing["INFO"]
        commands = used(self._times, times, OURS)
        now = self._latency_histograms()
        new = None if now is None or self._histograms is None else between(self._histograms, now, OURS)
        slow = self._newest_slow()
        forks, fork_us = self._forks()
        return RedisServing(
            window_s=round(window_s, 3),
            commands=commands[:LOUDEST],
            others_us=min(LARGEST, sum(each.total_us for each in commands)),
            calls=None if new is None else _added(new),
            slowest=max(new, key=lambda name: max(new[name])) if new else None,
            forks=forks,
            fork_us=fork_us,
            slow_commands=None if slow is None or self._slow is None else max(0, slow - self._slow),
            slow_limit_us=self._slow_limit_us,
            events_ms=self._events(),
            missing=dict(self._missing),
        )

    def _ask(self, *words: str, name: str) -> Any:  # noqa: ANN401 - what a server sends
        """An answer; None where it is refused, and then it is not asked again."""
        if name in self._missing:
            return None
        try:
            return self._wire.ask(*words, within_s=ANSWER_LIMIT_S)
        except RefusedError as error:
            self._missing[name] = error.absent
            return None

    def _info(self, *sections: str) -> Info | None:
        answer = self._ask("INFO", *sections, name="INFO")
        if not isinstance(answer, bytes):
            why = f"{self._wire.server.name} answers INFO with nothing that INFO has"
            self._missing.setdefault("INFO", unmeasured(Reason.ERROR, why))
            return None
        return info(answer)

    def _command_times(self) -> Mapping[str, tuple[int, int]] | None:
        found = self._info("commandstats")
        return None if found is None else command_times(found)

    def _latency_histograms(self) -> Histograms | None:
        answer = self._ask("LATENCY", "HISTOGRAM", name="LATENCY HISTOGRAM")
        return None if answer is None else histograms(answer)

    def _config(self, parameter: str) -> dict[str, str]:
        return dict(pairs(self._ask("CONFIG", "GET", parameter, name="CONFIG GET")))

    def _newest_slow(self) -> int | None:
        if self._slow_limit_us is None:
            return None
        answer = self._ask("SLOWLOG", "GET", "1", name="SLOWLOG GET")
        return None if answer is None else newest_slow(answer)

    def _forks(self) -> tuple[int | None, int | None]:
        stats = self._info("stats")
        if stats is None or self.info is None:
            return None, None
        first, last = whole(self.info.get("total_forks")), whole(stats.get("total_forks"))
        if first is None or last is None:
            return None, None
        return max(0, last - first), whole(stats.get("latest_fork_usec")) if last > first else None

    def _events(self) -> dict[str, int]:
        if not self._monitored:
            return {}
        return dict(events(self._ask("LATENCY", "LATEST", name="LATENCY LATEST"), self._began_s))


def no_longer(name: str) -> Absent:
    """Why there is no account of a server that stopped to answer."""
    return unmeasured(Reason.TIMEOUT, f"{name} no longer answers")


def _added(found: Histograms) -> tuple[CallTime, ...]:
    totals: dict[int, int] = {}
    for buckets in found.values():
        for bound, calls in buckets.items():
            totals[bound] = min(LARGEST, totals.get(bound, 0) + calls)
    return tuple(CallTime(at_most_us=bound, calls=calls) for bound, calls in sorted(totals.items()))
