"""One instrument as people watch it: percentiles that are borne, histograms that hold all samples, frames that fit."""

import io
import os
import pty
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.project import PROJECT
from tests.support.reports import HOSTILE, finding, report
from vdscheck.model.absence import Reason
from vdscheck.model.judgement import Verdict
from vdscheck.model.records import measurement
from vdscheck.model.report import Report, Taken
from vdscheck.render.text.histogram import axis, bars, columns, duration, percentile_cells
from vdscheck.render.text.instrument import instrument
from vdscheck.render.text.live import EVERY_S, Live
from vdscheck.render.text.progress import progress
from vdscheck.stats import Distribution, Recorder


@measurement
class Latencies:
    """What an instrument measures."""

    read: Distribution
    write_and_sync: Distribution
    iops: int


def distribution(samples_ns: list[int]) -> Distribution:
    recorder = Recorder()
    recorder.add(samples_ns)
    found = recorder.distribution()
    assert found is not None
    return found


FAST = distribution([80_000 + 100 * step for step in range(1000)] + [2_500_000])
SLOW = distribution([20_000_000 + 1_000_000 * step for step in range(20)])


def watched(**more: Any) -> Report:
    value = Latencies(read=FAST, write_and_sync=SLOW, iops=12_000)
    found = [
        finding("disk.read-latency", Verdict.PASS, "p99 is 0.179 ms, at most 1 ms wanted (house)", subject="/srv"),
        finding("disk.fsync-latency", Verdict.FAIL, "p99 is 39 ms, at most 10 ms wanted (etcd)", subject="/srv"),
        finding("disk.iops", Verdict.UNKNOWN, "not enough of them", reason=Reason.TOO_FEW_SAMPLES, subject="/srv"),
    ]
    taken = {"disk.latency[/srv]": Taken("2026-11-25T00:00:00.000Z", 1.0, "", value, None)}
    return replace(report(found, measurements=taken), **more)


def drawn(made: Report, width: int = 80, height: int | None = None, *, utf8: bool = True, colour: bool = False) -> str:
    return instrument(made, None, width=width, colour=colour, utf8=utf8, height=height).decode()


@pytest.mark.parametrize(
    ("value_us", "said"),
    [(0.4, "0.4 us"), (92.04, "92 us"), (999.4, "999 us"), (999.6, "1 ms"), (1310, "1.31 ms"), (2.4e6, "2.4 s")],
)
def test_durations_are_said_in_three_digits(value_us: float, said: str) -> None:
    assert duration(value_us) == said


def test_a_percentile_that_the_samples_do_not_bear_is_a_dash() -> None:
    assert percentile_cells(SLOW) == ("20", "20 ms", "29 ms", "-", "-", "-", "39 ms")
    assert percentile_cells(FAST)[-1] == "2.5 ms"


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=200), st.integers(1, 120))
def test_every_sample_is_in_one_column(samples_ns: list[int], width: int) -> None:
    counts, low_us, high_us = columns(distribution(samples_ns), width)
    assert (sum(counts), len(counts)) == (len(samples_ns), width)
    assert 0 < low_us < high_us


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=100), st.integers(1, 8), st.booleans())
def test_a_column_that_holds_anything_is_seen(counts: list[int], height: int, utf8: bool) -> None:  # noqa: FBT001
    lines = bars(counts, height, utf8=utf8)
    assert len(lines) == height
    lowest = lines[-1].ljust(len(counts))
    assert [mark != " " for mark in lowest] == [count > 0 for count in counts]
    assert utf8 or all(line.isascii() for line in lines)


@given(st.floats(0.001, 1e6), st.floats(1.5, 1e6), st.integers(16, 120))
def test_the_axis_is_as_wide_as_the_histogram(low_us: float, ratio: float, width: int) -> None:
    assert len(axis(low_us, low_us * ratio, width)) <= max(width, 22)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("utf8", [True, False])
def test_no_line_is_wider_than_the_terminal(width: int, utf8: bool) -> None:  # noqa: FBT001
    text = drawn(watched(), width, utf8=utf8)
    assert max(map(len, text.splitlines())) <= width
    assert utf8 or text.isascii()


@pytest.mark.parametrize("height", [1, 5, 12, 18, 23, 40])
def test_a_frame_fits_the_terminal(height: int) -> None:
    assert drawn(watched(), 80, height).count("\n") <= height


def test_histograms_give_way_before_the_table_and_the_verdicts() -> None:
    assert drawn(watched()).count("of /srv") == 2
    lower = drawn(watched(), 80, 20)
    assert lower.count("of /srv") == 1
    lowest = drawn(watched(), 80, 16)
    assert "of /srv" not in lowest
    assert "disk.fsync-latency[/srv]" in lowest


