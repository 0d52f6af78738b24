"""The network counters of the host while the run goes on."""

import time
from collections.abc import Iterator

from vdscheck.linux import cgroups, optional_files, procfs
from vdscheck.measurements.net import NetworkWindow
from vdscheck.plugin import Host, NotFoundError, Reason, UnavailableError, Window, probe, unmeasured

_STEP_S = 0.25


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
    tcp = procfs.paired(host, "/proc/net/snmp", "Tcp")
    if not {"OutSegs", "RetransSegs"} <= set(tcp):
        raise UnavailableError(unmeasured(Reason.ERROR, "/proc/net/snmp does not count TCP segments"))
    found = {"OutSegs": tcp["OutSegs"], "RetransSegs": tcp["RetransSegs"], "softnet": _softnet_dropped(host)}
    for name in ("rx_missed_errors", "rx_fifo_errors", "rx_dropped"):
        each = (optional_files.line(host, path) for path in host.glob(f"/sys/class/net/*/statistics/{name}"))
        found[name] = sum(filter(None, (cgroups.whole(text or "") for text in each)))
    return found


def _softnet_dropped(host: Host) -> int:
    try:
        return procfs.softnet(host)[0]
    except NotFoundError:  # a container may not see it
        return 0
