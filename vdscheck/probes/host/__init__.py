"""Measures which machine this is, and how busy."""

from vdscheck.probes.host import identity, load

__all__ = ["identity", "load"]
