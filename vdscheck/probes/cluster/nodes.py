"""Nodes and persistent volumes."""

from collections.abc import Callable

from vdscheck.measurements.cluster import ClusterNodes, ClusterVolumes, Node, Taint, Volume
from vdscheck.plugin import Cluster
from vdscheck.probes.cluster.objects import NodeInfo, NodeObject, VolumeObject
from vdscheck.probes.cluster.quantity import amount, resources
from vdscheck.probes.cluster.reading import listed, no_list, refuse_unread
from vdscheck.probes.cluster.templates import NAME_LIMIT

_READY = {"True": True, "False": False}
_STATUSES = (*_READY, "Unknown")
_TROUBLES = (
    "MemoryPressure",
    "DiskPressure",
    "PIDPressure",
    "NetworkUnavailable",
    "KernelDeadlock",
    "ReadonlyFilesystem",
)
"""Conditions of the kubelet, and of the node problem detector, that are bad when they are true.

Others may be good when they are true. https://kubernetes.io/docs/reference/node/node-status/;
https://github.com/kubernetes/node-problem-detector
"""


def read(cluster: Cluster) -> ClusterNodes:
    """All nodes."""
    found: list[Node] = []

    def begin() -> Callable[[NodeObject], None]:
        found.clear()
        return lambda each: found.append(_node(each))

    done = listed(cluster, "/api/v1/nodes", "nodes", NodeObject, begin)
    return ClusterNodes(nodes=tuple(found), read=done)


def _node(each: NodeObject) -> Node:
    conditions = {one.type: one.status for one in each.status.conditions or ()}
    for name in ("Ready", *_TROUBLES):
        if conditions.get(name, "Unknown") not in _STATUSES:
            why = f"{name} is {conditions[name]}"
            raise no_list("nodes", why)
    refuse_unread(each.status.allocatable, "nodes")
    info = each.status.node_info or NodeInfo()
    allocatable = each.status.allocatable or {}
    pods = allocatable.get("pods")
    return Node(
        name=each.metadata.name[:NAME_LIMIT],
        labels=each.metadata.labels or {},
        taints=tuple(Taint(key=one.key, value=one.value, effect=one.effect) for one in each.spec.taints or ()),
        cordoned=bool(each.spec.unschedulable),
        ready=_READY.get(conditions.get("Ready", "")),
        troubles=tuple(name for name in _TROUBLES if conditions.get(name) == "True"),
        allocatable=resources(allocatable),
        most_pods=None if pods is None else amount(pods),
        kubelet=info.kubelet_version[:NAME_LIMIT],
        machine_id=info.machine_id[:NAME_LIMIT],
        boot_id=info.boot_id[:NAME_LIMIT],
    )


def read_volumes(cluster: Cluster) -> ClusterVolumes:
    """All persistent volumes."""
    found: list[Volume] = []

    def begin() -> Callable[[VolumeObject], None]:
        found.clear()
        return lambda each: found.append(_volume(each))

    done = listed(cluster, "/api/v1/persistentvolumes", "persistentvolumes", VolumeObject, begin)
    return ClusterVolumes(volumes=tuple(found), read=done)


def _volume(each: VolumeObject) -> Volume:
    places: dict[str, dict[str, None]] = {"region": {}, "zone": {}}
    for key, value in (each.metadata.labels or {}).items():
        for kind, values in places.items():
            if key.endswith(f"/{kind}"):
                # A volume in several zones names them all, parted so (the former cloud providers).
                values.update(dict.fromkeys(value.split("__")))
    required = each.spec.node_affinity.required if each.spec.node_affinity else None
    for term in required.node_selector_terms or () if required else ():
        for line in term.match_expressions or ():
            for kind, values in places.items():
                if line.key.endswith(f"/{kind}") and line.operator == "In":
                    values.update(dict.fromkeys(line.values or ()))
    claim = each.spec.claim_ref
    return Volume(
        name=each.metadata.name[:NAME_LIMIT],
        claim=f"{claim.namespace}/{claim.name}"[: 2 * NAME_LIMIT] if claim else "",
        regions=tuple(places["region"]),
        zones=tuple(places["zone"]),
    )
