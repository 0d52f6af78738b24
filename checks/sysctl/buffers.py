"""Whether one TCP connection can fill the line that was bought, over the distance to the places."""

from dataclasses import replace

from vdscheck.measurements import KernelOwner, Paths, TcpBuffers, not_ours
from vdscheck.plugin import (
    Absent,
    AtLeast,
    ByHand,
    Judgement,
    Reason,
    Severity,
    check,
    evidence,
    not_applicable,
    spoken,
    unmeasured,
)

BITS = 8
KEYS = {"receive": "net.ipv4.tcp_rmem", "send": "net.ipv4.tcp_wmem"}
START = {"receive": "4096 131072", "send": "4096 16384"}
"""The least and the first size, as the kernel's documentation has them."""
SOURCE = "kernel: https://docs.kernel.org/networking/ip-sysctl.html (tcp_rmem, tcp_wmem); RFC 7323, section 1.1"


@check("sysctl.socket-buffers", severity=Severity.LOW)
def socket_buffers(
    owner: KernelOwner | Absent, buffers: TcpBuffers, paths: Paths | Absent, sold: AtLeast
) -> Judgement | Absent:
    """One connection may have as many bytes on the way as the line and the distance hold.

    Why: What is sent and not yet confirmed must be kept in a buffer. Where the buffer is smaller than
        bandwidth times round trip, one connection cannot use the line, however fast that is.
    False positives: Many connections side by side fill the line anyway. A line that is fast only nearby.
    By hand: sysctl net.ipv4.tcp_rmem net.ipv4.tcp_wmem; bandwidth in bytes a second times the round trip
    Sources: https://docs.kernel.org/networking/ip-sysctl.html (tcp_rmem, tcp_wmem); RFC 7323, section 1.1;
        the [offer] table of the configuration, the round trip to the farthest place that answers
    """
    foreign = not_ours(KEYS["receive"], owner, host_wide=False)
    if foreign is not None:
        return foreign
    if isinstance(paths, Absent):
        return paths
    reached = [(least, name) for name, _, least in paths.answering()]
    if not reached:
        nothing = unmeasured(Reason.UNREACHABLE, "no place answers, so how far packets travel is not known")
        return paths.misled or nothing
    if sold.limit <= 0:
        return not_applicable("the [offer] says that there is no bandwidth")
    rtt_ms, place = max(reached)
    needed = round(sold.limit * 1e6 / BITS * rtt_ms / 1000)
    wanted = replace(sold, pass_limit=needed, unit="bytes", source=SOURCE)
    sizes = {"receive": buffers.receive_max_bytes, "send": buffers.send_max_bytes}
    which = min(sizes, key=lambda each: sizes[each])
    lines = [f"sysctl -w {KEYS[each]}='{START[each]} {needed}'" for each, size in sizes.items() if size < needed]
    judged = wanted.judge(
        sizes[which],
        f"the largest {which} buffer",
        evidence=evidence(buffers, "receive_max_bytes", "send_max_bytes", source="/proc/sys/net/ipv4"),
        fix=ByHand("raise the largest buffer to what the line and the distance hold", tuple(lines)),
    )
    line = f"{spoken(sold.limit)} Mbit/s over {spoken(round(rtt_ms, 1))} ms to {place}"
    return replace(judged, summary=f"{judged.summary}: {line} hold {needed:,} bytes")
