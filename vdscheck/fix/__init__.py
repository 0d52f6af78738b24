"""Changes that are planned, applied, read back, kept and undone."""
