"""Networks as data: a tree of nodes seen from the first, with the delay of each link."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Link:
    """A link from a node to the next one outwards; without a delay it is the kernel's own (veth)."""

    near: str
    far: str
    one_way_us: int = 0

    @property
    def interfaces(self) -> tuple[str, str]:
        """Their names at the near and the far end."""
        return f"d-{self.far}", f"u-{self.near}"


@dataclass(frozen=True)
class Topology:
    """A network. Every node is reached from the first one by the tree of links."""

    links: Sequence[Link]
    targets: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Nodes with an IPv4 and an IPv6 address of their own, on loopback."""
    branches: Sequence[Link] = ()
    """Further links, over which packets go only when told to."""

    @property
    def root(self) -> str:
        """The node that the others are seen from."""
        return self.links[0].near

    @property
    def nodes(self) -> list[str]:
        """All of them, the nearest first."""
        return [self.root, *(link.far for link in self.links)]

    def addresses(self, link: Link) -> tuple[tuple[str, str], tuple[str, str]]:
        """IPv4 and IPv6 of the near end, and of the far end."""
        number = [*self.links, *self.branches].index(link) + 1
        four, six = f"10.77.{number}", f"fd77:0:{number:x}:"
        return (f"{four}.1", f"{six}:1"), (f"{four}.2", f"{six}:2")

    def below(self, node: str) -> Iterator[Link]:
        """The links of the tree beyond a node."""
        for link in self.links:
            if link.near == node:
                yield link
                yield from self.below(link.far)

    def prefixes_below(self, link: Link) -> Iterator[tuple[str, str]]:
        """The IPv4 and IPv6 prefixes that are reached over a link, its own left out."""
        beyond = list(self.below(link.far))
        for each in (*beyond, *(branch for branch in self.branches if branch.near in {x.far for x in (link, *beyond)})):
            (four, six), _ = self.addresses(each)
            yield f"{four.rpartition('.')[0]}.0/30", f"{six[:-1]}/64"
        for node in (link.far, *(each.far for each in beyond)):
            if node in self.targets:
                four, six = self.targets[node]
                yield f"{four}/32", f"{six}/128"

    def rtt_us(self, node: str) -> int:
        """What a packet to a node and its answer spend on the lines."""
        by_far = {link.far: link for link in self.links}
        total = 0
        while node in by_far:
            total += 2 * by_far[node].one_way_us
            node = by_far[node].near
        return total


def apart(one_way_us: int) -> Topology:
    """Two machines, `near` and `far`, so far from each other."""
    return Topology([Link("near", "far", one_way_us)])


def _chain(first: str, *nodes: tuple[str, int]) -> list[Link]:
    names = [first, *(name for name, _ in nodes)]
    return [Link(names[number], name, delay) for number, (name, delay) in enumerate(nodes)]


PLACES: Final = Topology(
    [
        Link("vds", "g1"),
        *_chain("g1", ("o2", 0), ("o3", 1000), ("o4", 0), ("o5", 2000), ("o6", 0), ("oslo", 1000)),
        *_chain("g1", ("f2", 0), ("f3", 1000), ("f4", 0), ("f5", 4000), ("f6", 0), ("f7", 6000), ("f8", 0)),
        *_chain("f8", ("f9", 2000), ("f10", 0), ("frankfurt", 1000)),
        Link("f7", "f8b"),
    ],
    targets={
        "oslo": ("10.77.200.10", "fd77:0:200::10"),
        "frankfurt": ("10.77.201.10", "fd77:0:201::10"),
    },
    branches=[Link("f8b", "f9", 3500)],
)
"""A server, `vds`, six routers from Oslo (8 ms there and back) and ten from Frankfurt (28 ms). The way
f7 - f8b - f9 takes 1.5 ms more, one way, than f7 - f8 - f9."""
