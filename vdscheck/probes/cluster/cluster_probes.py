"""The Kubernetes cluster: its server, nodes, workloads and volumes, and what reports say of its nodes.

What these probes need is imported in them: the kubernetes package is a third of a second. A server that repeats
the token that it was sent finds it in no name, label or message here.
"""

from vdscheck.measurements.cluster import (
    ClusterNodes,
    ClusterServer,
    ClusterVolumes,
    ClusterWorkloads,
    Manifests,
    NodeReports,
)
from vdscheck.plugin import Absent, Cluster, not_applicable, probe, secrets


@probe("cluster.server", deadline_s=30.0, cheap=True, sends=True)
def server(cluster: Cluster) -> ClusterServer:
    """Asks for /version, and 40 times for one namespace, one after the other."""
    from vdscheck.probes.cluster.server import asked

    return asked(cluster)


@probe("cluster.nodes", deadline_s=60.0, cheap=True, sends=True)
def nodes(cluster: Cluster) -> ClusterNodes:
    """Lists all nodes, in pages of 500."""
    from vdscheck.probes.cluster.nodes import read

    return secrets.redacted(read(cluster))


@probe("cluster.workloads", deadline_s=120.0, cheap=True, sends=True)
def workloads(cluster: Cluster) -> ClusterWorkloads:
    """Lists Deployments, StatefulSets, DaemonSets, Jobs, CronJobs and all pods, in pages of 500."""
    from vdscheck.probes.cluster.workloads import read

    return secrets.redacted(read(cluster))


@probe("cluster.volumes", deadline_s=30.0, cheap=True, sends=True)
def volumes(cluster: Cluster) -> ClusterVolumes:
    """Lists all persistent volumes, in pages of 500."""
    from vdscheck.probes.cluster.nodes import read_volumes

    return secrets.redacted(read_volumes(cluster))


@probe("cluster.node-reports", deadline_s=60.0, cheap=True, sends=True)
def node_reports(cluster: Cluster) -> NodeReports | Absent:
    """Reads reports of nodes from a folder, or from labelled ConfigMaps in the namespace vdscheck."""
    from vdscheck.probes.cluster.reports import read

    return secrets.redacted(read(cluster))


@probe("cluster.manifests", cheap=True)
def manifests(cluster: Cluster) -> Manifests | Absent:
    """Takes what was read of the manifests when the command began."""
    return cluster.files.get("filename") or not_applicable("no manifest was named with -f")
