"""Runs the probes under a supervisor: from a target to measurements."""
