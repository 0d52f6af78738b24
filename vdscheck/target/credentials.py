"""What logs in to an API server: found in kubeconfigs, trimmed as kubectl does, and sent to nobody without TLS."""

import os
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from vdscheck.model.absence import Absent, Reason, UnavailableError, unmeasured
from vdscheck.model.records import frozen
from vdscheck.target.kubeconfig import ClusterError, shown_name
from vdscheck.target.secrets import LONGEST, login_and_place, register, register_address, register_words
from vdscheck.target.text import absolute, safe_text

NO_TLS = "no credentials are sent to an http:// server: it has no TLS, so others could read them"
_NOT_SECRET = (
    *("apiVersion", "command", "interactiveMode", "installHint", "provideClusterInfo", "name"),
    *("tokenFile", "client-certificate", "client-key", "certificate-authority", "idp-certificate-authority"),
)
"""Keys of a kubeconfig's user whose values say how and where, not what; every other one is a secret."""
_FILES = ("certificate-authority", "tokenFile", "client-certificate", "client-key")
"""Keys of a cluster and of a user whose values name files, relative to the folder of the kubeconfig."""
_ANOTHER = ("as", "as-uid", "as-groups", "as-user-extra")
"""How a user asks to count as somebody else (impersonation)."""
_AUTHORITY = ("certificate-authority", "certificate-authority-data")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""What no value of a header may have (RFC 9110, 5.5); a tab it may."""


@frozen
class Chosen:
    """The cluster and the user of one context, as far as it is ours to know before the kubernetes package logs in."""

    server: str = ""
    proxy: str | None = None
    has_user: bool = False
    """Whether there is anything to log in with."""
    is_another: bool = False
    """Whether the user is to count as somebody else (`as`), which the kubernetes package does not ask for."""

    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What must not be shown: every value of the user, also in a field that did not exist when this was written."""

    words: tuple[str, ...] = field(default=(), repr=False)
    """Arguments and environment of the program that logs in."""

    kubeconfig: dict[str, Any] = field(default_factory=dict, repr=False)
    """All that logs in: a kubeconfig of this context, its cluster and its user, as they were read and checked."""
    file: str = ""
    """Which file the user stands in: a program that logs in runs in its folder."""

    @property
    def has_tls(self) -> bool:
        """Whether what is sent to the server can be read by it alone; what has no scheme is refused by base_address."""
        try:
            return urlsplit(self.server).scheme != "http"
        except ValueError:
            return True

    def register(self) -> None:
        """Register what is secret in it, in the process that is going to log in."""
        register(*self.secrets)
        register_words(*self.words)
        for address in (self.server, self.proxy or "", *self.secrets, *self.words):
            register_address(address)


def chosen(tables: Mapping[str, Mapping[str, Any]], context: str) -> Chosen:
    """What kubeconfigs say of a context. The first that has a name counts. Raises ClusterError."""
    _, inner = _named(tables, "contexts", context)
    _, cluster = _named(tables, "clusters", inner.get("cluster"))
    file, user = _named(tables, "users", inner.get("user"))
    server = re.sub("^https:", "https:", cluster.get("server", "").strip().rstrip("/"), flags=re.IGNORECASE)
    if cluster.get("insecure-skip-tls-verify") and any(each in cluster for each in _AUTHORITY):
        message = (
            f"the cluster of context {shown_name(context)} has a certificate authority and insecure-skip-tls-verify, "
            "which kubectl refuses as well: take one of them out"
        )
        raise ClusterError(message)
    return Chosen(
        server=server,
        proxy=cluster.get("proxy-url"),
        has_user=bool(user),
        is_another=any(user.get(key) for key in _ANOTHER),
        secrets=(
            *_secrets({key: value for key, value in user.items() if key != "exec"}),
            *_secrets(cluster.get("extensions")),
        ),
        words=tuple(_secrets(user.get("exec"))),
        kubeconfig=_alone(context, cluster | {"server": server}, user),
        file=file,
    )


