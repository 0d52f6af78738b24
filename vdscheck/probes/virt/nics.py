"""The network cards that packets really leave by, and what the kernel had to drop for want of CPU."""

from collections.abc import Iterator

from vdscheck.linux import optional_files, procfs
from vdscheck.linux.drivers import driver_of, kind_of
from vdscheck.measurements import Nic, Nics, SoftNet
from vdscheck.plugin import Host, Reason, UnavailableError, probe, unmeasured

_NET = "/sys/class/net"
_IFF_UP = 0x1
_VIRTIO_NET_F_MQ = 22
"""virtio 1.2, section 5.1.3; sysfs shows the bits from the lowest on."""


@probe("virt.nics", formerly="machine.nics", cheap=True, deadline_s=3.0)
def nics(host: Host) -> Nics:
    """Reads /sys/class/net: the cards in use, with bridges, bonds, VLANs and tunnels left out.

    What has no device of its own (a bridge, a bond, a VLAN, a veth, a tunnel) sends through a card
    of this namespace, which is listed, or through one outside of it, which cannot be seen.
    """
    names = host.names(_NET)
    cards = [name for name in names if host.exists(f"{_NET}/{name}/device")]
    if not cards:
        others = ", ".join(name for name in names if name != "lo")[:100] or "none but lo"
        why = f"no network card can be seen from here (interfaces: {others})"
        raise UnavailableError(unmeasured(Reason.UNSUPPORTED, why))
    return Nics(nics=tuple(_nic(host, name) for name in cards if _in_use(host, name)))


def _in_use(host: Host, name: str) -> bool:
    """Set up by somebody, or under something that is; not pulled out."""
    if any(_is_up(host, upper) for upper in (name, *_uppers(host, name))):
        return optional_files.line(host, f"{_NET}/{name}/operstate") != "down"
    return False


def _is_up(host: Host, name: str) -> bool:
    try:
        return bool(int(optional_files.line(host, f"{_NET}/{name}/flags") or "0", 16) & _IFF_UP)
    except ValueError:
        return False


def _uppers(host: Host, name: str) -> Iterator[str]:
    for entry in host.names(f"{_NET}/{name}"):
        if entry.startswith("upper_"):
            yield entry.removeprefix("upper_")


def _nic(host: Host, name: str) -> Nic:
    driver = driver_of(host, f"{_NET}/{name}/device")
    queues = host.names(f"{_NET}/{name}/queues") if host.exists(f"{_NET}/{name}/queues") else ()
    return Nic(
        name=name,
        driver=driver,
        kind=kind_of(driver),
        rx_queues=sum(queue.startswith("rx-") for queue in queues),
        tx_queues=sum(queue.startswith("tx-") for queue in queues),
        more_queues=_more_queues(host, name, driver),
        up=optional_files.line(host, f"{_NET}/{name}/operstate") in ("up", "unknown"),
    )


def _more_queues(host: Host, name: str, driver: str | None) -> bool | None:
    """Whether a virtio card was given the feature of several queues; other cards do not say it in a file."""
    features = optional_files.line(host, f"{_NET}/{name}/device/features") or ""
    if driver != "virtio_net" or len(features) <= _VIRTIO_NET_F_MQ:
        return None
    return features[_VIRTIO_NET_F_MQ] == "1"


@probe("virt.softnet", formerly="machine.softnet", cheap=True, deadline_s=2.0)
def softnet(host: Host) -> SoftNet:
    """Adds up the second and third column of /proc/net/softnet_stat over all CPUs."""
    dropped, squeezed = procfs.softnet(host)
    return SoftNet(dropped=dropped, squeezed=squeezed)
