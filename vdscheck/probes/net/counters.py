"""The network counters of the host while the run goes on."""

import time
from collections.abc import Iterator

from vdscheck.linux import cgroups, optional_files
from vdscheck.measurements.net import NetworkWindow
from vdscheck.plugin import Host, Reason, UnavailableError, Window, probe, unmeasured

_STEP_S = 0.25
_DROPPED_COLUMN = 1
"""Of /proc/net/softnet_stat: packets dropped since the queue was full (net/core/net-procfs.c)."""


@probe(
    "net.counters",
    deadline_s=3.0,
    window=Window(passive_s=0.05, quick_s=0.8, default_s=1.0, thorough_s=10.0),
    live=True,
)
def counters(host: Host) -> Iterator[NetworkWindow]:
    """Watches /proc/net/snmp, /proc/net/softnet_stat and the statistics of /sys/class/net while the run goes on."""
    began, first = time.monotonic(), _counted(host)
    for _ in host.looks(_STEP_S):
        now = _counted(host)
        grown = {name: max(0, now[name] - first[name]) for name in first}
        yield NetworkWindow(
            window_s=round(time.monotonic() - began, 3),
            segments_out=grown["OutSegs"],
            retransmitted=grown["RetransSegs"],
            softnet_dropped=grown["softnet"],
            rx_missed=grown["rx_missed_errors"],
            rx_fifo=grown["rx_fifo_errors"],
            rx_dropped=grown["rx_dropped"],
            segments_out_since_boot=now["OutSegs"],
            retransmitted_since_boot=now["RetransSegs"],
        )


def _counted(host: Host) -> dict[str, int]:
    found = tcp_counters(host.read("/proc/net/snmp"))
    found["softnet"] = softnet_dropped(optional_files.text(host, "/proc/net/softnet_stat") or "")
    for name in ("rx_missed_errors", "rx_fifo_errors", "rx_dropped"):
        each = (optional_files.line(host, path) for path in host.glob(f"/sys/class/net/*/statistics/{name}"))
        found[name] = sum(filter(None, (cgroups.whole(text or "") for text in each)))
    return found


def tcp_counters(text: str) -> dict[str, int]:
    """OutSegs and RetransSegs of a /proc/net/snmp text. Raises UnavailableError where they are not in it."""
    lines = [line.split() for line in text.splitlines() if line.startswith("Tcp:")]
    names, values = (lines[0], lines[1]) if len(lines) == 2 else ([], [])  # noqa: PLR2004 - names and values
    found = dict(zip(names, values, strict=False))
    counts = {name: cgroups.whole(found.get(name, "")) for name in ("OutSegs", "RetransSegs")}
    known = {name: count for name, count in counts.items() if count is not None}
    if len(known) < len(counts):
        raise UnavailableError(unmeasured(Reason.ERROR, "/proc/net/snmp does not count TCP segments"))
    return known


def softnet_dropped(text: str) -> int:
    """The packets dropped by all CPUs, from a /proc/net/softnet_stat text."""
    total = 0
    for line in text.splitlines():
        words = line.split()
        if len(words) > _DROPPED_COLUMN:
            try:
                total += int(words[_DROPPED_COLUMN], 16)
            except ValueError:
                continue
    return total
