"""Examines a Linux server: is it what was sold, and is it ready for a latency-sensitive service."""

__version__ = "0.1.0"
