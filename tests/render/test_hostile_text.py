"""Text from outside through every renderer: nothing acts, nothing hides, no escape is cut in half, nothing is run."""

import dataclasses
import enum
import itertools
import json
import os
import pty
import re
import select
import subprocess
import sys
import typing
import unicodedata
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal

import pytest

from tests.render.test_catalogue_pages import NOBODY, SOMAXCONN, STEAL, WEB
from tests.render.test_fix import RECORDS
from tests.render.test_instrument import watched
from tests.support import hostile_strings, reports
from tests.support.program import PROGRAM, environment, plugin
from tests.support.project import PROJECT
from tests.support.reports import script
from tests.views.test_path import MANY
from tests.views.test_path import made as ways
from vdscheck.codec import encode
from vdscheck.measurements import Paths
from vdscheck.model.fixes import FixRecord
from vdscheck.model.report import Report
from vdscheck.plugin import Terminal
from vdscheck.render.formats import FORMATS, document, say
from vdscheck.render.text import catalogue_pages
from vdscheck.render.text.fix import fix_text
from vdscheck.render.text.instrument import instrument
from vdscheck.render.text.progress import progress
from vdscheck.render.text.report import terminal
from vdscheck.target.text import safe_text
from vdscheck.views import path as path_view

STRINGS = hostile_strings.strings()
WIDTHS = (1, 20, 40, 80, 200)
SGR = re.compile(r"\x1b\[[0-9;]*m")
CURSOR = re.compile(r"\x1b\[(?:\d+A|K|J)|\r")
"""What live frames and the line of progress move the cursor with."""
ACTING = {"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"}
HALF_AN_ESCAPE = re.compile(r"\\(?:x[0-9a-f]?|u[0-9a-f]{0,3}|U[0-9a-f]{0,7})(?:…|\.\.\.)")


def poisoned(value: Any, take: Callable[[], str], known: dict[str, str] | None = None) -> Any:
    """A value with every text in it exchanged; the same text for the same one, so that names still fit."""
    known = {} if known is None else known

    def text(before: str) -> str:
        if before not in known:
            known[before] = take()
        return known[before]

    if value is None or isinstance(value, bool | int | float | enum.Enum):
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, tuple | list | set | frozenset):
        return type(value)(poisoned(each, take, known) for each in value)
    if isinstance(value, Mapping):
        if "op" in value:  # the keys of an Expected are ours
            return {key: each if key == "op" else poisoned(each, take, known) for key, each in value.items()}
        return {_key(key, text): poisoned(each, take, known) for key, each in value.items()}
    changed = {}
    hints = typing.get_type_hints(type(value))
    for each in dataclasses.fields(value):
        is_ours = _is_literal(hints[each.name]) or not each.init
        changed[each.name] = getattr(value, each.name) if is_ours else poisoned(getattr(value, each.name), take, known)
    return type(value)(**changed)


def _key(key: str, text: Callable[[str], str]) -> str:
    """A key: that of a measurement names a probe of ours, and its subject is from outside."""
    probe, bracket, subject = key.partition("[")
    if "." in probe and " " not in probe and not probe.startswith("net."):
        return f"{probe}[{text(subject)}]" if bracket else key
    return text(key)


def _is_literal(hint: Any) -> bool:
    if typing.get_origin(hint) in {UnionType, typing.Union}:
        return any(map(_is_literal, typing.get_args(hint)))
    return typing.get_origin(hint) is Literal


@pytest.fixture
def take() -> Callable[[], str]:
    """The next of the texts, over and over."""
    return itertools.cycle(STRINGS).__next__


def check(drawn: bytes, *, colour: bool = False, live: bool = False) -> None:
    text = drawn.decode()
    if colour:
        text = SGR.sub("", text)
    if live:
        text = CURSOR.sub("", text)
    kinds = {character: unicodedata.category(character) for character in set(text)}
    acting = {character for character, kind in kinds.items() if kind in ACTING}
    assert acting <= {"\n"}, ascii(acting)
    marks = "".join(character for character, kind in kinds.items() if kind in {"Mn", "Me"})
    assert not marks or not re.search(f"[{marks}]{{3}}", text)
    assert not HALF_AN_ESCAPE.search(text)


