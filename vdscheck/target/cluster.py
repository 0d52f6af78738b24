"""The door to a Kubernetes cluster: connected to and logged in by the kubernetes package, read by us."""

import errno
import json
import os
import re
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlencode

from vdscheck.model.absence import Absent, Reason, UnavailableError, unmeasured
from vdscheck.model.records import frozen
from vdscheck.process.guard import deadline
from vdscheck.target import credentials
from vdscheck.target.host import Host
from vdscheck.target.interface import TargetKind
from vdscheck.target.kubeconfig import NAMESPACE_NAME, ClusterError, contexts, read, shown_name
from vdscheck.target.secrets import file_of, redact, what_failed
from vdscheck.target.text import not_expanded, safe_text

PAGE_ITEMS = 500
"""Kubernetes' own clients ask for pages of this size (client-go, tools/pager)."""
PAGE_LIMIT_BYTES = 256 << 20
"""A page that is larger is asked for anew with fewer items: an object may have 1.5 MB (etcd)."""
FEWER = 10
"""Times fewer."""
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
    chosen: credentials.Chosen = field(default_factory=credentials.Chosen)
    """What a kubeconfig says of the context."""


def login(kubeconfig: str | None, context: str | None) -> Login:
    """The kubeconfig and the context that count: an option, else KUBECONFIG, else ~/.kube/config, else the pod.

    Raises ClusterError.
    """
    listed = os.environ.get("KUBECONFIG", "")
    named = [kubeconfig] if kubeconfig is not None else [part for part in listed.split(os.pathsep) if part]
    shown = {file: file if kubeconfig is not None else file_of("KUBECONFIG", file) for file in named}
    for why in filter(None, (not_expanded(file, shown[file]) for file in named)):
        raise ClusterError(why)
    home = os.path.expanduser("~")
    files = named or [f"{home}/.kube/config"]
    # Without HOME and an account "~" stays, and would be a folder of that name in the current one. A HOME that may not
    # be entered is that of somebody else, as in a pod that runs as another user than the one of its image.
    looked_for = files if named or (os.path.isabs(home) and os.access(home, os.X_OK)) else []
    there = [file for file in looked_for if _is_there(file, shown.get(file, file))]
    if not there:
        if not named and _in_a_pod():
            if context is not None:
                message = f"--context {shown_name(context)}: inside a pod there are no contexts; name a --kubeconfig"
                raise ClusterError(message)
            return Login((), None, "in-cluster", _namespace_of_the_pod())
        how = "" if named else ": name one with --kubeconfig or KUBECONFIG"
        at = os.pathsep.join(files)
        of_all = at if kubeconfig is not None or not named else file_of("KUBECONFIG", at)
        message = f"no kubeconfig at {safe_text(of_all)}{how}"
        raise ClusterError(message)
    tables = {file: read(file, found=not named) for file in there}
    known, current = contexts(tables)
    wanted = context if context is not None else current
    if not wanted:
        message = f"{safe_text(there[0])} has no current-context: name one of {_some(known)} with --context"
        raise ClusterError(message)
    if wanted not in known:
        # What stands in the place of a name in a file may be anything that was pasted there, a token as well.
        what = (
            "a current-context that is none of its contexts" if context is None else f"no context {shown_name(wanted)}"
        )
        message = f"{safe_text(there[0])} has {what}; it has {_some(known)}"
        raise ClusterError(message)
    namespace = known[wanted] or "default"
    if not NAMESPACE_NAME.fullmatch(namespace):
        message = f"context {shown_name(wanted)} of {safe_text(there[0])}: its namespace is not the name of a namespace"
        raise ClusterError(message)
    chosen = credentials.chosen(tables, wanted)
    return Login(tuple(there), wanted, shown_name(wanted), namespace, chosen)


