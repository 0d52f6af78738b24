"""The options of the command line, each in one place for all the commands that take it."""

import math
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

import typer


class FailOn(StrEnum):
    """What `--fail-on` takes."""

    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


def checks(incomplete: str) -> list[str]:
    """The check ids that begin so, for the completion of a shell."""
    from vdscheck.catalogue.catalogue import load

    return [check_id for check_id in sorted(load().checks) if check_id.startswith(incomplete)]


def profiles(incomplete: str) -> list[str]:
    """The profiles that begin so."""
    from vdscheck.catalogue.catalogue import load

    return [name for name in sorted(load().profiles) if name.startswith(incomplete)]


def finite(number: float | None) -> float | None:
    """A number that can be compared: `nan` is inside every range."""
    if number is not None and not math.isfinite(number):
        message = f"{number} is not a number of seconds"
        raise typer.BadParameter(message)
    return number


Profile = Annotated[
    list[str] | None,
    typer.Option(
        "--profile",
        help="Judge by this profile (repeatable; the stricter limit counts).",
        metavar="NAME",
        autocompletion=profiles,
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        help="Only these checks: an id, a glob, or ID[SUBJECT] (repeatable).",
        metavar="GLOB",
        autocompletion=checks,
    ),
]
Skip = Annotated[
    list[str] | None,
    typer.Option("--skip", help="Leave these checks out (repeatable).", metavar="GLOB", autocompletion=checks),
]
ConfigFile = Annotated[str | None, typer.Option("--config", help="Read this configuration file.", metavar="FILE")]
NoConfig = Annotated[bool, typer.Option("--no-config", help="Read no configuration file, and ignore VDSCHECK_CONFIG.")]
Format = Annotated[str | None, typer.Option("--format", help="Print as: text, json, sh.", metavar="FORMAT")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON: the same as --format json.")]
Output = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--output",
        help="Also write a file, as in -o json=report.json (repeatable).",
        metavar="FORMAT=FILE",
    ),
]
MinScore = Annotated[
    int | None,
    typer.Option("--min-score", min=0, max=100, help="Exit with 1 below this score.", metavar="N"),
]
MinCoverage = Annotated[
    int | None,
    typer.Option(
        "--min-coverage",
        min=0,
        max=100,
        metavar="N",
        help="Exit with 1 when less than this percentage was measured (60 with --min-score).",
    ),
]
FailOnOption = Annotated[
    list[FailOn] | None,
    typer.Option("--fail-on", help="Exit with 1 when a finding is that bad (repeatable)."),
]
Fix = Annotated[bool, typer.Option("--fix", help="Then plan, show, confirm, apply and verify the safe fixes.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what --fix would do, and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Let --fix apply its plan without a question.")]
Quiet = Annotated[
    bool | None,
    typer.Option("-q", "--quiet", help="The score and what is wrong, no more.", show_default=False),
]
Verbose = Annotated[
    bool | None, typer.Option("-v", "--verbose", help="Everything, with the evidence.", show_default=False)
]
NoColor = Annotated[bool | None, typer.Option("--no-color", help="No colours (also: NO_COLOR=1).", show_default=False)]
Duration = Annotated[
    float | None,
    typer.Option(
        "--duration", help="Measure for so many seconds (10).", metavar="S", min=0.5, max=86_400, callback=finite
    ),
]


# The path tracer

