"""What logs in to an API server: found in kubeconfigs, trimmed as kubectl does, and sent to nobody without TLS."""

import os
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from vdscheck.model import Absent, Reason, UnavailableError, frozen, unmeasured
from vdscheck.secrets import login_and_place, register, register_address
from vdscheck.target import safe_text

NO_TLS = "no credentials are sent to an http:// server: it has no TLS, so others could read them"
_NOT_SECRET = (
    *("apiVersion", "command", "interactiveMode", "installHint", "provideClusterInfo", "name"),
    *("tokenFile", "client-certificate", "client-key", "certificate-authority", "idp-certificate-authority"),
)
"""Keys of a kubeconfig's user whose values say how and where, not what; every other one is a secret."""
_ANOTHER = ("as", "as-uid", "as-groups", "as-user-extra")
"""How a user asks to count as somebody else (impersonation)."""
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
        for address in (self.server, self.proxy or "", *self.secrets):
            register_address(address)


def chosen(tables: Mapping[str, Mapping[str, Any]], context: str) -> Chosen:
    """What kubeconfigs say of a context. The first that has a name counts."""
    inner = _named(tables, "contexts", context, "context")
    cluster = _named(tables, "clusters", inner.get("cluster"), "cluster")
    user = _named(tables, "users", inner.get("user"), "user")
    server, proxy = cluster.get("server"), cluster.get("proxy-url")
    return Chosen(
        server=server.strip().rstrip("/") if isinstance(server, str) else "",
        proxy=proxy if isinstance(proxy, str) and proxy else None,
        has_user=bool(user),
        is_another=any(user.get(key) for key in _ANOTHER),
        secrets=(*_secrets(user), *_secrets(cluster.get("extensions"))),
    )


def _named(tables: Mapping[str, Mapping[str, Any]], kind: str, name: object, inner: str) -> dict[str, Any]:
    for table in tables.values():
        listed = table.get(kind)
        for each in listed if isinstance(listed, list) else ():
            if isinstance(each, dict) and each.get("name") == name:
                found = each.get(inner)
                return found if isinstance(found, dict) else {}
    return {}


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
    if _CONTROL.search(secret):
        why = (
            f"the token of context {safe_text(context)} is not sent: there is a line break or another control "
            "character in it; a token is one line"
        )
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
    place = login_and_place(parts.netloc)[1]
    base = SplitResult(parts.scheme, place, parts.path.rstrip("/"), "", "").geturl()
    return base, safe_text(f"{parts.hostname}:{port}")


def _unreadable(context: str, why: str) -> Absent:
    return unmeasured(Reason.UNREACHABLE, f"the address of the server of {safe_text(context)} {why}")


_WHY = (
    (r"exec: process returned (-?[0-9]+)", r"its exec plugin ended with \1"),
    (r"(did not end within [0-9.]+ s)", r"its exec plugin, or a file that it names, hangs: it \1"),
    (r"exec: ", "its exec plugin did not give credentials as it should"),
    (r"Invalid kube-config file\. (?:.* )?Expected key ([A-Za-z0-9-]{1,40}) in ", r"an entry of it lacks \1"),
    (r"Invalid kube-config file\. .*object with name ", "it does not have the cluster of its context, or has it twice"),
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


def keep_no_secret_files(configuration: Any, pool: Any) -> None:  # noqa: ANN401 - the package's own
    """Certificates and keys of a kubeconfig were written to files for OpenSSL: keep them open, without a name.

    A child that is ended at its deadline would leave them there.
    """
    from kubernetes.config import kube_config

    ours = set(getattr(kube_config, "_temp_files", {}).values())
    for name, argument in (("ssl_ca_cert", "ca_certs"), ("cert_file", "cert_file"), ("key_file", "key_file")):
        file = getattr(configuration, name, None)
        if file is not None and file in ours:
            pool.connection_pool_kw[argument] = f"/proc/self/fd/{os.open(file, os.O_RDONLY)}"
    for file in ours:
        with suppress(OSError):
            with open(file, "rb") as kept:
                register(kept.read(1 << 16))
            os.remove(file)
