"""The network of the lab: as far as it says, wrong as told, beside others, and gone afterwards."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.processes import LabError

from .network import Network
from .topology import PLACES, Link, Topology, apart

ECHO = """
import socket, struct, sys, time
kind, address, ttl = sys.argv[1], sys.argv[2], int(sys.argv[3])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
s.setsockopt(socket.IPPROTO_IP, 11, 1)
s.settimeout(0.3)
count = 0
for number in range(int(kind)):
    s.sendto(struct.pack("!BBHHH", 8, 0, 0, 0, number) + b"vdscheck", (address, 0))
    try:
        s.recv(100)
        print("reply", end=" ")
    except TimeoutError:
        print("nothing", end=" ")
    except OSError:
        print("unreachable", end=" ")
    try:
        said = s.recvmsg(100, 200, socket.MSG_ERRQUEUE)
        print("from", socket.inet_ntoa(said[1][0][2][20:24]), end=" ")
    except OSError:
        pass
"""
CONNECTS = """
import socket, sys, time
found = []
for _ in range(int(sys.argv[3])):
    began = time.perf_counter()
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5):
        found.append(1e6 * (time.perf_counter() - began))
print(*found)
"""


@pytest.fixture(scope="module")
def places() -> Iterator[Network]:
    with Network(PLACES) as network:
        for node in ("oslo", "frankfurt"):
            network.listen(node)
        network.limits(on=False)
        yield network


def echo(network: Network, node: str, ttl: int = 64, count: int = 1) -> str:
    argv = [sys.executable, "-c", ECHO, str(count), network.address(node), str(ttl)]
    return network.run("vds", argv, timeout_s=60).stdout


def handshakes_us(network: Network, node: str, version: int, count: int = 5) -> list[float]:
    argv = [sys.executable, "-c", CONNECTS, network.address(node, version), "443", str(count)]
    done = network.run("vds", argv)
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("node", ["oslo", "frankfurt"])
def test_nothing_gets_to_a_place_and_back_sooner_than_the_lines_let_it(
    places: Network, node: str, version: int
) -> None:
    truth_us = PLACES.rtt_us(node)
    assert truth_us == {"oslo": 8000, "frankfurt": 28000}[node]
    assert truth_us <= min(handshakes_us(places, node, version))


def test_each_router_says_that_the_time_of_a_packet_is_over(places: Network) -> None:
    for ttl, node in enumerate(("g1", "o2", "o3"), 1):
        assert f"from {places.address(node)}" in echo(places, "oslo", ttl)


def test_a_silent_router_forwards_all_the_same(places: Network) -> None:
    places.silent("o2")
    assert "from" not in echo(places, "oslo", 2)
    assert echo(places, "oslo") == "reply "
    places.silent("o2", on=False)
    assert "from" in echo(places, "oslo", 2)


def test_a_place_that_filters_echoes_still_takes_connections(places: Network) -> None:
    places.icmp_filter("oslo")
    assert echo(places, "oslo") == "nothing "
    assert handshakes_us(places, "oslo", 4, 1)
    places.icmp_filter("oslo", on=False)


def test_loss_is_loss_and_ends_when_told_to(places: Network) -> None:
    places.loss("f5", 100)
    assert echo(places, "frankfurt") == "nothing "
    places.loss("f5", 0)
    assert echo(places, "frankfurt") == "reply "


def test_a_limited_router_answers_one_of_several_at_once(places: Network) -> None:
    places.rate_limit("o2", 60_000)
    assert echo(places, "oslo", 2, count=5).count("from") < 5
    places.rate_limit("o2", 0)


def test_flows_are_balanced_over_the_branch_when_told_to(places: Network) -> None:
    def over_the_branch() -> int:
        return int(places.run("f8b", ["cat", "/sys/class/net/u-f7/statistics/rx_packets"]).stdout)

    before = over_the_branch()
    handshakes_us(places, "frankfurt", 4, 16)
    assert over_the_branch() == before
    places.balance(on=True)
    handshakes_us(places, "frankfurt", 4, 16)
    flows = over_the_branch() - before
    places.balance(on=False)
    assert 0 < flows < 16 * 4


def test_programs_see_the_interfaces_of_their_node(places: Network) -> None:
    assert places.run("vds", ["ls", "/sys/class/net"]).stdout.split() == ["d-g1", "lo"]


def test_two_networks_stand_beside_each_other_and_tell_how_long_packets_stayed() -> None:
    with Network(apart(500)) as one, Network(apart(500)) as other:
        for network in (one, other):
            network.listen("far")
            argv = [sys.executable, "-c", CONNECTS, network.address("far"), "443", "3"]
            assert network.run("near", argv).returncode == 0
    for network in (one, other):
        assert {line["delay_us"] for line in network.residence} == {500}
        assert all(line["packets"] and line["p50_us"] >= 500 for line in network.residence)


def test_a_network_is_gone_when_its_owner_was_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from tests.lab.net.network import Network\n"
        "from tests.lab.net.topology import apart\n"
        "with Network(apart(500)) as network:\n"
        "    print(network._line.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    root = Path(__file__).parents[3]
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root) as owner:
        assert owner.stdout is not None
        line = int(owner.stdout.readline())
        assert Path(f"/proc/{line}/ns/net").exists()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        ends_at = time.monotonic() + 10
        while Path(f"/proc/{line}/ns/net").exists():
            assert time.monotonic() < ends_at
            time.sleep(0.02)


def test_what_cannot_be_made_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ends_at_once = tmp_path / "delayline.py"
    ends_at_once.write_text("")
    monkeypatch.setattr("tests.lab.net.network.DELAYLINE", ends_at_once)
    with pytest.raises(LabError, match="did not start"), Network(apart(500)):
        pass


def test_a_topology_knows_its_nodes_and_the_time_to_each() -> None:
    found = Topology([Link("a", "b", 100), Link("b", "c"), Link("b", "d", 300)])
    assert found.nodes == ["a", "b", "c", "d"]
    assert [found.rtt_us(node) for node in found.nodes] == [0, 200, 200, 800]
