"""What addresses are called: asked of the first resolver without waiting for it, and bounded whatever it says."""

import secrets
import socket
import time
from contextlib import suppress

from vdscheck.linux.dns_wire import PTR, backwards, question, reply
from vdscheck.plugin import safe_text

NAME_LIMIT = 80
"""A hostile name is as long as 255 octets, and each may need four characters to be shown."""
QUESTIONS_LIMIT = 150
"""With the hundred or so of its own measurement a resolver gets no more packets than any other address."""
AT_ONCE = 64
"""Answers that are taken before anything else has its turn."""
_ATTEMPTS, _AGAIN_S = 2, 1.0
_PORT = 53
_MESSAGE_BYTES = 4096


class ReverseDns:
    """Names of addresses, as they become known."""

    def __init__(self, resolver: str) -> None:
        family = socket.AF_INET6 if ":" in resolver else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect((resolver, _PORT))
        except OSError:
            self._socket.close()
            raise
        self._names: dict[str, str] = {}
        self._open: dict[int, tuple[str, bytes]] = {}
        self._asked: dict[str, tuple[int, float]] = {}
        self._questions = 0

    def fileno(self) -> int:
        """What to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Ask no more."""
        self._socket.close()

    def name(self, address: str) -> str | None:
        """What an address is called; None where that is not known, so that it is asked for."""
        if address in self._names:
            return self._names[address]
        count, at = self._asked.get(address, (0, 0.0))
        if count < _ATTEMPTS and time.monotonic() - at > _AGAIN_S and self._questions < QUESTIONS_LIMIT:
            ident = secrets.randbits(16)
            packet = question(ident, backwards(address), PTR)
            self._open[ident] = (address, packet)
            self._asked[address] = (count + 1, time.monotonic())
            self._questions += 1
            with suppress(OSError):
                self._socket.send(packet)
        return None

    def hear(self) -> None:
        """Take the answers that are there; of a resolver that never stops the rest is left for the next time."""
        for _ in range(AT_ONCE):
            try:
                message = self._socket.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue
            known = self._open.get(int.from_bytes(message[:2], "big"))
            said = None if known is None else reply(message, known[1])
            if known is None or said is None:
                continue
            del self._open[said.ident]
            if said.names:
                self._names[known[0]] = bounded(said.names[0])
            else:
                self._asked[known[0]] = (_ATTEMPTS, 0.0)


def bounded(name: bytes) -> str:
    """A name from outside as a short text; what acts on a terminal is made harmless where it is drawn."""
    text = safe_text(name)
    return text if len(text) <= NAME_LIMIT else f"{text[:NAME_LIMIT]}..."
