"""Whether Redis answers in time, on a host that is set for it, bounded, closed to strangers, and with its data safe."""

from dataclasses import replace

from vdscheck.measurements import (
    HostLoad,
    HugePages,
    KernelOwner,
    Listeners,
    LoopbackRtt,
    RedisExposure,
    RedisLatency,
    RedisServerState,
    Spin,
    Sysctls,
    not_ours,
)
from vdscheck.plugin import (
    Absent,
    AtLeast,
    AtMost,
    ByHand,
    Confidence,
    Evidence,
    Expected,
    Judgement,
    Observed,
    OneOf,
    Reason,
    Severity,
    Verdict,
    absent_judgement,
    check,
    evidence,
    not_applicable,
    spoken,
    unmeasured,
    whole_number,
)

from .root_cause import Box, cause, facts, slow

MIB = 2**20
STALLED_SHARE = 0.05
"""House: from this share of the time on, slow PINGs are told of though too few of them are slow to fail."""
ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104 - what a socket that is bound to all addresses shows

_WORST_FIRST = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.WARN, Verdict.PASS)


def _worst(*judged: Judgement) -> Judgement:
    """The worst of several judgements; what is not applicable stands behind all others."""
    known = [each for each in judged if each.verdict is not Verdict.NOT_APPLICABLE]
    return min(known or judged, key=lambda each: _WORST_FIRST.index(each.verdict) if known else 0)


@check("redis.latency", severity=Severity.HIGH)
def latency(
    found: RedisLatency | Absent,
    state: RedisServerState | Absent,
    load: HostLoad | Absent,
    loopback: LoopbackRtt | Absent,
    spin: Spin | Absent,
    p99: AtMost,
) -> Judgement | Absent:
    """Redis answers within a millisecond.

    Why: What is asked of Redis is asked several times for each request of a user, so every millisecond
        counts several times.
    False positives: A server in another place can answer no faster than the network: the finding says
        so. One PING follows the other, so a stall of the server counts once, however many clients it
        holds up: the finding names the time in slow PINGs where that is much.
    By hand: redis-cli --latency-history -h HOST; redis-benchmark -c 1 -n 20000 -t ping_mbulk;
        redis-cli LATENCY HISTOGRAM; redis-cli INFO commandstats
    Sources: origin (the state of a circuit breaker must be had in under 1 ms);
        https://redis.io/docs/latest/operate/oss_and_stack/management/optimization/latency/
    """
    if isinstance(found, Absent):
        return state if isinstance(state, Absent) and state.kind == "not-applicable" else found
    limit_us, box = 1000 * p99.limit, Box(load, loopback, spin)
    shown = (*facts(found), *box.facts)
    judged = p99.judge(found.ping.percentile_ms(0.99), "PING p99", evidence=shown)
    if found.unanswered:
        waited_ms = found.ping.max_us / 1000
        text = f"a request had no answer after {spoken(round(waited_ms))} ms, {p99.phrase()}"
        judged = replace(p99.judge(waited_ms, "PING", evidence=shown), summary=text)
    over, parts = slow(found, limit_us), [judged.summary]
    if judged.verdict is not Verdict.PASS:
        parts[0] += f": {cause(found, limit_us, box).sentence}"
    elif over.total_us > found.window_s * 1e6 * STALLED_SHARE:
        longest = f"the longest {spoken(round(found.ping.max_us / 1000, 1))} ms"
        said = f"but {over.share} of {spoken(round(found.window_s, 1))} s, {longest}"
        parts.append(f"{said}: {cause(found, limit_us, box).sentence}")
    return replace(judged, summary="; ".join(filter(None, (*parts, box.busy))))


