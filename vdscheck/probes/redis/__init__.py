"""Measures Redis servers: state, exposure, latency."""

from vdscheck.probes.redis import redis_probes

__all__ = ["redis_probes"]
