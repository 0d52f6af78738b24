"""A question on a terminal: asked on standard error, answered on standard input."""

import os
import select
import termios
from collections.abc import Callable
from contextlib import suppress

from vdscheck.render.formats import show

TICK_S = 0.1
YES = ("y", "yes")


def can_ask() -> bool:
    """Whether somebody sits there: what is asked must be seen, and what is answered must be typed."""
    return os.isatty(0) and os.isatty(2)


def confirmed(question: str, stopped: Callable[[], bool]) -> bool:
    """The answer; no, unless it is a clear yes. A signal ends the waiting. What was typed before is no answer."""
    with suppress(termios.error):
        termios.tcflush(0, termios.TCIFLUSH)
    show(f"{question} [y/N] ".encode())
    answer = b""
    while not stopped():
        if not select.select([0], [], [], TICK_S)[0]:
            continue
        try:
            piece = os.read(0, 256)
        except OSError:
            return False
        answer += piece
        if not piece or b"\n" in piece or len(answer) > 256:  # noqa: PLR2004 - no answer is as long
            break
    return answer.decode("utf-8", "replace").strip().lower() in YES and not stopped()
