"""Nodes and pods of realistic size in an API server, over 16 connections."""

import http.client
import json
import ssl
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from .kube_server import KubeServer, node
from .processes import LabError

CONNECTIONS: Final = 16
PODS_A_DEPLOYMENT: Final = 50
MOST_NODES: Final = 5_000
"""The pods are spread over the first so many nodes."""


def load(server: KubeServer, nodes: int, pods: Sequence[int]) -> None:
    """Make that many nodes, and the pods of those numbers on them."""
    _spread(server, [_node(_name(number), number) for number in range(nodes)], "/api/v1/nodes")
    for namespace in {_namespace(number) for number in pods}:
        with_ = {"metadata": {"name": namespace}}
        _sent(server, [("POST", "/api/v1/namespaces", with_, "json")], known=True)
    _spread(server, [_pod(number, _name(number % MOST_NODES)) for number in pods], "")


def _name(number: int) -> str:
    return f"node-{number:05}"


def _namespace(number: int) -> str:
    return f"team-{number // PODS_A_DEPLOYMENT % 20}"


def _spread(server: KubeServer, things: list[dict[str, Any]], path: str) -> None:
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        shares = [things[start::CONNECTIONS] for start in range(CONNECTIONS)]
        list(pool.map(lambda share: _sent(server, list(_requests(share, path))), shares))


def _requests(things: list[dict[str, Any]], path: str) -> Iterator[tuple[str, str, dict[str, Any], str]]:
    for thing in things:
        where = path or f"/api/v1/namespaces/{thing['metadata']['namespace']}/pods"
        yield "POST", where, thing, "json"
        named = f"{where}/{thing['metadata']['name']}/status"
        yield "PATCH", named, {"status": thing["status"]}, "merge-patch+json"


def _sent(server: KubeServer, requests: list[tuple[str, str, dict[str, Any], str]], *, known: bool = False) -> None:
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=60, context=context)
    for method, path, body, kind in requests:
        headers = {"Authorization": "Bearer admin-token", "Content-Type": f"application/{kind}"}
        connection.request(method, path, json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status >= http.client.BAD_REQUEST and not (known and answer.status == http.client.CONFLICT):
            message = f"{method} {path}: {answer.status} {content[:300]!r}"
            raise LabError(message)
    connection.close()


def _node(name: str, number: int) -> dict[str, Any]:
    labels = {f"node.example/label-{each:02}": f"value-{each:02}-{number % 7}" for each in range(20)}
    labels |= {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{number % 3}"}
    if number % 4 == 0:
        labels["disktype"] = "nvme"
    made = node(name, labels=labels, allocatable={"cpu": "32", "memory": "128Gi"})
    made["metadata"]["annotations"] = {f"node.example/note-{each}": "x" * 60 for each in range(8)}
    made["status"]["images"] = [
        {"names": [f"registry.example/team/image-{each}@sha256:{'a' * 64}"], "sizeBytes": 10**8 + each}
        for each in range(40)
    ]
    return made


def _pod(number: int, on: str) -> dict[str, Any]:
    deployment = number // PODS_A_DEPLOYMENT
    suffix = f"{deployment:08x}"[-8:]
    resources = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}
    environment = [{"name": f"SETTING_{each:02}", "value": "x" * 40} for each in range(20)]
    mounts = [{"name": "config", "mountPath": "/etc/app"}, {"name": "logs", "mountPath": "/var/log/app"}]
    app = {"name": "app", "image": "registry.example/app:1.2.3", "env": environment, "resources": resources}
    proxy = {"name": "proxy", "image": "registry.example/proxy:2", "resources": resources}
    condition = {"lastProbeTime": None, "lastTransitionTime": "2026-11-24T00:00:00Z", "status": "True"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"app-{deployment}-{suffix}-{number:06}",
            "namespace": _namespace(number),
            "labels": {"app": f"app-{deployment}", "pod-template-hash": suffix},
            "annotations": {f"app.example/note-{each}": "y" * 50 for each in range(5)},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": f"app-{deployment}-{suffix}",
                    "uid": f"{deployment}",
                    "controller": True,
                }
            ],
        },
        "spec": {
            "nodeName": on,
            "containers": [app | {"volumeMounts": mounts}, proxy | {"volumeMounts": mounts[1:]}],
            "volumes": [
                {"name": "config", "configMap": {"name": "config"}},
                {"name": "logs", "emptyDir": {}},
            ],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "conditions": [condition | {"type": kind} for kind in ("Ready", "PodScheduled", "ContainersReady")],
            "containerStatuses": [
                {
                    "name": name,
                    "image": f"registry.example/{name}:1",
                    "imageID": f"registry.example/{name}@sha256:{'b' * 64}",
                    "containerID": f"containerd://{'c' * 64}",
                    "ready": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": "2026-11-24T00:00:00Z"}},
                }
                for name in ("app", "proxy")
            ],
        },
    }
