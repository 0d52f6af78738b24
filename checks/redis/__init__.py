"""Checks of Redis servers."""

from . import redis

__all__ = ["redis"]
