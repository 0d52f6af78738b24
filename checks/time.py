"""Whether the clock is right."""

from vdscheck.measurements import KernelClock, Machine
from vdscheck.plugin import (
    Absent,
    ByHand,
    Evidence,
    Expected,
    Judgement,
    Observed,
    Severity,
    Verdict,
    check,
    evidence,
    not_applicable,
)

ERROR_OF_NOBODY_US = 16_000_000
"""NTP_PHASE_LIMIT: the maximum error of a clock that nobody has set, and at which the kernel gives up."""

_SYNCHRONISED: Expected = {
    "op": "stated",
    "pass": "synchronised",
    "fail": "not synchronised",
    "unit": None,
    "source": "man-pages: adjtimex(2) (STA_UNSYNC)",
}


@check("time.sync", severity=Severity.HIGH)
def sync(clock: KernelClock, machine: Machine | Absent) -> Judgement | Absent:
    """The clock is synchronised.

    Why: Tokens, certificates, leases and logs of several hosts agree only while their clocks do.
    False positives: A clock that something steers without telling the kernel (VMware Tools, OpenNTPD).
        chrony without `rtcsync` leaves the flag STA_UNSYNC set; it is known by a maximum error below
        16 s, which only a daemon can have set. The maximum error itself grows 500 us/s between polls by
        design, and is shown but not judged.
    By hand: timedatectl show -p NTPSynchronized; chronyc tracking; timedatectl timesync-status
    Fix: apt install systemd-timesyncd; timedatectl set-ntp true;
        and where systemd does not run: apt install chrony
    Undo: timedatectl set-ntp false; or apt remove chrony
    Sources: https://man7.org/linux/man-pages/man2/adjtimex.2.html; systemd commit bca5a0eacc (maximum
        error instead of the flag); RFC 5905
    """
    seen = (
        Evidence("STA_UNSYNC", "clear" if clock.synchronised else "set", None, "adjtimex"),
        *evidence(clock, "maximum_error_us", "estimated_error_us", "offset_us", "source", source="adjtimex"),
    )
    steered = clock.maximum_error_us < ERROR_OF_NOBODY_US
    by = f" by {clock.source}" if clock.source else ""
    if clock.synchronised or steered:
        text = f"the clock is synchronised{by}"
        if not clock.synchronised:
            text += ", though the kernel's flag was left as it was (chrony without rtcsync?)"
        return Judgement(
            verdict=Verdict.PASS,
            summary=text,
            observed=Observed("synchronised", None, None, None, None),
            expected=_SYNCHRONISED,
            evidence=seen,
        )
    if isinstance(machine, Machine) and machine.container is not None:
        return not_applicable(
            f"nobody keeps the clock right, but it is that of the host of {machine.container_in_words}: "
            "ask who runs the host"
        )
    text, fix = _unsynchronised(clock.service)
    return Judgement(
        verdict=Verdict.FAIL,
        summary=f"{text}: the kernel calls it not synchronised (STA_UNSYNC)",
        observed=Observed("not synchronised", None, None, None, None),
        expected=_SYNCHRONISED,
        evidence=seen,
        fix=fix,
    )


def _unsynchronised(service: str | None) -> tuple[str, ByHand]:
    if service is not None:
        ask = "chronyc sources" if service == "chrony" else "timedatectl timesync-status"
        return f"{service} runs and does not keep the clock right", ByHand(
            "find out why it reaches no time server: its names must resolve and UDP port 123 must be open outwards",
            (ask,),
        )
    return "nobody keeps the clock right", ByHand(
        "install a time service; timesyncd will do where nothing finer is needed",
        ("apt install systemd-timesyncd", "timedatectl set-ntp true"),
        ("timedatectl set-ntp false",),
    )
