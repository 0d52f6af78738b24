"""Measures the ways to places, and the resolvers that are asked for their names."""

from vdscheck.probes.path import path_probes

__all__ = ["path_probes"]
