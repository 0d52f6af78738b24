"""Tries what anybody could do who reaches a Redis server through one of this machine's own addresses."""

import time
from dataclasses import replace
from typing import Literal

from vdscheck.linux.own_addresses import IPAddress, own_addresses
from vdscheck.measurements import RedisDoor, RedisExposure
from vdscheck.plugin import Host, Reason, UnavailableError, not_applicable
from vdscheck.probes.redis.connection import RefusedError, Wire
from vdscheck.probes.redis.info import info, whole
from vdscheck.probes.redis.process import here
from vdscheck.probes.redis.url import RedisServer

ADDRESSES_LIMIT = 32
ANSWER_LIMIT_S = 1.0
TRIED_S = 4.0
"""Own addresses answer at once, unless a firewall drops what comes to them."""
Entry = Literal["usable", "ping-only", "refused", "closed", "silent"]
_KEY = "vdscheck:nothing"
"""EXISTS of this key is what a command that reads data may be: it returns none."""
_CLOSED_TO_US = ("NOAUTH", "NOPERM", "DENIED", "WRONGPASS")
_NOT_READY = ("LOADING", "MASTERDOWN", "BUSY")


def tried(_host: Host, server: RedisServer) -> RedisExposure:
    """Every address of this machine, with every port that the server is known to listen on."""
    wire = Wire(server, log_in=False)
    _refuse_other(wire)
    if not server.local and here(server, wire.peer_address(), None) is not True:
        why = f"{server.name} runs on another machine: run vdscheck there to see what it is open to"
        raise UnavailableError(not_applicable(why))
    wire.close()
    servers = _listening(server)
    addresses = own_addresses()
    doors: list[RedisDoor] = []
    ends_at = time.monotonic() + TRIED_S
    for address in addresses[:ADDRESSES_LIMIT]:
        if time.monotonic() < ends_at:
            doors += [_door(address, each) for each in servers]
    return RedisExposure(
        ports=tuple(each.port for each in servers),
        doors=tuple(doors),
        untried=len(addresses) - len({door.address for door in doors}) if servers else 0,
    )


def _refuse_other(wire: Wire) -> None:
    """Raise UnavailableError for what is no Redis: of that nothing can be said."""
    try:
        wire.ping_ns(within_s=ANSWER_LIMIT_S)
    except RefusedError as error:
        if error.code not in (*_CLOSED_TO_US, *_NOT_READY) and not error.full:
            raise


def _listening(server: RedisServer) -> list[RedisServer]:
    """The server by each of its ports: that of its address, and the one that INFO names.

    Raises UnavailableError where only INFO could say, and does not.
    """
    by_address = [] if server.socket_path is not None else [server]
    try:
        port = whole(info(Wire(server).ask("INFO", "server")).get("tcp_port"))
    except UnavailableError:
        if not by_address:
            raise
        return by_address
    if not port or any(each.port == port for each in by_address):
        return by_address
    return [*by_address, replace(server, socket_path=None, port=port, tls=False)]


def _door(address: IPAddress, server: RedisServer) -> RedisDoor:
    target = replace(server, host=str(address), username=None, password=None, database=0, verify=False, named=True)
    entry, said = _entry(target)
    return RedisDoor(
        address=str(address),
        port=server.port,
        public=address.is_global,
        entry=entry,
        said=said,
    )


def _entry(target: RedisServer) -> tuple[Entry, str | None]:
    """How far an unauthenticated connection gets."""
    try:
        wire = Wire(target, log_in=False)
    except UnavailableError as error:
        return _unopened(error), error.absent.detail
    try:
        wire.ping_ns(within_s=ANSWER_LIMIT_S)
    except RefusedError as error:
        # Permission is looked at before all else, so a server that is not ready lets us in.
        closed = error.code in _CLOSED_TO_US or error.full
        return "refused" if closed else "usable", error.absent.detail
    except UnavailableError as error:
        return "silent" if error.absent.reason is Reason.TIMEOUT else "refused", error.absent.detail
    try:
        wire.ask("EXISTS", _KEY, within_s=ANSWER_LIMIT_S)
    except RefusedError as error:
        return "ping-only" if error.code in _CLOSED_TO_US else "usable", error.absent.detail
    except UnavailableError as error:
        return "ping-only", error.absent.detail
    finally:
        wire.close()
    return "usable", None


def _unopened(error: UnavailableError) -> Entry:
    if isinstance(error.__cause__, ConnectionRefusedError):
        return "closed"
    return "silent" if error.absent.reason is Reason.TIMEOUT else "refused"
