"""First-party probes: the only code that looks at a host, and it looks through the door."""
