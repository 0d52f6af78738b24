"""Answers for a router that is silent, as no honest one would: run on the first router, told how by its argument.

short: 8 octets of the quote; late: a second late; extensions: with MPLS labels; garbage: wrong identifiers,
wrong quotes, half messages; twice: each answer again.
"""

import heapq
import random
import socket
import struct
import sys
import time

INTERFACE = "u-vds"
FOR_TTL = 2
EXTENSION = bytes.fromhex("2000") + b"\0\0" + struct.pack("!HBB", 8, 1, 1) + struct.pack("!I", 16001 << 12 | 0x1FF)


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data + b"\0" * (len(data) % 2))) if len(data) % 2 == 0 else 0
    if len(data) % 2:
        return checksum(data + b"\0")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def icmp(kind: int, code: int, rest: bytes, body: bytes) -> bytes:
    bare = bytes((kind, code)) + b"\0\0" + rest + body
    return bare[:2] + struct.pack("!H", checksum(bare)) + bare[4:]


def exceeded(quote: bytes, octets: int, extension: bytes = b"") -> bytes:
    header = (quote[0] & 15) * 4
    kept = quote[: header + octets]
    if extension:
        kept = kept.ljust(128, b"\0")
        return icmp(11, 0, bytes((0, 32, 0, 0)), kept + extension)
    return icmp(11, 0, b"\0\0\0\0", kept)


def forged(kind: str, packet: bytes) -> list[tuple[float, bytes]]:
    """What is sent for a probe, and how much later."""
    if kind == "garbage":
        reply = icmp(0, 0, packet[24:26] + packet[26:28], packet[28:])
        wrong_id = icmp(0, 0, bytes((packet[24] ^ 1, packet[25])) + packet[26:28], packet[28:])
        wrong_cookie = icmp(0, 0, packet[24:28], bytes(len(packet) - 28))
        elsewhere = packet[:16] + bytes((192, 0, 2, 1)) + packet[20:]
        wild = random.randbytes(random.randrange(60))
        messages = [wrong_id, wrong_cookie, exceeded(elsewhere, 64), exceeded(packet, 64)[:20], reply[:6], wild]
        return [(0.0, message) for message in messages]
    if packet[8] != FOR_TTL:
        return []
    if kind == "short":
        return [(0.0, exceeded(packet, 8))]
    if kind == "late":
        return [(1.0, exceeded(packet, 64))]
    if kind == "extensions":
        made = EXTENSION[:2] + struct.pack("!H", checksum(EXTENSION)) + EXTENSION[4:]
        return [(0.0, exceeded(packet, 64, made))]
    return [(0.0, exceeded(packet, 64))] * 2


def main() -> None:
    kind, source = sys.argv[1:3]
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) as sniffer,
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender,
    ):
        sniffer.bind((INTERFACE, 0x0800))
        print("ready", flush=True)
        waiting: list[tuple[float, int, bytes, str]] = []
        count = 0
        while True:
            sniffer.settimeout(max(0.001, waiting[0][0] - time.monotonic()) if waiting else 0.2)
            try:
                packet, address = sniffer.recvfrom(65536)
                if address[2] != 4 and packet[9] in (1, 17):
                    for later_s, message in forged(kind, packet):
                        count += 1
                        back = socket.inet_ntoa(packet[12:16])
                        heapq.heappush(waiting, (time.monotonic() + later_s, count, message, back))
            except TimeoutError:
                pass
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, message, back = heapq.heappop(waiting)
                header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, 64, 1, 0)
                sender.sendto(header + socket.inet_aton(source) + socket.inet_aton(back) + message, (back, 0))


if __name__ == "__main__":
    main()
