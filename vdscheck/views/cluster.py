"""What the head of a report says of a cluster."""

from vdscheck.measurements.cluster import ClusterNodes, ClusterServer
from vdscheck.plugin import AMOUNT_LIMIT, Absent, Facts, header


@header("cluster")
def cluster(server: ClusterServer | Absent, nodes: ClusterNodes | None) -> Facts:
    """Which version it runs, and what its nodes can carry."""
    version = "" if isinstance(server, Absent) else server.version
    amounts = [] if nodes is None else [node.allocatable for node in nodes.nodes]
    return Facts(
        os=f"Kubernetes {version.removeprefix('v')}" if version else None,
        cpus=sum(each.cpu_millicores or 0 for each in amounts) // 1000 if amounts else None,
        memory_bytes=min(AMOUNT_LIMIT, sum(each.memory_bytes or 0 for each in amounts)) if amounts else None,
        nodes=None if nodes is None else len(nodes.nodes),
    )
