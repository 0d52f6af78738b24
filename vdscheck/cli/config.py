"""The configuration file: found, trusted, read and checked key by key."""

import datetime as dt
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import field
from functools import partial
from typing import Any

from vdscheck import codec
from vdscheck.cli import known
from vdscheck.model.absence import UnavailableError
from vdscheck.model.records import frozen
from vdscheck.plugin import Matter, Option
from vdscheck.ruleset.profile import nearest
from vdscheck.target import trusted
from vdscheck.target.host import Host, one_line
from vdscheck.target.interface import TargetKind
from vdscheck.target.secrets import (
    file_of,
    has_secret,
    hide_addresses,
    register_addresses,
    register_leaves,
    without_secrets,
)
from vdscheck.target.text import absolute, not_expanded, safe_text

WORDS_LIMIT = 1000
"""Of one key: each pattern and each waiver is held against every finding."""
WORD_LIMIT = 4096
"""Characters: the longest path that Linux takes."""
HERE = "vdscheck.toml"
OF_THE_USER = ".config/vdscheck/config.toml"
"""Below the home folder."""
OF_THE_SYSTEM = "/etc/vdscheck/config.toml"


class ConfigError(Exception):
    """A configuration that cannot be followed; one line: what, where, how to mend it."""

    def __init__(self, message: str) -> None:
        # Here, since the process that reads a file ends with what it has registered.
        super().__init__(one_line(hide_addresses(message)))


@frozen
class Config:
    """What a configuration file says, checked; the file is None where none was found."""

    file: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    found: bool = False
    """Whether it was found by looking, and not named by the caller."""
    instead_of: str | None = None
    """Of one that was found in the current folder: the next one, of the user or of the system, which it hides."""


@frozen
class Written:
    """A configuration file as it was read, not yet checked; the file is None where none was found."""

    file: str | None = None
    table: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    here: bool = False
    """Whether it was found in the current folder."""
    found: bool = False
    instead_of: str | None = None


def find(environment: Mapping[str, str], *, user_id: int) -> Config:
    """The configuration in the first of the places that are looked in. Raises ConfigError."""
    return checked(found(environment, user_id=user_id))


def found(environment: Mapping[str, str], *, user_id: int) -> Written:
    """The file in the first of the places that are looked in.

    Raises ConfigError, also for one that somebody else than this user and root can have written.
    """
    home = environment.get("HOME", "")
    places = {HERE: ".", os.path.join(home, OF_THE_USER): home, OF_THE_SYSTEM: "/etc"}
    if not os.path.isabs(home):
        del places[os.path.join(home, OF_THE_USER)]
    there = [(place == HERE, path) for place, above in places.items() if (path := _there(place, above)) is not None]
    if not there:
        return Written()
    here, path = there[0]
    hidden = there[1][1] if here and len(there) > 1 else None
    return Written(path, *_parsed(_trusted(path, user_id), path), here=here, found=True, instead_of=hidden)


def _there(place: str, above: str) -> str | None:
    """A place, where something is. Raises ConfigError where that cannot be seen: it may hold gates.

    A folder `above` that may not be entered is none of the caller's, as the HOME of whoever started them.
    """
    try:
        os.lstat(place)
        return absolute(place)
    except (FileNotFoundError, NotADirectoryError, UnavailableError):
        return None
    except PermissionError as error:
        if not os.access(above, os.X_OK):
            return None
        why = error.strerror or "permission denied"
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
    message = f"configuration {safe_text(place)} cannot be looked at: {why.lower()}; to run without it: --no-config"
    raise ConfigError(message)


def _trusted(path: str, user_id: int) -> bytes:
    shown = safe_text(path)
    try:
        return trusted.read(path, user_id)
    except trusted.UntrustedError as error:
        message = f"refusing {shown}: {error}. To use it: --config {shown}; to run without it: --no-config"
        raise ConfigError(message) from error
    except UnavailableError as error:
        message = f"configuration {error.absent.detail}; to run without it: --no-config"
        raise ConfigError(message) from error


def read(path: str, variable: str | None = None) -> Config:
    """The configuration in a file that the caller named, perhaps by a variable. Raises ConfigError."""
    return checked(named(path, variable))


def named(path: str, variable: str | None = None) -> Written:
    """A file that the caller named, perhaps by a variable. Raises ConfigError."""
    if why := not_expanded(path, path if variable is None else file_of(variable, path)):
        message = f"configuration {why}"
        raise ConfigError(message)
    try:
        raw = Host().read_bytes(absolute(path))
    except UnavailableError as error:
        if variable is not None and (shown := file_of(variable, path)) != path:
            message = f"no configuration at {safe_text(shown)}"
            raise ConfigError(message) from None
        message = f"configuration: {safe_text(error.absent.detail)}"
        raise ConfigError(message) from error
    return Written(path, *_parsed(raw, path))


