"""Amounts as people write them ("8 GiB", "10 %", "250 us"), in the unit that a limit has; and numbers of things."""

import re

_SCALES = (
    {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0},
    {"kbit/s": 1e3, "Mbit/s": 1e6, "Gbit/s": 1e9},
    {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
    | {"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40, "bytes": 1.0, "byte": 1.0},
)
_AMOUNT = r"\s*([+-]?[0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([^\s0-9].*?)?\s*"

LARGEST = 2**63 - 1
"""LONG_MAX, which systemd sets fs.file-max to; a report carries no larger number."""

_WHOLE_SECONDS_FROM = 100


class UnitError(ValueError):
    """An amount that cannot be read in the unit that is wanted; the message says how to write it."""


def counted(number: int, noun: str) -> str:
    """A number of things: `1 page`, `2,000 pages`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def spoken_seconds(duration_s: float) -> str:
    """`0.4 s`, `11.6 s`, `128 s`."""
    return f"{duration_s:,.0f} s" if duration_s >= _WHOLE_SECONDS_FROM else f"{duration_s:.1f} s"


def short_figure(value: float) -> str:
    """At most four characters, up to ten thousand: `0.42`, `31.5`, `128`."""
    if value < 10:  # noqa: PLR2004
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"  # noqa: PLR2004


def whole_number(text: str) -> int | None:
    """A text that is one whole number, as of a kernel setting; None for what is not, or is larger than LARGEST."""
    word = text.strip()
    digits = word.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > len(str(LARGEST)):
        return None
    value = int(word)
    return value if -LARGEST <= value <= LARGEST else None


def amount(text: str, unit: str) -> float:
    """The number that an amount is in `unit`.

    Raises UnitError where the unit is missing, or is of another kind.
    """
    found = re.fullmatch(_AMOUNT, text)
    if not found:
        message = f'{text!r} is not an amount: write a number and its unit, as "10 {unit}"'
        raise UnitError(message)
    number, given = float(found[1]), found[2] or ""
    if given == unit or (unit and given in (unit.removesuffix("s"), unit + "s")):
        return number
    for scale in _SCALES:
        if unit in scale and given in scale:
            return number * scale[given] / scale[unit]
    if not given:
        message = f'{text!r} has no unit: write "{found[1]} {unit}"'
        raise UnitError(message)
    message = f"{text!r}: {given!r} is not a unit for this; write it in {unit or 'a bare number'}"
    raise UnitError(message)