@check("redis.host-settings", severity=Severity.MEDIUM)
def host_settings(
    state: RedisServerState,
    owner: KernelOwner | Absent,
    kernel: Sysctls | Absent,
    pages: HugePages | Absent,
    overcommit: OneOf,
    thp: OneOf,
    backlog: AtLeast,
) -> Judgement | Absent:
    """The kernel that Redis runs on is set as Redis asks for.

    Why: Without overcommit a snapshot fails when memory is half full, huge pages make a fork stall, and
        a short accept queue refuses clients in a burst.
    False positives: A Redis that keeps nothing on disk never forks, and can do without overcommit.
    By hand: sysctl vm.overcommit_memory net.core.somaxconn; cat /sys/kernel/mm/transparent_hugepage/enabled;
        grep THP_enabled /proc/$(pidof redis-server)/status; redis-cli CONFIG GET tcp-backlog
    Fix: sysctl -w vm.overcommit_memory=1; sysctl -w net.core.somaxconn=BACKLOG;
        echo madvise > /sys/kernel/mm/transparent_hugepage/enabled; and restart the server
    Undo: the same with the values from before
    Sources: https://redis.io/docs/latest/operate/oss_and_stack/management/admin/ (Linux)
    """
    elsewhere = _elsewhere(state)
    if elsewhere is not None:
        return elsewhere
    foreign = not_ours("vm.overcommit_memory", owner, host_wide=True)
    if foreign is not None:
        return foreign
    judged = (_overcommit(kernel, overcommit), _huge_pages(state, pages, thp), _backlog(state, kernel, backlog))
    worst = _worst(*judged)
    beside = [each for each in judged if each is not worst and each.verdict is worst.verdict is Verdict.FAIL]
    said = "; ".join([worst.summary, *(each.summary for each in beside)])
    if worst.verdict is Verdict.PASS:
        said = "; ".join(each.summary for each in judged)
    return replace(worst, summary=said, evidence=tuple(fact for each in judged for fact in each.evidence))


def _elsewhere(state: RedisServerState) -> Absent | None:
    if state.here is True:
        return None
    if state.here is False:
        return not_applicable("it runs on another machine: vdscheck there sees that kernel")
    if "INFO" in state.missing:
        return state.missing["INFO"]
    why = "no process here is the one that INFO names: a tunnel to another machine, or one that may not be seen"
    return unmeasured(Reason.UNSUPPORTED, why)


def _setting(kernel: Sysctls | Absent, key: str) -> int | Absent:
    if isinstance(kernel, Absent):
        return kernel
    value = whole_number(kernel.values.get(key, ""))
    return kernel.missing.get(key, unmeasured(Reason.ERROR, f"{key} is not a number")) if value is None else value


def _overcommit(kernel: Sysctls | Absent, limit: OneOf) -> Judgement:
    key = "vm.overcommit_memory"
    fix = ByHand(f"set {key} to 1, now and at every boot", (f"sysctl -w {key}=1",))
    return limit.judge(_setting(kernel, key), key, fix=fix)


def _huge_pages(state: RedisServerState, pages: HugePages | Absent, limit: OneOf) -> Judgement:
    if isinstance(pages, Absent):
        return absent_judgement(pages)
    its_own = state.process.huge_pages if state.process is not None else None
    shown = () if its_own is None else (Evidence("THP_enabled", int(its_own), None, "/proc/PID/status of the server"),)
    judged = limit.judge(
        pages.enabled,
        "the mode of transparent huge pages",
        evidence=shown,
        fix=ByHand(
            "set transparent huge pages to madvise and restart the server",
            ("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",),
        ),
    )
    if judged.verdict is Verdict.PASS or its_own is True:
        return judged
    if its_own is None:
        why = "transparent huge pages are always on, and whether the server turned them off for itself cannot be seen"
        return absent_judgement(unmeasured(Reason.UNSUPPORTED, why))
    text = f"transparent huge pages are {pages.enabled}, but the server has turned them off for itself"
    return replace(judged, verdict=Verdict.PASS, summary=text, fix=None)


