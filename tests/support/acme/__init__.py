"""A plugin that brings all that one can: a command, options, a key of [offer], a format and a kind of fix."""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.toys import ToySettings, right, toys, toys_at_boot
from vdscheck.plugin import (
    Absent,
    Argument,
    AtLeast,
    Bought,
    Format,
    Host,
    Instrument,
    Judgement,
    Matter,
    Option,
    Report,
    Severity,
    SubjectError,
    Terminal,
    Verdict,
    Window,
    check,
    frozen,
    measurement,
    probe,
    safe_text,
)

__all__ = ["right", "toys", "toys_at_boot"]
SETTINGS = ToySettings(Path("/toy"))


@measurement
class Letters:
    """How many letters a word has."""

    count: int
    loud: bool


@frozen
class Word:
    """A word to count the letters of."""

    text: str
    loud: bool

    @classmethod
    def chosen(cls, settings: Mapping[str, Any]) -> Mapping[str, "Word"]:
        """Those of `--word`, or one."""
        return {text: cls(text, bool(settings.get("acme-loud"))) for text in settings.get("word", ("acme",))}


@probe("acme.letters", window=Window(passive_s=0.1, quick_s=0.1, default_s=0.1, thorough_s=0.1))
def letters(host: Host, word: Word) -> Iterator[Letters]:
    """Counts, again and again."""
    while True:
        yield Letters(count=len(word.text), loud=word.loud)
        if not host.time_left_s:
            return
        time.sleep(min(0.05, host.time_left_s))


@check("acme.enough", severity=Severity.LOW)
def enough(found: Letters, sold: AtLeast | Absent) -> Judgement:
    """A word has the letters that were bought.

    Why: It is to be read.
    False positives: None.
    By hand: echo -n WORD | wc -c
    Sources: house
    """
    if isinstance(sold, Absent):
        return Judgement(verdict=Verdict.PASS, summary=f"{found.count} letters{'!' if found.loud else ''}")
    return sold.judge(found.count, "letters")


WORD = Option(
    "word",
    help="Count the letters of this word (repeatable).",
    takes="texts",
    metavar="WORD",
    matter=Matter.REACH,
    target="host",
    commands=("run",),
)
LEAST = Option(
    "least-letters",
    help="So many letters were bought.",
    takes="whole",
    metavar="N",
    matter=Matter.JUDGING,
    target="host",
    commands=("run",),
    least=1,
    limits=lambda least: {"acme.enough": {"sold": f"{least} letters"}},
)


def _settings(said: Mapping[str, Any]) -> Mapping[str, Any]:
    if said.get("loud") and said.get("softly"):
        message = "--loud and --softly are too much"
        raise SubjectError(message)
    return {"acme-loud": bool(said.get("loud"))}


COUNT = Instrument(
    "count",
    help="Count letters alone.",
    checks=("acme.*",),
    probe="acme.letters",
    argument=Argument("word", "WORD", "Its letters are counted."),
    options=(
        "duration",
        Option("loud", help="Say it aloud.", takes="flag"),
        Option("softly", help="Do not.", takes="flag"),
    ),
    settings=_settings,
)
LETTERS = Bought("letters", check="acme.enough", unit="letters", whole=True)


def _lines(report: Report, terminal: Terminal) -> bytes:
    if "ACME_FAILS" in os.environ:
        message = "S3CR3T-W0RD"
        raise ValueError(message)
    lines = [f"{safe_text(each.id)} {each.verdict.value}" for each in report.findings]
    return "\n".join([f"ACME {terminal.width}", *lines, ""]).encode()


def _code(report: Report) -> int:
    return 42 if any(each.verdict is Verdict.FAIL for each in report.findings) else 40


def _plan(report: Report, terminal: Terminal) -> bytes:
    changes = () if report.fix is None else report.fix.changes
    return "".join(f"{each.key}={each.wanted} ({each.kind in terminal.kinds})\n" for each in changes).encode()


LINES = Format("lines", _lines, exit_code=_code)
PLAN = Format("plan-lines", _plan, plans=True)
