"""Measures which hypervisor, container and devices these are, and where the kernel takes the time from."""

from vdscheck.probes.virt import clocksource, hypervisor, nics

__all__ = ["clocksource", "hypervisor", "nics"]
