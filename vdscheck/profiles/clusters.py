"""The profile of clusters, found on its own: a run on a host does not know what it limits."""

from vdscheck.plugin import ProfileFile

CLUSTER = ProfileFile("vdscheck.profiles", "cluster.toml")
