"""Kinds of fix: what the areas can set, beside their probes and checks."""