def _is_there(file: str, shown: str) -> bool:
    """Whether there is such a file. Raises ClusterError where that cannot be seen, as kubectl does."""
    try:
        os.stat(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # it is no name at all
            return False
        message = f"kubeconfig {safe_text(shown)} cannot be looked at: {what_failed(error)}"
        raise ClusterError(message) from error
    return True


def _in_a_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and os.path.exists(f"{SERVICE_ACCOUNT}/token")


def _namespace_of_the_pod() -> str:
    with suppress(UnavailableError):
        name = Host().read(f"{SERVICE_ACCOUNT}/namespace").strip()
        return name if NAMESPACE_NAME.fullmatch(name) else "default"
    return "default"


def _some(names: dict[str, str]) -> str:
    return ", ".join(map(shown_name, sorted(names)[:8])) or "none"


@dataclass
class RequestCounts:
    """What of one list was asked and sent."""

    requests: int = 0
    size_bytes: int = 0
    duration_s: float = 0.0
    page_items: int = PAGE_ITEMS
    """How many are asked for at once."""


@dataclass
class _Session:
    """The connection, made when the first probe of a child wants it."""

    configuration: Any = None
    pool: Any = None
    base: str = ""
    """The address that paths are put behind."""
    host: str = ""
    """The same as it is shown."""
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
    files: Mapping[str, Any] = field(default_factory=dict)
    """What was read of the caller's own files, by the option that named them."""
    ends_at: float | None = None
    """When the window of the running probe ends, on the monotonic clock."""
    _session: _Session = field(default_factory=_Session, repr=False)

    @property
    def host(self) -> str:
        """The server's address, without what may be secret in it."""
        return self._connected().host

    @property
    def withheld(self) -> str:
        """Why the server was not told who asks; "" where it was, and where nobody is to be told."""
        return credentials.NO_TLS if self.login.chosen.has_user and not self.login.chosen.has_tls else ""

    def get(self, path: str, limit_bytes: int = 1 << 22) -> bytes:
        """The answer to one GET."""
        return self._asked(path, limit_bytes, RequestCounts())

    def page(self, path: str, token: str, asked: RequestCounts) -> bytes:
        """A page of a list; `token` is what the page before it said to continue with, or "".

        Without `resourceVersion`: with `resourceVersion=0` the server ignores the limit and sends all at once.
        Raises GoneError where the token has expired.
        """
        query = urlencode({"limit": str(asked.page_items)} | ({"continue": token} if token else {}))
        began = time.monotonic()
        try:
            return self._asked(f"{path}{'&' if '?' in path else '?'}{query}", PAGE_LIMIT_BYTES, asked)
        except _TooLargeError:
            if asked.page_items == 1:
                raise
            asked.page_items = max(1, asked.page_items // FEWER)
        finally:
            asked.duration_s += time.monotonic() - began
        return self.page(path, token, asked)

    def _asked(self, path: str, limit_bytes: int, asked: RequestCounts) -> bytes:
        session = self._connected()
        for _ in range(RETRIES):
            with suppress(_AgainError):
                return self._tried(session, path, limit_bytes, asked)
        return self._once(session, path, limit_bytes, asked)

    def _tried(self, session: _Session, path: str, limit_bytes: int, asked: RequestCounts) -> bytes:
        """One request; where it may be asked again, that is waited for first."""
        try:
            return self._once(session, path, limit_bytes, asked)
        except _AgainError as error:
            time.sleep(min(error.wait_s, LONGEST_WAIT_S))
            raise

    def _once(self, session: _Session, path: str, limit_bytes: int, asked: RequestCounts) -> bytes:
        import urllib3

        asked.requests += 1
        timeout = urllib3.Timeout(connect=CONNECT_LIMIT_S, read=READ_LIMIT_S)
        headers = {"Accept": "application/json", "User-Agent": "vdscheck", "Accept-Encoding": "gzip"}
        headers |= self._credentials(session)
        try:
            response = session.pool.request(
                "GET",
                f"{session.base}{path}",
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
        body = _Body(limit_bytes, packed=response.headers.get("Content-Encoding") == "gzip")
        with suppress(urllib3.exceptions.HTTPError, OSError, zlib.error):
            for piece in response.stream(PIECE_BYTES, decode_content=False):
                asked.size_bytes += len(piece)
                wrong = body.taken(piece)
                if wrong is not None:
                    response.close()
                    kind = _TooLargeError if body.is_too_large else UnavailableError
                    raise kind(unmeasured(Reason.ERROR, f"the server's answer to GET {_shown(path)} {wrong}"))
            body.ended = True
        response.release_conn()
        if not body.is_whole:
            why = f"the server's answer to GET {_shown(path)} was cut off"
            raise _AgainError(unmeasured(Reason.UNREACHABLE, why), 0.2)
        if response.status == 200:  # noqa: PLR2004 - OK
            return bytes(body.content)
        raise self._refusal(path, response.status, dict(response.headers), bytes(body.content))

    def _credentials(self, session: _Session) -> dict[str, str]:
        """The headers that log in; the kubernetes package renews a token when its time is over."""
        if not session.base.startswith("https://"):
            return {}
        try:
            with deadline(LOGIN_LIMIT_S):
                settings = list(session.configuration.auth_settings().values())
            named = {each["key"]: each["value"] for each in settings if each["in"] == "header" and each["value"]}
            headers = {name: credentials.header(value, self.login.name) for name, value in named.items()}
        except UnavailableError as error:
            session.failed = error.absent
            raise
        except Exception as error:
            why = f"the login to {self.login.name} cannot be renewed: {credentials.why_not(error)}"
            raise UnavailableError(unmeasured(Reason.PERMISSION, why)) from error
        return {name: value for name, value in headers.items() if value}

    def _refusal(self, path: str, status: int, headers: dict[str, str], content: bytes) -> UnavailableError:
        said = _message(content)
        if status == _REFUSED[0]:
            why = self.withheld or f"the credentials of context {self.login.name} do not count"
            why = f"the server does not know who asks (401): {why}"
            return ForbiddenError(unmeasured(Reason.PERMISSION, why), nobody=True)
        if status == _REFUSED[1]:
            why = f"{_forbidden(path)}{self.withheld and f'; {self.withheld}'}"
            return ForbiddenError(unmeasured(Reason.PERMISSION, why))
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
            # On a busy machine this takes long, and half a package is worse than none: it is no part of the login.
            import kubernetes.config  # noqa: F401

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

        self.login.chosen.register()
        if self.login.files:
            credentials.base_address(self.login.chosen.server, self.login.name)
        if self.login.chosen.is_another:
            why = (
                f"the user of {self.login.name} acts as another (as), which is not done here: name a context without it"
            )
            raise UnavailableError(unmeasured(Reason.PERMISSION, why))
        if self.login.files and self.login.chosen.has_tls:
            credentials.write_no_secret_files()
        configuration = client.Configuration()
        try:
            self._load(configuration, config)
        except Exception as error:
            why = f"the kubeconfig gives no way to log in to {self.login.name}: {credentials.why_not(error)}"
            raise UnavailableError(unmeasured(Reason.PERMISSION, why)) from error
        if heard and not (configuration.api_key or configuration.cert_file or configuration.username):
            why = f"nothing logs in to {self.login.name}: {credentials.why_not(heard[0], 'its exec plugin failed')}"
            raise UnavailableError(unmeasured(Reason.PERMISSION, why))
        base, host = credentials.base_address(configuration.host, self.login.name)
        credentials.check_proxy(configuration.proxy, self.login.name)
        try:
            self._session.pool = client.ApiClient(configuration).rest_client.pool_manager
        except Exception as error:
            why = f"no connection to {self.login.name} can be made: {what_failed(error)}"
            raise UnavailableError(unmeasured(Reason.PERMISSION, why)) from error
        self._session.configuration, self._session.base, self._session.host = configuration, base, host

    def _load(self, configuration: Any, config: Any) -> None:  # noqa: ANN401 - the package's own
        if not self.login.files:
            config.load_incluster_config(client_configuration=configuration)
        elif not self.login.chosen.has_tls:
            # As kubectl: nobody logs in there, so nothing is read and no program is run for it.
            configuration.host = self.login.chosen.server
            if self.login.chosen.proxy is not None:
                configuration.proxy = self.login.chosen.proxy
        else:
            # What was checked is what logs in: the package reads no file again, nor in its own way.
            credentials.renew_nothing()
            found = self.login.chosen
            node = config.kube_config.ConfigNode("kubeconfig", found.kubeconfig, found.file)
            config.load_kube_config_from_dict(node, client_configuration=configuration, persist_config=False)


class _Body:
    """The content of an answer, piece by piece; neither it nor what it is packed in becomes larger than a bound."""

    def __init__(self, limit_bytes: int, *, packed: bool) -> None:
        self._limit_bytes = limit_bytes
        self._inflate = zlib.decompressobj(_GZIP) if packed else None
        self._taken_bytes = 0
        self.content = bytearray()
        self.ended = False

    @property
    def is_whole(self) -> bool:
        """Whether all of it has come."""
        return self.ended and (self._inflate is None or self._inflate.eof)

    @property
    def is_too_large(self) -> bool:
        """Whether it is more than its bound."""
        return max(self._taken_bytes, len(self.content)) > self._limit_bytes

    def taken(self, piece: bytes) -> str | None:
        """Take a piece; what is wrong with the answer, where that can be told."""
        self._taken_bytes += len(piece)
        if self._inflate is None:
            self.content += piece
        elif self._inflate.eof:
            return "goes on behind the end of what it packs"
        else:
            self.content += self._inflate.decompress(piece, self._limit_bytes + 1 - len(self.content))
        if self.is_too_large:
            return f"is larger than {self._limit_bytes:,} bytes"
        behind = self._inflate is not None and self._inflate.unused_data
        return "goes on behind the end of what it packs" if behind else None


class _TooLargeError(UnavailableError):
    """An answer is larger than its bound."""


class _AgainError(UnavailableError):
    """May be asked again after a while."""

    def __init__(self, absent: Absent, wait_s: float) -> None:
        super().__init__(absent)
        self.wait_s = wait_s


def _unreachable(error: BaseException, cluster: Cluster) -> Absent:
    import ssl

    import urllib3

    step: BaseException | None = error
    where = cluster.host
    while step is not None:
        if isinstance(step, urllib3.exceptions.ProxyError):
            where = f"the proxy on the way to {cluster.host}"
        if isinstance(step, ssl.SSLCertVerificationError):
            why = f"TLS: {redact(safe_text(step.verify_message or 'the certificate cannot be verified'))}"
            return unmeasured(Reason.UNREACHABLE, f"{cluster.host}: {why}")
        if isinstance(step, urllib3.exceptions.NameResolutionError):
            return unmeasured(Reason.UNREACHABLE, f"{where}: the name cannot be resolved")
        is_new = isinstance(step, urllib3.exceptions.NewConnectionError)  # urllib3 counts it as a timeout as well
        if isinstance(step, urllib3.exceptions.TimeoutError | TimeoutError) and not is_new:
            return unmeasured(Reason.TIMEOUT, f"{where} did not answer in time")
        if isinstance(step, OSError) and (step.errno or 0) > 0:
            return unmeasured(Reason.UNREACHABLE, f"{where} cannot be connected to: {what_failed(step)}")
        refused = re.match(r"Tunnel connection failed: ([0-9]{3})\b", str(step)) if isinstance(step, OSError) else None
        if refused:
            return unmeasured(Reason.UNREACHABLE, f"the proxy does not connect to {cluster.host} ({refused[1]})")
        reason = getattr(step, "reason", None)
        step = reason if isinstance(reason, BaseException) else step.__cause__ or step.__context__
    return unmeasured(Reason.UNREACHABLE, f"{where}: {what_failed(error)}")


def _shown(path: str) -> str:
    return path.partition("?")[0]


def _message(content: bytes) -> str:
    """What a Status object says, shortened."""
    with suppress(ValueError, RecursionError):
        found = json.loads(content[: 1 << 16])
        if isinstance(found, dict) and isinstance(found.get("message"), str):
            return f": {redact(safe_text(found['message'][:1000]))[:200]}"
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
