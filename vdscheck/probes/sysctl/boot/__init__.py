"""Predicts which kernel settings the next boot brings."""

from vdscheck.probes.sysctl.boot import huge_pages, predict

__all__ = ["huge_pages", "predict"]
