"""Nodes, pods and workloads for tests of what is judged of them."""

from typing import Any

from vdscheck.measurements.cluster import (
    ClusterNodes,
    ClusterWorkloads,
    Container,
    ListRead,
    Node,
    NodeUse,
    Pods,
    PodTemplate,
    Resources,
    Workload,
)

NOTHING = Resources(cpu_millicores=None, memory_bytes=None, ephemeral_storage_bytes=None, others={})
GIB = 2**30


def amounts(cpu: int | None = None, memory: int | None = None, **others: int) -> Resources:
    return Resources(cpu_millicores=cpu, memory_bytes=memory, ephemeral_storage_bytes=None, others=dict(others))


def read(what: str = "nodes", duration_s: float = 0.1) -> ListRead:
    return ListRead(what=what, requests=1, size_bytes=100, duration_s=duration_s, items=1)


def node(name: str = "n1", **more: Any) -> Node:
    usual: dict[str, Any] = {
        "labels": {},
        "taints": (),
        "cordoned": False,
        "ready": True,
        "troubles": (),
        "allocatable": amounts(4000, 16 * GIB),
        "most_pods": 110,
        "kubelet": "v1.34.2",
        "machine_id": f"m-{name}",
        "boot_id": f"b-{name}",
    }
    return Node(name=name, **(usual | more))


def container(name: str = "app", **more: Any) -> Container:
    whole = amounts(100, GIB)
    usual: dict[str, Any] = {
        "image": f"{name}:1",
        "role": "main",
        "requests": whole,
        "limits": whole,
        "mounts": (),
        "paths": (),
        "line": None,
    }
    return Container(name=name, **(usual | more))


def template(*containers: Container, **more: Any) -> PodTemplate:
    usual: dict[str, Any] = {
        "volumes": {},
        "restarts": True,
        "node_selector": {},
        "affinity": None,
        "tolerations": (),
        "node_name": None,
        "requests": amounts(100, GIB),
        "kept_apart": (),
        "not_judged": (),
    }
    return PodTemplate(containers=containers or (container(),), **(usual | more))


def pods(count: int, unscheduled: int = 0, nodes: int = 2, **more: Any) -> Pods:
    usual: dict[str, Any] = {
        "running": count - unscheduled,
        "waiting": tuple(f"p-{number}" for number in range(min(3, unscheduled))),
        "scheduler_said": "",
    }
    return Pods(count=count, unscheduled=unscheduled, nodes=nodes, **(usual | more))


def workload(name: str = "web", made: PodTemplate | None = None, **more: Any) -> Workload:
    usual: dict[str, Any] = {
        "kind": "Deployment",
        "namespace": "shop",
        "where": "",
        "wanted": 2,
        "pods": pods(2),
        "template": made or template(),
    }
    return Workload(name=name, **(usual | more))


def inventory(*nodes: Node) -> ClusterNodes:
    return ClusterNodes(nodes=nodes, read=read())


def running(*workloads: Workload, use: tuple[NodeUse, ...] = (), **more: Any) -> ClusterWorkloads:
    usual: dict[str, Any] = {"namespaces": (), "why_namespaces": "", "missing": {}, "reads": (read("pods"),)}
    return ClusterWorkloads(workloads=workloads, use=use, **(usual | more))
