"""The door to a Kubernetes cluster: connected to and logged in by the kubernetes package, read by us."""

import json
import os
import re
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlencode, urlsplit

from vdscheck.guard import deadline
from vdscheck.kubeconfig import ClusterError, contexts
from vdscheck.model import Absent, Reason, UnavailableError, frozen, unmeasured
from vdscheck.target import Host, TargetKind, safe_text, without_secrets

PAGE_ITEMS = 500
"""Kubernetes' own clients ask for pages of this size (client-go, tools/pager)."""
PAGE_LIMIT_BYTES = 256 << 20
"""No page is larger: an object may have 1.5 MB (etcd), and a page of large ones is rare."""
LOGIN_LIMIT_S = 20.0
"""How long a program of the kubeconfig may take to log in."""
CONNECT_LIMIT_S = 5.0
READ_LIMIT_S = 30.0
"""How long the server may send nothing."""
RETRIES = 4
RETRY_AFTER_S = 1.0
"""How long to wait where the server does not say."""
LONGEST_WAIT_S = 30.0
PIECE_BYTES = 1 << 18
_GZIP = 16 + zlib.MAX_WBITS
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_REFUSED, _GONE, _BUSY = (401, 403), 410, 429
_SERVER_ERROR = 500


class ForbiddenError(UnavailableError):
    """The user may not do this."""

    def __init__(self, absent: Absent, *, nobody: bool = False) -> None:
        super().__init__(absent)
        self.nobody = nobody
        """Whether the server does not know the user at all."""


class GoneError(UnavailableError):
    """The token that continues a list has expired: the list begins anew."""


@frozen
class Login:
    """Which cluster, and as whom: found before anything is measured."""

    files: tuple[str, ...]
    """Kubeconfigs; empty inside a pod."""
    context: str | None
    name: str
    """What the report calls it."""
    namespace: str


def login(kubeconfig: str | None, context: str | None) -> Login:
    """The kubeconfig and the context that count: an option, else KUBECONFIG, else ~/.kube/config, else the pod.

    Raises ClusterError.
    """
    listed = os.environ.get("KUBECONFIG", "")
    named = [kubeconfig] if kubeconfig is not None else [part for part in listed.split(os.pathsep) if part]
    files = named or [os.path.expanduser("~/.kube/config")]
    there = [file for file in files if os.path.exists(file)]
    if not there:
        if not named and _in_a_pod():
            if context is not None:
                message = f"--context {safe_text(context)}: inside a pod there are no contexts; name a --kubeconfig"
                raise ClusterError(message)
            return Login((), None, "in-cluster", _namespace_of_the_pod())
        how = "" if named else ": name one with --kubeconfig or KUBECONFIG"
        message = f"no kubeconfig at {safe_text(' or '.join(files))}{how}"
        raise ClusterError(message)
    known, current = contexts(there)
    wanted = context if context is not None else current
    if not wanted:
        message = f"{safe_text(there[0])} has no current-context: name one of {_some(known)} with --context"
        raise ClusterError(message)
    if wanted not in known:
        message = f"{safe_text(there[0])} has no context {safe_text(wanted)}; it has {_some(known)}"
        raise ClusterError(message)
    return Login(tuple(there), wanted, safe_text(wanted), known[wanted] or "default")


def _in_a_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and os.path.exists(f"{SERVICE_ACCOUNT}/token")


def _namespace_of_the_pod() -> str:
    with suppress(UnavailableError):
        return Host().read(f"{SERVICE_ACCOUNT}/namespace").strip() or "default"
    return "default"


def _some(names: dict[str, str]) -> str:
    return safe_text(", ".join(sorted(names)[:8])) or "none"


@dataclass
class Asked:
    """What of one list was asked and sent."""

    requests: int = 0
    size_bytes: int = 0
    duration_s: float = 0.0


