"""Checks of kernel settings."""

from . import buffers, capacity, keys_judged, persistence

__all__ = ["buffers", "capacity", "keys_judged", "persistence"]
