"""What can be said to the program: ours at once, and what plugins add where something is met that is not ours."""

from functools import cache

from vdscheck.catalogue.catalogue import Catalogue, load_command_line
from vdscheck.plugin import Bought, Format, Option
from vdscheck.render.formats import FORMATS, say


@cache
def ours() -> Catalogue:
    """The commands, options and keys of `[offer]` that ship with the program."""
    return load_command_line(plugins=False)[0]


@cache
def everything() -> Catalogue:
    """Those of plugins as well; one that is broken is named, and in nobody's way."""
    found, said = load_command_line(plugins=True)
    for line in said:
        say(f"vdscheck: {line}")
    return found


def so_far() -> Catalogue:
    """Everything, where that was wanted before, else ours."""
    return everything() if everything.cache_info().currsize else ours()


def is_said(value: object) -> bool:
    """Whether a value was said: None and empty are "not said"."""
    return value not in (None, (), [])


def option(name: str) -> Option | None:
    """An option, or a key of the configuration."""
    return ours().options.get(name) or everything().options.get(name)


def bought(name: str) -> Bought | None:
    """A key of `[offer]`."""
    return ours().offer.get(name) or everything().offer.get(name)


def output_format(name: str) -> Format | None:
    """A format of the report."""
    return FORMATS.get(name) or everything().formats.get(name)


def plans(name: str) -> bool:
    """Whether a format shows a plan of fixes."""
    found = output_format(name)
    return found is not None and found.plans


def formats() -> tuple[str, ...]:
    """The names of all formats."""
    return (*FORMATS, *everything().formats)
