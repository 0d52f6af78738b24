"""A resolver that answers with something that is no address of the place: nothing is sent there, and nothing judged."""

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.net.network import Network
from tests.lab.net.topology import PLACES
from tests.lab.processes import must
from tests.probes.path.test_lab import named, serving
from tests.probes.path.tracing import PROGRAM
from vdscheck.probes.path.remote import Named, is_own, why_not_remote
from vdscheck.probes.path.subject import shipped

pytestmark = pytest.mark.xdist_group("path")

SHIPPED = shipped()["oslo"].targets[0].host
SINKHOLE = "a filter or sinkhole answers for it"
MINE = "192.0.2.55"
"""What the host has itself in these tests."""


def why(host: str, address: str, *, public: bool = False) -> str | None:
    return why_not_remote(Named(host, public), address, lambda each: each == MINE)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.8.9.10", "169.254.1.1", "224.0.0.1", "239.1.2.3", "240.0.0.1"),
        *("255.255.255.255", "::", "::1", "::5", "fe80::1", "fe80::1%eth0", "ff02::1", "100::1", "::ffff:0.0.0.0"),
        *("::ffff:127.0.0.1", "::ffff:224.0.0.1", "64:ff9b::0.0.0.0", "64:ff9b::7f00:1"),
    ],
)
def test_what_nobody_elsewhere_has_is_no_address_of_a_name(address: str) -> None:
    for public in (False, True):
        assert why("my.example", address, public=public) == f"my.example resolves to {address}: {SINKHOLE}"


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "172.16.0.1", "172.31.255.1", "192.168.1.1", "100.64.0.1", "fd00::1", "fc01::1", "::ffff:10.1.2.3"],
)
def test_a_private_address_may_be_a_users_and_is_no_public_place(address: str) -> None:
    assert why("my.example", address) is None
    assert why(SHIPPED, address, public=True) == f"{SHIPPED} resolves to {address}: {SINKHOLE}"


@pytest.mark.parametrize(
    "address", ["193.0.14.129", "172.32.0.1", "2001:67c:2e8::1", "64:ff9b::c100:e81", "::ffff:8.8.8.8"]
)
def test_any_other_address_is_one(address: str) -> None:
    assert why(SHIPPED, address, public=True) is None


def test_the_callers_own_word_counts() -> None:
    for literal in ("127.0.0.1", "0.0.0.0", "::1", "fe80::1", MINE):
        assert why(literal, literal) is None
    for name in ("localhost", "a.localhost", "ip6-localhost"):
        assert why(name, "127.0.0.1") is None
        assert why(name, "::1") is None
        assert why(name, "0.0.0.0") is not None


def test_a_name_of_this_host_is_this_host_itself() -> None:
    assert why("myself", MINE) == f"myself resolves to {MINE}, which is this host itself: name a host elsewhere"


def test_what_is_ones_own_is_known_without_a_packet() -> None:
    assert is_own("127.0.0.1")
    assert not is_own("192.0.2.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        try:
            own.connect(("192.0.2.1", 9))
        except OSError:
            return
        assert is_own(own.getsockname()[0])


# In a network


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network(PLACES) as made:
        made.listen("oslo")
        yield made


def sent(network: Network) -> dict[str, int]:
    """How many ICMP messages and handshakes the server has sent, by the kernel's own counters."""
    lines = must(network.command("vds", ["cat", "/proc/net/snmp", "/proc/net/snmp6"]), timeout_s=10).splitlines()
    pairs = zip(lines[::2], lines[1::2], strict=False)
    four = {
        f"{names.split()[0]}{name}": int(value)
        for names, values in pairs
        if names.startswith(("Icmp:", "Tcp:"))
        for name, value in zip(names.split()[1:], values.split()[1:], strict=True)
    }
    six = dict(line.split() for line in lines if line.startswith("Icmp6Out"))
    kept = {key: value for key, value in four.items() if key in ("Icmp:OutEchos", "Tcp:ActiveOpens")}
    return kept | {"six": int(six.get("Icmp6OutEchos", 0))}


def examined(network: Network, tmp_path: Path, answer: str, *words: str) -> dict[str, Any]:
    """A run on the server, whose resolver answers every question for an address with this one."""
    files = {"resolv.conf": f"nameserver {network.address('g1')}\n", "nsswitch.conf": "hosts: files dns\n"}
    only = ("--only", "path.*", "--only", "net.mtu", "--only", "net.ipv6")
    with serving(network, "g1", "nameserver.py", answer, b"x".hex()):
        said = named(network, *PROGRAM, "run", "--quick", *only, "--json", *words, files=files, tmp_path=tmp_path)
    return dict(json.loads(said))


@pytest.mark.parametrize("answer", ["0.0.0.0", "127.0.0.1", "224.0.0.5", "10.77.200.10"])
def test_a_sinkhole_makes_no_place_near(network: Network, tmp_path: Path, answer: str) -> None:
    before = sent(network)
    found = examined(network, tmp_path, answer)
    assert found["score"]["value"] is None
    for each in found["findings"]:
        assert each["verdict"] in ("unknown", "not-applicable"), each["summary"]
        if each["verdict"] == "unknown":
            assert f" resolves to {answer}: {SINKHOLE}" in each["summary"], each["id"]
    unknown = {each["id"] for each in found["findings"] if each["verdict"] == "unknown"}
    assert {f"path.{name}" for name in ("rtt", "loss", "nearest", "location", "stretch", "call-budget")} <= unknown
    assert "net.mtu" in unknown
    assert found["measurements"]["path.trace"]["value"]["traces"] == {}
    assert sent(network) == before


def test_a_users_own_private_host_is_measured(network: Network, tmp_path: Path) -> None:
    found = examined(network, tmp_path, network.address("oslo"), "--path", "home=my.lab")
    (trace,) = found["measurements"]["path.trace"]["value"]["traces"].values()
    assert (trace["address"], trace["minimum_ms"] > 8) == (network.address("oslo"), True)


def test_a_name_that_leads_back_here_is_not_measured(network: Network, tmp_path: Path) -> None:
    link = PLACES.links[0]
    mine = PLACES.addresses(link)[0][0]
    found = examined(network, tmp_path, mine, "--path", "home=my.lab")
    said = {each["id"]: each["summary"] for each in found["findings"] if each["subject"] == "home"}
    assert said["path.rtt"] == f"my.lab resolves to {mine}, which is this host itself: name a host elsewhere"


def test_what_the_caller_writes_as_an_address_is_measured(network: Network) -> None:
    words = ("run", "--quick", "--only", "path.rtt", "--json", "--path", "here=127.0.0.1")
    done = subprocess.run(
        network.command("vds", [*PROGRAM, *words]), capture_output=True, text=True, check=True, timeout=60
    )
    (trace,) = json.loads(done.stdout)["measurements"]["path.trace"]["value"]["traces"].values()
    assert trace["echoes"]["received"] > 0
