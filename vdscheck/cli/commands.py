"""The command line as typer has it, made from what is declared: each command with its options and its help."""

import inspect
import keyword
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.cli.known import is_said
from vdscheck.plugin import Argument, Command, Option
from vdscheck.render.formats import FORMATS

Said = Mapping[str, Any]
"""What was said, by the names of options and of the argument; what was not said is not there."""
_TYPES: Mapping[str, Any] = {"flag": bool, "text": str, "texts": list[str], "whole": int, "seconds": float}


def add(app: typer.Typer, catalogue: Catalogue, names: Iterable[str], act: Callable[[str, Said], int]) -> None:
    """Give the program these commands; each calls `act` with its name and what was said."""
    for name in names:
        _add(app, catalogue, name, act)


def _add(app: typer.Typer, catalogue: Catalogue, name: str, act: Callable[[str, Said], int]) -> None:
    command, options = catalogue.commands[name], catalogue.options_of(name)
    parameters = {_parameter(each.name): (each.name, *_of_option(each, catalogue)) for each in options}
    if command.argument is not None:
        of_argument = {_parameter(command.argument.name): (command.argument.name, *_of_argument(command.argument))}
        parameters = of_argument | parameters

    def called(**values: Any) -> int:  # noqa: ANN401 - of any option
        found = {parameters[key][0]: _plain(value) for key, value in values.items()}
        return act(name, {key: value for key, value in found.items() if is_said(value)})

    # typer reads what a command takes from the signature of its function.
    called.__annotations__ = {key: hint for key, (_, hint, _) in parameters.items()}
    called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
            for key, (_, hint, default) in parameters.items()
        ]
    )
    called.__name__, called.__doc__ = _parameter(name), command.help
    app.command(name=name)(called)


def _parameter(name: str) -> str:
    """What a parameter is called that stands for an option."""
    written = name.replace("-", "_")
    return f"{written}_" if keyword.iskeyword(written) else written


def _plain(value: Any) -> Any:  # noqa: ANN401 - of any option
    """The words that are meant, where typer has them as members of an enumeration."""
    if isinstance(value, list):
        return [str(each) for each in value]
    return value


def _of_option(option: Option, catalogue: Catalogue) -> tuple[Any, Any]:
    """The annotation of an option's parameter, and its default."""
    kind = list[StrEnum(option.name, list(option.among))] if option.among else _TYPES[option.takes]  # type: ignore[misc]
    long = "" if option.only_short else f"--{option.name}"
    information = typer.Option(
        *filter(None, (option.short, f"{long}/{option.off}" if option.off else long)),
        help=with_formats(option.help, catalogue.formats),
        metavar=option.metavar,
        min=option.least,
        max=option.most,
        callback=_finite if option.takes == "seconds" else None,
        autocompletion=option.completed,
        show_default=option.default is not None,
    )
    return Annotated[kind if option.default is not None else kind | None, information], option.default


def with_formats(text: str, others: Iterable[str]) -> str:
    """A help that lists the formats, with those of plugins."""
    return text.replace("{formats}", ", ".join(dict.fromkeys((*FORMATS, *others))))


def _of_argument(argument: Argument) -> tuple[Any, Any]:
    if argument.many:
        information = typer.Argument(help=argument.help, metavar=f"[{argument.metavar}]...")
        return Annotated[list[str] | None, information], None
    information = typer.Argument(
        help=argument.help, metavar=argument.metavar or None, autocompletion=argument.completed
    )
    return Annotated[str, information], inspect.Parameter.empty


def _finite(number: float | None) -> float | None:
    """A number that can be compared: `nan` is inside every range."""
    if number is not None and not math.isfinite(number):
        message = f"{number} is not a number of seconds"
        raise typer.BadParameter(message)
    return number


def in_order(catalogue: Catalogue) -> list[str]:
    """The commands as the help lists them: the instruments behind the first of the program's own."""
    first = next((name for name, each in catalogue.commands.items() if isinstance(each, Command)), "")
    return sorted(catalogue.commands, key=lambda name: (name != first, isinstance(catalogue.commands[name], Command)))


def flags_of(catalogue: Catalogue, name: str) -> set[str]:
    """Every option of a command, in every way to write it."""
    return {flag for option in catalogue.options_of(name) for flag in option.flags}


def excluded(catalogue: Catalogue, name: str, said: Said) -> str | None:
    """Which two of the options that were said cannot be said together; None where none."""
    options = {each.name: each for each in catalogue.options_of(name)}
    for option in options.values():
        for other in option.excludes:
            if said.get(option.name) and said.get(other):
                return f"{option.flag} and {options[other].flag} exclude each other"
    if said.get("json") and said.get("format") not in (None, "json"):
        return f"--json and --format {said['format']} exclude each other"
    return None


def by_variable(catalogue: Catalogue, said: Said) -> Said:
    """What environment variables say where the command line does not."""
    found = {
        option.name: os.environ.get(option.variable)
        for option in catalogue.options.values()
        if option.variable and option.name not in said
    }
    return {name: [value] for name, value in found.items() if value}


def places(catalogue: Catalogue, words: Sequence[str]) -> list[bool]:
    """Of each word of a call whether it names what is connected to."""
    command = catalogue.commands.get(words[0]) if words else None
    named = command is not None and command.argument is not None and command.argument.is_place
    every = [*catalogue.options.values()]
    for each in catalogue.commands.values():
        every += (option for option in each.options if isinstance(option, Option))
    of_places = {flag for option in every if option.is_place for flag in option.flags}
    return [
        before in of_places or word.partition("=")[0] in of_places or (named and not word.startswith("-"))
        for before, word in zip(["", *words], words, strict=False)
    ]
