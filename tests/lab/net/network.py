"""A network that exists while it is entered: in namespaces without names, so that others may have one as well."""

import json
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from tests.lab.processes import LabError, end_session, must, need, need_root, run

from .topology import Link, Topology

READY_TIMEOUT_S: Final = 10.0
SET_UP_TIMEOUT_S: Final = 20.0
DELAYLINE: Final = Path(__file__).with_name("delayline.py")

_ROUTER: Final = (
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv4.icmp_errors_use_inbound_ifaddr=1",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
)
_ROOT: Final = ("net.ipv4.ip_forward=0", "net.ipv4.ping_group_range=0 2147483647")
_WITH_SYSFS: Final = 'mount -t sysfs lab /sys && exec "$@"'
_LISTENER: Final = (
    "import socket\n"
    "s = socket.create_server(('::', {port}), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)\n"
    "while True: s.accept()[0].close()"
)


class Network:
    """Nodes of a topology as network namespaces. When it is left, or its owner dies, all of it is gone."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.residence: list[dict[str, Any]] = []
        """After the end: how long packets stayed on each line, measured where they were held up."""
        self._started: list[subprocess.Popen[str]] = []
        self._namespaces: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        need_root()
        need("ip", "nft", "nsenter")
        self._line = subprocess.Popen(
            [sys.executable, str(DELAYLINE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            self._namespaces = self._held()
            for node in self.topology.nodes:
                self._settle(node)
            for link in (*self.topology.links, *self.topology.branches):
                if not link.one_way_us:
                    self._wire(link)
            for node in self.topology.nodes:
                self._set_up(node)
        except BaseException:
            self.__exit__(None)
            raise
        return self

    def __exit__(self, *_why: object) -> None:
        for started in self._started:
            end_session(started.pid)
            started.wait()
            for pipe in (started.stdin, started.stdout, started.stderr):
                if pipe is not None:
                    pipe.close()
        try:
            said, _ = self._line.communicate(timeout=READY_TIMEOUT_S)
            with suppress(json.JSONDecodeError, IndexError):
                self.residence = json.loads(said.splitlines()[-1])
        finally:
            end_session(self._line.pid)
            self._line.wait()

    # What is done in it

    def command(self, node: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs a program on a node: with its interfaces, also in /sys."""
        inside = ["nsenter", f"--net={self._namespaces[node]}", "--"]
        return [*inside, "unshare", "--mount", "sh", "-c", _WITH_SYSFS, "sh", *argv]

    def run(self, node: str, argv: Sequence[str], *, timeout_s: float = 10.0) -> subprocess.CompletedProcess[str]:
        """Run a program on a node to its end, whatever its exit code."""
        return run(self.command(node, argv), timeout_s=timeout_s)

    def start(self, node: str, argv: Sequence[str], **more: Any) -> subprocess.Popen[str]:
        """Start a program on a node; it is ended with the network."""
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL} | more
        process = subprocess.Popen(self.command(node, argv), start_new_session=True, text=True, **options)
        self._started.append(process)
        return process

    def listen(self, node: str, port: int = 443) -> None:
        """Have something take TCP connections on a node, and close them."""
        self.start(node, [sys.executable, "-c", _LISTENER.format(port=port)])
        ends_at = time.monotonic() + READY_TIMEOUT_S
        while f":{port}" not in self.run(node, ["ss", "-Hlnt"]).stdout:
            if time.monotonic() > ends_at:
                message = f"nothing listens on port {port} of {node}"
                raise LabError(message)
            time.sleep(0.02)

    def address(self, node: str, version: int = 4) -> str:
        """An address of a node: its own where it has one, else that of the link towards it."""
        which = 0 if version == 4 else 1
        if node in self.topology.targets:
            return self.topology.targets[node][which]
        for link in self.topology.links:
            if link.far == node:
                return self.topology.addresses(link)[1][which]
        return self.topology.addresses(self.topology.links[0])[0][which]

    # What is wrong with it

    def silent(self, node: str, *, on: bool = True) -> None:
        """Let a router forward, and never say that a packet's time is over."""
        drop = "icmp type time-exceeded drop; icmpv6 type time-exceeded drop;"
        self._table(node, "silent", f"chain o {{ type filter hook output priority 0; {drop} }}" if on else "")

    def loss(self, node: str, percent: float) -> None:
        """Lose a share of what comes to a node from its near side, also packets whose time ends there."""
        near = next(link for link in self.topology.links if link.far == node)
        rule = f"iifname {near.interfaces[1]} numgen random mod 1000 <= {round(10 * percent) - 1} counter drop;"
        chain = f"chain p {{ type filter hook prerouting priority -300; {rule} }}"
        self._table(node, "loss", chain if percent else "")

    def icmp_filter(self, node: str, *, on: bool = True) -> None:
        """Let a node answer no echo, and no UDP to where traceroute sends it."""
        rules = "icmp type echo-request drop; icmpv6 type echo-request drop; udp dport 33434-34000 drop;"
        self._table(node, "filter", f"chain i {{ type filter hook input priority 0; {rules} }}" if on else "")

    def limits(self, *, on: bool) -> None:
        """Have all nodes limit their ICMP as the kernel does by default (as it is at first), or not at all."""
        rate_ms, each_s, burst = (1000, 1000, 50) if on else (0, 100_000, 10_000)
        for node in self.topology.nodes:
            self.rate_limit(node, rate_ms)
            words = (f"net.ipv4.icmp_msgs_per_sec={each_s}", f"net.ipv4.icmp_msgs_burst={burst}")
            self._inside(node, ["sysctl", "-qw", *words], may_fail=True)  # the host's own, in older kernels

    def rate_limit(self, node: str, milliseconds: int) -> None:
        """Let a node send one ICMP error to a host in so many milliseconds."""
        words = (f"net.ipv4.icmp_ratelimit={milliseconds}", f"net.ipv6.icmp.ratelimit={milliseconds}")
        self._inside(node, ["sysctl", "-qw", *words])

    def balance(self, *, on: bool) -> None:
        """Send half of the flows over the branch: by a hash of the first 4 bytes of the transport header.

        Source of the method: Augustin et al., Avoiding traceroute anomalies with Paris traceroute (2006).
        """
        (branch,) = self.topology.branches
        fork = next(link for link in self.topology.links if link.far == branch.near)
        parent = next(link for link in self.topology.links if link.near == fork.near and link.far != fork.far)
        self._table(fork.near, "balance", "")
        for words in ("rule del fwmark 1 lookup 100", "route flush table 100"):
            self._inside(fork.near, ["ip", *words.split()], may_fail=True)
        if not on:
            return
        via = self.topology.addresses(fork)[1][0]
        routes = [f"route add {four} via {via} table 100" for four, _ in self.topology.prefixes_below(parent)]
        self._batch(fork.near, [*routes, "rule add fwmark 1 lookup 100"])
        (inwards,) = [link.interfaces[1] for link in self.topology.links if link.far == fork.near]
        mark = f'iifname "{inwards}" meta nfproto ipv4 meta mark set jhash @th,0,32 mod 2;'
        self._table(fork.near, "balance", f"chain p {{ type filter hook prerouting priority -150; {mark} }}")

    # How it is made

    def _held(self) -> dict[str, str]:
        """Start the delay line, which holds the namespaces, and learn where they are."""
        lines = [
            [link.near, link.interfaces[0], link.far, link.interfaces[1], link.one_way_us, link.one_way_us]
            for link in (*self.topology.links, *self.topology.branches)
            if link.one_way_us
        ]
        assert self._line.stdin is not None
        assert self._line.stdout is not None
        self._line.stdin.write(json.dumps({"namespaces": self.topology.nodes, "lines": lines}) + "\n")
        self._line.stdin.flush()
        ready, _, _ = select.select([self._line.stdout], (), (), READY_TIMEOUT_S)
        said = self._line.stdout.readline() if ready else ""
        if not said:
            message = "the delay line did not start: is /dev/net/tun there?"
            raise LabError(message)
        found = json.loads(said)
        return {node: f"/proc/{found['process']}/fd/{number}" for node, number in found["namespaces"].items()}

    def _inside(self, node: str, argv: Sequence[str], *, may_fail: bool = False, stdin: str | None = None) -> None:
        words = ["nsenter", f"--net={self._namespaces[node]}", "--", *argv]
        if may_fail:
            run(words, timeout_s=SET_UP_TIMEOUT_S, stdin=stdin)
        else:
            must(words, timeout_s=SET_UP_TIMEOUT_S, stdin=stdin)

    def _batch(self, node: str, lines: Sequence[str]) -> None:
        self._inside(node, ["ip", "-batch", "-"], stdin="".join(f"{line}\n" for line in lines))

    def _table(self, node: str, name: str, chain: str) -> None:
        self._inside(node, ["nft", "delete", "table", "inet", name], may_fail=True)
        if chain:
            self._inside(node, ["nft", f"table inet {name} {{ {chain}; }}"])

    def _wire(self, link: Link) -> None:
        near, far = link.interfaces
        words = f"link add {near} type veth peer name {far} netns {self._namespaces[link.far]}"
        self._inside(link.near, ["ip", *words.split()])

    def _settle(self, node: str) -> None:
        """The kernel settings of a node, before it has interfaces: a new one takes them over."""
        no_wait = [f"net.ipv6.conf.{name}.accept_dad=0" for name in ("all", "default")]
        self._inside(node, ["sysctl", "-qw", *no_wait, *(_ROOT if node == self.topology.root else _ROUTER)])

    def _set_up(self, node: str) -> None:
        topology = self.topology
        lines, four_routes, six_routes = ["link set lo up"], [], []
        for four, six in filter(None, [topology.targets.get(node)]):
            lines += [f"addr add {four}/32 dev lo", f"addr add {six}/128 dev lo nodad"]
        for link in (*topology.links, *topology.branches):
            near, far = topology.addresses(link)
            if link.near == node:
                lines += _up(link.interfaces[0], near)
                beyond = list(topology.prefixes_below(link))
                four_routes += [f"route add {four} via {far[0]}" for four, _ in beyond]
                six_routes += [f"route add {six} via {far[1]}" for _, six in beyond]
            if link.far == node:
                lines += _up(link.interfaces[1], far)
                if link in topology.links:
                    four_routes.append(f"route add default via {near[0]}")
                    six_routes.append(f"route add default via {near[1]}")
        self._batch(node, [*lines, *four_routes])
        self._inside(node, ["ip", "-6", "-batch", "-"], stdin="".join(f"{line}\n" for line in six_routes))


def _up(interface: str, addresses: tuple[str, str]) -> list[str]:
    four, six = addresses
    return [
        f"addr add {four}/30 dev {interface}",
        f"addr add {six}/64 dev {interface} nodad",
        f"link set {interface} up",
    ]
