"""Asks a Redis server for its own account of memory, persistence, replication and clients."""

import time

from vdscheck.measurements import RedisServerState
from vdscheck.plugin import Absent, Host, Reason, UnavailableError, unmeasured
from vdscheck.probes.redis import info
from vdscheck.probes.redis.connection import RefusedError, Wire
from vdscheck.probes.redis.process import here, process
from vdscheck.probes.redis.url import RedisServer

PARAMETERS = ("maxclients", "save", "tcp-backlog")


def asked(host: Host, server: RedisServer) -> RedisServerState:
    """Its state, with what it does not let us ask left out and named."""
    missing: dict[str, Absent] = {}
    try:
        wire = Wire(server)
        found = _info(wire, missing)
    except RefusedError as error:
        if not error.full:
            raise
        return _full(server, error)
    config = _config(wire, missing)
    running = process(host, wire.peer_pid(), found)
    said = found or {}
    flavour, version = info.flavour(said)
    return RedisServerState(
        flavour=flavour,
        version=version,
        mode=info.word(said.get("redis_mode", said.get("server_mode"))),
        here=here(server, wire.peer_address(), running),
        process=running,
        full=False,
        memory=info.memory(said),
        persistence=info.persistence(said, config.get("save"), time.time()),
        replication=info.replication(said),
        clients=info.clients(said, config.get("maxclients")),
        backlog=info.whole(config.get("tcp-backlog")),
        missing=missing,
    )


def _info(wire: Wire, missing: dict[str, Absent]) -> info.Info | None:
    try:
        found = info.info(wire.ask("INFO"))
    except RefusedError as error:
        if error.code != "NOPERM":
            raise
        missing["INFO"] = error.absent
        return None
    if not found:
        why = f"{wire.server.name} answers INFO with nothing that INFO has"
        raise UnavailableError(unmeasured(Reason.ERROR, why))
    return found


def _config(wire: Wire, missing: dict[str, Absent]) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        for parameter in PARAMETERS:
            found |= info.pairs(wire.ask("CONFIG", "GET", parameter))
    except RefusedError as error:
        missing["CONFIG GET"] = error.absent
    return found


def _full(server: RedisServer, refusal: RefusedError) -> RedisServerState:
    """A server that takes no more clients: that is its state."""
    return RedisServerState(
        flavour="redis",
        version=None,
        mode=None,
        here=here(server, None, None),
        process=None,
        full=True,
        memory=None,
        persistence=None,
        replication=None,
        clients=None,
        backlog=None,
        missing={"INFO": refusal.absent, "CONFIG GET": refusal.absent},
    )