def test_there_are_as_many_as_there_should_be_of_every_kind() -> None:
    assert len(STRINGS) == hostile_strings.COUNT == 480
    everything = "".join(STRINGS)
    assert {unicodedata.category(character) for character in everything} >= ACTING | {"Mn", "Me"}
    for said in ("\x1b[", "\x9b", "\x1b]52;", "\x1b]8;;", "\u202e", "\u061c", "\x7f", "\x85", "\ud83d\udc68"[:0], "$("):
        assert said in everything
    assert max(map(len, STRINGS)) > 5000


EXAMPLES = ("middling", "container", "incomplete", "undecided", "hostile")


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_report_acts(name: str, take: Callable[[], str]) -> None:
    for number, width in enumerate((*WIDTHS, 80, 80)):
        report: Report = poisoned(reports.EXAMPLES[name](), take)
        for colour, utf8, verbose, quiet in ((False, True, True, False), (True, number % 2 == 0, False, number > 4)):
            drawn = terminal(report, width=width, colour=colour, utf8=utf8, verbose=verbose, quiet=quiet)
            check(drawn, colour=colour)
            assert utf8 or drawn.isascii()


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_acts(name: str, take: Callable[[], str]) -> None:
    """Whatever formats there are: a new one is tried without being named here."""
    for example in EXAMPLES:
        report: Report = poisoned(reports.EXAMPLES[example](), take)
        if name != "sh" or report.fix is not None:
            check(FORMATS[name].function(report, Terminal(verbose=True)))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("first", range(0, 480, 24))
def test_no_report_acts_whatever_stands_where(name: str, first: int) -> None:
    for number in range(first, first + 24):
        texts = itertools.cycle(STRINGS[number:] + STRINGS[:number])
        report: Report = poisoned(reports.EXAMPLES[name](), texts.__next__)
        check(terminal(report, width=WIDTHS[number % 5], colour=False, utf8=number % 3 > 0, verbose=True, quiet=False))
        check(document(report)[:-1])
        check(script(report))


def test_json_is_the_same_text_and_acts_nowhere(take: Callable[[], str]) -> None:
    def safe(value: Any) -> Any:
        if isinstance(value, str):
            return safe_text(value)
        if isinstance(value, dict):
            return {safe(key): safe(each) for key, each in value.items()}
        return [safe(each) for each in value] if isinstance(value, list | tuple) else value

    for name in EXAMPLES:
        report: Report = poisoned(reports.EXAMPLES[name](), take)
        drawn = document(report)
        check(drawn[:-1])
        assert b"\n" not in drawn[:-1]
        assert json.loads(drawn) == json.loads(encode(report))
        found = json.loads(drawn)["findings"]
        assert [each["summary"] for each in found] == [safe(each.summary) for each in report.findings]


@pytest.mark.parametrize("record", RECORDS)
def test_no_plan_acts(record: str, take: Callable[[], str]) -> None:
    for number in range(8):
        made: FixRecord = poisoned(RECORDS[record], take)
        colour, utf8 = number % 2 == 0, number % 3 > 0
        drawn = fix_text(made, width=WIDTHS[number % 5], colour=colour, utf8=utf8)
        check(drawn, colour=colour)
        assert utf8 or drawn.isascii()


@pytest.mark.parametrize("example", [watched(), ways(MANY)], ids=["latencies", "ways"])
def test_no_instrument_and_no_frame_acts(example: Report, take: Callable[[], str]) -> None:
    for number in range(8):
        report: Report = poisoned(example, take)
        found = next(iter(report.measurements.values())).value
        shown = path_view.ways.function(found) if isinstance(found, Paths) else None
        for height, plain in ((None, False), (None, True), (12, False)):
            colour, utf8 = number % 2 == 0, number % 3 > 0
            drawn = instrument(
                report, shown, width=WIDTHS[number % 5], colour=colour, utf8=utf8, height=height, plain=plain
            )
            check(drawn, colour=colour)
            assert utf8 or drawn.isascii()


def test_no_page_of_the_catalogue_acts(take: Callable[[], str]) -> None:
    for number in range(6):
        width, colour, utf8 = WIDTHS[number % 5], number % 2 == 0, number % 3 > 0
        how: dict[str, Any] = {"width": width, "colour": colour, "utf8": utf8}
        pages = [poisoned(page, take) for page in (STEAL, SOMAXCONN, NOBODY)]
        for drawn in (
            catalogue_pages.listing(pages, **how),
            *(catalogue_pages.explanation(page, **how) for page in pages),
            *(
                catalogue_pages.explanation(replace(page, sections=dict.fromkeys(SOMAXCONN.sections, take())), **how)
                for page in pages
            ),
            catalogue_pages.profiles([poisoned(WEB, take)], **how),
        ):
            check(drawn, colour=colour)
            assert utf8 or drawn.isascii()


