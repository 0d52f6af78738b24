"""Checks of a Kubernetes cluster."""

from . import nodes, workloads

__all__ = ["nodes", "workloads"]
