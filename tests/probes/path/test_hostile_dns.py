"""Resolvers that mean harm: nothing passes by what they say, nobody is flooded for them, and no run waits for one."""

import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.net.network import Network
from tests.lab.net.topology import PLACES
from tests.probes.path.hostile_nameserver import KINDS, SEED, Query, said, serve
from tests.probes.path.test_lab import named, serving
from tests.probes.path.tracing import PROGRAM
from tests.probes.path.wire import captured
from vdscheck import testing
from vdscheck.linux import dns_wire
from vdscheck.measurements import Resolvers, ResolverTimes
from vdscheck.model.judgement import Verdict
from vdscheck.plugin import Host
from vdscheck.probes.path import resolver_times, reverse_dns
from vdscheck.probes.path.schedule import PACKETS_LIMIT, ProbeBudget
from vdscheck.probes.path.subject import TargetHost, TraceOptions
from vdscheck.probes.path.tracer import EngineFactory

NAMES = ("a.example", "b.example")
GOOD = "192.0.2.7"
PASSING = {
    *("honest", "twice", "huge", "ttl-of-136-years", "ttl-of-nothing", "chain-of-names", "three-hundred", "mapped"),
    *("loopback", "multicast", "private", "nxdomain"),
}
"""Those whose answers are soon there and say what a name is. Where that leads is judged with the ways (`path.*`)."""
SAYS = {
    "truncated": "answered 2 of 2 questions (2 truncated)",
    "circle-of-pointers": "42 NOERROR without an address",
    "pointer-beyond": "42 NOERROR without an address",
    "circle-of-names": "42 NOERROR without an address",
    "long-chain-of-names": "42 NOERROR without an address",
    "only-aaaa": "42 NOERROR without an address",
    "servfail": "(2 SERVFAIL)",
    "refused": "(2 REFUSED)",
    "code-15": "(2 code 15)",
}
SILENT = ("half", "wrong-id", "wrong-question", "the-question", "elsewhere", "silence", "late")


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def on(stack: ExitStack, kind: str, number: int, port: int) -> socket.socket:
    """A resolver on an address of its own."""
    server, other = (stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(2))
    server.bind((f"127.0.77.{number}", port))
    threading.Thread(target=serve, args=(kind, GOOD, server), kwargs={"other": other}, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def found(stack: ExitStack) -> dict[str, ResolverTimes]:
    """What is measured of all of them, asked side by side; the one that never stops apart from those that are timed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resolver_times, "CACHED", 40)
        patch.setattr(resolver_times, "PATIENCE_S", 0.3)
        first = on(stack, "honest", 1, 0)
        port = first.getsockname()[1]
        patch.setattr(resolver_times, "PORT", port)
        addresses = {"honest": "127.0.77.1"}
        for number, kind in enumerate((each for each in KINDS if each != "honest"), 2):
            addresses[kind] = f"127.0.77.{number}"
            on(stack, kind, number, port)
        began = time.monotonic()
        asking = [resolver_times.Asking(address, NAMES) for address in addresses.values()]
        *_, last = resolver_times.asked_over_and_over(Host(ends_at=began + 1.2), asking, NAMES)
        assert time.monotonic() - began < 10 * 1.2
    return dict(zip(addresses, last.resolvers, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_passes_by_an_answer_that_is_none(found: dict[str, ResolverTimes], kind: str) -> None:
    one = found[kind]
    # Whether this machine is fast enough for the limit is not the question.
    quick = one.cached and replace(one.cached, percentiles=found["honest"].cached.percentiles)  # type: ignore[union-attr]
    resolvers = Resolvers(names=NAMES, resolvers=(replace(one, cached=quick),))
    judged = testing.judged_each("net.dns", profile="base", found=resolvers)[one.address]
    assert one.sent <= len(NAMES) + 40
    if kind in PASSING:
        assert set(one.codes) == {"NXDOMAIN" if kind == "nxdomain" else "NOERROR"}
        return
    assert judged.verdict is Verdict.UNKNOWN, judged.summary
    assert judged.reason is not None
    assert SAYS.get(kind, f"answered 0 of {len(NAMES)}" if kind in SILENT else "") in judged.summary


def test_every_kind_has_its_outcome() -> None:
    assert set(KINDS) == PASSING | {*SAYS} | {*SILENT} | {"random", "flood"}


def test_a_resolver_that_never_stops_leaves_the_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        """A socket with always one more message."""

        def recv(self, _size: int) -> bytes:
            return b"x" * 40

    each = resolver_times.Asking("192.0.2.53", NAMES)
    monkeypatch.setattr(each, "connection", Endless())
    each.hear()
    names = reverse_dns.ReverseDns("127.0.0.1")
    names.close()
    monkeypatch.setattr(names, "_socket", Endless())
    names.hear()
    assert each.answered == 0


def test_names_of_any_number_of_addresses_are_asked_within_the_limit_of_packets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        monkeypatch.setattr(reverse_dns, "_PORT", silent.getsockname()[1])
        monkeypatch.setattr(reverse_dns, "_AGAIN_S", 0.0)
        names = reverse_dns.ReverseDns("127.0.0.1")
        for _ in range(3):
            for number in range(1000):
                assert names.name(f"198.51.{number // 250}.{number % 250}") is None
        assert names._questions + resolver_times.CACHED + 2 * len(NAMES) <= PACKETS_LIMIT
        names.close()


def test_one_machine_has_one_limit_however_its_address_is_written() -> None:
    workshop = EngineFactory(ProbeBudget(), TraceOptions(trace="udp"))
    target = TargetHost("a.example", None)
    made = [workshop.candidate(target, 4, GOOD), workshop.candidate(target, 6, f"::ffff:{GOOD}")]
    limiters = {id(each.itinerary.limiter) for each in made if each is not None}
    for engine in workshop._engines.values():
        if engine is not None:
            engine.close()
    assert len(limiters) == 1


# Any bytes


def noisy(count: int, seed: int) -> None:
    """So many answers of any bytes, cut, changed and grown from whole ones: each is one or none, and no bug."""
    source = random.Random(seed)
    for number in range(count):
        question = dns_wire.question(source.randrange(1 << 16), "a.example", source.choice((dns_wire.A, dns_wire.PTR)))
        kind = [*KINDS][number % len(KINDS)]
        messages = [each for _, each in said(kind, Query(question, GOOD), source)][:3] or [b""]
        message = bytearray(source.choice(messages)[:4096])
        for _ in range(source.randrange(4)):
            at = source.randrange(len(message) + 1)
            message[at : at + source.randrange(3)] = source.randbytes(source.randrange(4))
        answer = dns_wire.reply(bytes(message), question)
        if answer is not None:
            assert answer.ident == int.from_bytes(question[:2], "big")
            assert all(len(reverse_dns.bounded(each)) <= reverse_dns.NAME_LIMIT + 3 for each in answer.names)


def test_answers_of_any_bytes_are_answers_or_none() -> None:
    noisy(300, SEED)


@pytest.mark.slow
def test_many_answers_of_any_bytes_are_answers_or_none() -> None:
    noisy(30_000, SEED + 1)


# A run in a network


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network(PLACES) as made:
        made.listen("oslo")
        yield made


LIMIT_S = 25
"""The deadlines of a quick run, on a machine that has other things to do."""


@pytest.mark.slow
@pytest.mark.xdist_group("path")
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_judges_no_way_by_it_and_floods_nobody(network: Network, tmp_path: Path, kind: str) -> None:
    files = {"resolv.conf": f"nameserver {network.address('g1')}\n", "nsswitch.conf": "hosts: files dns\n"}
    only = ("--only", "path.*", "--only", "net.*")
    words = ("run", "--quick", *only, "--json", "--path", "a=a.example", "--path", "b=b.example")
    began = time.monotonic()
    with serving(network, "g1", "hostile_nameserver.py", kind, "192.0.2.7"), captured(network) as packets:
        told = json.loads(named(network, *PROGRAM, *words, files=files, tmp_path=tmp_path))
    assert time.monotonic() - began < LIMIT_S
    assert told["run"]["complete"]
    for each in told["findings"]:
        if each["id"].startswith("path."):
            assert each["verdict"] in ("unknown", "not-applicable"), each
            assert each["summary"]
    counts: dict[bytes, int] = {}
    for packet in packets:
        if packet.outgoing:
            there = packet.data[24:40] if packet.data[0] >> 4 == 6 else packet.data[16:20]
            counts[there] = counts.get(there, 0) + 1
    assert max(counts.values(), default=0) <= PACKETS_LIMIT