def test_nothing_on_standard_error_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    said: list[str] = []
    monkeypatch.setattr("vdscheck.render.formats.to_stderr", said.append)
    for text in STRINGS:
        say(text)
    assert len(said) == len(STRINGS)
    for line in said:
        check(line.encode())
        assert line.count("\n") == 1
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        for group in zip(*[iter(STRINGS)] * 4, strict=True):
            ticks = itertools.count(step=10)
            line_of_progress = progress(stream, ticks.__next__)
            for name in group:
                line_of_progress.started(name)
            line_of_progress.close()
            drawn = b""
            while select.select([master], [], [], 0)[0]:
                drawn += os.read(master, 1 << 16)
            assert drawn
            check(drawn, live=True)
    os.close(master)


# The plan as a script

STUB = """#!/bin/sh
case $1 in
-q) printf '%s' "${3#*=}" >"$STATE" ;;
-n) cat "$STATE" 2>/dev/null || echo 1 ;;
esac
"""
SANDBOX = """
set -e
mount -t tmpfs -o mode=755 none /etc/sysctl.d
# The plan for a tree refuses the root of PID 1.
umount -l /proc
set +e
for script in "$1"/*.sh; do
  for shell in sh bash; do $shell -n "$script" || echo "not a script: $script"; done
  rm -f "$STATE"
  sh "$script" >/dev/null 2>&1
  [ ! -e "$STATE" ] || was_set=yes
done
[ "$was_set" = yes ]
"""


def canaries() -> list[Path]:
    """What a text made, alone or with the words that stand behind it."""
    canary = Path(hostile_strings.CANARY)
    return list(canary.parent.glob(f"{canary.name}*"))


def remove_canaries() -> None:
    for canary in canaries():
        canary.unlink()


def of_sysctl(report: Report, text: str) -> Report:
    """The same with the kind of its changes, which is no text: of one that is not installed there are no commands.

    One is left, with the text for its key and its value: few others are plain enough to become a command.
    """
    assert report.fix is not None
    kept = next(each for each in report.fix.changes if each.file is not None)
    change = replace(kept, kind="sysctl", key=text, before="1", wanted=text)
    return replace(report, fix=replace(report.fix, changes=(change,)))


