"""The options of the command line, each in one place for all the commands that take it."""

from enum import StrEnum
from typing import Annotated

import typer


class FailOn(StrEnum):
    """What `--fail-on` takes."""

    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


def checks(incomplete: str) -> list[str]:
    """The check ids that begin so, for the completion of a shell."""
    from vdscheck.catalogue import load

    return [check_id for check_id in sorted(load().checks) if check_id.startswith(incomplete)]


def profiles(incomplete: str) -> list[str]:
    """The profiles that begin so."""
    from vdscheck.catalogue import load

    return [name for name in sorted(load().profiles) if name.startswith(incomplete)]


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
    typer.Option("--duration", help="Measure for so many seconds (10).", metavar="S", min=0.5, max=86_400),
]
