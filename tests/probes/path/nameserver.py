"""A resolver that answers every question, with the name or the address that its arguments say.

usage: nameserver.py ADDRESS NAME-AS-HEX
"""

import socket
import struct
import sys


def main() -> None:
    address, name = sys.argv[1], bytes.fromhex(sys.argv[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", 53))
        print("ready", flush=True)
        while True:
            message, client = server.recvfrom(4096)
            end = message.index(b"\0", 12) + 5
            kind = struct.unpack_from("!H", message, end - 4)[0]
            if kind == 12:
                data = bytes((len(name),)) + name + b"\0"
            elif kind == 1:
                data = socket.inet_aton(address)
            else:
                data = b""
            answer = b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data if data else b""
            header = message[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if answer else 0, 0, 0)
            server.sendto(header + message[12:end] + answer, client)


if __name__ == "__main__":
    main()