def test_no_script_of_a_plan_runs_what_its_texts_say(tmp_path: Path, take: Callable[[], str]) -> None:
    remove_canaries()
    of_shell = [text for text in STRINGS if hostile_strings.CANARY in text]
    for number in range(45):
        example = replace(reports.EXAMPLES[EXAMPLES[number % 5]](), fix=RECORDS["planned"])
        drawn = script(of_sysctl(poisoned(example, take), of_shell[number % len(of_shell)]))
        check(drawn)
        (tmp_path / f"{number}.sh").write_bytes(drawn)
    commands = [line for path in tmp_path.iterdir() for line in path.read_text().splitlines() if "set_now " in line]
    assert any(hostile_strings.CANARY in line for line in commands)
    (tmp_path / "sysctl").write_text(STUB)
    (tmp_path / "sysctl").chmod(0o755)
    variables = environment(STATE=str(tmp_path / "state"), PATH=f"{tmp_path}:{os.environ['PATH']}")
    words = ["unshare", "-mn", "sh", "-c", SANDBOX, "sh", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, timeout=120, check=False, env=variables, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")
    assert not canaries()
    # And what the canary is for: a shell that reads such a text itself makes it.
    text = next(text for text in of_shell if text.startswith("`touch"))
    subprocess.run(["sh", "-c", text], check=False, capture_output=True, cwd=tmp_path)
    try:
        assert canaries()
    finally:
        remove_canaries()


# The program, on a terminal


def on_a_terminal(*words: str | bytes, **variables: str) -> tuple[int, bytes]:
    """What a run writes on its terminal, on both streams."""
    master, slave = pty.openpty()
    running = subprocess.Popen(
        [*PROGRAM, *words],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd="/",
        env=environment(TERM="xterm", LC_ALL="C.UTF-8", **variables),
    )
    os.close(slave)
    written = bytearray()
    with suppress(OSError):
        while piece := os.read(master, 1 << 16):
            written += piece
    os.close(master)
    return running.wait(timeout=60), bytes(written).replace(b"\r\n", b"\n")


PLUGIN = """
from vdscheck.plugin import *

@measurement
class Acme:
    {encodable!r}
    x: str

@probe("acme.probe", deadline_s=3)
def measured(host: Host) -> Acme:
    {text!r}
    return Acme(x={text!r})

@check("acme.check", severity=Severity.LOW)
def judged(acme: Acme) -> Judgement:
    {docstring!r}
    return Judgement(verdict=Verdict.FAIL, summary=acme.x, observed=Observed({text!r}, None, None, None, {text!r}),
                     evidence=(Evidence({text!r}, {text!r}, {text!r}, {text!r}),), fix=ByHand({text!r}, ({text!r},)))
"""
BAD = "x\x9b2J\x7f\u202e\u2066\u200e\u061c\u2028\u2029\u200b\x1b]52;c;AAAA\x07\ud800y"
DOCSTRING = f"{BAD}.\n\nWhy: {BAD}\nFalse positives: {BAD}\nBy hand: {BAD}\nSources: {BAD}\n"


@pytest.fixture
def hostile_plugin(tmp_path: Path) -> Path:
    return plugin(tmp_path, PLUGIN.format(text=BAD, encodable=BAD.replace("\ud800", ""), docstring=DOCSTRING))


@pytest.mark.parametrize(
    "words",
    [
        ["--passive", "--json", "--only", "acme.*"],
        ["--passive", "-v", "--only", "acme.*"],
        ["list"],
        ["explain", "acme.check"],
        ["schema"],
    ],
    ids=" ".join,
)
def test_a_plugin_does_not_act_on_the_terminal(hostile_plugin: Path, words: list[str]) -> None:
    code, written = on_a_terminal(*words, PYTHONPATH=str(hostile_plugin))
    assert code == 0, written
    assert b"acme" in written.lower()
    check(written, colour=True, live=True)
    if "--json" in words:
        (finding,) = json.loads(written[written.index(b"{") :])["findings"]
        assert finding["observed"]["value"] == BAD.replace("\ud800", "\\ud800")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--only", BAD.encode("utf-8", "replace")], 2),
        (["-o", b"json=/no\x9b2J\x7f\xe2\x80\xae/x"], 2),
        (["explain", "x\u202e\x9b"], 2),
        ([b"\xc2\x9b2J\xff"], 2),
        (["--config", b"/no\xe2\x80\xa8/\x1b[2J"], 2),
        (["--json", "judge", "/x\u2066\x1b"], 2),
    ],
    ids=["only", "-o", "explain", "command", "config", "judge"],
)
def test_a_wrong_call_does_not_act_on_the_terminal(words: list[str | bytes], code: int) -> None:
    found, written = on_a_terminal(*words)
    assert (found, written.startswith(b"vdscheck: ")) == (code, True)
    check(written)


def test_a_journal_does_not_act_on_the_terminal(tmp_path: Path, take: Callable[[], str]) -> None:
    journal = tmp_path / "var/lib/vdscheck/journal"
    journal.mkdir(parents=True)
    entry = json.loads((PROJECT / "tests/earlier/journals/held/20261129-1.json").read_bytes())
    for number in range(1, 9):
        settings = [{**each, "key": take(), "before": take(), "wanted": take()} for each in entry["settings"]]
        made = {**entry, "id": f"20261129-{number}", "number": number, "at": take(), "settings": settings}
        (journal / f"20261129-{number}.json").write_text(json.dumps(made))
    for path in (journal, *journal.iterdir(), *journal.parents[:4]):
        path.chmod(0o700)
    for words in (["undo", "--list"], ["undo"]):
        _, written = on_a_terminal(*words, "--root", str(tmp_path))
        check(written)
        assert b"20261129-" in written


NAMED = """
import ctypes, socket, sys
ctypes.CDLL(None).prctl(15, bytes.fromhex(sys.argv[1]), 0, 0, 0)
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen(1)
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_name_of_a_process_does_not_act_on_the_terminal() -> None:
    name = b"\xc2\x9b2J\xe2\x80\xae\x7f"
    words = [sys.executable, "-c", NAMED, name.hex()]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as listening:
        assert listening.stdout is not None
        assert listening.stdout.readline() == b"ready\n"
        code, written = on_a_terminal("--passive", "--json", "--only", "sysctl.somaxconn")
        listening.communicate()
    assert code == 0
    check(written, live=True)
    sockets = json.loads(written[written.index(b"{") :])["measurements"]["sysctl.listeners"]["value"]["sockets"]
    assert name.decode() in [each["owner"] for each in sockets]
