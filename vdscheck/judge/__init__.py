"""Judges measurements by a ruleset: findings, score, gates."""
