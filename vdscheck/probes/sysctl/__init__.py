"""Measures kernel settings and what hangs on them: sockets, open files, node agents."""

from vdscheck.probes.sysctl import boot, listeners, node_agents, open_files, values

__all__ = ["boot", "listeners", "node_agents", "open_files", "values"]