def _backlog(state: RedisServerState, kernel: Sysctls | Absent, limit: AtLeast) -> Judgement:
    key = "net.core.somaxconn"
    maximum = _setting(kernel, key)
    if isinstance(maximum, Absent):
        return absent_judgement(maximum)
    if state.backlog is None:
        unknown = unmeasured(Reason.UNSUPPORTED, "the server does not say its tcp-backlog")
        return absent_judgement(state.missing.get("CONFIG GET", unknown))
    wanted = max(1, state.backlog)
    fix = ByHand(f"set {key} to {wanted} and restart the server", (f"sysctl -w {key}={wanted}",))
    judged = limit.judge(
        100 * maximum / wanted, key, evidence=evidence(state, "backlog", source="CONFIG GET tcp-backlog"), fix=fix
    )
    return replace(judged, summary=f"{key} is {spoken(maximum)}, and the server asks for {spoken(state.backlog)}")


def _part(state: RedisServerState, name: str) -> Absent:
    """Why a part of the state is not there."""
    unknown = unmeasured(Reason.UNSUPPORTED, f"INFO of this server does not show {name}")
    return state.missing.get("INFO", unknown)


def _sentinel(state: RedisServerState) -> Absent | None:
    return not_applicable("a Sentinel keeps no data") if state.mode == "sentinel" else None


@check("redis.memory", severity=Severity.MEDIUM)
def memory(state: RedisServerState, bounded: AtLeast, used: AtMost) -> Judgement | Absent:
    """Redis has a limit of memory, and room below it.

    Why: Without a limit Redis grows until the kernel kills it, and at its limit it refuses writes or
        throws data away.
    False positives: A cache that evicts is meant to be full: then its hit rate says more than this. A
        replica may ignore the limit (replica-ignore-maxmemory).
    By hand: redis-cli INFO memory; redis-cli CONFIG GET maxmemory maxmemory-policy; redis-cli INFO stats
    Fix: redis-cli CONFIG SET maxmemory SIZE; redis-cli CONFIG SET maxmemory-policy POLICY; redis-cli CONFIG REWRITE
    Undo: redis-cli CONFIG SET maxmemory OLD; redis-cli CONFIG REWRITE
    Sources: https://redis.io/docs/latest/operate/oss_and_stack/management/admin/ (Memory);
        https://redis.io/docs/latest/develop/reference/eviction/
    """
    found = state.memory
    if found is None:
        return _part(state, "memory")
    if (sentinel := _sentinel(state)) is not None:
        return sentinel
    if found.maximum_bytes is None:
        return unmeasured(Reason.UNSUPPORTED, "INFO of this server does not show maxmemory")
    shown = evidence(
        found,
        *("used_bytes", "maximum_bytes", "policy", "system_bytes", "peak_bytes"),
        *("evicted_keys", "fragmentation_ratio", "fragmentation_bytes"),
        source="INFO memory",
    )
    limited = bounded.judge(found.maximum_bytes, "maxmemory", evidence=shown, fix=_limit(found.system_bytes))
    if limited.verdict is not Verdict.PASS:
        grown = f"{spoken(round(found.used_bytes / MIB, 1))} MiB are used"
        return replace(limited, summary=f"maxmemory is not set (now {grown}), so nothing bounds it")
    judged = used.judge(100 * found.used_bytes / max(1, found.maximum_bytes), "use of maxmemory", evidence=shown)
    evicted = f", {spoken(found.evicted_keys)} keys evicted" if found.evicted_keys else ""
    return replace(judged, summary=f"{judged.summary}; at the limit {_at_the_limit(found.policy)}{evicted}")


def _at_the_limit(policy: str | None) -> str:
    if policy == "noeviction":
        return "writes are refused (noeviction)"
    return f"keys are evicted ({policy})" if policy else "it is not known what happens"


