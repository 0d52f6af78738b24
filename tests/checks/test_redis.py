"""Every verdict of the checks of Redis, and which of box, network and server is named."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck import testing
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.measurements import (
    CallTime,
    CommandTime,
    HostLoad,
    HugePages,
    KernelOwner,
    Listener,
    Listeners,
    LoopbackRtt,
    RedisClients,
    RedisDoor,
    RedisExposure,
    RedisLatency,
    RedisMemory,
    RedisPersistence,
    RedisProcess,
    RedisReplica,
    RedisReplication,
    RedisServerState,
    RedisServing,
    Spin,
    Sysctls,
    TimeLost,
)
from vdscheck.model.absence import Reason, not_applicable, unmeasured
from vdscheck.model.judgement import Confidence, Judgement, Verdict
from vdscheck.stats import Distribution, Recorder

PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL
UNKNOWN, NOT_HERE = Verdict.UNKNOWN, Verdict.NOT_APPLICABLE
NOT_ALLOWED = unmeasured(Reason.PERMISSION, "user mon may not do INFO: ACL SETUSER mon +info")
NOT_ASKED = unmeasured(Reason.NOT_RUN, "not in this run")
NOBODY = not_applicable("no Redis listens")


def times(*parts: tuple[int, float]) -> Distribution:
    """So many durations of so many us."""
    recorder = Recorder()
    for count, us in parts:
        recorder.add([int(1000 * us)] * count)
    found = recorder.distribution()
    assert found is not None
    return found


SERVING = RedisServing(
    window_s=1.5, commands=(), others_us=0, calls=(), slowest=None, forks=0, fork_us=None,
    slow_commands=0, slow_limit_us=10_000, events_ms={}, missing={},
)  # fmt: skip
FAST = RedisLatency(
    transport="tcp", here=True, window_s=1.5, warm_up=100, ping=times((50_000, 25.0)), unanswered=0,
    connect=times((15, 60.0)), tcp_rtt_us=30, tcp_min_rtt_us=10, retransmits=0,
    waited_us=1000.0, server_waited_us=1000.0, usual_wait_us=0.0, serving=SERVING, serving_absent=None,
)  # fmt: skip
SLOW = replace(FAST, ping=times((9_000, 25.0), (1_000, 3000.0)))
"""A tenth of the PINGs take 3 ms: 2,975 ms too much in all."""
BUSY = replace(
    SERVING,
    commands=(CommandTime(name="keys", calls=900, total_us=2_700_000),),
    others_us=2_700_000,
    calls=(CallTime(at_most_us=4096, calls=900),),
    slowest="keys",
)
PROCESS = RedisProcess(pid=7, name="redis-server", huge_pages=False)
STATE = RedisServerState(
    flavour="redis", version="7.0.15", mode="standalone", here=True,
    process=PROCESS, full=False,
    memory=RedisMemory(
        used_bytes=50, maximum_bytes=100, policy="noeviction", system_bytes=1 << 33, peak_bytes=60, evicted_keys=0,
        fragmentation_ratio=1.1, fragmentation_bytes=5,
    ),
    persistence=RedisPersistence(
        loading=False, saves=True, save_status="ok", since_save_s=60, changes_since_save=0, aof=True,
        aof_write_status="ok", aof_rewrite_status="ok",
    ),
    replication=RedisReplication(
        role="master", link=None, syncing=False, last_io_s=None,
        replicas=(RedisReplica(address="10.0.0.2:6379", state="online", lag_s=1, behind_bytes=0),),
    ),
    clients=RedisClients(connected=80, maximum=100, blocked=0, rejected=0), backlog=511, missing={},
)  # fmt: skip
SHUT = replace(STATE, memory=None, persistence=None, replication=None, clients=None, missing={"INFO": NOT_ALLOWED})
OWNER = KernelOwner(ours=True, writable=True, clues=())
KERNEL = Sysctls(values={"vm.overcommit_memory": "1", "net.core.somaxconn": "4096"}, missing={})
PAGES = HugePages(enabled="madvise", defrag="madvise")
DOOR = RedisDoor(address="10.0.0.5", port=6379, public=False, entry="usable", said=None)
PUBLIC = replace(DOOR, address="8.8.4.4", public=True)
LISTENER = Listener(address="0.0.0.0", port=6379, backlog=511, waiting=0, owner="redis-server")
EVERYWHERE = Listeners(sockets=(LISTENER,), local_ports_in_use=1)
SOMEWHERE = Listeners(sockets=(replace(LISTENER, address="10.0.0.5"),), local_ports_in_use=1)


def open_at(*doors: RedisDoor, ports: tuple[int, ...] = (6379,)) -> RedisExposure:
    return RedisExposure(ports=ports, doors=doors, untried=0)


def of(part: str, **changes: Any) -> dict[str, RedisServerState]:
    return {"state": replace(STATE, **{part: replace(getattr(STATE, part), **changes)})}


def on(**changes: Any) -> dict[str, Any]:
    return {"state": STATE, "owner": OWNER, "kernel": KERNEL, "pages": PAGES} | changes


ALWAYS = HugePages(enabled="always", defrag=None)
CASES: list[tuple[str, dict[str, Any], Verdict, str]] = [
    ("latency", {"found": FAST, "state": STATE}, PASS, "PING p99 is 0.025 ms"),
    ("latency", {"found": SLOW, "state": STATE}, FAIL, "cannot be told"),
    ("latency", {"found": replace(FAST, ping=times((20, 25.0))), "state": STATE}, UNKNOWN, "too few samples"),
    ("latency", {"found": NOT_ALLOWED, "state": STATE}, UNKNOWN, "ACL SETUSER mon"),
    ("latency", {"found": unmeasured(Reason.NOT_RUN, "--passive"), "state": NOBODY}, NOT_HERE, "no Redis"),
    ("latency", {"found": unmeasured(Reason.NOT_RUN, "--passive"), "state": STATE}, UNKNOWN, "--passive"),
    (
        "latency",
        {"found": replace(FAST, ping=times((50_000, 25.0), (1, 2e6)), unanswered=1), "state": STATE},
        FAIL,
        "a request had no answer after 2,000 ms",
    ),
    # the host
    ("host-settings", on(), PASS, "the server asks for 511"),
    ("host-settings", on(kernel=replace(KERNEL, values=KERNEL.values | {"vm.overcommit_memory": "0"})), FAIL, "is 0"),
    ("host-settings", on(kernel=replace(KERNEL, values=KERNEL.values | {"net.core.somaxconn": "128"})), FAIL, "is 128"),
    ("host-settings", on(pages=ALWAYS), PASS, "turned them off for itself"),
    (
        "host-settings",
        on(pages=ALWAYS, state=replace(STATE, process=replace(PROCESS, huge_pages=True))),
        FAIL,
        "always",
    ),
    ("host-settings", on(pages=ALWAYS, state=replace(STATE, process=None)), UNKNOWN, "cannot be seen"),
    ("host-settings", on(pages=NOT_ALLOWED), UNKNOWN, "may not"),
    ("host-settings", on(kernel=NOT_ALLOWED), UNKNOWN, "may not"),
    (
        "host-settings",
        on(kernel=replace(KERNEL, values=KERNEL.values | {"net.core.somaxconn": "x"})),
        UNKNOWN,
        "a number",
    ),
    ("host-settings", on(state=replace(STATE, backlog=None)), UNKNOWN, "tcp-backlog"),
    ("host-settings", on(state=replace(STATE, here=False)), NOT_HERE, "another machine"),
    ("host-settings", on(state=replace(STATE, here=None)), UNKNOWN, "a tunnel"),
    ("host-settings", on(state=replace(SHUT, here=None)), UNKNOWN, "ACL SETUSER mon"),
    ("host-settings", on(owner=replace(OWNER, ours=False)), NOT_HERE, ""),
    # memory
    ("memory", {"state": STATE}, PASS, "writes are refused (noeviction)"),
    ("memory", of("memory", used_bytes=90), PASS, "is 90 %"),
    (
        "memory",
        of("memory", used_bytes=91, policy="allkeys-lru", evicted_keys=7),
        FAIL,
        "(allkeys-lru), 7 keys evicted",
    ),
    ("memory", of("memory", policy=None), PASS, "not known"),
    ("memory", of("memory", maximum_bytes=0), FAIL, "maxmemory is not set"),
    ("memory", of("memory", maximum_bytes=None), UNKNOWN, "does not show maxmemory"),
    ("memory", {"state": SHUT}, UNKNOWN, "ACL SETUSER mon +info"),
    ("memory", {"state": replace(STATE, mode="sentinel")}, NOT_HERE, "Sentinel"),
    # exposure
    ("exposure", {"found": open_at(PUBLIC), "listeners": EVERYWHERE}, FAIL, "anybody can use it through 8.8.4.4"),
    ("exposure", {"found": open_at(DOOR), "listeners": EVERYWHERE}, WARN, "bound to all addresses"),
    ("exposure", {"found": open_at(DOOR), "listeners": SOMEWHERE}, PASS, "private addresses only"),
    ("exposure", {"found": open_at(DOOR), "listeners": NOT_ALLOWED}, WARN, "bound to all"),
    (
        "exposure",
        {"found": open_at(replace(PUBLIC, entry="refused")), "listeners": EVERYWHERE},
        PASS,
        "any of 1 addresses",
    ),
    ("exposure", {"found": open_at(replace(PUBLIC, entry="ping-only")), "listeners": EVERYWHERE}, PASS, "not usable"),
    ("exposure", {"found": open_at(), "listeners": EVERYWHERE}, PASS, "no address beyond loopback"),
    ("exposure", {"found": open_at(ports=()), "listeners": EVERYWHERE}, PASS, "no TCP port"),
    # persistence
    ("persistence", {"state": STATE}, PASS, "is ok"),
    ("persistence", of("persistence", save_status="err"), FAIL, "the last snapshot is err"),
    ("persistence", of("persistence", aof_write_status="err"), FAIL, "append-only file is err"),
    ("persistence", of("persistence", aof_rewrite_status="err"), FAIL, "its last rewrite is err"),
    ("persistence", of("persistence", saves=False, save_status="err"), PASS, "is ok"),
    ("persistence", of("persistence", saves=None, aof=False), PASS, "the last snapshot is ok"),
    ("persistence", of("persistence", saves=False, aof=False), NOT_HERE, "keeps nothing on disk"),
    ("persistence", of("persistence", save_status=None), UNKNOWN, "says nothing of the last snapshot"),
    ("persistence", of("persistence", loading=True), UNKNOWN, "loading its data"),
    ("persistence", {"state": SHUT}, UNKNOWN, "ACL SETUSER mon +info"),
    ("persistence", {"state": replace(STATE, mode="sentinel")}, NOT_HERE, "Sentinel"),
    # replication
    ("replication", {"state": STATE}, PASS, "10.0.0.2:6379"),
    ("replication", of("replication", replicas=()), NOT_HERE, "no replica"),
    ("replication", of("replication", role="replica", link="up"), PASS, "is up"),
    ("replication", of("replication", role="replica", link="down", syncing=True), FAIL, "a copy is under way"),
    ("replication", of("replication", role="replica", link=None), UNKNOWN, "does not show the link"),
    (
        "replication",
        of("replication", replicas=(replace(STATE.replication.replicas[0], state="wait_bgsave", lag_s=None),)),  # type: ignore[union-attr]
        FAIL,
        "is wait_bgsave",
    ),
    (
        "replication",
        of("replication", replicas=(replace(STATE.replication.replicas[0], lag_s=11),)),  # type: ignore[union-attr]
        FAIL,
        "lag of the replica 10.0.0.2:6379 is 11 s",
    ),
    ("replication", {"state": SHUT}, UNKNOWN, "ACL SETUSER mon +info"),
    ("replication", {"state": replace(STATE, mode="sentinel")}, NOT_HERE, "Sentinel"),
    # clients
    ("clients", {"state": STATE}, PASS, "is 80 %"),
    ("clients", of("clients", connected=81), FAIL, "is 81 %"),
    ("clients", of("clients", connected=0), PASS, "is 0 %"),
    ("clients", of("clients", maximum=None), UNKNOWN, "does not say its maxclients"),
    ("clients", {"state": replace(SHUT, full=True)}, FAIL, "refuses connections"),
    ("clients", {"state": SHUT}, UNKNOWN, "ACL SETUSER mon +info"),
]


def asked(name: str, given: Mapping[str, Any]) -> Judgement:
    usual = {"load": NOT_ASKED, "loopback": NOT_ASKED, "spin": NOT_ASKED} if name == "latency" else {}
    return testing.judged(f"redis.{name}", **{**usual, **given})


@pytest.mark.parametrize(("name", "values", "verdict", "said"), CASES)
def test_a_verdict(name: str, values: dict[str, Any], verdict: Verdict, said: str) -> None:
    judged = asked(name, values)
    assert judged.verdict is verdict, judged.summary
    assert said in judged.summary
    assert (judged.fix is None) or verdict in (WARN, FAIL)


def test_every_check_has_every_verdict_that_it_can_have(catalogue: Catalogue) -> None:
    names = {each.removeprefix("redis.") for each in catalogue.checks if each.startswith("redis.")}
    assert names == {name for name, *_ in CASES}


def test_what_a_firewall_may_hide_is_of_low_confidence() -> None:
    judged = asked("exposure", {"found": open_at(PUBLIC, DOOR), "listeners": EVERYWHERE})
    assert judged.confidence is Confidence.LOW
    shut = asked("exposure", {"found": open_at(replace(DOOR, entry="closed")), "listeners": EVERYWHERE})
    assert shut.confidence is Confidence.HIGH


CAUSES = [
    (SLOW, None),
    (replace(SLOW, serving=BUSY), "server"),
    (replace(SLOW, serving=replace(SERVING, forks=1, fork_us=2_900_000)), "server"),
    (replace(SLOW, serving=replace(BUSY, commands=(), others_us=0)), "server"),
    (replace(SLOW, waited_us=1_500_000.0, server_waited_us=500_000.0), "box"),
    (replace(SLOW, waited_us=1_500_000.0, server_waited_us=None, serving=BUSY), "server"),
    (replace(SLOW, waited_us=2_900_000.0, serving=BUSY), "box"),
    (replace(SLOW, waited_us=2_000_000.0, usual_wait_us=190.0), None),
    (replace(SLOW, waited_us=None, server_waited_us=None, serving=None, serving_absent=NOT_ALLOWED), None),
    (replace(SLOW, here=False, connect=times((15, 2000.0)), tcp_min_rtt_us=1900), "network"),
    (replace(SLOW, here=None, connect=times((15, 2000.0)), tcp_min_rtt_us=1900), "network"),
    (replace(SLOW, here=False, connect=times((15, 1600.0)), tcp_min_rtt_us=900), "network"),
    (replace(SLOW, here=False, retransmits=10), "network"),
    (replace(SLOW, here=True, retransmits=10), None),
    (replace(SLOW, here=False, serving=BUSY), "server"),
    (replace(SLOW, transport="unix", connect=None, tcp_rtt_us=None, tcp_min_rtt_us=None, retransmits=None), None),
    (replace(SLOW, transport="unix", connect=None, waited_us=2_900_000.0), "box"),
]


@pytest.mark.parametrize(("found", "part"), CAUSES)
def test_the_part_that_explains_most_of_what_is_too_much_is_named(found: RedisLatency, part: str | None) -> None:
    judged = asked("latency", {"found": found, "state": STATE})
    assert judged.verdict is FAIL
    if part is None:
        assert "whether box, network or server breaks it cannot be told" in judged.summary
    else:
        assert f"the {part} breaks it: " in judged.summary
    if found.serving is None:
        assert "ACL SETUSER mon +info" in judged.summary


def test_a_box_that_is_slow_without_redis_is_named() -> None:
    nothing = TimeLost(
        other_tasks_s=0.0, throttling_s=0.0, steal_s=0.0, interrupts_s=0.0, hidden_s=0.0, stopped_s=0.0, vdscheck_s=0.0
    )  # fmt: skip
    spin = Spin(
        window_s=5.0, cpus=2, usable_cpus=2, ended_early=0, spun_s=10.0, gap_lengths=None, gaps=0, lost=nothing,
        longest=(), waiting_known=True, steal=None, steal_missing=None, throttling=None,
    )  # fmt: skip
    fast = LoopbackRtt(window_s=1.0, request_bytes=14, reply_bytes=7, rtt=times((5000, 20.0)))
    found = replace(SLOW, ping=times((20_000, 25.0), (300, 3000.0)))

    def said(**box: Any) -> str:
        return asked("latency", {"found": found, "state": STATE} | box).summary

    assert "cannot be told" in said(loopback=fast, spin=spin)
    assert "the box breaks it: two processes here" in said(loopback=replace(fast, rtt=times((5000, 2000.0))), spin=spin)
    stolen = replace(spin, lost=replace(nothing, steal_s=4.0))
    assert "the box breaks it: its CPUs lost 40 % of CPU time" in said(loopback=fast, spin=stolen)


def test_a_host_that_was_busy_is_said_to_be() -> None:
    load = HostLoad(window_s=0.5, cpus=2, busy_cpus=1.8, load_1min=3.2, io_some_avg10_percent=None)
    judged = asked("latency", {"found": FAST, "state": STATE, "load": load})
    assert "the host was busy before this: 1.8 of 2 CPUs" in judged.summary


def test_stalls_too_few_to_fail_are_told_of() -> None:
    found = replace(FAST, ping=times((50_000, 25.0), (2, 100_000.0)), serving=replace(BUSY, others_us=199_000))
    judged = asked("latency", {"found": found, "state": STATE})
    assert judged.verdict is PASS
    assert "2 PINGs took 200 ms of 1.5 s, the longest 100 ms: the server breaks it" in judged.summary


@given(
    slow_us=st.floats(1001, 1e6),
    counts=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    waited=st.none() | st.floats(0, 1e9),
    others=st.integers(0, 10**9),
    here=st.sampled_from([True, False, None]),
)
def test_whatever_was_measured_a_cause_is_a_sentence(
    slow_us: float,
    counts: tuple[int, int],
    waited: float | None,
    others: int,
    here: Any,
) -> None:
    found = replace(
        SLOW,
        ping=times((counts[0], 25.0), (counts[1], slow_us)),
        waited_us=waited,
        here=here,
        serving=replace(SERVING, others_us=others),
    )
    assert asked("latency", {"found": found, "state": STATE}).summary
