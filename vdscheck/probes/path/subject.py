"""The places that ways are measured to: those that ship with the program, and those that the user names."""

import pkgutil
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from vdscheck.linux.own_addresses import is_loopback
from vdscheck.measurements.path import Place
from vdscheck.plugin import SubjectError, frozen, secrets

PLACES_LIMIT = 16
"""Ways that are measured side by side: more would not fit a screen, and take more CPU than a run may."""
TARGETS_LIMIT = 32
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,61}[A-Za-z0-9])?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NAME_LIMIT = 253
_SHOWN = 60

Trace = Literal["icmp", "udp", "tcp"]


@frozen
class TargetHost:
    """A host to ask; with a port only TCP to that port is expected to answer."""

    host: str
    port: int | None


@frozen
class TraceOptions:
    """How ways are measured, where the caller asks for something else than a run does."""

    rounds: int = 10
    interval_s: float = 0.0
    family: int | None = None
    """4 or 6 alone; None is both."""
    trace: Trace = "icmp"
    port: int = 443
    unlimited: bool = False
    """Whether the user owns more than 300 packets to one address."""
    names: bool = False
    """Whether addresses are looked up backwards."""
    samples: bool = False


@frozen
class TargetSet:
    """A place with its targets, in the order in which they are wanted."""

    place: Place
    targets: tuple[TargetHost, ...]


@frozen
class Places:
    """All places of a run: one process measures the ways to all of them at one time."""

    sought: tuple[TargetSet, ...]
    how: TraceOptions

    @classmethod
    def chosen(cls, settings: Mapping[str, Any]) -> Mapping[str, "Places"]:
        """The places of `path` in the settings, or else those that ship. Raises SubjectError.

        They are one subject without a name, since they are measured together.
        """
        known = shipped()
        written = [str(each) for each in settings.get("path", ())]
        how = TraceOptions(**settings.get("path-how", {}))
        sought = _named(written, known) if written else tuple(known.values())
        count = sum(len(each.targets) for each in sought)
        if len(sought) > PLACES_LIMIT or count > TARGETS_LIMIT:
            message = (
                f"{len(sought)} places with {count} hosts: at most {PLACES_LIMIT} with {TARGETS_LIMIT} at one time"
            )
            raise SubjectError(message)
        return {"": cls(sought, how)}

    @property
    def local(self) -> bool:
        """Whether no packet leaves the host for them: `--offline` leaves these in."""
        hosts = [target.host for each in self.sought for target in each.targets]
        return all(host == "localhost" or is_loopback(host) for host in hosts)


def shipped() -> dict[str, TargetSet]:
    """The places of profiles/places.toml, by name."""
    # Not importlib.resources, which takes ten times as long to import.
    table = tomllib.loads((pkgutil.get_data("vdscheck.profiles", "places.toml") or b"").decode())
    found = {}
    for each in table["places"]:
        place = Place(
            name=each["name"],
            latitude=each["latitude"],
            longitude=each["longitude"],
            limit_ms=float(each["limit"].removesuffix(" ms")),
            limit_source=each["limit_source"],
            source=each["source"],
        )
        found[place.name] = TargetSet(place, tuple(target(host) for host in each["targets"]))
    return found


def _named(written: Sequence[str], known: Mapping[str, TargetSet]) -> tuple[TargetSet, ...]:
    """NAME=HOST (again for one more host of that name), the name of a place that ships, or HOST."""
    found: dict[str, TargetSet] = {}
    for word in written:
        name, equals, host = word.partition("=")
        if not equals and name in known:
            found[name] = known[name]
            continue
        if not equals:
            name, host = word, word
        if not _NAME.fullmatch(name) and name != host:
            message = f"--path {_shown(word)}: a name of letters, digits and hyphens is wanted before the ="
            raise SubjectError(message)
        if not host.strip():
            message = f"{_shown(word) or 'an empty word'}: a host is wanted{' after the =' if equals else ''}"
            raise SubjectError(message)
        asked = target(host)
        place = (
            known[name].place
            if name in known
            else Place(
                name=asked.host if name == host else name,
                latitude=None,
                longitude=None,
                limit_ms=None,
                limit_source=None,
                source="named by the user",
            )
        )
        before = found[place.name].targets if place.name in found and found[place.name] != known.get(name) else ()
        if asked not in before:
            found[place.name] = TargetSet(place, (*before, asked))
    return tuple(replace(each) for each in found.values())


def target(written: str) -> TargetHost:
    """A host as people write it: a name, an IPv4 or an IPv6 address, with a port or without.

    Raises SubjectError for what is none of these.
    """
    text = written.strip()
    port = None
    bare = text
    if text.startswith("[") and "]" in text:
        bare, _, rest = text[1:].partition("]")
        port = _port(rest.removeprefix(":"), written) if rest else None
    elif text.count(":") == 1 and "//" not in text:
        bare, _, rest = text.partition(":")
        port = _port(rest, written)
    if "://" in text or "/" in text:
        _, host = secrets.login_and_place(text.partition("://")[2].partition("/")[0] or text.partition("/")[0])
        message = f"{_shown(written)} is an address of a page: write the host alone, {_shown(host)}"
        raise SubjectError(message)
    return TargetHost(_host(bare, written), port)


def _port(text: str, written: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:  # noqa: PLR2004
        message = f"{_shown(written)}: a port from 1 to 65535 is wanted after the colon"
        raise SubjectError(message)
    return int(text)


def _host(text: str, written: str) -> str:
    if ":" in text:
        return _ipv6(text, written)
    try:
        name = text.encode("ascii").decode() if text.isascii() else text.encode("idna").decode()
    except UnicodeError as error:
        message = f"{_shown(written)} is not a name that DNS can hold"
        raise SubjectError(message) from error
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    if not name or len(name) > _NAME_LIMIT or not all(_LABEL.fullmatch(label) for label in labels):
        long = next((label for label in labels if len(label) > 63), None)  # noqa: PLR2004 - RFC 1035
        why = f"a part of it has {len(long)} characters, and 63 are allowed" if long else "that is not a host name"
        message = f"{_shown(written)}: {why}"
        raise SubjectError(message)
    if labels[-1].isdecimal() and not _is_ipv4(labels):
        message = f"{_shown(written)} is neither a name nor an IPv4 address"
        raise SubjectError(message)
    return name


def _is_ipv4(labels: Sequence[str]) -> bool:
    return len(labels) == 4 and all(re.fullmatch(r"0|[1-9][0-9]{0,2}", each) and int(each) < 256 for each in labels)  # noqa: PLR2004


def _ipv6(text: str, written: str) -> str:
    import socket

    try:
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text.partition("%")[0]))
    except OSError as error:
        message = f"{_shown(written)} is not an IPv6 address"
        raise SubjectError(message) from error


def _shown(text: str) -> str:
    login, place = secrets.login_and_place(secrets.without_secrets(text))
    shown = f"{secrets.MARK}@{place}" if login and "://" not in login else secrets.without_secrets(text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
