"""Servers that are not what a Redis is: silent, slow, endless, of another protocol, or out to be repeated."""

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Part = Callable[[socket.socket], None]
"""What a server does with a connection that it has taken."""


@contextmanager
def server(part: Part) -> Iterator[int]:
    """A server on loopback that plays a part; its port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                part(self.request)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield found.server_address[1]
        finally:
            found.shutdown()


def requests(connection: socket.socket) -> Iterator[list[bytes]]:
    """The commands that come, each as its words."""
    stream = connection.makefile("rb")
    while line := stream.readline():
        words = []
        for _ in range(int(line[1:])):
            length = int(stream.readline()[1:])
            words.append(stream.read(length + 2)[:-2])
        yield words


def answers(**by_command: bytes | Part) -> Part:
    """Answer each command as told, others with +OK."""

    def part(connection: socket.socket) -> None:
        for words in requests(connection):
            answer = by_command.get(words[0].decode().lower(), b"+OK\r\n")
            if callable(answer):
                answer(connection)
            else:
                connection.sendall(answer)

    return part


def silence(connection: socket.socket) -> None:
    """Take it, and say nothing."""
    time.sleep(30)


def slowly(connection: socket.socket) -> None:
    """One byte a second of what may become an answer."""
    for byte in b"+PONGPONGPONGPONGPONGPONGPONGPONG\r\n":
        connection.sendall(bytes([byte]))
        time.sleep(1)


def http(connection: socket.socket) -> None:
    """What a web server says to what it does not understand."""
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html>no</html>")


def endless(start: bytes, more: bytes) -> Part:
    """A beginning and then more and more."""

    def part(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(start)
        block = more * max(1, 65536 // len(more))
        while True:
            connection.sendall(block)

    return part


def says(answer: bytes) -> Part:
    """One answer to whatever comes, then the end."""

    def part(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(answer)

    return part


def bulk(text: bytes) -> bytes:
    """A text as RESP has it."""
    return b"$%d\r\n%s\r\n" % (len(text), text)
