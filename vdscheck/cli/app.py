"""The command line: options to the functions in commands, and their outcome to an exit code."""

import os
import re
import sys
from collections.abc import MutableMapping, Sequence
from contextlib import redirect_stdout
from io import TextIOBase
from itertools import takewhile
from typing import Annotated, Any, NamedTuple

import typer

from vdscheck import __version__
from vdscheck.cli.options import (
    ConfigFile,
    Context,
    DryRun,
    Duration,
    FailOn,
    FailOnOption,
    Fix,
    Format,
    Interval,
    Ipv4,
    Ipv6,
    Json,
    Kubeconfig,
    ManifestFile,
    MinCoverage,
    MinNvme,
    MinScore,
    Names,
    Namespace,
    NoColor,
    NoConfig,
    NodeReports,
    NoPacketLimit,
    Offline,
    Only,
    Output,
    PathOptions,
    PlainReport,
    Profile,
    Quiet,
    Region,
    Rounds,
    Samples,
    Selector,
    Skip,
    TcpPort,
    UdpOnly,
    Verbose,
    Yes,
    checks,
)
from vdscheck.process import signals, standing
from vdscheck.process.limits import limit_of
from vdscheck.target import secrets

app = typer.Typer(
    name="vdscheck",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    help="Is this server what you were sold, and is it ready for a latency-sensitive service?\n\n"
    "Without a command, `run` is meant: vdscheck --json is vdscheck run --json.",
)

COMMANDS = (
    "run",
    "undo",
    "disk",
    "jitter",
    "redis",
    "path",
    "cluster",
    "judge",
    "list",
    "explain",
    "profiles",
    "schema",
)
_OF_COMPLETION = ("--install-completion", "--show-completion")
_OF_THE_PROGRAM = ("--help", "-h", "--version", *_OF_COMPLETION)

_received: Sequence[int] = ()


def _print_version(asked: bool) -> None:
    if asked:
        _print(f"vdscheck {__version__}\n".encode())
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    profile: Profile = None,
    only: Only = None,
    skip: Skip = None,
    config: ConfigFile = None,
    no_config: NoConfig = False,
    format: Format = None,  # noqa: A002
    json: Json = False,
    output: Output = None,
    min_score: MinScore = None,
    min_coverage: MinCoverage = None,
    fail_on: FailOnOption = None,
    passive: Annotated[bool, typer.Option("--passive", help="No load of ours at all, in under a second.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Measure for about 4 s.")] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="Measure for about 60 s.")] = False,
    offline: Offline = None,
    root: Annotated[
        str | None, typer.Option("--root", help="Examine a mounted host or image here.", metavar="DIR")
    ] = None,
    disk: Annotated[
        list[str] | None,
        typer.Option("--disk", help="Examine the disk under this path (repeatable; /var/lib).", metavar="PATH"),
    ] = None,
    redis: Annotated[
        list[str] | None,
        typer.Option(
            "--redis",
            help="Examine this Redis (repeatable); with a password better by VDSCHECK_REDIS_URL.",
            metavar="URL",
        ),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(
            "--path",
            help="Measure the way to this place (repeatable; the first is to be near; oslo and frankfurt).",
            metavar="NAME=HOST",
        ),
    ] = None,
    fix: Fix = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    quiet: Quiet = None,
    verbose: Verbose = None,
    no_color: NoColor = None,
) -> int:
    """Examine this host and print the scored report."""
    from vdscheck.cli import request
    from vdscheck.cli import run as commands

    efforts = [word for word, said in (("passive", passive), ("quick", quick), ("thorough", thorough)) if said]
    if len(efforts) > 1:
        message = f"--{efforts[0]} and --{efforts[1]} exclude each other"
        raise request.UsageError(message)
    asked = request.Asked(
        profile=profile or (),
        only=only or (),
        skip=skip or (),
        config=config,
        no_config=no_config,
        format=_format(format, json=json),
        outputs=output or (),
        min_score=min_score,
        min_coverage=min_coverage,
        fail_on=_words(fail_on),
        effort=efforts[0] if efforts else None,
        offline=offline,
        root=root,
        disk=disk or (),
        redis=redis or (),
        path=path or (),
        fix=fix,
        dry_run=dry_run,
        yes=yes,
        quiet=quiet,
        verbose=verbose,
        no_color=no_color,
        command=command_shown(),
    )
    return commands.run(asked, _received)


@app.command()
def disk(
    paths: Annotated[
        list[str] | None, typer.Argument(help="The disk under this path; /var/lib.", metavar="[PATH]...")
    ] = None,
    duration: Duration = None,
    profile: Profile = None,
    config: ConfigFile = None,
    no_config: NoConfig = False,
    format: Format = None,  # noqa: A002
    json: Json = False,
    output: Output = None,
    fail_on: FailOnOption = None,
    no_color: NoColor = None,
) -> int:
    """Measure the disk under a path alone, live: read and fsync latency, IOPS."""
    options = _Alone(duration, profile, config, no_config, format, json, output, fail_on, no_color)
    return options.watch("disk", disk=paths or ())