def test_what_is_wrong_stands_first_with_its_reason() -> None:
    text = drawn(watched())
    assert re.findall(r"^(FAIL|UNKNOWN|PASS) ", text, re.MULTILINE) == ["FAIL", "UNKNOWN", "PASS"]
    assert "too-few-samples" in text
    assert "write and syn" in text


def test_a_result_that_was_cut_short_says_so() -> None:
    made = watched()
    assert "not yet complete" in drawn(replace(made, run=replace(made.run, complete=False)))
    assert "not yet complete" not in drawn(made)


def test_text_from_outside_is_made_harmless() -> None:
    found = [finding("disk.iops", Verdict.FAIL, HOSTILE, subject=HOSTILE)]
    taken = {f"disk.latency[{HOSTILE}]": watched().measurements["disk.latency[/srv]"]}
    for text in (drawn(watched(findings=tuple(found), measurements=taken, warnings=(HOSTILE,))),):
        assert not set(text) & set("\x1b\r\x9b\u202e\u200b\u2028")


def test_without_anything_measured_there_is_no_table() -> None:
    text = drawn(watched(measurements={}))
    assert "p50" not in text
    assert "FAIL" in text


class Screen(io.StringIO):
    """A terminal that can only be written to."""


def live(screen: io.StringIO, said: list[Mapping[str, Taken]], clock: list[float]) -> Live:
    def draw(found: Mapping[str, Taken], width: int, height: int) -> bytes:
        said.append(dict(found))
        return f"{len(found)} of {width}x{height}\nline two\n".encode()

    return Live(screen, draw, lambda: clock[0])


def test_a_frame_is_drawn_over_the_one_before_and_taken_away_at_the_end() -> None:
    screen, clock = Screen(), [0.0]
    said: list[Mapping[str, Taken]] = []
    shown = live(screen, said, clock)
    taken = watched().measurements["disk.latency[/srv]"]
    shown.started("disk.latency[/srv]")
    assert screen.getvalue() == ""
    shown.measured("a", taken)
    shown.measured("b", taken)
    clock[0] += EVERY_S
    shown.tick()
    shown.finished("a")
    first = "\x1b[K1 of 80x23\n\x1b[Kline two\n\x1b[K\x1b[J"
    assert screen.getvalue() == first + "\x1b[2A\r" + first.replace("1 of", "2 of")
    shown.close()
    shown.close()
    assert screen.getvalue().endswith("\x1b[J\x1b[1A\r\x1b[K\x1b[1A\r\x1b[K")
    assert [sorted(each) for each in said] == [["a"], ["a", "b"]]


FILLS = """
import sys, time
from vdscheck.render.text.live import Live
frames = []
def draw(found, width, height):
    frames.append(0)
    return "".join(f"frame {len(frames)}, line {number}\\n" for number in range(height - len(frames) % 2)).encode()
shown = Live(sys.stderr, draw)
for number in range(4):
    shown.measured("a", None)
    time.sleep(0.3)
shown.close()
print("the report", flush=True)
time.sleep(60)
"""


def test_frames_that_fill_a_real_terminal_leave_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "fills.py").write_text(FILLS)
    tmux = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]
    command = shlex.join([sys.executable, str(tmp_path / "fills.py")])
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    subprocess.run(
        [*tmux, "new-session", "-d", "-x", "40", "-y", "8", command], env=environment, check=True, timeout=20
    )
    try:
        seen, until = "", time.monotonic() + 30
        while "the report" not in seen and time.monotonic() < until:
            time.sleep(0.1)
            capture = [*tmux, "capture-pane", "-p", "-S", "-100"]
            seen = subprocess.run(capture, capture_output=True, text=True, check=True, timeout=20).stdout
    finally:
        subprocess.run([*tmux, "kill-server"], check=True, timeout=20)
    assert seen.split() == ["the", "report"]


def test_a_terminal_that_went_away_ends_nothing() -> None:
    screen, clock = Screen(), [0.0]
    shown = live(screen, [], clock)
    screen.close()
    shown.measured("a", watched().measurements["disk.latency[/srv]"])
    shown.close()


def test_only_a_terminal_is_drawn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()

    def draw(_found: Mapping[str, Taken], width: int, height: int) -> bytes:
        return f"{width}x{height}\n".encode()

    with os.fdopen(theirs, "w") as terminal:
        observer = progress(terminal, draw=draw)
        assert isinstance(observer, Live)
        observer.measured("a", watched().measurements["disk.latency[/srv]"])
        assert os.read(ours, 100) == b"\x1b[K80x23\r\n\x1b[K\x1b[J"
    os.close(ours)
    assert not isinstance(progress(io.StringIO(), draw=draw), Live)
