"""Measures memory and its pressure."""

from vdscheck.probes.memory import memory

__all__ = ["memory"]
