"""The truth on the wire: all packets of an interface with the kernel's stamps, captured by a program of its own."""

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.lab.net.network import Network
from tests.support.project import PROJECT

INTERFACE = "d-g1"
_ETHERTYPES = (0x0800, 0x86DD)


class Packet(NamedTuple):
    """One IP packet, and when it passed the interface."""

    at_ns: int
    outgoing: bool
    data: bytes


class Round(NamedTuple):
    """A probe on the wire, and when it was answered; None where it was not."""

    sent_ns: int
    ttl: int
    target: bytes
    answered_ns: int | None


@contextmanager
def captured(network: Network, node: str = "vds", interface: str = INTERFACE) -> Iterator[list[Packet]]:
    """All IP packets of an interface while the block runs; they are in the list when it has ended."""
    found: list[Packet] = []
    argv = [sys.executable, "-m", "tests.probes.path.wire", interface]
    process = network.start(node, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PROJECT)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield found
    process.stdin.close()
    lines = process.stdout.read().splitlines()
    process.stdout.close()
    process.wait()
    found += [Packet(at, out, bytes.fromhex(data)) for at, out, data in map(json.loads, lines)]


def rounds(packets: list[Packet], kind: str = "icmp") -> list[Round]:
    """The probes in the order of sending, each with its answer, for IPv4 and IPv6."""
    sent: dict[tuple[bytes, int], Round] = {}
    for packet in packets:
        six = packet.data[0] >> 4 == 6
        header = 40 if six else (packet.data[0] & 15) * 4
        protocol = packet.data[6] if six else packet.data[9]
        body = packet.data[header:]
        if packet.outgoing:
            number = _number(body, protocol, kind)
            if number is not None:
                target = packet.data[24:40] if six else packet.data[16:20]
                ttl = packet.data[7] if six else packet.data[8]
                sent.setdefault((target, number), Round(packet.at_ns, ttl, target, None))
            continue
        for key in _answers(packet.data, body, protocol, kind, six=six):
            if key in sent and sent[key].answered_ns is None:
                sent[key] = sent[key]._replace(answered_ns=packet.at_ns)
    return list(sent.values())


def _number(body: bytes, protocol: int, kind: str) -> int | None:
    if kind == "icmp" and protocol in (1, 58) and body[0] in (8, 128):
        return int(struct.unpack_from("!H", body, 6)[0])
    if kind == "udp" and protocol == 17 and struct.unpack_from("!H", body, 2)[0] == 33434:
        return int(struct.unpack_from("!H", body, 8)[0])
    return None


def _answers(packet: bytes, body: bytes, protocol: int, kind: str, *, six: bool) -> Iterator[tuple[bytes, int]]:
    if protocol not in (1, 58):
        return
    if body[0] in (0, 129) and kind == "icmp":
        yield packet[8:24] if six else packet[12:16], int(struct.unpack_from("!H", body, 6)[0])
    if body[0] in ((1, 3) if six else (3, 11)):
        quote = body[8:]
        header = 40 if six else (quote[0] & 15) * 4
        number = _number(quote[header:], quote[6] if six else quote[9], kind)
        if number is not None:
            yield quote[24:40] if six else quote[16:20], number


def _capture(interface: str) -> None:
    """Write each packet as a line of JSON when standard input is closed."""
    import select

    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as sniffer:
        sniffer.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
        sniffer.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        sniffer.bind((interface, 3))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        found = []
        while True:
            ready, _, _ = select.select([sniffer.fileno(), 0], (), ())
            if sniffer.fileno() in ready:
                data, ancillary, _, address = sniffer.recvmsg(65536, 256)
                if address[1] in _ETHERTYPES:
                    seconds, rest = struct.unpack("qq", ancillary[0][2][:16])
                    found.append((seconds * 10**9 + rest, address[2] == 4, data[:160].hex()))
            elif 0 in ready:
                break
    sys.stdout.writelines(json.dumps(each) + "\n" for each in found)


if __name__ == "__main__":
    _capture(sys.argv[1])
