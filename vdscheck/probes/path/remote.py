"""Which addresses a host that is named, and is elsewhere, can have."""

import ipaddress
from collections.abc import Callable

from vdscheck.linux.own_addresses import IPAddress, address_of
from vdscheck.plugin import frozen

LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
"""Names of this very host: whoever gives one means it."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NOBODYS = tuple(map(ipaddress.ip_network, ("0.0.0.0/8", "240.0.0.0/4", "::/96", "100::/64")))
"""This network, reserved and broadcast (RFC 1122, RFC 1112), IPv4-compatible (RFC 4291), discarded (RFC 6666)."""
_OF_A_SITE = tuple(
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10"),
    )
)
"""Private addresses (RFC 1918), those behind a carrier's NAT (RFC 6598), and those of IPv6 (RFC 4193, RFC 3879)."""


@frozen
class Named:
    """A host that is to be measured, as somebody wrote it."""

    host: str
    public: bool
    """Whether it ships as a place in the Internet, which no private network holds."""


def why_not_remote(named: Named, address: str, is_own: Callable[[str], bool]) -> str | None:
    """Why an address is not one of a host that is named and elsewhere, as a sentence; None where it may be.

    An address that the caller wrote himself is his word, and so is `localhost`.
    """
    found = address_of(address)
    if found is None or address_of(named.host) is not None:
        return None
    if found in _NAT64:
        found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    if found.is_loopback and _is_local(named.host):
        return None
    if _is_nobodys(found) or (named.public and any(found in site for site in _OF_A_SITE)):
        return f"{named.host} resolves to {address}: a filter or sinkhole answers for it"
    if is_own(address):
        return f"{named.host} resolves to {address}, which is this host itself: name a host elsewhere"
    return None


def _is_local(host: str) -> bool:
    return host in LOCAL_NAMES or host.endswith(".localhost")


def _is_nobodys(address: IPAddress) -> bool:
    general = address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    return general or any(address in network for network in _NOBODYS)


def is_own(address: str) -> bool:
    """Whether this host has the address itself: then the kernel takes it as the source of what goes there.

    No packet is sent: connect(2) of UDP only looks for the way.
    """
    import socket

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            probe.connect((address, 9))
            return bool(probe.getsockname()[0] == address)
    except OSError:
        return False
