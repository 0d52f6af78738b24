"""The pages of the catalogue: list, explain, profiles, docs/checks.md."""

import re
import unicodedata
from dataclasses import replace
from typing import Any

import pytest

from tests.support.reports import HOSTILE
from vdscheck.render.text.catalogue_pages import (
    CheckPage,
    LimitRow,
    MeasuredBy,
    ProfilePage,
    explanation,
    listing,
    markdown,
    profiles,
    steps,
)

SOMAXCONN = CheckPage(
    id="sysctl.somaxconn",
    title="The accept queue holds a burst of connections",
    severity="high",
    profiles=("redis", "web"),
    sections={
        "Why": "When the accept queue of a listening socket is full, new connections\nwait for a second or more.",
        "False positives": "A machine that serves few clients; ListenOverflows stays 0.",
        "By hand": "sysctl net.core.somaxconn; nstat -az TcpExtListenOverflows |\n    grep -v '; 0'; ss -ltn",
        "Sources": "https://docs.kernel.org/admin-guide/sysctl/net.html (somaxconn); listen(2)",
    },
    measured_by=(
        MeasuredBy(probe="sysctl.values", method="Reads the files under /proc/sys.", load=""),
        MeasuredBy(probe="cpu.spin", method="Spins.", load="one CPU for 5 s"),
    ),
    limits=(
        LimitRow(
            profile="redis", check="sysctl.somaxconn", name="backlog", limit="at least 511", source="redis: its guide"
        ),
        LimitRow(
            profile="web", check="sysctl.somaxconn", name="backlog", limit="at least 1,024", source="house: a | b"
        ),
    ),
    fix=("sysctl -w net.core.somaxconn=1024", "echo 'net.core.somaxconn = 1024' >> /etc/sysctl.d/90-vdscheck.conf"),
    undo=("sysctl -w net.core.somaxconn=OLD",),
)
STEAL = replace(SOMAXCONN, id="cpu.steal", title="Nobody else uses our time", profiles=("redis",), severity="low")
NOBODY = replace(SOMAXCONN, id="cpu.unused", profiles=())
WEB = ProfilePage(
    name="web",
    summary="a gateway and small services",
    sources="the origin article",
    limits=SOMAXCONN.limits[1:],
    severities=(("sysctl.somaxconn", "critical"),),
)


def plain(**more: Any) -> dict[str, Any]:
    return {"width": 80, "colour": False, "utf8": True} | more


def test_the_list_names_each_check_with_severity_title_and_the_profiles_that_judge_it() -> None:
    lines = listing([SOMAXCONN, STEAL, NOBODY], **plain()).decode().splitlines()
    assert lines[:4] == [
        "cpu.steal                  low      Nobody else uses our time (redis)",
        "cpu.unused                 high     The accept queue holds a burst of",
        "                                    connections (no profile)",
        "",
    ]
    assert lines[4] == "sysctl.somaxconn           high     The accept queue holds a burst of"


def test_explain_tells_everything_in_one_order() -> None:
    text = explanation(SOMAXCONN, **plain()).decode()
    headings = re.findall(r"^([A-Z][a-z]+(?: [a-z]+)?)  +\S", text, re.MULTILINE)
    expected = ["Why", "False positives", "By hand", "Measured by", "Load", "Limits", "Fix", "Undo", "Sources"]
    assert headings == expected
    assert "wait for a second or more" in " ".join(text.split())
    assert "Load cpu.spin: one CPU for 5 s" in " ".join(text.split())
    assert "web: backlog at least 1,024; house: a | b" in text


def test_a_limit_that_profiles_share_is_said_once() -> None:
    rows = tuple(replace(SOMAXCONN.limits[0], profile=name) for name in ("latency", "redis"))
    text = explanation(replace(SOMAXCONN, limits=rows), **plain()).decode()
    assert "latency, redis: backlog at least 511; redis: its guide" in text


def test_a_check_without_a_load_says_so() -> None:
    text = explanation(replace(SOMAXCONN, measured_by=SOMAXCONN.measured_by[:1]), **plain()).decode()
    assert "Load             none: it only reads\n" in text


def test_commands_of_explain_stay_on_one_line() -> None:
    for width in (20, 80):
        lines = [line.strip() for line in explanation(SOMAXCONN, **plain(width=width)).decode().splitlines()]
        for command in ("nstat -az TcpExtListenOverflows | grep -v '; 0'", "ss -ltn", *SOMAXCONN.fix):
            assert any(line.endswith(command) for line in lines)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("a", ["a"]),
        ("a; b;", ["a", "b"]),
        ("a;b", ["a;b"]),
        ("grep ';' x; echo \"; \"", ["grep ';' x", 'echo "; "']),
        ("awk '{a; b}' f; c", ["awk '{a; b}' f", "c"]),
        ("free -m (available; not free); c", ["free -m (available; not free)", "c"]),
        ("the host's; the guests' own", ["the host's", "the guests' own"]),
        ("it's 'a; b'; c", ["it's 'a; b'", "c"]),
        ("a) b; c", ["a) b", "c"]),
    ],
)
def test_steps_part_at_semicolons_outside_quotes_and_brackets(text: str, parts: list[str]) -> None:
    assert steps(text) == parts


def test_profiles_show_each_limit_with_its_source() -> None:
    text = profiles([WEB], **plain()).decode()
    assert text.startswith("web  a gateway and small services\n")
    assert "sysctl.somaxconn backlog: at least 1,024\n      house: a | b\n" in text
    assert "other severities: sysctl.somaxconn critical" in text


def test_the_markdown_page_is_well_formed_whatever_the_text() -> None:
    text = markdown([STEAL, SOMAXCONN, replace(NOBODY, title="a | b <i> *c*", fix=(), undo=(), limits=())]).decode()
    rows = [re.sub(r"\\.", "", line) for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {4, 5}
    assert "[sysctl.somaxconn](#sysctlsomaxconn)" in text
    assert r"a \| b \<i\> \*c\*" in text
    assert text.count("```") % 2 == 0
    assert text.index("## cpu.steal") < text.index("## sysctl.somaxconn")
    assert "\n\n\n" not in text
    assert text.endswith("\n")


def test_pages_of_hostile_plugins_do_not_act_on_the_terminal() -> None:
    bad = HOSTILE.replace("\n", " ")
    page = CheckPage(
        id=f"x.{bad}",
        title=bad,
        severity="high",
        profiles=(bad,),
        sections=dict.fromkeys(SOMAXCONN.sections, bad),
        measured_by=(MeasuredBy(probe=bad, method=bad, load=bad),),
        limits=(LimitRow(profile=bad, check=bad, name=bad, limit=bad, source=bad),),
        fix=(bad,),
        undo=(bad,),
    )
    profile = ProfilePage(name=bad, summary=bad, sources=bad, limits=page.limits, severities=((bad, bad),))
    for width in (1, 80):
        for drawn in (
            listing([page], **plain(width=width)),
            explanation(page, **plain(width=width)),
            profiles([profile], **plain(width=width)),
        ):
            acting = {"Cc", "Cf", "Zl", "Zp", "Cs"}
            assert {each for each in drawn.decode() if unicodedata.category(each) in acting} <= {"\n"}
        assert explanation(page, **plain(width=width, utf8=False, colour=True)).isascii()
