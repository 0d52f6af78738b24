"""The network's counters and buffers, as the kernel writes them."""

import socket
import time
from pathlib import Path

import pytest

from vdscheck.measurements import TcpBuffers
from vdscheck.model.absence import UnavailableError
from vdscheck.probes.net import counters
from vdscheck.probes.path import resolve
from vdscheck.probes.path.packets import Family
from vdscheck.probes.path.resolver_times import Asking
from vdscheck.probes.sysctl import values
from vdscheck.target.host import Host


def captured(tmp_path: Path, **files: str) -> Host:
    for name, text in files.items():
        file = tmp_path / "proc/sys/net/ipv4" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Host(str(tmp_path))


def test_buffers_are_the_third_numbers(tmp_path: Path) -> None:
    host = captured(tmp_path, tcp_rmem="4096\t131072\t6291456\n", tcp_wmem="4096\t16384\t4194304\n")
    assert values.buffers.function(host) == TcpBuffers(receive_max_bytes=6291456, send_max_bytes=4194304)


def test_buffers_that_are_not_three_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="three numbers"):
        values.buffers.function(captured(tmp_path, tcp_rmem="4096\n", tcp_wmem="4096\n"))


def test_the_counters_of_this_host_only_grow() -> None:
    *_, last = counters.counters.function(Host(ends_at=time.monotonic() + 0.3))
    assert last.window_s >= 0.25
    assert min(last.segments_out, last.retransmitted, last.softnet_dropped, last.rx_missed, last.rx_fifo) >= 0


def test_an_ipv6_address_and_a_way_out_are_read_from_the_kernel_s_tables() -> None:
    loopback = "00000000000000000000000000000001 01 80 10 80       lo\n"
    link = "fe800000000000000000000000000001 02 40 20 80     eth0\n"
    world = "20010db8000000000000000000000001 02 40 00 80     eth0\n"
    assert not resolve.local_addresses(loopback + link)
    assert resolve.local_addresses(loopback + link + world)
    nothing = f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} ffffffff 00000001 00000000 00200200 lo\n"
    default = f"{'0' * 32} 00 {'0' * 32} 00 {'f' * 32} 00000400 00000001 00000000 00000003 eth0\n"
    assert not resolve.default_route(nothing)
    assert resolve.default_route(nothing + default)
    assert not resolve.default_route("rubbish\n")


def test_addresses_are_taken_as_they_are_and_names_within_the_limit() -> None:
    found = resolve.addresses(["127.0.0.1", "::1", "localhost"], (4,), 2.0)
    assert found["127.0.0.1"].addresses == ((4, "127.0.0.1"),)
    assert found["::1"].why == "::1 is not an IPv4 address"
    assert found["localhost"].addresses == ((4, "127.0.0.1"),)


@pytest.mark.parametrize("families", [(4,), (6,), (4, 6)])
def test_localhost_is_asked_of_no_resolver(monkeypatch: pytest.MonkeyPatch, families: tuple[Family, ...]) -> None:
    monkeypatch.setattr("icmplib.resolve", lambda *_: ["192.0.2.1"])
    found = resolve.addresses(["localhost"], families, 2.0)["localhost"].addresses
    assert found == tuple((each, {4: "127.0.0.1", 6: "::1"}[each]) for each in families)


def test_a_resolver_that_never_answers_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icmplib.resolve", lambda *_: time.sleep(3))
    began = time.monotonic()
    found = resolve.addresses(["a.example"], (4, 6), 0.2)
    assert time.monotonic() - began < 2
    assert found["a.example"].why == "no resolver answered for a.example within 0.2 s"


@pytest.mark.parametrize(("code", "names_known"), [(0, 1), (3, 1), (2, 0), (5, 0)])
def test_a_resolver_that_refuses_a_question_has_not_answered_for_the_name(code: int, names_known: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.setblocking(False)
        asking = Asking("192.0.2.53", ("a.example",), connection=ours)
        asking.ask()
        asked = theirs.recv(512)
        theirs.send(asked[:2] + bytes((0x81, 0x80 | code)) + asked[4:])
        asking.hear()
    assert len(asking.known) == len(asking.first_ms) == names_known
    assert asking.answered == 1
