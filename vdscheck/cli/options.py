"""What can be said to the program: one table of options, from which command line, configuration and help are made."""

from collections.abc import Iterable

from vdscheck.plugin import AREAS, Argument, Command, Matter, Option


def checks(incomplete: str) -> list[str]:
    """The check ids that begin so, for the completion of a shell."""
    from vdscheck.catalogue.catalogue import load_what_can_be

    return _begun(incomplete, load_what_can_be()[0].checks)


def profiles(incomplete: str) -> list[str]:
    """The profiles that begin so."""
    from vdscheck.catalogue.catalogue import load_what_can_be

    return _begun(incomplete, load_what_can_be()[0].profiles)


def _begun(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in sorted(names) if name.startswith(incomplete)]


EFFORTS = ("passive", "quick", "thorough")
OPTIONS = (
    Option(
        "profile",
        help="Judge by this profile (repeatable; the stricter limit counts).",
        takes="texts",
        metavar="NAME",
        matter=Matter.JUDGING,
        completed=profiles,
    ),
    Option(
        "only",
        help="Only these checks: an id, a glob, or ID[SUBJECT] (repeatable).",
        takes="texts",
        metavar="GLOB",
        matter=Matter.JUDGING,
        completed=checks,
    ),
    Option(
        "skip",
        help="Leave these checks out (repeatable).",
        takes="texts",
        metavar="GLOB",
        matter=Matter.JUDGING,
        completed=checks,
    ),
    Option("config", help="Read this configuration file.", metavar="FILE", excludes=("no-config",)),
    Option("no-config", help="Read no configuration file, and ignore VDSCHECK_CONFIG.", takes="flag"),
    Option("format", help="Print as: {formats}.", metavar="FORMAT", matter=Matter.SHOWING),
    Option("json", help="Print JSON: the same as --format json.", takes="flag", matter=Matter.SHOWING),
    Option(
        "output",
        help="Also write a file, as in -o json=report.json (repeatable).",
        takes="texts",
        metavar="FORMAT=FILE",
        short="-o",
    ),
    Option(
        "min-score",
        help="Exit with 1 below this score.",
        takes="whole",
        metavar="N",
        least=0,
        most=100,
        matter=Matter.GATE,
    ),
    Option(
        "min-coverage",
        help="Exit with 1 when less than this percentage was measured (60 with --min-score).",
        takes="whole",
        metavar="N",
        least=0,
        most=100,
        matter=Matter.GATE,
    ),
    Option(
        "fail-on",
        help="Exit with 1 when a finding is that bad (repeatable).",
        takes="texts",
        among=("warn", "fail", "unknown"),
        matter=Matter.GATE,
    ),
    Option(
        "passive",
        help="No load of ours at all, in under a second.",
        takes="flag",
        matter=Matter.MEASURING,
        target="host",
        excludes=("quick", "thorough"),
    ),
    Option(
        "quick",
        help="Measure for about 4 s.",
        takes="flag",
        matter=Matter.MEASURING,
        target="host",
        excludes=("thorough",),
    ),
    Option("thorough", help="Measure for about 60 s.", takes="flag", matter=Matter.MEASURING, target="host"),
    Option("offline", help="Let no packet leave this machine.", takes="flag", off="--online", matter=Matter.MEASURING),
    Option("root", help="Examine a mounted host or image here.", metavar="DIR"),
    Option("fix", help="Then plan, show, confirm, apply and verify the safe fixes.", takes="flag"),
    Option("dry-run", help="Show what --fix would do, and change nothing.", takes="flag"),
    Option("yes", help="Let --fix apply its plan without a question.", takes="flag"),
    Option(
        "quiet",
        help="The score and what is wrong, no more.",
        takes="flag",
        short="-q",
        matter=Matter.SHOWING,
        excludes=("verbose",),
    ),
    Option("verbose", help="Everything, with the evidence.", takes="flag", short="-v", matter=Matter.SHOWING),
    Option("no-color", help="No colours (also: NO_COLOR=1).", takes="flag", matter=Matter.SHOWING),
    Option("duration", help="Measure for so many seconds (10).", takes="seconds", metavar="S", least=0.5, most=86_400),
    Option("report", help="Plain text, to be pasted into a ticket.", takes="flag"),
    Option(
        "context",
        help="This context of the kubeconfig.",
        metavar="NAME",
        matter=Matter.REACH,
        target="cluster",
    ),
    Option(
        "kubeconfig",
        help="This kubeconfig, not KUBECONFIG or ~/.kube/config.",
        metavar="FILE",
        matter=Matter.REACH,
        target="cluster",
    ),
    Option(
        "namespace",
        help="Only the workloads of this namespace (repeatable).",
        takes="texts",
        metavar="NAME",
        short="-n",
        matter=Matter.MEASURING,
        target="cluster",
    ),
    Option(
        "node-reports",
        help="Reports of the nodes (vdscheck run --json) are here.",
        metavar="DIR",
        matter=Matter.REACH,
        target="cluster",
    ),
    Option("limits", help="Limits of checks.", takes="table", matter=Matter.JUDGING),
    Option("severity", help="Severities of checks.", takes="table", matter=Matter.JUDGING),
    Option("offer", help="What was bought.", takes="table", matter=Matter.JUDGING, target="host"),
    Option("waivers", help="What is accepted, why and until when.", takes="table", matter=Matter.JUDGING),
    # What a plugin is told to examine, among other things.
    Option("plugin", help="What plugins are told.", takes="table", matter=Matter.REACH),
)

_JUDGED_BY = ("profile", "only", "skip", "config", "no-config")
_SHOWN_AS = ("format", "json", "output")
_GATES = ("min-score", "min-coverage", "fail-on")
_DRAWN = ("quiet", "verbose", "no-color")
COMMANDS = (
    Command(
        "run",
        help="Examine this host and print the scored report.",
        options=(
            *(*_JUDGED_BY, *_SHOWN_AS, *_GATES, *EFFORTS, "offline", "root", AREAS, "fix", "dry-run", "yes"),
            *_DRAWN,
        ),
    ),
    Command(
        "cluster",
        help="Examine the Kubernetes cluster of the current context, or manifests before they are deployed.",
        options=(
            *("context", "kubeconfig", "namespace", "node-reports", AREAS, "offline"),
            *(*_JUDGED_BY, *_SHOWN_AS, *_GATES, *_DRAWN),
        ),
    ),
    Command(
        "judge",
        help="Judge the measurements of a saved report again, touching nothing.",
        options=(*_JUDGED_BY, *_SHOWN_AS, *_GATES, *_DRAWN),
        argument=Argument("saved", "REPORT.json", "A report saved as JSON; - is standard input.", many=False),
    ),
    Command(
        "undo",
        help="Give back what the latest fix replaced; again for the one before it.",
        options=(
            Option("list", help="Show the journal, and change nothing.", takes="flag"),
            Option("root", help="A mounted host or image here.", metavar="DIR"),
            "json",
        ),
    ),
    Command("list", help="List the checks."),
    Command(
        "explain",
        help="Explain one check: what, why, source, how measured, thresholds, known false positives, fix.",
        argument=Argument("check", "", "A check id, as `vdscheck list` shows it.", many=False, completed=checks),
    ),
    Command("profiles", help="Show the profiles with their values and sources."),
    Command("schema", help="Print the JSON Schema of the report."),
)
