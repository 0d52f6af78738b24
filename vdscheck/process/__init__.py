"""Processes of ours: children with deadlines, signals, the limits of the session."""
