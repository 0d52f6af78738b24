"""The addresses that this machine has itself."""

import ipaddress

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
LOCALHOST = {4: "127.0.0.1", 6: "::1"}
"""What `localhost` is in each family: it is asked of no resolver (RFC 6761, 6.3), so `--offline` measures it."""


def own_addresses() -> list[IPAddress]:
    """All addresses of all interfaces, but those of loopback and those that hold on one link only."""
    import psutil

    found: dict[IPAddress, None] = {}
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            address = address_of(entry.address)
            if address is not None and not address.is_loopback and not address.is_link_local:
                found[address] = None
    return list(found)


def address_of(text: str) -> IPAddress | None:
    """An address from its text; None of what is not one. IPv4 inside IPv6 is IPv4."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def is_loopback(text: str) -> bool:
    """Whether a text is an address of loopback to every reader; `127.300.0.1` and `127.1` are asked of a resolver."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return False
    return found.is_loopback if found.version == 4 else found == ipaddress.IPv6Address("::1")  # noqa: PLR2004
