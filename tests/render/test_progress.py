"""The line that says what is being measured, on a real pseudo-terminal."""

import fcntl
import io
import os
import pty
import re
import select
import struct
import termios
from collections.abc import Iterator
from typing import TextIO

import pytest

from vdscheck.render.text.progress import progress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _terminal_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def ends() -> Iterator[tuple[int, TextIO]]:
    """The reader's end of a terminal of 40 columns, and the stream that a program writes to."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    with os.fdopen(writer, "w") as stream:
        yield reader, stream
    os.close(reader)


def seen(reader: int) -> str:
    """All that was written; a terminal hands it on a moment later."""
    found = b""
    while select.select([reader], [], [], 0.2)[0]:
        found += os.read(reader, 1 << 16)
    return found.decode()


def screen(written: str) -> str:
    """What stands on the line in the end: each clearing takes away what was before it."""
    return written.rpartition("\r\x1b[K")[2]


def test_it_says_what_runs_and_vanishes(ends: tuple[int, TextIO]) -> None:
    reader, stream = ends
    clock = Clock()
    line = progress(stream, clock)
    line.started("cpu.steal")
    line.started("disk.latency")
    clock.now += 5
    line.tick()
    assert screen(seen(reader)) == "   5 s  0 measured  cpu.steal, disk...."
    clock.now += 1
    line.finished("cpu.steal")
    assert screen(seen(reader)) == "   6 s  1 measured  disk.latency"
    line.close()
    assert screen(seen(reader)) == ""


def test_a_short_run_draws_nothing_at_all(ends: tuple[int, TextIO]) -> None:
    reader, stream = ends
    clock = Clock()
    line = progress(stream, clock)
    line.started("a.b")
    clock.now += 0.2
    line.tick()
    line.finished("a.b")
    line.close()
    assert seen(reader) == ""


def test_it_never_fills_the_last_column_nor_draws_too_often(ends: tuple[int, TextIO]) -> None:
    reader, stream = ends
    clock = Clock()
    line = progress(stream, clock)
    for number in range(200):
        line.started(f"area.probe-with-a-long-name-{number}")
    clock.now += 10
    for _ in range(100):
        clock.now += 0.01
        line.tick()
    written = seen(reader)
    assert 5 <= written.count("\r") <= 12
    assert all(len(piece) < 40 for piece in written.split("\r\x1b[K"))


def test_a_hostile_name_does_not_reach_the_terminal(ends: tuple[int, TextIO]) -> None:
    reader, stream = ends
    clock = Clock()
    line = progress(stream, clock)
    line.started("a\x1b[2J\u202e\ud800")
    clock.now += 1
    line.tick()
    assert re.fullmatch(r"[ -~]*", screen(seen(reader)))


def test_there_is_silence_without_a_terminal(monkeypatch: pytest.MonkeyPatch, ends: tuple[int, TextIO]) -> None:
    reader, stream = ends
    clock = Clock()
    monkeypatch.setenv("TERM", "dumb")
    closed = io.StringIO()
    closed.close()
    pipe = io.StringIO()
    for line in (progress(stream, clock), progress(pipe, clock), progress(closed, clock), progress(None, clock)):
        line.started("a.b")
        clock.now += 1
        line.tick()
        line.finished("a.b")
        line.close()
    assert (pipe.getvalue(), seen(reader)) == ("", "")


def test_a_terminal_that_went_away_stops_nothing(ends: tuple[int, TextIO]) -> None:
    _, stream = ends
    clock = Clock()
    other = os.fdopen(os.dup(stream.fileno()), "w")
    line = progress(other, clock)
    other.close()
    clock.now += 1
    line.tick()
    line.close()
