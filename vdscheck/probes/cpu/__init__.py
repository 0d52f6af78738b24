"""Measures processors: pressure, steal, stalls, the loopback round trip."""

from vdscheck.probes.cpu import loopback, processors, spin_probe

__all__ = ["loopback", "processors", "spin_probe"]
