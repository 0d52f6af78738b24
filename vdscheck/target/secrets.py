"""The one owner of secrets: passwords, tokens and keys are registered here, and removed from texts of others.

Two walls keep them out of what is shown. The first: the text of a library or a program that had a secret in
its hands is not repeated; `what_failed` says in our own words what happened. The second is `redact`: texts
from outside that are worth repeating (the error of a server) pass it where they enter. Our own sentences, ids,
keys and numbers never pass it, so that the password `sysctl` takes nothing from a report. That also says how
far it can go with a short secret: see `redact`.

What is registered before a process is forked is known in its children as well; what a child learns (the token that
a program made) it tells, so that those who come after it know it too.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

PIECE = 8
"""A piece of a secret of so many characters is removed as well; a secret that is shorter is a short one."""
MARK = "***"
PROGRAM_PREFIX = "VDSCHECK_"
"""How the environment variables begin that are for this program alone: they may hold passwords."""

_QUOTED_ONLY = 4
"""A secret of fewer characters is removed only where it stands in quotes: it is part of too much else."""
LONGEST = 1 << 16
"""No login is longer than this; of what is, the beginning is registered, and it is sent to nobody."""
_LONGEST_PATH, _LONGEST_NAME = 200, 40
"""What names a file has seldom more, and what is none has: a token, base64."""
_NO_SECRETS = frozenset(("default", "false", "no", "none", "optional", "required", "true", "yes"))
"""Words in addresses and kubeconfigs that everybody knows."""
_OPEN_OPTIONS = ("db", "ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile")
"""Options in the query of an address that say which database and which files; all others are secret."""
_ARMOUR = re.compile(r"-----(?:BEGIN|END) [A-Z0-9 ]+-----")
"""The first and the last line of a key in PEM (RFC 7468)."""
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{4,}={0,2}")
_PART = re.compile(r'[^\s"]+')
"""What an address in a text is a part of, and no more than that: it has no blank and no double quote (RFC 3986)."""
_IS_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://")
_LOGIN_BEGINS = re.compile(r"(?::[/\\]{2}|(?:^|(?<=[\s'\"=(]))//)(?!\[?(?:USER)?:PASSWORD@)")
"""Behind the `://` of an address, also where its scheme is left out; not in our own hint of how one is written."""
_WORD = re.compile(r"\S+")
_USER_WITHOUT_SCHEME = re.compile(r"(?:^|(?<=[\s=]))[^\s/@:=]+:\S")
"""As in `user:password@host`."""
_LOGIN_WITHOUT_SCHEME = re.compile(r"\S*@(?!sha[0-9]+:)(?=\S)")
"""Up to the last @ that ends a login; what stands before a digest is the tag of an image."""

T = TypeVar("T")


@dataclass
class _Known:
    """What was registered, and what it is looked for by: that is made when a text is to be looked through."""

    values: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    """What is secret in texts alone: a name of a node or a label may be the same by chance."""
    logins: set[str] = field(default_factory=set)
    """What stands between `://` and `@` of addresses, and behind their `?`, as it was given."""
    pieces: frozenset[str] | None = None
    pieces_of_values: frozenset[str] = frozenset()
    """Of these alone, not of the words."""
    short: re.Pattern[str] | None = None
    """The short ones, where they stand as a word of their own."""
    tell: Callable[[str], None] | None = None
    """Told of each one that is new."""

    def add(self, value: str) -> None:
        if value and value not in self.values:
            self.values.add(value)
            self.pieces = None
            if self.tell is not None:
                self.tell(value)

    def add_word(self, value: str) -> None:
        if value and value not in self.words:
            self.words.add(value)
            self.pieces = None

    def prepare(self) -> frozenset[str]:
        """Make what secrets are looked for by, after new ones came; the pieces of the long ones."""
        if self.pieces is None:
            self.pieces_of_values = _pieces(self.values)
            self.pieces = self.pieces_of_values | _pieces(self.words)
            self.short = _as_words([value for value in self.values | self.words if len(value) < PIECE])
        return self.pieces


_known = _Known()


def _pieces(values: Iterable[str]) -> frozenset[str]:
    """What long secrets are looked for by, in every spelling."""
    long = [value for value in values if len(value) >= PIECE]
    spelled = [each for value in long for each in (*_spellings(value), *_in_base64(value))]
    return frozenset(each[at : at + PIECE] for each in spelled for at in range(len(each) - PIECE + 1))


def register(*values: str | bytes | None) -> None:
    """Keep values that must not be shown. Of a key of several lines each line is one of them."""
    for word in _lines_of(values):
        _known.add(word)


def register_words(*values: str | None) -> None:
    """Keep what a program is started with, which may be a secret: it is sent to no server.

    A region, a profile or the name of a cluster is among it, and is what a server calls its nodes: it is removed
    from texts, and not from what was measured.
    """
    for word in _lines_of(values):
        _known.add_word(word)


def _lines_of(values: Iterable[str | bytes | None]) -> Iterator[str]:
    for value in values:
        text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
        for line in (text or "")[:LONGEST].splitlines():
            word = line.strip()
            if word not in _NO_SECRETS and not _ARMOUR.fullmatch(word):
                yield word


def tell_of_new(tell: Callable[[str], None] | None) -> None:
    """Let somebody know of each value that is registered from now on."""
    _known.tell = tell


def forget() -> None:
    """Let nothing be a secret any more."""
    _known.values.clear()
    _known.words.clear()
    _known.logins.clear()
    _known.pieces = None


def register_address(text: str) -> None:
    """Keep what is secret in an address: user and password, and the values of its query; not the host."""
    address = _Address.of(text)
    if address is None:
        return
    from urllib.parse import unquote, unquote_plus

    _known.logins |= {f"://{address.login}@"} if address.login else set()
    _known.logins |= {f"?{address.query}"} if address.query else set()
    user, _, password = address.login.partition(":")
    register(address.login, user, password, *map(unquote, (address.login, user, password)))
    register(*address.secret_options, *map(unquote_plus, address.secret_options))


def register_leaves(value: object) -> None:
    """Keep every text in a structure of tables and lists, and what is secret in those that are addresses."""
    for text in _texts(value):
        register(text)
        register_address(text)


def register_addresses(value: object) -> None:
    """Keep what is secret in the addresses of a structure of tables and lists, keys as well; other texts are none."""
    for text in (*_texts(value), *_keys(value)):
        register_address(text)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from filter(lambda key: isinstance(key, str), value)
        value = list(value.values())
    for each in value if isinstance(value, list | tuple) else ():
        yield from _keys(each)


# Texts from outside


def redact(text: str) -> str:
    """A text from outside without the secrets that were registered.

    Of one of 8 characters or more every piece of 8 characters is removed, as it is, as Python or JSON
    writes it, percent-encoded and in base64. A shorter one is removed where it is a word of its own (one under 4
    characters: in quotes), not where it is part of a name or a number, such as `pass` in WRONGPASS; the first
    wall is what keeps those. The login and the query of any address are removed as well.
    """
    text = _without_pieces(without_logins(text), _known.prepare())
    if _known.short is None:
        return text
    return _known.short.sub(MARK, _BASE64.sub(lambda found: _decoded_if_harmless(found[0]), text))


def without_logins(text: str) -> str:
    """A text from outside without the login and the query of any address in it."""
    return _PART.sub(_without_its_login, text) if "@" in text or "?" in text else text


def _without_its_login(part: re.Match[str]) -> str:
    """A part of a text without a login and a query; each is looked for once, since a text may be long and hostile."""
    text, end = part.string, part.end()
    last = text.rfind("@", part.start(), end)
    begins = _LOGIN_BEGINS.search(text, part.start(), last + 1) if last >= 0 else None
    shown = f"{text[part.start() : begins.end()]}{MARK}{text[last:end]}" if begins else part[0]
    scheme, separator, rest = shown.partition("://")
    place, _, query = rest.partition("?")
    return f"{scheme}{separator}{place}?{MARK}" if query else shown


def redacted(value: T) -> T:
    """A measurement whose names and labels came from a server, without the long secrets that were registered.

    A short one stays: a node may be called as the token is. So do absences, whose sentences are ours.
    """
    _known.prepare()
    pieces = _known.pieces_of_values
    return _mapped(value, lambda text: _without_pieces(text, pieces), {}) if pieces else value


def without_logins_in(value: T) -> T:
    """A structure that somebody else wrote, with keys and texts as `without_logins` leaves them."""
    changed: T = _mapped(value, _whole_without_login, {})
    return changed


def _whole_without_login(text: str) -> str:
    """A value without the login of the address that it is, whatever stands in that, or of addresses in it."""
    if "@" in text and _IS_ADDRESS.match(text):
        text = f"{text[: text.index('://')]}://{MARK}{text[text.rindex('@') :]}"
    return without_logins(text)


def _mapped(value: Any, change: Callable[[str], str], seen: dict[str, str]) -> Any:  # noqa: ANN401 - of the same type
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, str):
        if value not in seen:
            seen[value] = change(value)
        return seen[value]
    if isinstance(value, tuple | list):
        changed = [_mapped(each, change, seen) for each in value]
        return tuple(changed) if isinstance(value, tuple) else changed
    if isinstance(value, dict):
        return {_mapped(key, change, seen): _mapped(each, change, seen) for key, each in value.items()}
    if not is_dataclass(value) or isinstance(value, type) or hasattr(value, "detail"):
        return value
    old = {each.name: getattr(value, each.name) for each in fields(value)}
    new = {name: _mapped(each, change, seen) for name, each in old.items()}
    return replace(value, **new) if new != old else value


def _without_pieces(text: str, pieces: frozenset[str]) -> str:
    if not pieces or len(text) < PIECE:
        return text
    kept: list[str] = []
    end = 0
    """Where the last secret ended."""
    for at in [at for at in range(len(text) - PIECE + 1) if text[at : at + PIECE] in pieces]:
        if at > end or not kept:
            kept += [text[end:at], MARK]
        end = at + PIECE
    return "".join([*kept, text[end:]])


def _spellings(value: str) -> set[str]:
    """A value as it is, and as Python, JSON and addresses write it."""
    import json
    from urllib.parse import quote, quote_plus, unquote

    escaped = value.encode("unicode_escape", "surrogatepass").decode()
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in value)
    raw = value.encode("utf-8", "surrogateescape")
    quoted = {quote(raw, safe=""), quote(raw), quote_plus(raw)}
    lower = {re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), each) for each in quoted}
    in_json = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    plain = {
        *in_json,
        value,
        escaped,
        shown,
        repr(value)[1:-1],
        repr(raw)[2:-1],
        unquote(value),
        " ".join(value.split()),
    }
    in_quotes = {each.replace(mark, f"\\{mark}") for each in plain for mark in "'\""}
    return plain | in_quotes | quoted | lower


def _in_base64(value: str) -> Iterator[str]:
    """What stands in base64 for a value, wherever it begins in the encoded text: without what its neighbours change."""
    from base64 import b64encode

    raw = value.encode("utf-8", "surrogateescape")
    for before in range(3):
        encoded = b64encode(b"\0" * before + raw).decode().rstrip("=")
        first = (before * 8 + 5) // 6
        last = (before + len(raw)) * 8 // 6
        piece = encoded[first:last]
        yield piece
        yield piece.translate({ord("+"): "-", ord("/"): "_"})


def _as_words(values: Iterable[str]) -> re.Pattern[str] | None:
    """What finds short values that are words of their own; None where there are none."""
    words: list[str] = []
    quoted: list[str] = []
    for value in values:
        for each in _spellings(value):
            (words if len(value) >= _QUOTED_ONLY else quoted).append(re.escape(each))
    patterns = []
    if words:
        patterns.append(rf"(?<!\w)(?<!\w[.|/-])(?<!\d:)(?:{_longest_first(words)})(?!\w)(?![.|/-]\w)(?!:\d)")
    if quoted:
        patterns.append(rf"(?<=['\"`])(?:{_longest_first(quoted)})(?=['\"`])")
    return re.compile("|".join(patterns)) if patterns else None


def _longest_first(alternatives: list[str]) -> str:
    return "|".join(sorted(set(alternatives), key=lambda each: (-len(each), each)))


def _decoded_if_harmless(word: str) -> str:
    """A word as it is, unless it is base64 of a short secret or of a login with one (`user:password`)."""
    from base64 import b64decode

    plain = word.rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    if len(plain) % 4 == 1:
        return word
    decoded = b64decode(plain + "=" * (-len(plain) % 4)).decode("latin-1")
    said = decoded.rpartition(":")[2]
    return MARK if said in _known.values | _known.words and decoded.isascii() and decoded.isprintable() else word


# Addresses


@dataclass(frozen=True)
class _Address:
    """The parts of an address, with what stands before it in the same word (`--redis=`)."""

    scheme: str
    login: str
    place: str
    query: str

    @property
    def secret_options(self) -> list[str]:
        """The values in its query, but for those that say which database and which files."""
        options = [part.partition("=")[::2] for part in re.split("[&;]", self.query)]
        return [value for name, value in options if value and name not in _OPEN_OPTIONS]

    @classmethod
    def of(cls, text: str) -> "_Address | None":
        """The address that a word ends in; None where there is none."""
        scheme, separator, rest = text.partition("://")
        if not separator:
            return None
        login, place = login_and_place(rest, is_socket=scheme.endswith("unix"))
        place, _, query = place.partition("?")
        return cls(scheme, login, place, query)


def login_and_place(rest: str, *, is_socket: bool = False) -> tuple[str, str]:
    """User and password, and the place, of what stands behind the `://` of an address.

    A password may hold any character, also an unescaped `@` or `/`: the last `@` ends it. Where a path
    begins at once (`unix:///run/redis.sock`) there is none.
    """
    if rest.startswith("/"):
        return "", rest
    if is_socket:
        login, _, place = rest.rpartition("@/")
        return login, f"/{place}" if login else rest
    login, _, place = rest.rpartition("@")
    return login, place


def without_secrets(word: str) -> str:
    """A word of the command line as it may be shown: of an address, who logs in and the query are `***`."""
    address = _Address.of(word)
    if address is None:
        return _WORD.sub(_without_a_user, word)
    login = f"{MARK}@" if address.login else ""
    query = f"?{MARK}" if address.query else ""
    return f"{address.scheme}://{login}{address.place}{query}"


def _without_a_user(word: re.Match[str]) -> str:
    """A word without `user:password`, if it has one before an @."""
    text, begin = word.string, word.start()
    login = _LOGIN_WITHOUT_SCHEME.match(text, begin)
    user = _USER_WITHOUT_SCHEME.search(text, begin, login.end() - 1) if login else None
    if login is None or user is None:
        return word[0]
    return f"{text[begin : user.start()]}{MARK}@{text[login.end() : word.end()]}"


def place_of(word: str) -> str:
    """A word that names a place to connect to, with or without `://`, as it may be shown: without any login."""
    login, at, place = word.rpartition("@")
    if not at or "://" in word:
        return without_secrets(word)
    names = re.match(r"(?:--[a-z]+=)?(?:[\w.-]+=)?", login)
    return f"{names[0] if names else ''}{MARK}@{place}"


def has_secret(word: str) -> bool:
    """Whether a word is an address with a login in it."""
    address = _Address.of(word)
    return address is not None and bool(address.login or address.secret_options)


_PATH = re.compile(r"^(?:~|\.{1,2})?/|\.(?:toml|ya?ml|json|conf)$|config$")
"""A path that begins as one, or the name of a file that ends as one: tokens and passwords do neither."""


def file_of(variable: str, text: str) -> str:
    """What a variable of the environment names, where that looks like the path of a file, as it may be shown.

    Pipelines put the file itself there by mistake, or what stands in it, and that is a secret.
    """
    parts = re.split("[/:]", text)
    is_short = len(text) <= _LONGEST_PATH and all(len(part) <= _LONGEST_NAME for part in parts)
    is_plain = text.isprintable() and not re.search(r"[][{}\"'<>|]|: ", text)
    is_path = "://" in text or all(_PATH.search(part) for part in text.split(":") if part)
    if is_short and is_plain and is_path:
        return text
    return f"{variable}: {len(text):,} characters that look like no path (it takes the name of a file)"


def hide_addresses(sentence: str) -> str:
    """A sentence of ours that may quote an address as it was given, without its login and its query."""
    for given in _known.logins:
        hidden = f"://{MARK}@" if given.endswith("@") else f"?{MARK}"
        # As a path that was made absolute it has one / less.
        for spelled in (*_spellings(given), given.replace("//", "/")):
            sentence = sentence.replace(spelled, hidden)
    return sentence


# Failures and programs


def what_failed(error: BaseException) -> str:
    """What an error is, in words that are ours: its type, and what the system or OpenSSL call it.

    Its own text may quote what it had in its hands: a header, a file, an address.
    """
    named = type(error).__name__
    reason = getattr(error, "reason", None)
    if isinstance(error, OSError) and isinstance(reason, str) and re.fullmatch("[A-Z0-9_]{1,60}", reason):
        return f"{named}: {reason.lower().replace('_', ' ')}"
    # What ssl keeps as the number is OpenSSL's: 8 is an end of the connection, and no "exec format error".
    is_of_ssl = type(error).__module__ == "ssl"
    if isinstance(error, OSError) and not is_of_ssl and isinstance(error.errno, int) and error.errno > 0:
        return f"{named}: {os.strerror(error.errno).lower()}"
    return named


def leave_out_of(environment: MutableMapping[str, str]) -> None:
    """Take out what is for this program alone, before programs of others are started."""
    for name in [name for name in environment if name.startswith(PROGRAM_PREFIX)]:
        del environment[name]
