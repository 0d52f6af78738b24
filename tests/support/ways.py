"""Ways as examples for the tests of checks and of the renderer."""

from dataclasses import replace
from typing import Any

from vdscheck.measurements import Echoes, Hop, PathMtu, Paths, PathTrace, Place, Responder, TargetMinimum
from vdscheck.probes.path.statistics import round_trips
from vdscheck.probes.path.subject import shipped
from vdscheck.stats import Recorder

MS = 1_000_000
OSLO, FRANKFURT = (shipped()[name].place for name in ("oslo", "frankfurt"))
NOWHERE = Place(name="x", latitude=None, longitude=None, limit_ms=None, limit_source=None, source="named by the user")
FULL = PathMtu(
    bytes=1500,
    tried_bytes=1500,
    interface_bytes=None,
    reported_by=None,
    reported_bytes=None,
    last_passed=None,
    why="answered",
)


def hop(ttl: int, received: int = 10, ms: float = 1.0, **more: Any) -> Hop:
    rtts = [int(ms * MS) + number for number in range(received)]
    responders = (Responder(address=f"10.0.0.{ttl}", name=None, answers=received, best_ms=ms),) if received else ()
    plain: dict[str, Any] = {
        "ttl": ttl,
        "sent": 10,
        "received": received,
        "loss": None if received == 10 else "undecided",
        "times": round_trips(rtts),
        "responders": responders,
        "labels": (),
    }
    return Hop(**(plain | more))


def echoes(ms: float, received: int = 100, sent: int = 100, spread_ms: float = 0.1) -> Echoes:
    recorder = Recorder()
    rtts = [int((ms + spread_ms * (number % 10) / 10) * MS) for number in range(received)]
    recorder.add(rtts)
    blocks = tuple(ms + 0.001 * number for number in range(10)) if received else (None,) * 10
    return Echoes(
        method="icmp echo, datagram ICMP" if received else "none",
        sent=sent,
        received=received,
        times=recorder.distribution(),
        jitter_ms=0.01 if received else None,
        block_minima_ms=blocks,
    )


def trace(place: Place, ms: float, received: int = 100, **more: Any) -> PathTrace:
    """A way of three hops to a place that answers after so many milliseconds."""
    address = "192.0.2.1" if place.name == "oslo" else "192.0.2.2"
    minimum = ms if received else None
    target = TargetMinimum(
        host=f"{place.name}.example",
        address=address,
        family=4,
        sent=100,
        received=received,
        best_ms=minimum,
        method="icmp echo, datagram ICMP",
        problem=None,
    )
    plain: dict[str, Any] = {
        "place": place,
        "host": f"{place.name}.example",
        "address": address,
        "family": 4,
        "engine": "datagram ICMP",
        "rounds": 10,
        "packets": 213,
        "hops": (hop(1), hop(2, 0, loss="silent"), hop(3, ms=ms)),
        "end_ttl": 3,
        "refusal": None,
        "loop": False,
        "unattributed": 0,
        "duplicates": 0,
        "clock_steps": 0,
        "kernel_stamped": 200,
        "echoes": echoes(ms, received),
        "targets": (target,),
        "minimum_ms": minimum,
        "mtu": FULL,
        "samples": (),
    }
    return PathTrace(**(plain | more))


def paths(*traces: PathTrace, **more: Any) -> Paths:
    plain: dict[str, Any] = {
        "places": tuple(each.place for each in traces),
        "traces": {each.place.name: each for each in traces},
        "absent": {},
        "duration_s": 2.2,
        "complete": True,
        "ipv6": "not-asked",
        "ipv6_targets": 0,
    }
    return Paths(**(plain | more))


USUAL = paths(trace(OSLO, 8.0), trace(FRANKFURT, 28.0))
SILENT = trace(OSLO, 8.0, 0, hops=(hop(1), hop(2)), end_ttl=None)


def with_echoes(each: PathTrace, **more: Any) -> PathTrace:
    return replace(each, echoes=replace(each.echoes, **more))
