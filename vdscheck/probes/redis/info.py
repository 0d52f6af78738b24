"""What a Redis server says of itself, as measurements: INFO and its statistics, replies of CONFIG and LATENCY."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from vdscheck.measurements import (
    CommandTime,
    RedisClients,
    RedisMemory,
    RedisPersistence,
    RedisReplica,
    RedisReplication,
)
from vdscheck.plugin import secrets
from vdscheck.probes.redis.messages import printable

LARGEST = 1 << 62
LINES_LIMIT = 5000
REPLICAS_LIMIT = 100
LOUDEST = 10

_POLICIES = (f"{kind}-{order}" for kind in ("allkeys", "volatile") for order in ("lru", "lfu", "lrm", "random", "ttl"))
_WORDS = frozenset((*_POLICIES, "noeviction", "standalone", "sentinel", "cluster", "wait_bgsave", "send_bulk"))
"""What INFO has as mode, state and policy, of 8 characters and more."""

Info = Mapping[str, str]
"""INFO by name, of all its sections."""


def info(answer: Any) -> Info:  # noqa: ANN401 - what a server sends
    """The lines `name:value` of an answer to INFO; nothing of one that is not a text."""
    if not isinstance(answer, bytes):
        return {}
    found: dict[str, str] = {}
    for line in answer.split(b"\n")[:LINES_LIMIT]:
        name, colon, value = line.strip().partition(b":")
        if colon and not line.startswith(b"#"):
            found[printable(name)] = value.decode("utf-8", "replace")
    return found


def pairs(answer: Any) -> Mapping[str, str]:  # noqa: ANN401
    """The names and values of an answer to CONFIG GET."""
    words = [word.decode("utf-8", "replace") for word in _listed(answer) if isinstance(word, bytes)]
    return dict(zip(words[::2], words[1::2], strict=False))


def whole(text: str | None) -> int | None:
    """A number of INFO that is not negative; None for what is not one."""
    if text is None or not re.fullmatch("[0-9]{1,19}", text):
        return None
    number = int(text)
    return number if number < LARGEST else None


def ratio(text: str | None) -> float | None:
    """A ratio of INFO; None for what is not one."""
    return float(text) if text is not None and re.fullmatch(r"[0-9]{1,12}\.[0-9]{1,6}", text) else None


def word(text: str | None) -> str | None:
    """A status or a name: letters, digits and - . _ only, so that nothing else passes through here.

    A password that a server repeats as one does not pass either; one that is a word of INFO itself has to stand there.
    """
    if text is None or not re.fullmatch(r"[A-Za-z0-9._-]{1,40}", text):
        return None
    return text if text in _WORDS or secrets.redacted(text) == text else None


# Sections


def flavour(found: Info) -> tuple[str, str | None]:
    """What it is, and its version: Valkey shows the Redis that it is compatible with beside its own."""
    if found.get("server_name") == "valkey" or "valkey_version" in found:
        return "valkey", word(found.get("valkey_version"))
    return "redis", word(found.get("redis_version"))


def memory(found: Info) -> RedisMemory | None:
    """INFO memory."""
    used = whole(found.get("used_memory"))
    if used is None:
        return None
    return RedisMemory(
        used_bytes=used,
        maximum_bytes=whole(found.get("maxmemory")),
        policy=word(found.get("maxmemory_policy")),
        system_bytes=whole(found.get("total_system_memory")),
        peak_bytes=whole(found.get("used_memory_peak")),
        evicted_keys=whole(found.get("evicted_keys")),
        fragmentation_ratio=ratio(found.get("mem_fragmentation_ratio")),
        fragmentation_bytes=whole(found.get("mem_fragmentation_bytes")),
    )


def persistence(found: Info, save: str | None, now_s: float) -> RedisPersistence | None:
    """INFO persistence; `save` is that of CONFIG GET."""
    if "loading" not in found:
        return None
    saved_s = whole(found.get("rdb_last_save_time"))
    return RedisPersistence(
        loading=found["loading"] == "1",
        saves=None if save is None else bool(save.strip()),
        save_status=word(found.get("rdb_last_bgsave_status")),
        since_save_s=None if saved_s is None else max(0, int(now_s) - saved_s),
        changes_since_save=whole(found.get("rdb_changes_since_last_save")),
        aof=found.get("aof_enabled") == "1",
        aof_write_status=word(found.get("aof_last_write_status")),
        aof_rewrite_status=word(found.get("aof_last_bgrewrite_status")),
    )


_ROLES: Mapping[str, Literal["master", "replica"]] = {"master": "master", "slave": "replica", "replica": "replica"}


def replication(found: Info) -> RedisReplication | None:
    """INFO replication."""
    if "role" not in found:
        return None
    offset = whole(found.get("master_repl_offset"))
    lines = (text for name, text in found.items() if re.fullmatch("(slave|replica)[0-9]{1,5}", name))
    return RedisReplication(
        role=_ROLES.get(found["role"], "other"),
        link=word(found.get("master_link_status")),
        syncing=found.get("master_sync_in_progress") == "1",
        last_io_s=whole(found.get("master_last_io_seconds_ago")),
        replicas=tuple(_replica(text, offset) for text, _ in zip(lines, range(REPLICAS_LIMIT), strict=False)),
    )


def _replica(text: str, master_offset: int | None) -> RedisReplica:
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    offset = whole(fields.get("offset"))
    behind = None if offset is None or master_offset is None else max(0, master_offset - offset)
    host, port = word(fields.get("ip")) or "?", word(fields.get("port")) or "?"
    return RedisReplica(
        address=f"{host}:{port}",
        state=word(fields.get("state")) or "unknown",
        lag_s=whole(fields.get("lag")),
        behind_bytes=behind,
    )


def clients(found: Info, maximum: str | None) -> RedisClients | None:
    """INFO clients; the maximum is in it from 6.2 on, else that of CONFIG GET counts."""
    connected = whole(found.get("connected_clients"))
    if connected is None:
        return None
    return RedisClients(
        connected=connected,
        maximum=whole(found.get("maxclients", maximum)),
        blocked=whole(found.get("blocked_clients")),
        rejected=whole(found.get("rejected_connections")),
    )


# What commands took


def command_times(found: Info) -> Mapping[str, tuple[int, int]]:
    """Calls and microseconds by command (INFO commandstats)."""
    times = {}
    for name, text in found.items():
        fields = re.match("calls=([0-9]{1,18}),usec=([0-9]{1,18}),", text)
        if name.startswith("cmdstat_") and fields:
            times[name.removeprefix("cmdstat_")[:60]] = (int(fields[1]), int(fields[2]))
    return times


def used(
    before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]], ours: Iterable[str]
) -> tuple[CommandTime, ...]:
    """What was called in between, most time first, without what this measurement sends itself."""
    mine = set(ours)
    found = []
    for name, (calls, total_us) in after.items():
        calls_before, us_before = before.get(name, (0, 0))
        if name not in mine and calls > calls_before and total_us >= us_before:
            found.append(CommandTime(name=name, calls=calls - calls_before, total_us=total_us - us_before))
    return tuple(sorted(found, key=lambda each: (-each.total_us, each.name)))


Histograms = Mapping[str, Mapping[int, int]]
"""Calls by command and by how long they took at most, in microseconds; not cumulative."""


def histograms(answer: Any) -> Histograms:  # noqa: ANN401
    """An answer to LATENCY HISTOGRAM: name, [calls, n, histogram_usec, [bound, calls up to it, ...]], ..."""
    found: dict[str, dict[int, int]] = {}
    words = _listed(answer)
    for name, details in zip(words[::2], words[1::2], strict=False):
        parts = _listed(details)
        if not isinstance(name, bytes) or b"histogram_usec" not in parts:
            continue
        buckets = _listed(parts[-1])
        bounds = [each for each in buckets if isinstance(each, int)]
        below, own = 0, {}
        for bound, upto in zip(bounds[::2], bounds[1::2], strict=False):
            if 0 <= bound < LARGEST and below < upto < LARGEST:
                own[bound] = upto - below
                below = upto
        found[printable(name)[:60]] = own
    return found


def between(before: Histograms, after: Histograms, ours: Iterable[str]) -> Histograms:
    """The calls between two histograms, without what this measurement sends itself."""
    mine = set(ours)
    found = {}
    for name, buckets in after.items():
        earlier = before.get(name, {})
        calls = {bound: count - earlier.get(bound, 0) for bound, count in buckets.items()}
        new = {bound: count for bound, count in calls.items() if count > 0}
        if new and name not in mine:
            found[name] = new
    return found


def newest_slow(answer: Any) -> int:  # noqa: ANN401
    """The number of the newest entry of the slow log; -1 of an empty one. What was called is not looked at."""
    first = next(iter(_listed(answer)), None)
    number = next(iter(_listed(first)), None)
    return number if isinstance(number, int) and 0 <= number < LARGEST else -1


def events(answer: Any, since_s: int) -> Mapping[str, int]:  # noqa: ANN401
    """An answer to LATENCY LATEST: the latest of each kind of event, in ms, that came at some time or later."""
    found = {}
    for entry in _listed(answer)[:50]:
        parts = _listed(entry)
        match parts[:3]:
            case [bytes() as name, int() as at_s, int() as took_ms] if at_s >= since_s and 0 <= took_ms < LARGEST:
                found[printable(name)[:40]] = took_ms
    return found


def _listed(answer: Any) -> list[Any]:  # noqa: ANN401
    return answer if isinstance(answer, list) else []