@app.command()
def jitter(
    duration: Duration = None,
    profile: Profile = None,
    config: ConfigFile = None,
    no_config: NoConfig = False,
    format: Format = None,  # noqa: A002
    json: Json = False,
    output: Output = None,
    fail_on: FailOnOption = None,
    no_color: NoColor = None,
) -> int:
    """Measure the time that others take from the CPUs alone, live: steal and gaps."""
    return _Alone(duration, profile, config, no_config, format, json, output, fail_on, no_color).watch("jitter")


@app.command()
def redis(
    urls: Annotated[
        list[str] | None,
        typer.Argument(help="This server; with a password better by VDSCHECK_REDIS_URL.", metavar="[URL]..."),
    ] = None,
    duration: Duration = None,
    profile: Profile = None,
    config: ConfigFile = None,
    no_config: NoConfig = False,
    format: Format = None,  # noqa: A002
    json: Json = False,
    output: Output = None,
    fail_on: FailOnOption = None,
    no_color: NoColor = None,
) -> int:
    """Measure a Redis server alone, live: its latency, and which part of the way makes it."""
    options = _Alone(duration, profile, config, no_config, format, json, output, fail_on, no_color)
    return options.watch("redis", redis=urls or ())


@app.command()
def path(
    hosts: Annotated[
        list[str] | None,
        typer.Argument(help="A host, NAME=HOST, or a place: oslo, frankfurt (both, if none).", metavar="[HOST]..."),
    ] = None,
    ipv4: Ipv4 = False,
    ipv6: Ipv6 = False,
    rounds: Rounds = 10,
    interval: Interval = 1.0,
    tcp: TcpPort = None,
    udp: UdpOnly = False,
    names: Names = True,
    samples: Samples = False,
    report: PlainReport = False,
    no_packet_limit: NoPacketLimit = False,
    profile: Profile = None,
    config: ConfigFile = None,
    no_config: NoConfig = False,
    format: Format = None,  # noqa: A002
    json: Json = False,
    output: Output = None,
    fail_on: FailOnOption = None,
    no_color: NoColor = None,
) -> int:
    """Trace the ways to hosts side by side, live: hops, round trips, and what is lost where."""
    asked = PathOptions(ipv4, ipv6, rounds, interval, tcp, udp, names, samples, no_packet_limit)
    options = _Alone(asked.duration_s, profile, config, no_config, format, json, output, fail_on, no_color)
    return options.watch("path", path=hosts or (), path_how=asked.how(), plain=report)


class _Alone(NamedTuple):
    """The options that the commands of the instruments share."""

    duration: float | None
    profile: list[str] | None
    config: str | None
    no_config: bool
    format: str | None
    json: bool
    output: list[str] | None
    fail_on: list[FailOn] | None
    no_color: bool | None

    def watch(self, name: str, **more: Any) -> int:  # noqa: ANN401 - fields of commands.Asked
        """Run the instrument of that name on the subjects in `more`."""
        from vdscheck.cli import request
        from vdscheck.cli import run as commands

        asked = request.Asked(
            profile=self.profile or (),
            config=self.config,
            no_config=self.no_config,
            format=_format(self.format, json=self.json),
            outputs=self.output or (),
            fail_on=_words(self.fail_on),
            duration_s=self.duration,
            no_color=self.no_color,
            command=command_shown(),
            **more,
        )
        return commands.run(asked, _received, request.INSTRUMENTS[name])


@app.command()
def cluster(
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = None,
    selector: Selector = None,
    min_nvme: MinNvme = None,
    region: Region = None,
    node_reports: NodeReports = None,
    file: ManifestFile = None,
    offline: Offline = None,
    profile: Profile = None,
    only: Only = None,
    skip: Skip = None,
    config: ConfigFile = None,
    no_config: NoConfig = False,
    format: Format = None,  # noqa: A002
    json: Json = False,
    output: Output = None,
    min_score: MinScore = None,
    min_coverage: MinCoverage = None,
    fail_on: FailOnOption = None,
    quiet: Quiet = None,
    verbose: Verbose = None,
    no_color: NoColor = None,
) -> int:
    """Examine the Kubernetes cluster of the current context, or manifests before they are deployed."""
    from vdscheck.cli import cluster as cluster_command
    from vdscheck.cli import request

    wanted = cluster_command.Wanted(
        context=context,
        kubeconfig=kubeconfig,
        namespaces=namespace or (),
        selectors=selector or (),
        min_nvme=min_nvme,
        regions=region or (),
        node_reports=node_reports,
        files=file or (),
    )
    asked = request.Asked(
        profile=profile or (),
        only=only or (),
        skip=skip or (),
        config=config,
        no_config=no_config,
        format=_format(format, json=json),
        outputs=output or (),
        min_score=min_score,
        min_coverage=min_coverage,
        fail_on=_words(fail_on),
        offline=offline,
        quiet=quiet,
        verbose=verbose,
        no_color=no_color,
        command=command_shown(),
    )
    return cluster_command.examine(asked, wanted, _received)


