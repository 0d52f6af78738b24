"""First-party checks: pure functions of measurements and limits, one file an area."""
