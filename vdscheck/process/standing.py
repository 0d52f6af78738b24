"""What a run that changes settings leaves behind as it stands, in one line: whatever ends it says so last."""

_line = ""


def note(line: str) -> None:
    """Where the change stands from now on."""
    global _line  # noqa: PLW0603 - a process makes one change at a time, and what ends it knows of nothing else
    _line = line


def line() -> str:
    """Where the change stands; empty where none was begun."""
    return _line