@app.command()
def judge(
    report: Annotated[str, typer.Argument(help="A report saved as JSON; - is standard input.", metavar="REPORT.json")],
    profile: Profile = None,
    only: Only = None,
    skip: Skip = None,
    config: ConfigFile = None,
    no_config: NoConfig = False,
    format: Format = None,  # noqa: A002
    json: Json = False,
    output: Output = None,
    min_score: MinScore = None,
    min_coverage: MinCoverage = None,
    fail_on: FailOnOption = None,
    quiet: Quiet = None,
    verbose: Verbose = None,
    no_color: NoColor = None,
) -> int:
    """Judge the measurements of a saved report again, touching nothing."""
    from vdscheck.cli import judge, request

    asked = request.Asked(
        profile=profile or (),
        only=only or (),
        skip=skip or (),
        config=config,
        no_config=no_config,
        format=_format(format, json=json),
        outputs=output or (),
        min_score=min_score,
        min_coverage=min_coverage,
        fail_on=_words(fail_on),
        quiet=quiet,
        verbose=verbose,
        no_color=no_color,
        command=command_shown(),
    )
    return judge.judge_saved(asked, report, _received)


@app.command()
def undo(
    list: Annotated[bool, typer.Option("--list", help="Show the journal, and change nothing.")] = False,  # noqa: A002
    root: Annotated[str | None, typer.Option("--root", help="A mounted host or image here.", metavar="DIR")] = None,
    json: Json = False,
) -> int:
    """Give back what the latest fix replaced; again for the one before it."""
    from vdscheck.cli import run as commands

    return commands.undo(root, _received, listing=list, as_json=json)


@app.command(name="list")
def list_() -> int:
    """List the checks."""
    from vdscheck.cli import reference

    return _print(reference.listing())


@app.command()
def explain(
    check: Annotated[str, typer.Argument(help="A check id, as sysctl.somaxconn.", autocompletion=checks)],
) -> int:
    """Explain one check: what, why, source, how measured, thresholds, known false positives, fix."""
    from vdscheck.cli import reference

    return _print(reference.explanation(check))


@app.command()
def profiles() -> int:
    """Show the profiles with their values and sources."""
    from vdscheck.cli import reference

    return _print(reference.profiles())


@app.command()
def schema() -> int:
    """Print the JSON Schema of the report."""
    from vdscheck.cli import reference

    return _print(reference.schema())


_PLACES = ("--path", "--redis")
"""Options that name a place to connect to: what stands before its last @ is a login, whatever it looks like."""


def command_shown() -> tuple[str, ...]:
    """The command as the report keeps it."""
    words = sys.argv[1:]
    of_places = words[:1] in (["path"], ["redis"])
    shown = ["vdscheck"]
    for before, word in zip(["", *words], words, strict=False):
        option = word.partition("=")[0]
        names_places = before in _PLACES or option in _PLACES or (of_places and not word.startswith("-"))
        shown.append((secrets.place_of if names_places else secrets.without_secrets)(word))
    return tuple(shown)


def _words(fail_on: list[FailOn] | None) -> tuple[str, ...]:
    return tuple(each.value for each in fail_on or ())


def _format(name: str | None, *, json: bool) -> str | None:
    if json and name not in (None, "json"):
        from vdscheck.cli import request

        message = f"--json and --format {name} exclude each other"
        raise request.UsageError(message)
    return "json" if json else name


def _print(content: bytes) -> int:
    from vdscheck.cli import output

    output.to_stdout(content)
    return 0


def _complete_as_run(environment: MutableMapping[str, str]) -> None:
    """What a shell asks to complete without a command is completed as the run that it means."""
    for name in ("COMP_WORDS", "_TYPER_COMPLETE_ARGS"):
        found = re.fullmatch(r"(\S+)(\s+)(-.*)", environment.get(name, ""), re.DOTALL)
        if found:
            environment[name] = f"{found[1]}{found[2]}run{found[2]}{found[3]}"
            position = environment.get("COMP_CWORD", "")
            if position.isdecimal():
                environment["COMP_CWORD"] = str(int(position) + 1)


