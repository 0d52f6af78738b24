"""What is being measured, drawn over and over on standard error while it sharpens."""

import os
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from vdscheck.model.report import Taken
from vdscheck.process.streams import put_on

EVERY_S = 0.25
_UP = "\x1b[{}A\r"
_CLEAR_LINE = "\x1b[K"
_CLEAR_BELOW = "\x1b[J"

Drawing = Callable[[Mapping[str, Taken], int, int], bytes]
"""What draws the measurements so far, for so many columns and lines."""


class Live:
    """An observer of the measuring that redraws a table in place, and takes it away at the end."""

    def __init__(self, stream: TextIO, draw: Drawing, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._draw, self._clock = stream, draw, clock
        self._found: dict[str, Taken] = {}
        self._lines = 0
        self._drawn_at: float | None = None

    def started(self, _probe_id: str) -> None:
        """A probe has begun."""
        self.tick()

    def finished(self, _probe_id: str) -> None:
        """A probe has ended."""
        self.tick()

    def measured(self, key: str, taken: Taken, /) -> None:
        """A probe has measured, again and better."""
        self._found[key] = taken
        self.tick()

    def tick(self) -> None:
        """Draw again where it is time."""
        now = self._clock()
        if not self._found or (self._drawn_at is not None and now - self._drawn_at < EVERY_S):
            return
        self._drawn_at = now
        columns, lines = _size(self._stream)
        frame = self._draw(self._found, columns, lines - 1).decode()
        # A frame goes over the one before, line by line: a screen that is cleared from its first line on
        # is kept by tmux as history, and one that is cleared at all flickers.
        drawn = _CLEAR_LINE + frame.replace("\n", f"\n{_CLEAR_LINE}")
        if put_on(self._stream, (_UP.format(self._lines) if self._lines else "") + drawn + _CLEAR_BELOW):
            self._lines = frame.count("\n")

    def close(self) -> None:
        """All is measured: take the table away, since the report says the same."""
        put_on(self._stream, (_UP.format(1) + _CLEAR_LINE) * self._lines)
        self._lines = 0


def _size(stream: TextIO) -> tuple[int, int]:
    try:
        found = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    return found.columns or 80, found.lines or 24
