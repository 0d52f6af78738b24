"""Redis servers as users name them: one address each, read strictly, and shown without its secrets."""

import re
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote

from vdscheck.linux.own_addresses import is_loopback
from vdscheck.plugin import SubjectError, frozen, secrets

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 6379
LAST_PORT = 65535
HOW = "write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss://... for TLS, or unix:///PATH/OF/SOCKET"

_SCHEMES = ("redis", "rediss", "unix")
_FILES = {"ssl_ca_certs": "ca_file", "ssl_certfile": "certificate_file", "ssl_keyfile": "key_file"}
_OPTIONS = (*_FILES, "ssl_cert_reqs", "db", "username", "password")
"""The options of redis-py's addresses that are understood here as well."""


@frozen
class RedisServer:
    """One Redis or Valkey server and how to log in to it."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    socket_path: str | None = None
    """A unix socket, instead of host and port."""
    database: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False
    verify: bool = True
    """Whether a certificate must be valid and for this host."""
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    named: bool = True
    """Whether the user named it; else it is the address that a Redis has by default."""

    def __repr__(self) -> str:
        return f"RedisServer({self.name})"

    @property
    def name(self) -> str:
        """`127.0.0.1:6379`, `10.0.0.5:6379/2` or the path of the socket: never anything secret."""
        database = f"/{self.database}" if self.database else ""
        if self.socket_path is not None:
            return f"{self.socket_path}{database and ':'}{database}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}{database}"

    @property
    def user(self) -> str:
        """Who logs in, for a rule of an ACL. A name that was given is not shown: it may be a misplaced password."""
        return "default" if self.username is None else "USER"

    @property
    def local(self) -> bool:
        """Whether no packet leaves the host on the way to it; a name other than localhost may lead anywhere."""
        return self.socket_path is not None or self.is_localhost or is_loopback(self.host)

    @property
    def is_localhost(self) -> bool:
        """Whether it is named by the one name that is asked of no resolver (RFC 6761, 6.3)."""
        return self.host.lower() == "localhost"

    @classmethod
    def chosen(cls, settings: Mapping[str, Any]) -> Mapping[str, "RedisServer"]:
        """The servers that the user named, else the one that may be at the default address, each by its name."""
        found: dict[str, RedisServer] = {}
        for url in settings.get("redis") or ():
            server = parse(url)
            if server not in found.values():
                found[_free(server.name, found)] = server
        return found or {(default := cls(named=False)).name: default}


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """A name for a server that nothing has yet: several users of one server are told apart by a number."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}#{number}"
    return free


def parse(url: str) -> RedisServer:
    """The server that an address names.

    Its secrets are registered. Raises SubjectError, whose message quotes nothing of the address: any part of
    it may be a misplaced password.
    """
    secrets.register_address(url.strip())
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme.lower() not in _SCHEMES:
        _refuse("it does not start with redis://, rediss:// or unix://")
    if any(not character.isprintable() for character in rest):
        _refuse("there is a control character in it")
    login, place = secrets.login_and_place(rest, is_socket=scheme.lower() == "unix")
    place, _, query = place.partition("?")
    fields = {"tls": scheme.lower() == "rediss", **_login(login), **_options(query)}
    if any(len(fields.get(each) or "") > secrets.LONGEST for each in ("username", "password")):
        _refuse(f"the user or the password has more than {secrets.LONGEST:,} characters")
    if scheme.lower() == "unix":
        if not place.startswith("/"):
            _refuse("the path of the socket does not start with /")
        return RedisServer(socket_path=unquote(place), **fields)
    host, port, database = _place(place)
    fields.setdefault("database", database)
    return RedisServer(host=host, port=port, **fields)


def _refuse(why: str) -> NoReturn:
    message = f"the address of a Redis server cannot be read: {why}; {HOW}"
    raise SubjectError(message)


def _login(text: str) -> dict[str, Any]:
    if not text:
        return {}
    user, colon, password = text.partition(":")
    if not colon and re.search(r"[/?#]", user):
        _refuse("an @ stands behind the host; in a password or an option it is written %40")
    if re.search(r"[\s/?#@]", user):
        _refuse("the user holds a character that is written as % and two digits")
    return {"username": unquote(user) or None, "password": unquote(password) if colon else None}


def _place(text: str) -> tuple[str, int, int]:
    address, _, database = text.partition("/")
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([\w.-]*))(?::([0-9]*))?", address)
    if found is None:
        _refuse("what should be HOST:PORT is not (a space or a sign in it?)")
    port = int(found[3] or DEFAULT_PORT) if len(found[3] or "") <= len(str(LAST_PORT)) else LAST_PORT + 1
    if not 0 < port <= LAST_PORT:
        _refuse(f"the port is not between 1 and {LAST_PORT}")
    return found[1] or found[2] or DEFAULT_HOST, port, _database(database)


def _database(text: str) -> int:
    if not re.fullmatch("[0-9]{0,6}", text):
        _refuse("the database is not a number")
    return int(text or 0)


def _options(query: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _FILES:
            fields[_FILES[name]] = value
        elif name == "db":
            fields["database"] = _database(value)
        elif name in ("username", "password"):
            fields[name] = value
        elif name == "ssl_cert_reqs" and value in ("required", "none"):
            fields["verify"] = value == "required"
        else:
            _refuse(f"of options it may have {', '.join(_OPTIONS)} (ssl_cert_reqs=required or none)")
    return fields
