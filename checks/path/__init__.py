"""Checks of the network path to places."""

from . import path

__all__ = ["path"]
