"""The line on standard error that says what is being measured, and that vanishes."""

import os
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from vdscheck.model.report import Taken
from vdscheck.process.streams import put_on
from vdscheck.render.safe import ascii_line
from vdscheck.render.text.live import Drawing, Live

QUIET_S = 0.3
"""A run that is over by then draws nothing: a line that only flashes by disturbs."""
EVERY_S = 0.1
_CLEAR = "\r\x1b[K"


class Progress(Protocol):
    """What the engine tells of its progress."""

    def started(self, probe_id: str) -> None:
        """A probe has begun."""

    def measured(self, key: str, taken: Taken, /) -> None:
        """A probe has measured."""

    def finished(self, probe_id: str) -> None:
        """A probe has ended."""

    def tick(self) -> None:
        """Time has passed."""

    def close(self) -> None:
        """All is measured: leave nothing on the terminal."""


class _Silent:
    def started(self, probe_id: str) -> None:
        """Say nothing."""

    def measured(self, key: str, taken: Taken, /) -> None:
        """Say nothing."""

    def finished(self, probe_id: str) -> None:
        """Say nothing."""

    def tick(self) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Leave nothing."""


class _Line:
    """One line that is drawn over and over."""

    def __init__(self, stream: TextIO, width: Callable[[], int], clock: Callable[[], float]) -> None:
        self._stream, self._width, self._clock = stream, width, clock
        self._running: dict[str, None] = {}
        self._done = 0
        self._began = clock()
        self._drawn_at: float | None = None

    def started(self, probe_id: str) -> None:
        self._running[probe_id] = None
        self.tick()

    def measured(self, _key: str, _taken: Taken, /) -> None:
        self.tick()

    def finished(self, probe_id: str) -> None:
        self._running.pop(probe_id, None)
        self._done += 1
        self.tick()

    def tick(self) -> None:
        now = self._clock()
        early = now - self._began < QUIET_S
        if early or (self._drawn_at is not None and now - self._drawn_at < EVERY_S):
            return
        self._drawn_at = now
        put_on(self._stream, _CLEAR + self._text(now - self._began))

    def close(self) -> None:
        if self._drawn_at is not None:
            put_on(self._stream, _CLEAR)
        self._drawn_at = None

    def _text(self, elapsed_s: float) -> str:
        text = f"{elapsed_s:4.0f} s  {self._done} measured  {', '.join(self._running)}"
        room = max(1, self._width() - 1)  # in the last column the cursor would wrap, and the line stay
        return ascii_line(text, room)


def progress(
    stream: TextIO | None, clock: Callable[[], float] = time.monotonic, draw: Drawing | None = None
) -> Progress:
    """A line, or what `draw` draws, on a terminal that can be drawn on; silence elsewhere."""
    try:
        if stream is None or not stream.isatty() or os.environ.get("TERM", "dumb") == "dumb":
            return _Silent()
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return _Silent()

    if draw is not None:
        return Live(stream, draw, clock)

    def width() -> int:
        try:
            return os.get_terminal_size(descriptor).columns or 80
        except (OSError, ValueError):
            return 80

    return _Line(stream, width, clock)