def _parsed(raw: bytes, path: str) -> tuple[dict[str, Any], str]:
    """What a file says, and its text."""
    shown = safe_text(path)
    try:
        text = raw.decode("utf-8-sig")
        table = tomllib.loads(text)
    except UnicodeDecodeError as error:
        message = f"configuration {shown}: not UTF-8 (byte {error.start}): save it as UTF-8"
        raise ConfigError(message) from error
    except (tomllib.TOMLDecodeError, ValueError) as error:
        message = f"configuration {shown}: not TOML{_place_in(error)}"
        raise ConfigError(message) from error
    except RecursionError as error:
        message = f"configuration {shown}: nested too deeply"
        raise ConfigError(message) from error
    try:
        codec.refuse_absurd(table)
    except codec.CodecError as error:
        message = f"configuration {shown}: {error}"
        raise ConfigError(message) from error
    return table, text


def checked(written: Written) -> Config:
    """What a file says, checked; of the one `here` also that it names nothing to connect to or to run.

    What is secret in it is registered. Raises ConfigError.
    """
    if written.file is None:
        return Config()
    register(written.table)
    shown = safe_text(written.file)
    values = _checked(written.table, shown, written.text, here=written.here)
    for one, other in (("verbose", "quiet"), ("json", "format")):
        if values.get(one) and values.get(other) not in (None, False, "json"):
            message = f"configuration {shown}: {one} and {other} exclude each other"
            raise ConfigError(message)
    return Config(written.file, values, found=written.found, instead_of=written.instead_of)


def register(table: Mapping[str, Any]) -> None:
    """Keep what is secret in a configuration: in addresses, and all that only a plugin knows the meaning of."""
    register_addresses(table)
    register_leaves(table.get("plugin"))


def _place_in(error: ValueError) -> str:
    """Where TOML is broken; the rest of what tomllib says may quote a value."""
    found = re.search(r"\(at (line [0-9]+, column [0-9]+|end of document)\)$", str(error))
    return f" ({found[1]})" if found else ""


def _checked(table: Mapping[str, Any], file: str, text: str, *, here: bool) -> dict[str, Any]:
    values = {}
    for name, value in table.items():
        where = f"configuration {file}{_line(text, name)}: {safe_text(without_secrets(name))}"
        known_key = key(name)
        if known_key is None:
            message = f"{where} is not a known key: {nearest(name, _names())}"
            raise ConfigError(message)
        if here and known_key.matter is Matter.REACH:
            message = (
                f"{where} says what is connected to, read or run: a file that is found in the current folder "
                f"may not. If you mean it: --config ./{HERE}"
            )
            raise ConfigError(message)
        try:
            values[name] = known_key.check(value)
        except ValueError as error:
            message = f"{where}: {error}"
            raise ConfigError(message) from error
    return values


_KEY = re.compile(r"""\s*(\[{0,2})\s*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)\s*[.=\]]""")
"""How a line begins that says something of a top-level key, or the head of a table."""


def _line(text: str, key: str) -> str:
    """The line on which a top-level key is first written, quoted and dotted as well, as `:7`; nothing without one."""
    in_table = False
    for number, line in enumerate(text.splitlines(), 1):
        found = _KEY.match(line)
        if found and (found[1] or not in_table) and _named(found[2]) == key:
            return f":{number}"
        in_table = in_table or bool(found and found[1])
    return ""


def _named(written: str) -> str:
    try:
        return next(iter(tomllib.loads(f"{written} = 0")))
    except tomllib.TOMLDecodeError:  # within a text of several lines
        return written


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}
    return names.get(type(value), "a table" if isinstance(value, dict) else "a date")


def _words(value: object) -> list[str]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        message = f"a text or a list of texts is wanted, not {_kind(value)}"
        raise ValueError(message)
    if not all(word.strip() for word in words):
        message = "an empty text: leave it out"
        raise ValueError(message)
    if len(words) > WORDS_LIMIT or any(len(word) > WORD_LIMIT for word in words):
        message = f"at most {WORDS_LIMIT:,} texts of {WORD_LIMIT:,} characters"
        raise ValueError(message)
    return words


def _whole(option: Option, value: object) -> int:
    least, most = option.least or 0, option.most
    if isinstance(value, int) and not isinstance(value, bool) and least <= value and (most is None or value <= most):
        return value
    wanted = f"a whole number is wanted, not {_kind(value)}"
    message = wanted if most is None else f"a whole number from {least:g} to {most:g} is wanted"
    raise ValueError(message)


def _seconds(option: Option, value: object) -> float:
    least, most = option.least or 0, option.most
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not isinstance(value, int | float) or not is_number or not least <= value or (most and value > most):
        message = f"a number of seconds is wanted, at least {least:g}" + (f" and at most {most:g}" if most else "")
        raise ValueError(message)
    return value


def _texts(option: Option, value: object) -> list[str]:
    words = _words(value)
    for word in words if option.among else ():
        if word not in option.among:
            message = f"{word!r} is not one of {', '.join(option.among)}"
            raise ValueError(message)
    return words