def _limit(system_bytes: int | None) -> ByHand:
    share = "80 % of memory" if system_bytes is None else f"{spoken(int(0.8 * system_bytes / 2**20))}mb"
    command = "redis-cli CONFIG SET maxmemory SIZE && redis-cli CONFIG REWRITE"
    return ByHand(f"set maxmemory to at most {share}, and a maxmemory-policy for what is at the limit", (command,))


_CLOSED: Expected = {
    "op": "stated",
    "pass": "not usable without a password from elsewhere",
    "fail": "usable through a public address",
    "unit": None,
    "source": "Redis: https://redis.io/docs/latest/operate/oss_and_stack/management/security/",
}


@check("redis.exposure", severity=Severity.CRITICAL)
def exposure(found: RedisExposure, listeners: Listeners | Absent) -> Judgement:
    """Nobody can use Redis from the internet without a password.

    Why: An open Redis is found within hours, and who can write to it can mostly run programs on its host.
    False positives: A firewall in front of this machine cannot be seen from here: the finding is marked
        so. A default user who may do next to nothing still counts once a command that reads data works.
    By hand: redis-cli -h ADDRESS PING from another machine, without a password; ss -lnt
    Fix: bind it to the addresses that need it, and set a password: ACL SETUSER default, or requirepass
    Sources: https://redis.io/docs/latest/operate/oss_and_stack/management/security/;
        https://www.iana.org/assignments/iana-ipv4-special-registry/ (what is not public)
    """
    usable = [door for door in found.doors if door.entry == "usable"]
    public = [door for door in usable if door.public]
    everywhere = _bound_to_all(found, listeners)
    fix = ByHand("bind it to the addresses that need it, and set a password (ACL SETUSER default, or requirepass)")
    shown = tuple(
        Evidence(f"{door.address} port {door.port}", f"{door.entry}{', public' if door.public else ''}", None, "tried")
        for door in found.doors
    )
    where = ", ".join(door.address for door in (public or usable)[:3])
    if public:
        verdict, text = Verdict.FAIL, f"anybody can use it through {where} without a password"
    elif usable and everywhere:
        verdict, text = Verdict.WARN, f"it is bound to all addresses, and usable through {where} without a password"
    elif usable:
        verdict, text = Verdict.PASS, f"usable without a password through private addresses only ({where})"
    elif not found.ports:
        verdict, text = Verdict.PASS, "it listens on no TCP port"
    elif not found.doors:
        verdict, text = Verdict.PASS, "this machine has no address beyond loopback"
    else:
        count = len({door.address for door in found.doors})
        verdict, text = Verdict.PASS, f"not usable without a password through any of {count} addresses beyond loopback"
    return Judgement(
        verdict=verdict,
        summary=text + (f"; {found.untried} more addresses were not tried" if found.untried else ""),
        observed=Observed(
            ", ".join(dict.fromkeys(door.entry for door in found.doors)) or "none", None, None, None, None
        ),
        expected=_CLOSED,
        evidence=shown,
        confidence=Confidence.LOW if public or found.untried else Confidence.HIGH,
        fix=fix if verdict is not Verdict.PASS else None,
    )


def _bound_to_all(found: RedisExposure, listeners: Listeners | Absent) -> bool:
    """Whether a port of the server listens on all addresses; where that is not known, whether all let us in."""
    if isinstance(listeners, Absent):
        return all(door.entry == "usable" for door in found.doors)
    return any(each.port in found.ports and each.address in ALL_ADDRESSES for each in listeners.sockets)


