"""The Kubernetes cluster: what its API server says, read page by page."""

from vdscheck.probes.cluster import cluster_probes

__all__ = ["cluster_probes"]