def _alone(context: str, cluster: dict[str, Any], user: dict[str, Any]) -> dict[str, Any]:
    """A kubeconfig of one context, for the kubernetes package."""
    if "username" in user:
        user = {"password": ""} | user  # as for kubectl; the package wants to see one
    return {
        "current-context": context,
        "contexts": [{"name": context, "context": {"cluster": "cluster", "user": "user"}}],
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
    }


def _named(tables: Mapping[str, Mapping[str, Any]], kind: str, name: object) -> tuple[str, dict[str, Any]]:
    """The first entry of a name, and the file that it stands in."""
    for file, table in tables.items():
        for each in table.get(kind) or ():
            if each["name"] == name:
                return absolute(file), _counting(each.get(kind.removesuffix("s")) or {}, file)
    return "", {}


def _counting(inner: dict[str, Any], file: str) -> dict[str, Any]:
    """The fields of an entry that say something, as for kubectl: an empty text says nothing."""
    said = {key: value for key, value in inner.items() if value not in (None, "")}
    folder = os.path.dirname(absolute(file))
    return said | {key: os.path.join(folder, said[key]) for key in _FILES if key in said}


def _secrets(value: object, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _secrets(each, str(name))
    elif isinstance(value, list):
        for each in value:
            yield from _secrets(each, key)
    elif key not in _NOT_SECRET and isinstance(value, str | int | float):
        yield str(value)
        if key.endswith("-data"):
            with suppress(ValueError):
                yield b64decode(str(value)).decode()


def header(value: str, context: str) -> str:
    """The value of an Authorization header, as it can be sent; "" where nothing is left of it.

    Spaces and line ends around a token are the editor's or echo's, and kubectl takes them off as well. Raises
    UnavailableError for what is no header.
    """
    scheme, _, secret = value.partition(" ")
    secret = secret.strip()
    register(secret)
    why = ""
    if _CONTROL.search(secret):
        why = "there is a line break or another control character in it; a token is one line"
    elif len(secret) > LONGEST:  # more than is looked for in what a server says
        why = f"it has more than {LONGEST:,} characters"
    if why:
        why = f"the token of context {shown_name(context)} is not sent: {why}"
        raise UnavailableError(unmeasured(Reason.PERMISSION, why))
    # http.client writes Latin-1; kubectl sends UTF-8.
    return f"{scheme} {secret}".encode("utf-8", "surrogateescape").decode("latin-1") if secret else ""


def base_address(server: str, context: str) -> tuple[str, str]:
    """The address to put paths behind, without user information and query, and `host:port` to show.

    Raises UnavailableError.
    """
    if _CONTROL.search(server.strip()):  # urlsplit leaves some of them out: "ht\ttp://" would be http
        raise UnavailableError(_unreadable(context, "has a control character in it"))
    try:
        parts = urlsplit(server.strip())
        port = parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError as error:  # its text quotes what is no port
        raise UnavailableError(_unreadable(context, "cannot be read")) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UnavailableError(_unreadable(context, "is not http:// or https://"))
    if _login_behind_the_host(parts):
        raise UnavailableError(_unreadable(context, "has an @ behind its host: in a password a / is written %2F"))
    place = login_and_place(parts.netloc)[1]
    base = SplitResult(parts.scheme, place, parts.path.rstrip("/"), "", "").geturl()
    return base, safe_text(f"{parts.hostname}:{port}")


def _login_behind_the_host(parts: SplitResult) -> bool:
    """Whether what would be asked of a resolver as the name of the host is the beginning of a login."""
    return "@" in f"{parts.path}{parts.query}{parts.fragment}"


def check_proxy(proxy: str | None, context: str) -> None:
    """Refuse an address of a proxy with a login that would be asked of a resolver, or is too long to be looked for.

    Raises UnavailableError.
    """
    try:
        wrong = proxy is not None and _login_behind_the_host(urlsplit(proxy))
    except ValueError:
        wrong = False  # the kubernetes package says so
    why = "has an @ behind its host: in a password a / is written %2F" if wrong else ""
    if len(proxy or "") > LONGEST:
        why = f"has more than {LONGEST:,} characters"
    if why:
        why = f"the address of the proxy on the way to the server of {shown_name(context)} {why}"
        raise UnavailableError(unmeasured(Reason.UNREACHABLE, why))


def _unreadable(context: str, why: str) -> Absent:
    return unmeasured(Reason.UNREACHABLE, f"the address of the server of {shown_name(context)} {why}")


_WHY = (
    (r"exec: process returned (-?[0-9]+)", r"its exec plugin ended with \1"),
    (r"(did not end within [0-9.]+ s)", r"its exec plugin, or a file that it names, hangs: it \1"),
    (r"exec: ", "its exec plugin did not give credentials as it should"),
    (r"Invalid kube-config file\. (?:.* )?Expected key ([A-Za-z0-9-]{1,40}) in ", r"an entry of it lacks \1"),
    (r"File does not exist: ", "a file that it names is not there"),
    (
        "auth-provider: over",
        "the token of its auth-provider is over and is not renewed here: run kubectl once, or name an exec plugin",
    ),
)
"""How texts of the kubernetes package begin, and what they mean."""

_KINDS = {
    "builtins.FileNotFoundError": "a file that it names is not there",
    "builtins.PermissionError": "a file that it names may not be read",
    "binascii.Error": "a field of it that ends in -data is not base64",
    "ssl.SSLError": "a certificate or a key of it is none that OpenSSL reads",
}
"""What an exception means by its class alone, where the package lets one of the standard library through."""


def why_not(error: BaseException | str, otherwise: str = "") -> str:
    """Why the kubernetes package could not log in, in our own words.

    Its own quote what an exec plugin printed, and whole entries of a kubeconfig.
    """
    for begins, meaning in _WHY:
        found = re.match(begins, str(error))
        if found:
            return found.expand(meaning)
    not_started = re.match(r"\[Errno ([0-9]{1,3})\] ", str(error)) if isinstance(error, str) else None
    if not_started:
        return f"its exec plugin cannot be started: {os.strerror(int(not_started[1]))}"
    kind = type(error)
    return _KINDS.get(f"{kind.__module__}.{kind.__qualname__}", otherwise or kind.__name__)


def renew_nothing() -> None:
    """Let the kubernetes package ask nobody but exec plugins for a token.

    It would send the refresh token where an issuer says whose certificate it has not looked at, would not keep what
    takes its place, and would run the program of a gcp provider, which kubectl does no more.
    """
    from kubernetes.config import ConfigException, kube_config

    def is_over(*_: object) -> None:
        message = "auth-provider: over"
        raise ConfigException(message)

    for name in ("_refresh_oidc", "_refresh_gcp_token"):
        setattr(kube_config.KubeConfigLoader, name, is_over)


def write_no_secret_files() -> None:
    """Let the kubernetes package write the certificates and keys of a kubeconfig to memory, for OpenSSL.

    It takes files for that, in a folder that may be somebody else's, and leaves them where the program is ended.
    """
    from kubernetes.config import kube_config

    written: dict[bytes, str] = {}

    def in_memory(content: str | bytes, *_: object, **__: object) -> str:
        data = content.encode() if isinstance(content, str) else content
        register(data[:LONGEST])
        if data not in written:
            descriptor = os.memfd_create("kubeconfig")
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            written[data] = f"/proc/self/fd/{descriptor}"
        return written[data]

    if not hasattr(kube_config, "_create_temp_file_with_content"):
        why = "this version of the kubernetes package writes keys to files in another way: install the one of vdscheck"
        raise UnavailableError(unmeasured(Reason.UNSUPPORTED, why))
    setattr(kube_config, "_create_temp_file_with_content", in_memory)  # noqa: B010 - mypy knows no such name
