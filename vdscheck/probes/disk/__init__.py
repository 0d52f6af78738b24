"""Measures disks and file systems: what they are, how full, how fast."""

from vdscheck.probes.disk import activity, file_systems, latency, stack

__all__ = ["activity", "file_systems", "latency", "stack"]
