"""Ways as people watch them: side by side where there is room, no line wider than the terminal, no text that acts."""

from dataclasses import replace
from typing import Any

import pytest

from tests.support.reports import HOSTILE, finding, report
from tests.support.ways import FRANKFURT, NOWHERE, OSLO, SILENT, hop, paths, trace
from vdscheck.measurements import Paths, Responder
from vdscheck.model.absence import Reason
from vdscheck.model.judgement import Verdict
from vdscheck.model.report import Report, Taken
from vdscheck.render.text.instrument import instrument
from vdscheck.views.path import ways

MANY = paths(
    trace(OSLO, 8.0, hops=(hop(1, 7, loss="control-plane"), hop(2, 0, loss="silent"), hop(3, ms=8.0))),
    trace(FRANKFURT, 28.0, hops=(hop(1), hop(2, 7, loss="path"), hop(3, 9), hop(4, ms=28.0)), clock_steps=2),
    replace(SILENT, place=replace(NOWHERE, name="third"), refusal="host prohibited, says 10.0.0.2"),
)


def made(found: Paths, **more: Any) -> Report:
    findings = [
        finding("path.rtt", Verdict.PASS, "p95 is 8.3 ms", subject="oslo"),
        finding("path.nearest", Verdict.PASS, "oslo is nearer than frankfurt by 20.00 ms"),
        finding("path.loss", Verdict.UNKNOWN, "no answer", subject="third", reason=Reason.UNREACHABLE),
        finding("path.rtt", Verdict.UNKNOWN, "no answer", subject="third", reason=Reason.UNREACHABLE),
    ]
    taken = {"path.trace": Taken("2026-11-25T00:00:00.000Z", 1.0, "", found, None)}
    return replace(report(findings, measurements=taken), **more)


def drawn(found: Paths, width: int = 80, height: int | None = None, **more: Any) -> str:
    options: dict[str, Any] = {"colour": False, "utf8": True, "plain": False}
    return instrument(made(found), ways.function(found), width=width, height=height, **(options | more)).decode()


def test_two_places_stand_side_by_side_in_eighty_columns() -> None:
    lines = drawn(paths(*list(MANY.traces.values())[:2])).splitlines()
    (title,) = [line for line in lines if "oslo.example (8.00 ms)" in line]
    assert "frankfurt.example" in title or "frankfurt  frank" in title
    (first,) = [line for line in lines if line.startswith("  1 10.0.0.1")]
    assert first.split() == [
        "1",
        "10.0.0.1",
        "limits",
        "1.00",
        "1.00",
        "1.00",
        "10.0.0.1",
        "0",
        "%",
        "1.00",
        "1.00",
        "1.00",
    ]
    (second,) = [line for line in lines if line.startswith("  2 (silent)")]
    assert second.split() == ["2", "(silent)", "silent", "10.0.0.2", "30", "%", "1.00", "1.00", "1.00"]
    (third,) = [line for line in lines if line.startswith("  3 10.0.0.3")]
    assert "1/10 ?" in third


def test_a_place_that_refuses_or_is_silent_says_so() -> None:
    assert "host prohibited, says 10.0.0.2" in drawn(MANY)
    assert "no answer" in drawn(paths(SILENT))


def test_what_the_ways_were_measured_for_stands_first_and_nothing_twice() -> None:
    text = drawn(MANY)
    assert text.index("path.nearest") < text.index("path.rtt[third]") < text.index("path.rtt[oslo]")
    assert "path.loss[third]" not in text
    assert "2 left out, since the clock was set" in text


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("utf8", [False, True])
def test_no_line_is_wider_than_the_terminal(width: int, plain: bool, utf8: bool) -> None:  # noqa: FBT001
    text = drawn(MANY, width, plain=plain, utf8=utf8)
    assert utf8 or text.isascii()
    if width >= 60:
        assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("height", [1, 8, 20, 40, 100])
def test_a_frame_fits_the_terminal(height: int) -> None:
    assert drawn(MANY, 80, height).count("\n") <= height


def test_the_picture_gives_way_before_the_verdicts_and_these_before_the_table() -> None:
    full = drawn(MANY)
    assert "median in ms" in full
    lower = drawn(MANY, 80, full.count("\n") - 1)
    assert "median in ms" not in lower
    assert "path.nearest" in lower


def test_plain_text_is_one_place_after_the_other_with_all_figures() -> None:
    text = drawn(MANY, plain=True, utf8=False)
    assert text.count("answers best  avg  med  p95  max sdev  jit") == 3
    assert "100/100" in text


def test_names_from_outside_act_on_nothing() -> None:
    hostile = (Responder(address="10.0.0.1", name=HOSTILE, answers=1, best_ms=1.0),) * 2
    text = drawn(paths(trace(replace(OSLO, name="x"), 8.0, host=HOSTILE, hops=(hop(1, responders=hostile),))))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_nothing_that_was_reached_is_no_table() -> None:
    assert "host" not in drawn(paths())
