"""The tracer in the network of the lab, as a user without any capability, beside the truth on the wire."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.net.network import Network
from tests.lab.net.topology import PLACES, apart
from tests.lab.processes import must
from tests.probes.path.tracing import PROGRAM, traced
from tests.probes.path.wire import captured, rounds
from tests.support.project import PROJECT
from vdscheck.measurements import Hop, Paths, PathTrace

pytestmark = pytest.mark.xdist_group("path")

TO_OSLO = ["g1", "o2", "o3", "o4", "o5", "o6", "oslo"]
TO_FRANKFURT = ["g1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "frankfurt"]
SHORT: dict[str, Any] = {"rounds": 3, "interval_s": 0.1}


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network(PLACES) as made:
        for node in ("oslo", "frankfurt"):
            made.listen(node)
        made.silent("f6")
        made.limits(on=False)
        yield made


def asked(network: Network, version: int = 4) -> list[str]:
    return [f"{place}={network.address(place, version)}" for place in ("oslo", "frankfurt")]


def oslo(network: Network, **how: Any) -> PathTrace:
    return traced(network, f"oslo={network.address('oslo')}", **(SHORT | how)).traces["oslo"]


def addresses(network: Network, nodes: Sequence[str], version: int) -> list[list[str]]:
    return [[] if node == "f6" else [network.address(node, version)] for node in nodes]


def seen(hops: Sequence[Hop]) -> list[list[str]]:
    return [[each.address for each in hop.responders] for hop in hops]


@contextmanager
def told(network: Network, node: str, *command: str, undo: Sequence[str] = ()) -> Iterator[None]:
    """A node changed for the time of the block."""
    must(network.command(node, command), timeout_s=10)
    try:
        yield
    finally:
        must(network.command(node, undo), timeout_s=10)


@contextmanager
def filtered(network: Network, node: str, hook: str, rule: str) -> Iterator[None]:
    table = f"table inet test {{ chain c {{ type filter hook {hook} priority 0; {rule}; }}; }}"
    with told(network, node, "nft", table, undo=("nft", "delete", "table", "inet", "test")):
        yield


@contextmanager
def serving(network: Network, node: str, script: str, *words: str) -> Iterator[None]:
    """A program of this folder that runs on a node, from when it says that it is ready."""
    argv = [sys.executable, str(Path(__file__).with_name(script)), *words]
    process = network.start(node, argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# The truth


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.covered
def test_hops_round_trips_and_losses_are_those_of_the_wire(network: Network, version: int) -> None:
    network.limits(on=True)
    network.loss("f5", 2)
    with captured(network) as packets:
        found = traced(network, *asked(network, version), samples=True)
    network.loss("f5", 0)
    network.limits(on=False)
    assert found.complete
    to_oslo, to_frankfurt = found.traces["oslo"], found.traces["frankfurt"]
    assert seen(to_oslo.hops) == addresses(network, TO_OSLO, version)
    assert seen(to_frankfurt.hops) == addresses(network, TO_FRANKFURT, version)
    assert to_oslo.engine == to_frankfurt.engine == "datagram ICMP"
    for trace, node, nodes in ((to_oslo, "oslo", TO_OSLO), (to_frankfurt, "frankfurt", TO_FRANKFURT)):
        assert trace.minimum_ms is not None
        assert trace.minimum_ms * 1000 >= PLACES.rtt_us(node)
        assert trace.echoes.sent == 100
        # Routers that only limit their answers lose nothing, and the one that never answers is silent.
        assert {hop.loss for hop in trace.hops} <= {"control-plane", "silent", "undecided", None}
        assert [hop.loss == "silent" for hop in trace.hops] == [name == "f6" for name in nodes]
        assert trace.hops[0].loss == "control-plane"
    truth = rounds(packets)
    samples = sorted((each for trace in found.traces.values() for each in trace.samples), key=lambda e: e.sent_at_ns)
    assert len(truth) == len(samples)
    assert [each.answered_ns is not None for each in truth] == [each.rtt_us is not None for each in samples]
    off_us = sorted(
        abs(sample.rtt_us - (on_wire.answered_ns - on_wire.sent_ns) / 1000)
        for sample, on_wire in zip(samples, truth, strict=True)
        if sample.rtt_us is not None and on_wire.answered_ns is not None
    )
    # How near is the benchmark's business; what a clock read in Python adds is many times this.
    assert off_us[len(off_us) // 2] < 500
    assert sum(each.kernel_stamp for each in samples) > 0.9 * len(off_us)


def test_no_address_gets_more_packets_than_are_allowed(network: Network) -> None:
    must(network.command("vds", ["sysctl", "-qw", "net.ipv4.ping_group_range=1 0"]), timeout_s=10)
    with captured(network) as packets:
        found = traced(network, *asked(network))
    must(network.command("vds", ["sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647"]), timeout_s=10)
    assert {trace.engine for trace in found.traces.values()} == {"UDP"}
    assert all(trace.echoes.method.startswith("tcp 443") for trace in found.traces.values())
    assert all(trace.echoes.received >= 72 for trace in found.traces.values())
    assert seen(found.traces["oslo"].hops) == addresses(network, TO_OSLO, 4)
    assert seen(found.traces["frankfurt"].hops) == addresses(network, TO_FRANKFURT, 4)
    for place in ("oslo", "frankfurt"):
        target = bytes(map(int, network.address(place).split(".")))
        times = [each.at_ns for each in packets if each.outgoing and each.data[16:20] == target]
        assert 200 < len(times) <= 300
        assert max(sum(start <= at < start + 10**9 for at in times) for start in times) <= 100


def test_one_flow_sees_one_way_of_a_load_balancer(network: Network) -> None:
    network.balance(on=True)
    found = traced(network, *asked(network), **SHORT)
    network.balance(on=False)
    assert [len(each) for each in seen(found.traces["frankfurt"].hops)] == [1] * 5 + [0] + [1] * 5


# What does not answer


@pytest.mark.covered
def test_a_target_that_filters_icmp_and_udp_is_timed_by_tcp(network: Network) -> None:
    network.icmp_filter("oslo")
    found = oslo(network, rounds=5)
    network.icmp_filter("oslo", on=False)
    assert found.echoes.method.startswith("tcp 443")
    assert found.echoes.received == found.echoes.sent > 0
    assert found.minimum_ms is not None
    assert found.minimum_ms >= 8
    assert seen(found.hops) == addresses(network, TO_OSLO[:-1], 4)
    assert found.end_ttl is None


def test_a_target_that_filters_everything_is_shown_as_far_as_it_goes(network: Network) -> None:
    with filtered(network, "oslo", "input", "drop"):
        found = oslo(network)
    assert (found.echoes.received, found.minimum_ms, found.end_ttl) == (0, None, None)
    assert seen(found.hops) == addresses(network, TO_OSLO[:-1], 4)
    assert {hop.loss for hop in found.hops} == {None}


def test_what_refuses_to_go_on_is_named(network: Network) -> None:
    target = f"{network.address('oslo')}/32"
    prohibit = ("ip", "route", "add", "prohibit", target, "metric", "0")
    unreachable = ("ip", "route", "replace", "prohibit", target)
    before = must(network.command("o4", ["ip", "route", "show", target]), timeout_s=10).split()
    del prohibit
    with told(network, "o4", *unreachable, undo=("ip", "route", "replace", *before)):
        found = oslo(network)
    assert found.refusal == f"prohibited by a filter (code 13), says {network.address('o4')}"
    assert found.minimum_ms is None


def test_a_routing_loop_is_told_and_ends(network: Network) -> None:
    target = f"{network.address('oslo')}/32"
    before = must(network.command("o4", ["ip", "route", "show", target]), timeout_s=10).split()
    o4 = next(link for link in PLACES.links if link.far == "o4")
    back = PLACES.addresses(o4)[0][0]
    with told(network, "o4", "ip", "route", "replace", target, "via", back, undo=("ip", "route", "replace", *before)):
        found = oslo(network, rounds=4)
    assert found.loop
    assert found.end_ttl is None
    assert len(found.hops) == 30
    assert found.packets <= 300


@pytest.mark.slow
def test_a_way_that_changes_in_the_middle_shows_both_responders(network: Network) -> None:
    target = f"{network.address('frankfurt')}/32"
    before = must(network.command("f7", ["ip", "route", "show", target]), timeout_s=10).split()
    via = next(PLACES.addresses(link)[1][0] for link in PLACES.links if link.far == "f8b")
    question = {"path": asked(network)[1:], "path-how": {"rounds": 8, "interval_s": 0.25}, "window_s": 5}
    program = [sys.executable, "-m", "tests.probes.path.tracing", json.dumps(question)]
    tracer = network.start("vds", program, stdout=subprocess.PIPE, cwd=PROJECT)
    time.sleep(1.4)
    with told(network, "f7", "ip", "route", "replace", target, "via", via, undo=("ip", "route", "replace", *before)):
        assert tracer.stdout is not None
        found = json.loads(tracer.stdout.read())["traces"]["frankfurt"]
        tracer.stdout.close()
    changed = {each["address"] for each in found["hops"][7]["responders"]}
    assert changed == {network.address("f8"), network.address("f8b")}
    assert [len(hop["responders"]) for hop in found["hops"][:5]] == [1] * 5


@pytest.mark.slow
def test_much_loss_is_located_and_no_hop_before_it_is_accused(network: Network) -> None:
    network.loss("f5", 15)
    traces = [traced(network, *asked(network)[1:]).traces["frankfurt"] for _ in range(3)]
    network.loss("f5", 0)
    shares = [found.echoes.loss_share for found in traces]
    # one interval in twenty does not hold the true share, and two of three hardly ever
    assert sum(share is not None and share.low < 0.15 < share.high for share in shares) >= 2, shares
    assert {hop.loss for found in traces for hop in found.hops[:4]} == {None}
    # nor is one way in twenty without a hop that answers less than those behind it, by chance
    accused = [found for found in traces if "control-plane" in {hop.loss for hop in found.hops}]
    assert len(accused) <= 1


# Forgeries


def test_a_quote_of_eight_octets_tells_the_hop_by_icmp_and_not_by_udp(network: Network) -> None:
    network.silent("o2")
    with serving(network, "g1", "forger.py", "short", network.address("o2")):
        by_icmp = oslo(network)
        by_udp = oslo(network, trace="udp")
    network.silent("o2", on=False)
    assert seen(by_icmp.hops) == addresses(network, TO_OSLO, 4)
    assert by_icmp.unattributed == 0
    assert seen(by_udp.hops)[1] == []
    assert by_udp.unattributed > 0


@pytest.mark.parametrize("privileged", [False, True])
def test_forged_answers_change_no_figure(network: Network, privileged: bool) -> None:  # noqa: FBT001
    with serving(network, "g1", "forger.py", "garbage", "192.0.2.7"):
        found = traced(network, *asked(network), privileged=privileged, **SHORT)
    assert found.traces["oslo"].engine == ("raw ICMP" if privileged else "datagram ICMP")
    assert seen(found.traces["oslo"].hops) == addresses(network, TO_OSLO, 4)
    assert seen(found.traces["frankfurt"].hops) == addresses(network, TO_FRANKFURT, 4)
    assert all(trace.echoes.received == trace.echoes.sent for trace in found.traces.values())


@pytest.mark.slow
def test_a_reply_that_is_a_second_late_is_that_of_its_own_hop(network: Network) -> None:
    network.silent("o2")
    with serving(network, "g1", "forger.py", "late", network.address("o2")):
        found = oslo(network, rounds=5, interval_s=0.5)
    network.silent("o2", on=False)
    assert seen(found.hops) == addresses(network, TO_OSLO, 4)
    assert found.hops[1].times is not None
    assert found.hops[1].times.best_ms > 990
    assert all(hop.times is not None and hop.times.worst_ms < 900 for hop in (*found.hops[:1], *found.hops[2:]))


def test_what_comes_twice_counts_once(network: Network) -> None:
    network.silent("o2")
    with serving(network, "g1", "forger.py", "twice", network.address("o2")):
        found = oslo(network)
    network.silent("o2", on=False)
    assert (found.hops[1].sent, found.hops[1].received) == (3, 3)
    assert found.duplicates == 3


def test_labels_are_shown_where_a_raw_socket_sees_them(network: Network) -> None:
    network.silent("o2")
    with serving(network, "g1", "forger.py", "extensions", network.address("o2")):
        found = traced(network, f"oslo={network.address('oslo')}", privileged=True, **SHORT).traces["oslo"]
    network.silent("o2", on=False)
    assert [hop.labels for hop in found.hops[:3]] == [(), (16001,), ()]


# Near, and nowhere


def test_targets_that_are_near_are_one_hop_away(network: Network) -> None:
    places = ("here=127.0.0.1", "self=10.77.1.1", "next=10.77.1.2")
    found = traced(network, *places, **SHORT)
    assert [seen(found.traces[name].hops) for name in ("here", "self", "next")] == [
        [["127.0.0.1"]],
        [["10.77.1.1"]],
        [["10.77.1.2"]],
    ]
    assert all(trace.echoes.received == 30 for trace in found.traces.values())


def test_without_a_way_there_is_no_trace_and_no_wait(network: Network) -> None:
    began = time.monotonic()
    found = traced(network, "four=192.0.2.1", "six=2001:db8::1", rounds=10, interval_s=1.0, window_s=12)
    assert time.monotonic() - began < 6
    assert found.absent["four"].detail == "192.0.2.1: no route"
    assert found.absent["six"].detail == "2001:db8::1: no route"
    assert found.traces == {}
    assert found.ipv6 == "not-present"


def test_without_ipv6_nothing_is_sent_by_it() -> None:
    with Network(apart(500)) as pair:
        must(pair.command("near", ["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"]), timeout_s=10)
        places = (f"four={pair.address('far')}", f"six={pair.address('far', 6)}")
        found = traced(pair, *places, node="near", **SHORT)
    assert found.traces["four"].echoes.received == 30
    assert found.absent["six"].reason == "unreachable"


def named(network: Network, *command: str, files: dict[str, str], tmp_path: Path) -> str:
    """What a program says on the server, with files of its own in /etc."""
    steps = []
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        steps.append(f"mount --bind {tmp_path / name} /etc/{name}")
    script = " && ".join([*steps, 'exec "$@"'])
    return must(network.command("vds", ["sh", "-c", script, "sh", *command]), timeout_s=30, cwd=PROJECT)


def test_of_a_name_with_both_families_the_one_that_answers_is_traced(network: Network, tmp_path: Path) -> None:
    hosts = f"192.0.2.1 both.lab\n{network.address('oslo', 6)} both.lab\n"
    question = {"path": ["oslo=both.lab"], "path-how": {"rounds": 5, "interval_s": 0.1}, "window_s": 4}
    program = (sys.executable, "-m", "tests.probes.path.tracing", json.dumps(question))
    said = named(network, *program, files={"hosts": hosts, "nsswitch.conf": "hosts: files\n"}, tmp_path=tmp_path)
    found = json.loads(said)
    assert found["traces"]["oslo"]["family"] == 6
    assert found["traces"]["oslo"]["echoes"]["received"] > 0
    assert found["ipv6"] == "works"


def test_a_hostile_name_acts_on_no_terminal(network: Network, tmp_path: Path) -> None:
    hostile = b"\x1b[2J\x07evil\xff\xe2\x80\xaereversed" + b"x" * 38
    words = ("path", network.address("oslo"), "--rounds", "3", "--interval", "0.3", "--report")
    with serving(network, "g1", "nameserver.py", "10.77.200.10", hostile.hex()):
        files = {"resolv.conf": f"nameserver {network.address('g1')}\n"}
        said = named(network, *PROGRAM, *words, files=files, tmp_path=tmp_path)
    assert "evil" in said
    assert said.isascii()
    assert not any(each < " " for each in said.replace("\n", ""))
    assert max(map(len, said.splitlines())) <= 80


# The largest packet


@contextmanager
def narrow(network: Network, size: int, *, black_hole: bool) -> Iterator[None]:
    """The line from o4 to o5 takes packets of that size at most; o4 says so, or not."""
    interface = ("ip", "link", "set", "d-o5", "mtu")
    rule = "icmp type destination-unreachable drop" if black_hole else "accept"
    with (
        told(network, "o4", *interface, str(size), undo=(*interface, "1500")),
        filtered(network, "o4", "output", rule),
    ):
        yield


@pytest.mark.covered
def test_a_line_that_takes_less_is_found_by_the_word_of_its_router(network: Network) -> None:
    with narrow(network, 1400, black_hole=False):
        found = oslo(network, rounds=5).mtu
    assert found is not None
    assert (found.bytes, found.reported_bytes, found.reported_by) == (1400, 1400, network.address("o4"))


def test_a_black_hole_is_found_and_named(network: Network) -> None:
    with narrow(network, 1400, black_hole=True):
        found = oslo(network, rounds=9).mtu
    assert found is not None
    assert (found.bytes, found.reported_by, found.last_passed) == (1400, None, network.address("o4"))


# The whole program


@pytest.mark.covered
def test_a_run_says_which_place_is_nearer_and_where_this_host_can_be(network: Network) -> None:
    places = [word for each in asked(network) for word in ("--path", each)]
    words = ("run", "--only", "path.*", "--only", "net.*", "--json", *places)
    done = must(network.command("vds", [*PROGRAM, *words]), timeout_s=30, cwd=PROJECT)
    found = {
        f"{each['id']}[{each['subject']}]" if each["subject"] else each["id"]: each
        for each in json.loads(done)["findings"]
    }
    verdicts = {name: each["verdict"] for name, each in found.items()}
    assert verdicts["path.nearest"] == "pass"
    assert found["path.nearest"]["summary"].startswith("oslo is nearer than frankfurt by 20.")
    assert found["path.location"]["summary"].startswith("this host is within 1,2")
    # A busy machine may hold two of a hundred echoes up for longer than the limit: then it is not decided.
    for name in ("path.rtt[oslo]", "path.rtt[frankfurt]", "path.loss[oslo]"):
        assert verdicts[name] in ("pass", "unknown"), found[name]["summary"]
    assert verdicts["net.mtu[oslo]"] == verdicts["net.mtu[frankfurt]"] == "pass"
    assert "root" not in json.dumps([each["summary"] for each in found.values()])


SECOND_OPINION = """
import json, sys
from icmplib import ping, traceroute
hops = traceroute(sys.argv[1], count=1, interval=0.01, timeout=1, fast=True)
host = ping(sys.argv[1], count=10, interval=0.02)
print(json.dumps([[hop.address for hop in hops], host.packets_received, host.min_rtt]))
"""


@pytest.mark.slow
def test_icmplib_as_root_sees_the_same_hops(network: Network) -> None:
    target = network.address("oslo")
    argv = [sys.executable, "-c", SECOND_OPINION, target]
    hops, received, least_ms = json.loads(must(network.command("vds", argv), timeout_s=30))
    ours = oslo(network)
    assert seen(ours.hops) == [[each] for each in hops]
    assert received == 10
    assert ours.minimum_ms is not None
    assert ours.minimum_ms < least_ms


@pytest.mark.covered
def test_each_resolver_is_asked_for_the_names_of_the_places(network: Network, tmp_path: Path) -> None:
    words = ("run", "--only", "net.dns", "--json", "--path", "oslo=oslo.lab", "--path", "frankfurt=frankfurt.lab")
    resolvers = [network.address("g1"), "192.0.2.53"]
    files = {"resolv.conf": "".join(f"nameserver {each}\n" for each in resolvers)}
    with serving(network, "g1", "nameserver.py", network.address("oslo"), b"x".hex()):
        found = json.loads(named(network, *PROGRAM, *words, files=files, tmp_path=tmp_path))
    verdicts = {each["subject"]: each["verdict"] for each in found["findings"]}
    assert set(verdicts) == set(resolvers)
    assert verdicts[resolvers[1]] == "fail"
    times, dead = found["measurements"]["path.resolvers"]["value"]["resolvers"]
    assert times["codes"] == {"NOERROR": times["answered"]}
    assert times["answered"] > 90
    assert len(times["first_ms"]) == 2
    assert dead["answered"] == 0


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.covered
def test_handshakes_trace_a_way_as_well(network: Network, family: int) -> None:
    found = traced(network, f"oslo={network.address('oslo', family)}", trace="tcp", **SHORT).traces["oslo"]
    assert found.engine == "TCP"
    assert seen(found.hops) == addresses(network, TO_OSLO, family)
    assert found.echoes.received > 20


def test_paths_are_what_the_codec_gives_back(network: Network) -> None:
    assert isinstance(traced(network, "here=127.0.0.1", rounds=1, interval_s=0.1), Paths)