Ipv4 = Annotated[bool, typer.Option("-4", help="By IPv4 alone.")]
Ipv6 = Annotated[bool, typer.Option("-6", help="By IPv6 alone.")]
Rounds = Annotated[
    int, typer.Option("--rounds", help="Ask each hop so often, and the end ten times as often.", min=1, max=1_000_000)
]
Interval = Annotated[
    float,
    typer.Option(
        "--interval", help="Seconds from one round to the next.", metavar="S", min=0.1, max=60, callback=finite
    ),
]
TcpPort = Annotated[
    int | None,
    typer.Option("--tcp", help="Trace with TCP handshakes to this port.", metavar="PORT", min=1, max=65535),
]
UdpOnly = Annotated[bool, typer.Option("--udp", help="Trace with UDP, as an ordinary user does where ICMP is closed.")]
Names = Annotated[bool, typer.Option("--names/--no-names", help="Ask the resolver what addresses are called.")]
Samples = Annotated[bool, typer.Option("--samples", help="Keep every single probe in the JSON report.")]
PlainReport = Annotated[bool, typer.Option("--report", help="Plain text, to be pasted into a ticket.")]
NoPacketLimit = Annotated[
    bool, typer.Option("--no-packet-limit", help="Send more than 300 packets to one address: you answer for it.")
]

USUAL_ROUNDS = 10
"""More of them may send more than 300 packets to one address."""
ENDING_S = 2.5
"""For names before the first round, and for late answers after the last."""


class PathOptions(NamedTuple):
    """How `vdscheck path` is to measure."""

    ipv4: bool
    ipv6: bool
    rounds: int
    interval_s: float
    tcp: int | None
    udp: bool
    names: bool
    samples: bool
    no_packet_limit: bool

    @property
    def duration_s(self) -> float:
        """The time that all rounds need at most."""
        return self.rounds * max(self.interval_s, 0.5) + ENDING_S

    def how(self) -> dict[str, Any]:
        """The same as the probe takes it. Raises UsageError for what excludes each other."""
        from vdscheck.cli import request

        for one, other in (("-4", "-6"), ("--tcp", "--udp")):
            said = {"-4": self.ipv4, "-6": self.ipv6, "--tcp": self.tcp is not None, "--udp": self.udp}
            if said[one] and said[other]:
                message = f"{one} and {other} exclude each other"
                raise request.UsageError(message)
        if self.rounds > USUAL_ROUNDS and not self.no_packet_limit:
            message = (
                f"--rounds {self.rounds} may send more than 300 packets to one address: "
                "say --no-packet-limit if you answer for it"
            )
            raise request.UsageError(message)
        return {
            "rounds": self.rounds,
            "interval_s": self.interval_s,
            "family": 4 if self.ipv4 else 6 if self.ipv6 else None,
            "trace": "udp" if self.udp else "tcp" if self.tcp is not None else "icmp",
            "port": self.tcp or 443,
            "unlimited": self.no_packet_limit,
            "names": self.names,
            "samples": self.samples,
        }


Offline = Annotated[
    bool | None,
    typer.Option("--offline/--online", help="Let no packet leave this machine.", show_default=False),
]

# Of the cluster

Context = Annotated[str | None, typer.Option("--context", help="This context of the kubeconfig.", metavar="NAME")]
Kubeconfig = Annotated[
    str | None, typer.Option("--kubeconfig", help="This kubeconfig, not KUBECONFIG or ~/.kube/config.", metavar="FILE")
]
Namespace = Annotated[
    list[str] | None,
    typer.Option("--namespace", "-n", help="Only the workloads of this namespace (repeatable).", metavar="NAME"),
]
Selector = Annotated[
    list[str] | None,
    typer.Option(
        "--selector",
        help="What claims NVMe: nvme=KEY=VALUE, or nvme=KEY (repeatable; nvme=disktype=nvme).",
        metavar="nvme=LABEL",
    ),
]
MinNvme = Annotated[
    int | None, typer.Option("--min-nvme", min=0, help="So many usable nodes carry the NVMe label.", metavar="N")
]
Region = Annotated[
    list[str] | None,
    typer.Option("--region", help="Nodes and volumes may be in this region or zone (repeatable).", metavar="NAME"),
]
NodeReports = Annotated[
    str | None,
    typer.Option("--node-reports", help="Reports of the nodes (vdscheck run --json) are here.", metavar="DIR"),
]
ManifestFile = Annotated[
    list[str] | None,
    typer.Option(
        "-f",
        "--filename",
        help="Judge the workloads in this manifest (repeatable; - is standard input).",
        metavar="FILE",
    ),
]
