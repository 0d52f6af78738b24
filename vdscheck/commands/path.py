"""The path tracer: its options, and how the places are named to which ways are measured."""

from collections.abc import Mapping
from typing import Any

from vdscheck.plugin import Argument, Instrument, Matter, Option, SubjectError

USUAL_ROUNDS = 10
"""More of them may send more than 300 packets to one address."""
ENDING_S = 2.5
"""For names before the first round, and for late answers after the last."""

PATH = Option(
    "path",
    help="Measure the way to this place (repeatable; the first is to be near; oslo and frankfurt).",
    takes="texts",
    metavar="NAME=HOST",
    matter=Matter.REACH,
    target="host",
    commands=("run",),
    is_place=True,
)


def _duration_s(said: Mapping[str, Any]) -> float:
    """The time that all rounds need at most."""
    if said["rounds"] > USUAL_ROUNDS and not said.get("no-packet-limit"):
        message = (
            f"--rounds {said['rounds']} may send more than 300 packets to one address: "
            "say --no-packet-limit if you answer for it"
        )
        raise SubjectError(message)
    return float(said["rounds"] * max(said["interval"], 0.5) + ENDING_S)


def _settings(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """How ways are measured, as the probe takes it."""
    port = said.get("tcp")
    how = {
        "rounds": said["rounds"],
        "interval_s": said["interval"],
        "family": 4 if said.get("ipv4") else 6 if said.get("ipv6") else None,
        "trace": "udp" if said.get("udp") else "icmp" if port is None else "tcp",
        "port": port or 443,
        "unlimited": bool(said.get("no-packet-limit")),
        "names": said["names"],
        "samples": bool(said.get("samples")),
    }
    return {"path-how": how}


ALONE = Instrument(
    "path",
    help="Trace the ways to hosts side by side, live: hops, round trips, and what is lost where.",
    checks=("path.rtt", "path.loss", "path.nearest", "path.location", "net.mtu"),
    probe="path.trace",
    argument=Argument("path", "HOST", "A host, NAME=HOST, or a place: oslo, frankfurt (both, if none).", is_place=True),
    options=(
        Option("ipv4", help="By IPv4 alone.", takes="flag", short="-4", only_short=True, excludes=("ipv6",)),
        Option("ipv6", help="By IPv6 alone.", takes="flag", short="-6", only_short=True),
        Option(
            "rounds",
            help="Ask each hop so often, and the end ten times as often.",
            takes="whole",
            default=USUAL_ROUNDS,
            least=1,
            most=1_000_000,
        ),
        Option(
            "interval",
            help="Seconds from one round to the next.",
            takes="seconds",
            metavar="S",
            default=1.0,
            least=0.1,
            most=60,
        ),
        Option(
            "tcp",
            help="Trace with TCP handshakes to this port.",
            takes="whole",
            metavar="PORT",
            least=1,
            most=65535,
            excludes=("udp",),
        ),
        Option("udp", help="Trace with UDP, as an ordinary user does where ICMP is closed.", takes="flag"),
        Option(
            "names", help="Ask the resolver what addresses are called.", takes="flag", off="--no-names", default=True
        ),
        Option("samples", help="Keep every single probe in the JSON report.", takes="flag"),
        "report",
        Option("no-packet-limit", help="Send more than 300 packets to one address: you answer for it.", takes="flag"),
    ),
    duration_s=_duration_s,
    settings=_settings,
)
