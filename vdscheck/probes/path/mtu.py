"""How large a packet gets through: what to send for it, and what the answers mean. Pure."""

from vdscheck.measurements.path import PathMtu
from vdscheck.probes.path.packets_sent import Complete, NotSent, ProbeLog, ProbePacket
from vdscheck.probes.path.schedule import ECHO_TTL, NextPacket

WANTED_BYTES = 1500
SMALLER_BYTES = (1492, 1480, 1476, 1472, 1460, 1454, 1450, 1440, 1420, 1400, 1380, 1360, 1300, 1280)
"""What PPPoE, IP in IP, GRE, VXLAN, WireGuard and their like leave; IPv6 asks for 1280 at least (RFC 8200)."""
_ATTEMPTS = 2
_FIRST_ROUND, _SMALLER_ROUNDS, _HOP_ROUNDS = 1, (3, 4), (6, 7)
_UNDECIDED = "packets of {} bytes were not answered, and a target that limits its answers to UDP looks the same"


def steps(round_number: int, trail: ProbeLog, *, has_icmp: bool) -> list[NextPacket]:
    """The probes of a round, counted from the first round of its trace."""
    if round_number == _FIRST_ROUND:
        return [NextPacket("size", ECHO_TTL, WANTED_BYTES)] * _ATTEMPTS
    if not has_icmp or _passed(trail) >= WANTED_BYTES or not _asked(trail):
        return []
    if round_number in _SMALLER_ROUNDS:
        passed = _passed(trail)
        return [NextPacket("size", ECHO_TTL, length) for length in SMALLER_BYTES if length > passed]
    if round_number in _HOP_ROUNDS and _told(trail) is None and not _too_large_for_us(trail) and _passed(trail):
        return [NextPacket("size", ttl, WANTED_BYTES) for ttl in range(1, (trail.end_ttl or 1))]
    return []


def found(trail: ProbeLog, *, has_icmp: bool) -> PathMtu | None:
    """What the probes so far say; None where none has been sent."""
    if not _asked(trail):
        return None
    passed, told = _passed(trail), _told(trail)
    interface = _interface(trail, passed) if _too_large_for_us(trail) else None
    if told is not None:
        mtu = told.mtu_bytes if told.mtu_bytes and told.mtu_bytes < WANTED_BYTES else None
        size = passed or mtu
        return _made(size, f"{told.responder} says that {WANTED_BYTES} bytes are too many", told=told)
    if interface is not None:
        return _made(passed or None, "the own interface takes no more", interface=interface)
    if passed >= WANTED_BYTES:
        return _made(passed, "answered")
    if passed:
        why = f"{WANTED_BYTES} bytes vanish without a word, {passed} get through"
        return _made(passed, why, last_passed=_last_passed(trail))
    return _made(
        None, "no packet that must not be fragmented was answered" if has_icmp else _UNDECIDED.format(WANTED_BYTES)
    )


def _made(
    size: int | None,
    why: str,
    *,
    told: Complete | None = None,
    interface: int | None = None,
    last_passed: str | None = None,
) -> PathMtu:
    return PathMtu(
        bytes=size,
        tried_bytes=WANTED_BYTES,
        interface_bytes=interface,
        reported_by=None if told is None else told.responder,
        reported_bytes=None if told is None else told.mtu_bytes,
        last_passed=last_passed,
        why=why,
    )


def _asked(trail: ProbeLog) -> list[ProbePacket]:
    return list(trail.of("size"))


def _passed(trail: ProbeLog) -> int:
    """The largest packet that the target answered; 0 where it answered none."""
    answered = (
        probe.length for probe in trail.of("size") if isinstance(probe.state, Complete) and probe.state.kind == "target"
    )
    return max(answered, default=0)


def _told(trail: ProbeLog) -> Complete | None:
    """A router's word that a packet was too big for what comes next."""
    said = (
        probe.state
        for probe in trail.of("size")
        if isinstance(probe.state, Complete) and probe.state.kind == "too-big" and probe.length == WANTED_BYTES
    )
    return next(said, None)


def _too_large_for_us(trail: ProbeLog) -> bool:
    return any(isinstance(probe.state, NotSent) and probe.length == WANTED_BYTES for probe in trail.of("size"))


def _interface(trail: ProbeLog, passed: int) -> int:
    """The largest packet that could leave."""
    left = (probe.length for probe in trail.of("size") if not isinstance(probe.state, NotSent))
    return max(left, default=passed)


def _last_passed(trail: ProbeLog) -> str | None:
    """The farthest hop that answered to a packet of full size."""
    reached = {
        probe.ttl: probe.state.responder
        for probe in trail.of("size")
        if isinstance(probe.state, Complete) and probe.state.kind == "hop" and probe.length == WANTED_BYTES
    }
    return reached[max(reached)] if reached else None