@check("redis.persistence", severity=Severity.MEDIUM)
def persistence(state: RedisServerState, status: OneOf) -> Judgement | Absent:
    """What Redis keeps on disk was written.

    Why: After a failed save Redis refuses writes, and a restart brings back the data of the last good one.
    False positives: A cache that is meant to start empty: with `save ""` and appendonly no this does not apply.
    By hand: redis-cli INFO persistence; redis-cli CONFIG GET save appendonly
    Sources: https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
    """
    found = state.persistence
    if found is None:
        return _part(state, "persistence")
    if (sentinel := _sentinel(state)) is not None:
        return sentinel
    if found.loading:
        return unmeasured(Reason.UNREACHABLE, "it is loading its data: run vdscheck again when that is done")
    if found.saves is False and not found.aof:
        return not_applicable("it keeps nothing on disk: no snapshots (save) and no append-only file")
    shown = evidence(
        found,
        *("save_status", "since_save_s", "changes_since_save", "aof_write_status", "aof_rewrite_status"),
        source="INFO persistence",
    )
    parts = [("the last snapshot", found.save_status)] if found.saves is not False else []
    if found.aof:
        parts += [
            ("the last write of the append-only file", found.aof_write_status),
            ("its last rewrite", found.aof_rewrite_status),
        ]
    judged = [
        status.judge(said if said is not None else unmeasured(Reason.UNSUPPORTED, f"INFO says nothing of {what}"), what)
        for what, said in parts
    ]
    return replace(_worst(*judged), evidence=shown)


@check("redis.replication", severity=Severity.MEDIUM)
def replication(state: RedisServerState, link: OneOf, replicas: OneOf, lag: AtMost) -> Judgement | Absent:
    """Replicas follow their master.

    Why: A replica that does not follow answers with old data, and is of no use when the master is lost.
    False positives: A replica that was started a moment ago, and still takes its first copy.
    By hand: redis-cli INFO replication
    Sources: https://redis.io/docs/latest/operate/oss_and_stack/management/replication/
    """
    found = state.replication
    if found is None:
        return _part(state, "replication")
    if (sentinel := _sentinel(state)) is not None:
        return sentinel
    if found.role == "replica":
        shown = evidence(found, "role", "last_io_s", source="INFO replication")
        unknown = unmeasured(Reason.UNSUPPORTED, "INFO does not show the link to the master")
        judged = link.judge(found.link if found.link is not None else unknown, "the link to the master", evidence=shown)
        return replace(judged, summary=f"{judged.summary}; a copy is under way") if found.syncing else judged
    if not found.replicas:
        return not_applicable("it has no replica and is none")
    judged_each = []
    for each in found.replicas:
        judged_each.append(replicas.judge(each.state, f"the replica {each.address}"))
        if each.lag_s is not None and each.state in replicas.values:
            judged_each.append(lag.judge(each.lag_s, f"the lag of the replica {each.address}"))
    shown = tuple(
        Evidence(each.address, f"{each.state}, {spoken(each.behind_bytes)} bytes behind", None, "INFO replication")
        if each.behind_bytes is not None
        else Evidence(each.address, each.state, None, "INFO replication")
        for each in found.replicas
    )
    return replace(_worst(*judged_each), evidence=shown)


@check("redis.clients", severity=Severity.MEDIUM)
def clients(state: RedisServerState, used: AtMost) -> Judgement | Absent:
    """There is room for more clients.

    Why: At its maximum Redis refuses every new connection, also that of who comes to see why.
    False positives: A fixed number of clients that all stay connected.
    By hand: redis-cli INFO clients; redis-cli CONFIG GET maxclients; redis-cli CLIENT LIST
    Sources: https://redis.io/docs/latest/develop/reference/clients/ (Maximum concurrent connected clients)
    """
    if state.full:
        text = f"it refuses connections: the maximum of clients is reached, {used.phrase()}"
        return replace(used.judge(100, "use of maxclients"), summary=text)
    found = state.clients
    if found is None:
        return _part(state, "clients")
    if not found.maximum:
        unknown = unmeasured(Reason.UNSUPPORTED, "the server does not say its maxclients")
        return state.missing.get("CONFIG GET", unknown)
    shown = evidence(found, "connected", "maximum", "blocked", "rejected", source="INFO clients")
    return used.judge(100 * found.connected / found.maximum, "use of maxclients", evidence=shown)
