"""Addresses of hosts, asked for all at one time and within a deadline."""

import queue
import re
import threading
import time
from collections.abc import Sequence

from vdscheck.linux.own_addresses import LOCALHOST
from vdscheck.plugin import frozen, safe_text
from vdscheck.probes.path.packets import Family

STACK_BYTES = 1 << 18
"""A thread for each name, since the C library has no way to ask without waiting; the memory of a child is limited."""


@frozen
class Found:
    """The addresses of a host, or why there is none."""

    addresses: tuple[tuple[Family, str], ...]
    why: str = ""


def addresses(hosts: Sequence[str], families: Sequence[Family], limit_s: float) -> dict[str, Found]:
    """One address of each family for each host, the families in the order given."""
    found: dict[tuple[str, Family], str] = {}
    asked: set[tuple[str, Family]] = set()
    why: dict[str, str] = {}
    for host in dict.fromkeys(hosts):
        literal = _literal(host)
        if host == "localhost":
            found.update(((host, family), LOCALHOST[family]) for family in families)
        elif literal is None:
            asked.update((host, family) for family in families)
        elif literal in families:
            found[host, literal] = host
        else:
            why[host] = f"{host} is not an IPv{families[0]} address"
    if asked:
        found.update(_resolved(asked, limit_s, why))
    return {
        host: Found(
            tuple((family, found[host, family]) for family in families if (host, family) in found),
            why.get(host, f"the name {host} is not known"),
        )
        for host in dict.fromkeys(hosts)
    }


def _literal(host: str) -> Family | None:
    if ":" in host:
        return 6
    return 4 if re.fullmatch(r"[0-9]+(\.[0-9]+){3}", host) else None


def _resolved(asked: set[tuple[str, Family]], limit_s: float, why: dict[str, str]) -> dict[tuple[str, Family], str]:
    from icmplib import NameLookupError, resolve  # type: ignore[import-untyped]

    answers: queue.SimpleQueue[tuple[tuple[str, Family], str | None]] = queue.SimpleQueue()

    def ask(question: tuple[str, Family]) -> None:
        try:
            found = resolve(question[0], question[1])
        except (NameLookupError, UnicodeError, OSError):
            found = []
        answers.put((question, safe_text(found[0]) if found else None))

    threading.stack_size(STACK_BYTES)
    for question in sorted(asked):
        threading.Thread(target=ask, args=(question,), daemon=True).start()
    until = time.monotonic() + limit_s
    found: dict[tuple[str, Family], str] = {}
    open_still = set(asked)
    while open_still:
        try:
            question, address = answers.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        open_still.discard(question)
        if address is not None:
            found[question] = address
    for host, _ in open_still:
        why[host] = f"no resolver answered for {host} within {limit_s:g} s"
    return found


def local_addresses(text: str) -> bool:
    """Whether the text of /proc/net/if_inet6 holds an address that is not of one link or of the host alone."""
    return any(line.split()[3:4] == ["00"] for line in text.splitlines())


def default_route(text: str) -> bool:
    """Whether the text of /proc/net/ipv6_route holds a way to everywhere that is up and refuses nothing."""
    for line in text.splitlines():
        words = line.split()
        if len(words) == 10 and words[:2] == ["0" * 32, "00"] and words[9] != "lo":  # noqa: PLR2004
            return True
    return False
