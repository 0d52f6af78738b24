"""Measures what the network counters of the host say while the run goes on."""

from vdscheck.probes.net import counters

__all__ = ["counters"]
