"""Checks of disks and file systems."""

from . import kind, space, speed

__all__ = ["kind", "space", "speed"]
