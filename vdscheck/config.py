"""The configuration file: found, trusted, read and checked key by key."""

import datetime as dt
import os
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import field
from typing import Any

from vdscheck.model import UnavailableError, frozen
from vdscheck.ruleset import OFFER, nearest
from vdscheck.target import Host, absolute, safe_text

FAIL_ON = ("warn", "fail", "unknown")
WORDS_LIMIT = 1000
"""Of one key: each pattern and each waiver is held against every finding."""
WORD_LIMIT = 4096
"""Characters: the longest path that Linux takes."""


class ConfigError(Exception):
    """A configuration that cannot be followed; one line: what, where, how to mend it."""


@frozen
class Config:
    """What a configuration file says, checked; the file is None where none was found."""

    file: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def find(environment: Mapping[str, str], *, user_id: int) -> str | None:
    """The first configuration file of the places that are looked in.

    As root, raises ConfigError for one that somebody else could have put there.
    """
    home = environment.get("HOME", "")
    places = ["vdscheck.toml", "/etc/vdscheck/config.toml"]
    if home:
        places.insert(1, os.path.join(home, ".config/vdscheck/config.toml"))
    for place in places:
        try:
            path = absolute(place)
        except UnavailableError:
            continue
        if os.path.lexists(path):
            if user_id == 0:
                _refuse_untrusted(path)
            return path
    return None


def _refuse_untrusted(path: str) -> None:
    """As root, trust a file only where every step of the way to it is root's alone."""
    for way in {path, os.path.realpath(path)}:
        step = way
        while True:
            try:
                found = os.lstat(step)
            except OSError as error:
                message = f"{safe_text(path)}: {error.strerror}"
                raise ConfigError(message) from error
            others = found.st_mode & 0o002 or (found.st_mode & 0o020 and found.st_gid != 0)
            is_link = os.path.islink(step)
            if found.st_uid != 0 or (others and not is_link):
                owner = "belongs to another user" if found.st_uid else "can be written by others"
                at = "" if step == path else f" ({safe_text(step)})"
                message = (
                    f"{safe_text(path)} is not read as root, since it{at} {owner}: "
                    f"if you trust it, say --config {safe_text(path)}"
                )
                raise ConfigError(message)
            if step == os.path.dirname(step):
                break
            step = os.path.dirname(step)


def read(path: str) -> Config:
    """The configuration in a file. Raises ConfigError."""
    shown = safe_text(path)
    try:
        raw = Host().read_bytes(absolute(path))
    except UnavailableError as error:
        message = f"configuration: {safe_text(error.absent.detail)}"
        raise ConfigError(message) from error
    try:
        text = raw.decode("utf-8-sig")
        table = tomllib.loads(text)
    except UnicodeDecodeError as error:
        message = f"configuration {shown}: not UTF-8 (byte {error.start}): save it as UTF-8"
        raise ConfigError(message) from error
    except (tomllib.TOMLDecodeError, ValueError) as error:
        message = f"configuration {shown}: not TOML: {error}"
        raise ConfigError(message) from error
    except RecursionError as error:
        message = f"configuration {shown}: nested too deeply"
        raise ConfigError(message) from error
    values = _checked(table, shown, text)
    for one, other in (("verbose", "quiet"), ("json", "format")):
        if values.get(one) and values.get(other) not in (None, False, "json"):
            message = f"configuration {shown}: {one} and {other} exclude each other"
            raise ConfigError(message)
    return Config(path, values)


def _checked(table: Mapping[str, Any], file: str, text: str) -> dict[str, Any]:
    values = {}
    for key, value in table.items():
        where = f"configuration {file}{_line(text, key)}: {safe_text(key)}"
        if key not in _KEYS:
            message = f"{where} is not a known key: {nearest(key, list(_KEYS))}"
            raise ConfigError(message)
        try:
            values[key] = _KEYS[key](value)
        except ValueError as error:
            message = f"{where}: {error}"
            raise ConfigError(message) from error
    return values


def _line(text: str, key: str) -> str:
    """The line on which a top-level key is written, as `:7`; nothing where it is written in an odd way."""
    starts = (f"{key} ", f"{key}=", f"[{key}", f"[[{key}")
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith(starts):
            return f":{number}"
    return ""


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}
    return names.get(type(value), "a table" if isinstance(value, dict) else "a date")


def _words(value: object) -> list[str]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        message = f"a text or a list of texts is wanted, not {_kind(value)}"
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
        if not isinstance(table.get(key), str) or not table[key].strip():
            message = f"a waiver without its {key}"
            raise ValueError(message)
    expires = table.get("expires")
    if isinstance(expires, str):
        with suppress(ValueError):
            expires = dt.date.fromisoformat(expires)
    if not isinstance(expires, dt.date) or isinstance(expires, dt.datetime):
        has = "has no date" if expires is None else f"expires {expires!r}, which is no date"
        message = f"the waiver of {table['check']} {has}: write expires = 2027-01-31"
        raise ValueError(message)  # noqa: TRY004
    return {"check": table["check"], "reason": table["reason"], "expires": expires.isoformat()}


_KEYS: dict[str, Callable[[object], Any]] = {
    "profile": _words,
    "only": _words,
    "skip": _words,
    "format": _text,
    "json": _flag,
    "min-score": _percent,
    "min-coverage": _percent,
    "fail-on": _fail_on,
    "passive": _flag,
    "quick": _flag,
    "thorough": _flag,
    "offline": _flag,
    "disk": _words,
    "redis": _words,
    "path": _words,
    "quiet": _flag,
    "verbose": _flag,
    "no-color": _flag,
    "context": _text,
    "kubeconfig": _text,
    "namespace": _words,
    "selector": _words,
    "min-nvme": _count,
    "region": _words,
    "node-reports": _text,
    "limits": _limits,
    "severity": _table,
    "offer": _offer,
    "waivers": _waivers,
    "plugin": _table,
}


def checked_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the keys of a configuration, from elsewhere. Raises ValueError, also for an unknown key."""
    found = {}
    for key, value in values.items():
        if key not in _KEYS:
            message = f"{safe_text(key)} is not a known key"
            raise ValueError(message)
        found[key] = _KEYS[key](value)
    return found
