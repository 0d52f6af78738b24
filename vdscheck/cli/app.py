"""The program: words to a command, and whatever comes of it to an exit code."""

import os
import re
import sys
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from contextlib import redirect_stdout
from io import TextIOBase
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vdscheck import __version__
from vdscheck.process import signals, standing
from vdscheck.process.limits import limit_of
from vdscheck.target import secrets

if TYPE_CHECKING:
    from vdscheck.catalogue.catalogue import Catalogue

_OF_COMPLETION = ("--install-completion", "--show-completion")
_OF_THE_PROGRAM = ("--help", "-h", "--version", *_OF_COMPLETION)

_received: Sequence[int] = ()


def _print_version(asked: bool) -> None:
    if asked:
        _print(f"vdscheck {__version__}\n".encode())
        raise typer.Exit


def _program(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    pass


def command_line(catalogue: "Catalogue", names: Iterable[str] | None = None) -> typer.Typer:
    """The program as typer has it, with all its commands or with some."""
    from vdscheck.cli import commands

    app = _without_commands()

    def act(name: str, said: commands.Said) -> int:
        return _done(catalogue, name, said)

    commands.add(app, catalogue, commands.in_order(catalogue) if names is None else names, act)
    return app


def _without_commands() -> typer.Typer:
    app = typer.Typer(
        name="vdscheck",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=False,
        context_settings={"help_option_names": ["--help", "-h"]},
        help="Is this server what you were sold, and is it ready for a latency-sensitive service?\n\n"
        "Without a command, `run` is meant: vdscheck --json is vdscheck run --json.",
    )
    app.callback()(_program)
    return app


def _done(catalogue: "Catalogue", name: str, said: Mapping[str, Any]) -> int:
    """What a command does, by what was said to it."""
    from vdscheck.cli import commands, request

    if (message := commands.excluded(catalogue, name, said)) is not None:
        raise request.UsageError(message)
    if name in _REFERENCE or name == "explain":
        from vdscheck.cli import reference

        return _print(
            reference.explanation(said["check"]) if name == "explain" else getattr(reference, _REFERENCE[name])()
        )
    if name == "undo":
        from vdscheck.cli import run

        return run.undo(said.get("root"), _received, listing=bool(said.get("list")), as_json=bool(said.get("json")))
    from vdscheck.plugin import Command

    command = catalogue.commands[name]
    instrument = None if isinstance(command, Command) else command
    if instrument is not None:
        said = {**said, "only": instrument.checks, "quick": True}
    asked = request.Asked(said, commands.by_variable(catalogue, said), command_shown(catalogue), instrument)
    if name == "judge":
        from vdscheck.cli import judge

        return judge.judge_saved(asked, _received)
    from vdscheck.cli import run

    return run.examined(asked, _received, "cluster" if name == "cluster" else "host")


def _app_for(words: Sequence[str]) -> typer.Typer:
    """The program with what these words need: plugins are looked at only where something is met that is not ours."""
    if words[0] in ("--version", *_OF_COMPLETION):
        return _without_commands()
    from vdscheck.cli import commands, known

    if _COMPLETION in os.environ or words[0] not in known.ours().commands:
        return command_line(known.everything())
    flags = commands.flags_of(known.ours(), words[0])
    met = (word.partition("=")[0] if word.startswith("--") else word[:2] for word in words if word[:1] == "-" != word)
    catalogue = known.ours() if flags.issuperset(met) else known.everything()
    return command_line(catalogue, words[:1])


def command_shown(catalogue: "Catalogue") -> tuple[str, ...]:
    """The command as the report keeps it."""
    from vdscheck.cli import commands

    words = sys.argv[1:]
    shown = (
        (secrets.place_of if is_place else secrets.without_secrets)(word)
        for word, is_place in zip(words, commands.places(catalogue, words), strict=True)
    )
    return ("vdscheck", *shown)


_REFERENCE: Mapping[str, str] = {"list": "listing", "profiles": "profiles", "schema": "schema"}
"""Commands that print what is installed, each with its function in `reference`."""


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
        if not word or re.fullmatch(r"--[a-z0-9-]+=", word):
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
            result: Any = _app_for(words)(words, prog_name="vdscheck", standalone_mode=False)
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
