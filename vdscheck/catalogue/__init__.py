"""Finds checks, probes and profiles, and refuses what is declared wrongly."""
