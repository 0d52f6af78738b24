"""Measures whether the clock is kept right."""

from vdscheck.probes.time import sync

__all__ = ["sync"]