class _StandardOutput(TextIOBase):
    """Where typer prints help and completions: what cannot be written is told as for a report."""

    def write(self, text: str) -> int:
        _print(text.encode("utf-8", "surrogateescape"))
        return len(text)


_COMPLETION = "_VDSCHECK_COMPLETE"
"""What a shell sets that asks for completions: typer makes the name from that of the program."""


def _refuse_empty(words: Sequence[str]) -> None:
    """Refuse a value that is there and empty, as an unset variable of a shell leaves it."""
    for before, word in zip(["the command", *words], words, strict=False):
        if not word or re.fullmatch(r"--[a-z-]+=", word):
            where = f"{word.removesuffix('=')}: the value" if word else f"the word after {before}"
            message = f"{where} is empty: give one, or leave it out"
            raise _REFUSALS[0](message)


def _refuse_a_home_of_others(words: Sequence[str]) -> None:
    """Let typer install completions only where nobody else can lead what it writes elsewhere."""
    if not words or words[0].partition("=")[0] != "--install-completion":
        return
    from vdscheck.cli import request
    from vdscheck.target import trusted

    home, user_id = os.path.expanduser("~"), os.geteuid()
    why = request.answered(lambda: trusted.why_not_folder(home, user_id), home)
    if why:
        message = f"--install-completion writes below {home}, and {why}: run it as the user whose HOME it is"
        raise _REFUSALS[0](message)


def _leave_out_of_completion(words: Sequence[str], environment: MutableMapping[str, str]) -> None:
    """Give what typer starts for completions (ps, bash, powershell) none of the variables that may hold passwords."""
    options = {word.partition("=")[0] for word in takewhile(lambda word: word.startswith("-"), words)}
    if _COMPLETION in environment or options.intersection(_OF_COMPLETION):
        secrets.leave_out_of(environment)


def program(received: Sequence[int], arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. `received` holds the signals that have come so far."""
    global _received  # noqa: PLW0603 - typer's commands take nothing but their options
    _received = received
    signals.listen(received)
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0].startswith("-") and words[0].partition("=")[0] not in _OF_THE_PROGRAM):
        words.insert(0, "run")
    secrets.register_addresses([*words, *os.environ.values()])
    _complete_as_run(os.environ)
    _leave_out_of_completion(words, os.environ)
    try:
        _refuse_empty(words)
        _refuse_a_home_of_others(words)
        with redirect_stdout(_StandardOutput()):
            result: Any = app(words, prog_name="vdscheck", standalone_mode=False)
    except SystemExit as end:  # how the shell completion ends
        return 2 if end.code else 0
    except signals.StoppedError:
        _say_what_stands()
        return 128 + received[0]
    except _REFUSALS as error:
        return _refused(_one_line(error), 2)
    except Exception as error:  # noqa: BLE001 - sorted below; what is left is a bug of ours
        if _COMPLETION in os.environ:
            return _refused(
                "the shell asks for completions by COMP_WORDS and COMP_CWORD: they are not there or wrong", 2
            )
        code = _failed(error)
        _say_what_stands()
        return code
    if result == FAILED:
        _say_what_stands()
    return result if isinstance(result, int) else 0


FAILED = 4


def _say_what_stands() -> None:
    """Where a fix stands that was begun: the report that says so may not have come out."""
    from vdscheck.render.formats import say

    if standing.line():
        say(f"vdscheck: {standing.line()}")


_REFUSALS: tuple[type[BaseException], ...] = (typer.BadParameter.__mro__[2],)
"""The exception of every wrong call: typer does not export it by name in all its versions."""


def _one_line(error: BaseException) -> str:
    said = getattr(error, "format_message", lambda: str(error))()
    return " ".join(str(said).split())


def _failed(error: Exception) -> int:
    from vdscheck.cli import output, request

    if isinstance(error, request.USAGE_ERRORS):
        return _refused(str(error), 2)
    if isinstance(error, output.OutputError):
        return _refused(str(error), 128 + _received[0] if _received else 4)
    if _COMPLETION in os.environ:
        return _refused("a shell asks for completions with COMP_WORDS and COMP_CWORD: they are missing or wrong", 2)
    limit = limit_of(error)
    if limit is not None:
        return _refused(f"no report: {limit} stopped the program; raise it and run again", 4)
    import traceback

    last = traceback.extract_tb(error.__traceback__)[-1]
    why = secrets.what_failed(error)
    return _refused(f"a bug: {why} ({last.filename}:{last.lineno}); please report it", 4)


def _refused(message: str, code: int) -> int:
    from vdscheck.render.formats import LINE_LIMIT, say

    if len(message) > LINE_LIMIT - len("vdscheck: "):
        half = LINE_LIMIT // 2 - len("vdscheck: ")
        message = f"{message[:half]} ... {message[-half:]}"
    say(f"vdscheck: {message}")
    return code
