"""The configuration file: found, trusted, read and checked key by key."""

import datetime as dt
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import field
from enum import Enum
from typing import Any

from vdscheck import codec
from vdscheck.model.absence import UnavailableError
from vdscheck.model.records import frozen
from vdscheck.ruleset.overrides import OFFER
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
from vdscheck.target.text import absolute, safe_text

FAIL_ON = ("warn", "fail", "unknown")
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
        # Here, since the process that reads it ends with what it has registered.
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


def find(environment: Mapping[str, str], *, user_id: int) -> Config:
    """The configuration in the first of the places that are looked in.

    Raises ConfigError, also for one that somebody else than this user and root can have written.
    """
    home = environment.get("HOME", "")
    places = [HERE, OF_THE_SYSTEM]
    if os.path.isabs(home):
        places.insert(1, os.path.join(home, OF_THE_USER))
    there = [(place == HERE, path) for place in places if (path := _there(place)) is not None]
    if not there:
        return Config()
    here, path = there[0]
    hidden = there[1][1] if here and len(there) > 1 else None
    return Config(path, _parsed(_trusted(path, user_id), path, here=here), found=True, instead_of=hidden)


def _there(place: str) -> str | None:
    with suppress(UnavailableError):
        path = absolute(place)
        if os.path.lexists(path):
            return path
    return None


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
    try:
        raw = Host().read_bytes(absolute(path))
    except UnavailableError as error:
        if variable is not None and (shown := file_of(variable, path)) != path:
            message = f"no configuration at {safe_text(shown)}"
            raise ConfigError(message) from None
        message = f"configuration: {safe_text(error.absent.detail)}"
        raise ConfigError(message) from error
    return Config(path, _parsed(raw, path, here=False))


def _parsed(raw: bytes, path: str, *, here: bool) -> dict[str, Any]:
    """What a file says, checked; of the one `here` also that it names nothing to connect to or to run."""
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
    register(table)
    values = _checked(table, shown, text, here=here)
    for one, other in (("verbose", "quiet"), ("json", "format")):
        if values.get(one) and values.get(other) not in (None, False, "json"):
            message = f"configuration {shown}: {one} and {other} exclude each other"
            raise ConfigError(message)
    return values


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
    for key, value in table.items():
        where = f"configuration {file}{_line(text, key)}: {safe_text(without_secrets(key))}"
        if key not in KEYS:
            message = f"{where} is not a known key: {nearest(key, list(KEYS))}"
            raise ConfigError(message)
        if here and KEYS[key].matter is Matter.REACH:
            message = (
                f"{where} says what is connected to, read or run: a file that is found in the current folder "
                f"may not. If you mean it: --config ./{HERE}"
            )
            raise ConfigError(message)
        try:
            values[key] = KEYS[key].check(value)
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


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        message = f"a whole number is wanted, not {_kind(value)}"
        raise ValueError(message)
    return value


def _fail_on(value: object) -> list[str]:
    words = _words(value)
    for word in words:
        if word not in FAIL_ON:
            message = f"{word!r} is not one of {', '.join(FAIL_ON)}"
            raise ValueError(message)
    return words


def _text(value: object) -> str:
    if not isinstance(value, str):
        message = f"a text is wanted, not {_kind(value)}"
        raise ValueError(message)  # noqa: TRY004 - all refusals are one type
    if not value.strip():
        message = "an empty text: leave it out"
        raise ValueError(message)
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        message = f"true or false is wanted, not {_kind(value)}"
        raise ValueError(message)  # noqa: TRY004
    return value


def _percent(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 100:  # noqa: PLR2004
        message = "a whole number from 0 to 100 is wanted"
        raise ValueError(message)
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
    for key, written in offer.items():
        if key not in OFFER:
            message = f"{key} is not a known key: {nearest(key, list(OFFER))}"
            raise ValueError(message)
        unit = OFFER[key][1]
        whole = isinstance(written, int) and not isinstance(written, bool)
        if not (whole if key == "cpus" else isinstance(written, str)):
            wanted = "a whole number" if key == "cpus" else f'an amount with its unit, as "8 {unit}",'
            message = f"{key}: {wanted} is wanted"
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
        message = "a waiver names a server as a finding does, without its login: check = 'redis.latency[HOST:PORT]'"
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


class Matter(Enum):
    """What a key of the configuration is about: each has one, and from it follows who may set it, and who is told."""

    REACH = "what is examined, connected to, read or run"
    """Not in a file that is found in the current folder: that may be anybody's who brings files there."""
    MEASURING = "what is measured, and how much"
    JUDGING = "what measurements are judged by"
    GATE = "a gate"
    SHOWING = "how the report is shown"


@frozen
class Key:
    """A key of the configuration: how its value is checked (it returns it, or raises ValueError), and its matter."""

    check: Callable[[object], Any]
    matter: Matter
    target: TargetKind | None = None
    """What it is about; None is either."""


KEYS: Mapping[str, Key] = {
    "profile": Key(_words, Matter.JUDGING),
    "only": Key(_words, Matter.JUDGING),
    "skip": Key(_words, Matter.JUDGING),
    "format": Key(_text, Matter.SHOWING),
    "json": Key(_flag, Matter.SHOWING),
    "min-score": Key(_percent, Matter.GATE),
    "min-coverage": Key(_percent, Matter.GATE),
    "fail-on": Key(_fail_on, Matter.GATE),
    "passive": Key(_flag, Matter.MEASURING, "host"),
    "quick": Key(_flag, Matter.MEASURING, "host"),
    "thorough": Key(_flag, Matter.MEASURING, "host"),
    "offline": Key(_flag, Matter.MEASURING),
    "disk": Key(_words, Matter.REACH, "host"),
    "redis": Key(_words, Matter.REACH, "host"),
    "path": Key(_words, Matter.REACH, "host"),
    "quiet": Key(_flag, Matter.SHOWING),
    "verbose": Key(_flag, Matter.SHOWING),
    "no-color": Key(_flag, Matter.SHOWING),
    "context": Key(_text, Matter.REACH, "cluster"),
    "kubeconfig": Key(_text, Matter.REACH, "cluster"),
    "namespace": Key(_words, Matter.MEASURING, "cluster"),
    "selector": Key(_words, Matter.MEASURING, "cluster"),
    "min-nvme": Key(_count, Matter.MEASURING, "cluster"),
    "region": Key(_words, Matter.MEASURING, "cluster"),
    "node-reports": Key(_text, Matter.REACH, "cluster"),
    "limits": Key(_limits, Matter.JUDGING),
    "severity": Key(_table, Matter.JUDGING),
    "offer": Key(_offer, Matter.JUDGING, "host"),
    "waivers": Key(_waivers, Matter.JUDGING),
    "plugin": Key(_table, Matter.REACH),  # what a plugin is told to examine, among other things
}


def checked_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the keys of a configuration, from elsewhere. Raises ValueError, also for an unknown key."""
    found = {}
    for key, value in values.items():
        if key not in KEYS:
            message = f"{safe_text(key)} is not a known key"
            raise ValueError(message)
        found[key] = KEYS[key].check(value)
    return found
