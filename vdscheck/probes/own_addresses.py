"""The addresses that this machine has itself."""

import ipaddress

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


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