@dataclass
class _Session:
    """The connection, made when the first probe of a child wants it."""

    configuration: Any = None
    pool: Any = None
    answered: bool = False
    failed: Absent | None = None
    """Why there is none: nothing else is tried then, so that a run ends soon."""


@dataclass
class Cluster:
    """A cluster under examination. Every method that asks raises UnavailableError, with the reason.

    Connection and login (certificates, tokens, exec plugins, proxies) are the kubernetes package's.
    """

    target_kind: ClassVar[TargetKind] = "cluster"
    live: ClassVar[bool] = True
    root: ClassVar[str] = "/"
    descriptors: ClassVar[tuple[int, ...]] = ()

    login: Login
    namespaces: tuple[str, ...] = ()
    """Which were asked for; empty is all."""
    reports_folder: str | None = None
    manifests: Any = None
    """What was read of the manifests that were named: measurements.cluster.Manifests."""
    ends_at: float | None = None
    """When the window of the running probe ends, on the monotonic clock."""
    _session: _Session = field(default_factory=_Session, repr=False)

    @property
    def host(self) -> str:
        """The server's address, without what may be secret in it."""
        parts = urlsplit(self._connected().configuration.host)
        return safe_text(f"{parts.hostname or ''}:{parts.port or 443}")

    def get(self, path: str, limit_bytes: int = 1 << 22) -> bytes:
        """The answer to one GET."""
        return self._asked(path, limit_bytes, Asked())

    def page(self, path: str, token: str, asked: Asked) -> bytes:
        """A page of a list; `token` is what the page before it said to continue with, or "".

        Without `resourceVersion`: with `resourceVersion=0` the server ignores the limit and sends all at once.
        Raises GoneError where the token has expired.
        """
        query = urlencode({"limit": str(PAGE_ITEMS)} | ({"continue": token} if token else {}))
        began = time.monotonic()
        page = self._asked(f"{path}{'&' if '?' in path else '?'}{query}", PAGE_LIMIT_BYTES, asked)
        asked.duration_s += time.monotonic() - began
        return page

    def _asked(self, path: str, limit_bytes: int, asked: Asked) -> bytes:
        session = self._connected()
        for _ in range(RETRIES):
            with suppress(_AgainError):
                return self._tried(session, path, limit_bytes, asked)
        return self._once(session, path, limit_bytes, asked)

    def _tried(self, session: _Session, path: str, limit_bytes: int, asked: Asked) -> bytes:
        """One request; where it may be asked again, that is waited for first."""
        try:
            return self._once(session, path, limit_bytes, asked)
        except _AgainError as error:
            time.sleep(min(error.wait_s, LONGEST_WAIT_S))
            raise

    def _once(self, session: _Session, path: str, limit_bytes: int, asked: Asked) -> bytes:
        import urllib3

        asked.requests += 1
        configuration = session.configuration
        timeout = urllib3.Timeout(connect=CONNECT_LIMIT_S, read=READ_LIMIT_S)
        headers = {"Accept": "application/json", "User-Agent": "vdscheck", "Accept-Encoding": "gzip"}
        for setting in configuration.auth_settings().values():
            if setting["in"] == "header" and setting["value"]:
                headers[setting["key"]] = setting["value"]
        try:
            response = session.pool.request(
                "GET",
                f"{configuration.host}{path}",
                headers=headers,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            absent = _unreachable(error, self)
            session.failed = None if session.answered else absent
            raise UnavailableError(absent) from error
        session.answered = True
        content, whole = bytearray(), False
        with suppress(urllib3.exceptions.HTTPError, OSError, zlib.error):
            packed = response.headers.get("Content-Encoding") == "gzip"
            inflate = zlib.decompressobj(_GZIP)
            for piece in response.stream(PIECE_BYTES, decode_content=False):
                asked.size_bytes += len(piece)
                content += inflate.decompress(piece, limit_bytes + 1) if packed else piece
                if len(content) > limit_bytes:
                    response.close()
                    why = f"the server's answer to GET {_shown(path)} is larger than {limit_bytes:,} bytes"
                    raise UnavailableError(unmeasured(Reason.ERROR, why))
            whole = inflate.eof or not packed
        response.release_conn()
        if not whole:
            why = f"the server's answer to GET {_shown(path)} was cut off"
            raise _AgainError(unmeasured(Reason.UNREACHABLE, why), 0.2)
        if response.status == 200:  # noqa: PLR2004 - OK
            return bytes(content)
        raise self._refusal(path, response.status, dict(response.headers), bytes(content))

    def _refusal(self, path: str, status: int, headers: dict[str, str], content: bytes) -> UnavailableError:
        said = _message(content)
        if status == _REFUSED[0]:
            why = f"the server does not know who asks (401): the credentials of context {self.login.name} do not count"
            return ForbiddenError(unmeasured(Reason.PERMISSION, why), nobody=True)
        if status == _REFUSED[1]:
            return ForbiddenError(unmeasured(Reason.PERMISSION, _forbidden(path)))
        if status == _GONE:
            return GoneError(unmeasured(Reason.ERROR, f"GET {_shown(path)}: the list changed while it was read (410)"))
        if status == _BUSY or status >= _SERVER_ERROR:
            after = {name.lower(): value for name, value in headers.items()}.get("retry-after", "")
            wait_s = float(after) if re.fullmatch(r"[0-9]{1,6}", after) else RETRY_AFTER_S
            kind = Reason.TIMEOUT if status == _BUSY else Reason.ERROR
            why = f"the server answered GET {_shown(path)} with {status}{said}"
            return _AgainError(unmeasured(kind, why), wait_s)
        if status == 404:  # noqa: PLR2004 - not found
            return UnavailableError(unmeasured(Reason.UNSUPPORTED, f"the server has no {_shown(path)} (404){said}"))
        return UnavailableError(
            unmeasured(Reason.ERROR, f"the server answered GET {_shown(path)} with {status}{said}: is it Kubernetes?")
        )

    def _connected(self) -> _Session:
        if self._session.failed is not None:
            raise UnavailableError(self._session.failed)
        if self._session.pool is None:
            try:
                with deadline(LOGIN_LIMIT_S):
                    self._connect()
            except UnavailableError as error:
                self._session.failed = error.absent
                raise
        return self._session

    def _connect(self) -> None:
        """Log in as the kubernetes package does it: of what goes wrong there only the kind is told.

        An exec plugin prints what it likes, an error of a file may quote it, and the package logs both.
        """
        import logging

        heard: list[str] = []

        class Ear(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                heard.append(record.getMessage())

        logging.getLogger().handlers = [Ear(logging.ERROR)]
        from kubernetes import client, config

        configuration = client.Configuration()
        try:
            if self.login.files:
                config.load_kube_config(  # type: ignore[no-untyped-call]
                    os.pathsep.join(self.login.files),
                    context=self.login.context,
                    client_configuration=configuration,
                    persist_config=False,
                )
            else:
                config.load_incluster_config(  # type: ignore[no-untyped-call]
                    client_configuration=configuration
                )
        except Exception as error:
            why = f"the kubeconfig gives no way to log in to {self.login.name}: {_kind(error)}"
            raise UnavailableError(unmeasured(Reason.PERMISSION, why)) from error
        if heard and not (configuration.api_key or configuration.cert_file or configuration.username):
            why = f"nothing logs in to {self.login.name}: {_kind(heard[0], 'its exec plugin failed')}"
            raise UnavailableError(unmeasured(Reason.PERMISSION, why))
        if configuration.host and urlsplit(configuration.host).scheme not in ("http", "https"):
            why = f"the address of the server of {self.login.name} is not http:// or https://"
            raise UnavailableError(unmeasured(Reason.UNREACHABLE, why))
        try:
            self._session.pool = client.ApiClient(configuration).rest_client.pool_manager
        except Exception as error:
            why = f"no connection to {self.login.name} can be made: {_kind(error)}"
            raise UnavailableError(unmeasured(Reason.PERMISSION, why)) from error
        self._session.configuration = configuration
        _keep_no_secret_files(configuration, self._session.pool)


class _AgainError(UnavailableError):
    """May be asked again after a while."""

    def __init__(self, absent: Absent, wait_s: float) -> None:
        super().__init__(absent)
        self.wait_s = wait_s


def _kind(error: BaseException | str, otherwise: str = "") -> str:
    """What an error of a login says, as far as it is ours to repeat: of an exec plugin only how it ended."""
    text = safe_text(str(error)).splitlines()[0] if str(error) else ""
    found = re.match(r"exec: process returned (-?[0-9]+)", text)
    if found:
        return f"its exec plugin ended with {found[1]}"
    if text.startswith("did not end within "):
        return f"its exec plugin hangs: it {text}"
    if text.startswith("exec: "):
        return "its exec plugin did not give credentials as it should"
    known = re.match(r"Invalid kube-config file\. (Expected [^\n]{1,80}|No configuration found)", text)
    if known:
        return known[1]
    if isinstance(error, FileNotFoundError):
        return f"{safe_text(str(error.filename))} is not there"
    return otherwise or type(error).__name__


def _unreachable(error: BaseException, cluster: Cluster) -> Absent:
    import ssl

    import urllib3

    step: BaseException | None = error
    while step is not None:
        if isinstance(step, ssl.SSLCertVerificationError):
            why = f"TLS: {safe_text(step.verify_message or 'the certificate cannot be verified')}"
            return unmeasured(Reason.UNREACHABLE, f"{cluster.host}: {why}")
        if isinstance(step, urllib3.exceptions.NewConnectionError | ConnectionRefusedError):
            return unmeasured(Reason.UNREACHABLE, f"{cluster.host} cannot be connected to: {_last_words(step)}")
        if isinstance(step, urllib3.exceptions.TimeoutError | TimeoutError):
            return unmeasured(Reason.TIMEOUT, f"{cluster.host} did not answer in time")
        reason = getattr(step, "reason", None)
        step = reason if isinstance(reason, BaseException) else step.__cause__ or step.__context__
    return unmeasured(Reason.UNREACHABLE, f"{cluster.host}: {type(error).__name__}: {_last_words(error)}")


def _last_words(error: BaseException) -> str:
    return safe_text(without_secrets(str(error))).rpartition(": ")[2][:200]


def _shown(path: str) -> str:
    return path.partition("?")[0]


def _message(content: bytes) -> str:
    """What a Status object says, shortened."""
    with suppress(ValueError, RecursionError):
        found = json.loads(content[: 1 << 16])
        if isinstance(found, dict) and isinstance(found.get("message"), str):
            return f": {safe_text(without_secrets(found['message']))[:200]}"
    return ""


def _forbidden(path: str) -> str:
    """`may not list pods in namespace x`: the verb, the resource and the scope that a role must give."""
    parts = [part for part in _shown(path).split("/") if part]
    rest = parts[2:] if parts[:1] == ["api"] else parts[3:]
    group = "" if parts[:1] == ["api"] else f".{parts[1]}" if len(parts) > 1 else ""
    scope = "for the whole cluster"
    if len(rest) > 2 and rest[0] == "namespaces":  # noqa: PLR2004 - namespaces/NAME/resource
        scope, rest = f"in namespace {rest[1]}", rest[2:]
    verb = "list" if len(rest) == 1 else "get"
    named = f"{rest[0]}{group}" if rest else _shown(path)
    return f"this user may not {verb} {named} {scope} (403): docs/cluster-role.yaml has the verbs and resources"


def _keep_no_secret_files(configuration: Any, pool: Any) -> None:  # noqa: ANN401 - the package's own
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
            os.remove(file)