def _text(_option: Option, value: object) -> str:
    if not isinstance(value, str):
        message = f"a text is wanted, not {_kind(value)}"
        raise ValueError(message)  # noqa: TRY004 - all refusals are one type
    if not value.strip():
        message = "an empty text: leave it out"
        raise ValueError(message)
    return value


def _flag(_option: Option, value: object) -> bool:
    if not isinstance(value, bool):
        message = f"true or false is wanted, not {_kind(value)}"
        raise ValueError(message)  # noqa: TRY004
    return value


def _table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        message = f"a table is wanted, not {_kind(value)}"
        raise ValueError(message)  # noqa: TRY004
    return value


def _limits(value: object) -> dict[str, Any]:
    for check_id, named in _table(value).items():
        if not isinstance(named, dict):
            message = f'write [limits."{check_id}"] and under it NAME = "10 %"'
            raise ValueError(message)  # noqa: TRY004
    return _table(value)


def _offer(value: object) -> dict[str, Any]:
    offer = _table(value)
    for name, written in offer.items():
        bought = known.bought(name)
        if bought is None:
            message = f"{name} is not a known key: {nearest(name, list(known.so_far().offer))}"
            raise ValueError(message)
        is_whole = isinstance(written, int) and not isinstance(written, bool)
        if not (is_whole if bought.whole else isinstance(written, str)):
            wanted = "a whole number" if bought.whole else f'an amount with its unit, as "8 {bought.unit}",'
            message = f"{name}: {wanted} is wanted"
            raise ValueError(message)
    return offer


def _waivers(value: object) -> list[dict[str, str]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        message = "waivers are written as [[waivers]] tables"
        raise ValueError(message)
    if len(value) > WORDS_LIMIT:
        message = f"at most {WORDS_LIMIT:,} waivers"
        raise ValueError(message)
    return [_waiver(each) for each in value]


def _waiver(table: Mapping[str, Any]) -> dict[str, str]:
    unknown = [key for key in table if key not in ("check", "reason", "expires")]
    if unknown:
        message = f"{unknown[0]} is not a known key: a waiver has check, reason and expires"
        raise ValueError(message)
    for key in ("check", "reason"):
        if not isinstance(table.get(key), str) or not any(map(_is_seen, table[key])):
            message = f"a waiver without its {key}"
            raise ValueError(message)
    if has_secret(table["check"]):
        name = table["check"].partition("[")[0]
        shown = "CHECK" if has_secret(name) else safe_text(name)
        message = f"a waiver names a server as a finding does, without its login: check = '{shown}[HOST:PORT]'"
        raise ValueError(message)
    expires = table.get("expires")
    if isinstance(expires, str):
        with suppress(ValueError):
            expires = dt.date.fromisoformat(expires)
    if not isinstance(expires, dt.date) or isinstance(expires, dt.datetime):
        written = repr(expires) if isinstance(expires, str) else expires
        has = "has no date" if expires is None else f"expires {written}, which is no date"
        message = f"the waiver of {table['check']} {has}: write expires = 2027-01-31"
        raise ValueError(message)  # noqa: TRY004
    return {
        "check": table["check"],
        "reason": without_secrets(table["reason"]),
        "expires": expires.isoformat(),
    }


def _is_seen(character: str) -> bool:
    return character.isprintable() and not character.isspace()


_CHECKS: Mapping[str, Callable[[Option, object], Any]] = {
    "flag": _flag,
    "text": _text,
    "texts": _texts,
    "whole": _whole,
    "seconds": _seconds,
    "table": lambda _, value: _table(value),
}


@frozen
class Key:
    """A key of the configuration: how its value is checked (it returns it, or raises ValueError), and its matter."""

    check: Callable[[object], Any]
    matter: Matter
    target: TargetKind | None = None
    """What it is about; None is either."""


_TABLES: Mapping[str, Callable[[object], Any]] = {"limits": _limits, "offer": _offer, "waivers": _waivers}
"""Those that are more than a table."""


def keys() -> Mapping[str, Key]:
    """The keys that are the program's own, by their names."""
    found = {name: _key_of(option) for name, option in known.ours().options.items()}
    return {name: key for name, key in found.items() if key is not None}


def _names() -> list[str]:
    return [name for name, option in known.so_far().options.items() if option.matter is not None]


def key(name: str) -> Key | None:
    """A key, also of a plugin."""
    option = known.option(name)
    return None if option is None else _key_of(option)


def _key_of(option: Option) -> Key | None:
    if option.matter is None:
        return None
    check = _TABLES.get(option.name) or partial(_CHECKS[option.takes], option)
    return Key(check, option.matter, option.target)


def checked_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the keys of a configuration, from elsewhere. Raises ValueError, also for an unknown key."""
    found = {}
    for name, value in values.items():
        known_key = key(name)
        if known_key is None:
            message = f"{safe_text(name)} is not a known key"
            raise ValueError(message)
        found[name] = known_key.check(value)
    return found
