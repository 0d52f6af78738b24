"""The profiles: which limits a machine is judged by, each with its source."""

from vdscheck.plugin import ProfileFile

BASE = ProfileFile("vdscheck.profiles", "base.toml")
WEB = ProfileFile("vdscheck.profiles", "web.toml")
REDIS = ProfileFile("vdscheck.profiles", "redis.toml")
POSTGRES = ProfileFile("vdscheck.profiles", "postgres.toml")
KUBERNETES_NODE = ProfileFile("vdscheck.profiles", "kubernetes-node.toml")
LATENCY = ProfileFile("vdscheck.profiles", "latency.toml")
