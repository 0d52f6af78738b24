"""The report in a terminal: golden captures of whole reports, and what holds for every report."""

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.project import PROJECT
from tests.support.reports import EXAMPLES, PASSING, SLOW_DISK, by_hand, finding, hostile, middling, passes, report
from vdscheck.model.absence import Reason
from vdscheck.model.judgement import AreaScore, Confidence, Evidence, Expected, Severity, Verdict, Waiver
from vdscheck.model.report import Report
from vdscheck.render.text.report import terminal
from vdscheck.render.text.wording import limit

GOLDEN = PROJECT / "tests/golden"
REWRITE = os.environ.get("VDSCHECK_REWRITE_GOLDEN") == "1"
SGR = re.compile(rb"\x1b\[([0-9;]*)m")
ALLOWED = {b"0", b"1", b"2", b"31", b"35"}
"""Reset, bold, dim, red, magenta: what can be read on a light and on a dark background."""

CAPTURES = """
middling.1.text.40 middling.1.text.80 middling.1.text.200 middling.1.text-colour.80 middling.1.text-ascii.80
middling.1.text-v.80 middling.1.text-q.80 perfect.0.text.80 perfect.0.text-q.80 container.0.text.80
incomplete.130.text.80 undecided.1.text.80 crowded.0.text.80 hostile.1.text.80 hostile.1.text-ascii-v.40
""".split()  # noqa: SIM905 - a table


def drawn(shown: Report, width: int = 80, **flags: bool) -> bytes:
    plain = {"colour": False, "utf8": True, "verbose": False, "quiet": False}
    return terminal(shown, width=width, **(plain | flags))


def text(shown: Report, width: int = 80, **flags: bool) -> str:
    return drawn(shown, width, **flags).decode()


def exit_code(shown: Report) -> int:
    if not shown.run.complete:
        return 130
    return 0 if all(gate.holds for gate in shown.gates) else 1


@pytest.mark.parametrize("name", CAPTURES)
def test_the_report_looks_as_captured(name: str) -> None:
    example, code, style, width = name.split(".")
    shown = EXAMPLES[example]()
    words = style.split("-")
    found = drawn(
        shown,
        int(width),
        colour="colour" in words,
        utf8="ascii" not in words,
        verbose="v" in words,
        quiet="q" in words,
    )
    if REWRITE:
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / name).write_bytes(found)
    assert exit_code(shown) == int(code)
    assert found == (GOLDEN / name).read_bytes()


def test_every_golden_file_belongs_to_a_test() -> None:
    captured = {path.name for path in GOLDEN.iterdir() if ".text" in path.name}
    assert captured == set(CAPTURES)


def every_way() -> Iterator[tuple[str, int, dict[str, bool]]]:
    for example in EXAMPLES:
        for width in (1, 80):
            for verbose, quiet in ((False, False), (True, False), (False, True)):
                yield example, width, {"verbose": verbose, "quiet": quiet}


@pytest.mark.parametrize("example", EXAMPLES)
def test_nothing_acts_on_the_terminal_however_the_report_is_drawn(example: str) -> None:
    for _, width, flags in filter(lambda way: way[0] == example, every_way()):
        shown = drawn(EXAMPLES[example](), width, **flags)
        acting = {"Cc", "Cf", "Zl", "Zp", "Cs"}
        left = {character for character in set(shown.decode()) if unicodedata.category(character) in acting}
        assert left <= {"\n"}
        assert drawn(EXAMPLES[example](), width, utf8=False, **flags).isascii()


@pytest.mark.parametrize("example", EXAMPLES)
def test_colour_is_a_few_sequences_and_says_nothing_more(example: str) -> None:
    for _, width, flags in filter(lambda way: way[0] == example, every_way()):
        coloured = drawn(EXAMPLES[example](), width, colour=True, **flags)
        assert {code for codes in SGR.findall(coloured) for code in codes.split(b";")} <= ALLOWED
        assert SGR.sub(b"", coloured) == drawn(EXAMPLES[example](), width, **flags)


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("example", EXAMPLES)
def test_only_commands_are_wider_than_the_terminal(example: str, width: int) -> None:
    shown = EXAMPLES[example]()
    commands = {command for each in shown.findings if each.fix for command in (*each.fix.commands, *each.fix.undo)}
    for flags in ({}, {"verbose": True}, {"quiet": True}):
        for line in text(shown, width, **flags).splitlines():
            assert len(line) <= min(width, 104) or line.strip() in commands or "://" in line
            assert line == line.rstrip()


def test_a_wide_sign_counts_for_two_columns() -> None:
    wide = text(report([finding("virt.virtio", Verdict.UNKNOWN, "東京" * 60, reason=Reason.ERROR)]), 80)
    columns = [
        2 * line.count("東") + 2 * line.count("京") + line.count(" ") for line in wide.splitlines() if "東" in line
    ]
    assert max(columns) <= 80


def test_a_number_and_its_unit_stay_together() -> None:
    for length in range(30, 80):
        said = f"{'x' * length} 23.6 %, 10 ms, 3.5 GiB, 2 CPUs and more"
        found = text(report([finding("cpu.pressure", Verdict.UNKNOWN, said, reason=Reason.ERROR)]))
        assert not re.search(r"\d\n +(%|ms|GiB|CPUs)", found)
        assert "23.6 %," in found


def test_the_surroundings_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [drawn(middling(), colour=colour) for colour in (False, True)]
    for name, value in (("COLUMNS", "33"), ("NO_COLOR", "1"), ("FORCE_COLOR", "1"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)
        assert [drawn(middling(), colour=colour) for colour in (False, True)] == before


@pytest.mark.parametrize("example", ["middling", "perfect", "container", "incomplete", "undecided"])
def test_the_tone_is_calm(example: str) -> None:
    assert not re.search(r"[!\U0001F300-\U0001FAFF\u2600-\u27BF]", text(EXAMPLES[example](), verbose=True))


# The head


@pytest.mark.parametrize(("value", "filled"), [(0, 0), (1, 1), (50, 14), (97, 27), (99, 27), (100, 28)])
def test_the_bar_is_full_only_at_100_and_empty_only_at_0(value: int, filled: int) -> None:
    shown = report(passes())
    line = text(replace(shown, score=replace(shown.score, value=value))).splitlines()[4]
    assert (line.count("█"), line.count("░")) == (filled, 28 - filled)


def test_the_measured_share_is_rounded_down() -> None:
    shown = report(passes())
    assert "measured 99 %" in text(replace(shown, score=replace(shown.score, coverage=0.9999)))
    assert "measured 29 %" in text(replace(shown, score=replace(shown.score, coverage=0.29)))


def test_the_cap_is_named_with_what_causes_it() -> None:
    critical = finding("redis.exposure", Verdict.FAIL, "open", severity=Severity.CRITICAL)
    assert "at most 79 with a high-severity failure: disk.fsync-latency" in text(report([*passes(), SLOW_DISK]))
    assert "at most 49 with a critical failure: redis.exposure" in text(report([*passes(), SLOW_DISK, critical]))
    assert "at most" not in text(report(passes()))


def test_a_provisional_grade_is_said() -> None:
    assert "provisional" in text(EXAMPLES["incomplete"]())
    assert "provisional" not in text(middling())


def test_an_area_of_which_little_was_measured_is_marked() -> None:
    shown = report(passes())
    areas = {"cpu": AreaScore(100, 0.59), "disk": AreaScore(1, 0.6), "virt": AreaScore(98, 1.0)}
    found = text(replace(shown, score=replace(shown.score, areas=areas)))
    assert re.search(r"cpu +█+ 100\?", found)
    assert re.search(r"disk +█░+ +1 ", found)
    assert re.search(r"virt +█+░ +98$", found, re.MULTILINE)
    assert "? less than 60 % of the area was measured" in found


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ((Verdict.NOT_APPLICABLE,), "not applicable"),
        ((Verdict.NOT_APPLICABLE, Verdict.WAIVED), "waived"),
        ((Verdict.NOT_APPLICABLE, Verdict.WAIVED, Verdict.UNKNOWN), "not known"),
    ],
)
def test_an_area_without_a_score_says_why(verdicts: tuple[Verdict, ...], said: str) -> None:
    found = [finding(f"disk.{number}", verdict, "x") for number, verdict in enumerate(verdicts)]
    assert re.search(rf"  disk    {said}( |$)", text(report([*passes(), *found])), re.MULTILINE)


def test_without_a_verdict_there_is_no_score_and_nothing_is_called_right() -> None:
    found = text(report([]))
    assert "no score · nothing could be decided" in found
    assert "Nothing is wrong" not in found


def test_an_ended_run_says_so_first() -> None:
    assert text(EXAMPLES["incomplete"]()).startswith("INCOMPLETE this run was ended early")
    assert text(EXAMPLES["incomplete"](), quiet=True).startswith("INCOMPLETE this run was ended early")


def test_what_a_host_does_not_tell_is_left_out_of_the_head() -> None:
    head = text(EXAMPLES["undecided"]()).splitlines()[:2]
    assert head == ["vdscheck 0.1.0 · unnamed", "profile web · 12 checks in 11.6 s · files under /mnt/image"]


# What is wrong


def test_the_costliest_comes_first() -> None:
    found = text(middling())
    order = ["FAIL     virt.virtio", "FAIL     sysctl.tcp-tw-reuse", "sysctl.persistence ", "memory.swap"]
    assert [found.index(name) for name in order] == sorted(found.index(name) for name in order)


def test_a_failure_comes_before_a_warning_of_the_same_price() -> None:
    found = text(
        report(
            [
                finding("a.warns", Verdict.WARN, "w", severity=Severity.INFO),
                finding("b.fails", Verdict.FAIL, "f", severity=Severity.INFO),
                *passes(),
            ]
        )
    )
    assert found.index("b.fails") < found.index("a.warns")
    assert "info, costs nothing" in found


def test_what_follows_stands_on_a_line_of_its_own() -> None:
    lines = [line.strip() for line in text(report([SLOW_DISK])).splitlines()]
    at = lines.index("Every commit of a database or a broker waits this long.")
    assert lines[at - 1] == "fdatasync p99 is 41.8 ms [38.2, 47.5], at most 10 ms wanted (etcd)"


def test_low_confidence_is_said() -> None:
    unsure = finding("cpu.steal", Verdict.WARN, "1.6 %. It costs.", confidence=Confidence.LOW)
    assert "medium, low confidence, costs 50.0" in text(report([unsure]))
    passed = finding("virt.balloon", Verdict.PASS, "none", confidence=Confidence.LOW)
    assert re.search(r"virt.balloon +low confidence", text(report([passed]), verbose=True))


def test_a_command_stays_on_one_line_on_the_narrowest_terminal() -> None:
    assert "echo 'net.ipv4.tcp_tw_reuse = 1' >> /etc/sysctl.d/90-vdscheck.conf\n" in text(middling(), 20)


@pytest.mark.parametrize(("length", "column"), [(69, 11), (70, 2), (78, 2), (79, 11)])
def test_a_long_command_moves_to_the_left_where_that_saves_the_line(length: int, column: int) -> None:
    command = "x" * length
    shown = report([finding("a.b", Verdict.FAIL, "bad", fix=by_hand("do it", "short", command))])
    lines = text(shown).splitlines()
    assert " " * column + command in lines
    assert " " * column + "short" in lines


def test_a_command_that_cannot_be_shown_as_it_is_is_not_shown() -> None:
    found = text(hostile(), verbose=True)
    assert "a command that cannot be shown as it is" in found
    assert "echo" not in found


def test_many_subjects_of_one_check_are_one_entry_with_one_why() -> None:
    wrong = [
        finding("disk.space", Verdict.FAIL, f"free space is {n} %. It fills.", subject=f"/disk{n}") for n in range(12)
    ]
    found = text(report([*wrong, *passes()]))
    assert "disk.space  12 of 12 subjects" in found
    assert found.count("It fills.") == 1
    assert found.count("free space") == 8
    assert "and 4 more (-v lists them)" in found
    assert text(report([*wrong, *passes()]), verbose=True).count("free space") == 12


def test_beyond_the_worst_twenty_the_way_to_mend_it_is_left_to_v() -> None:
    shown = EXAMPLES["crowded"]()
    assert text(shown).count("look --at") < 60
    assert text(shown, verbose=True).count("look --at") == sum(each.fix is not None for each in shown.findings)
    assert "subject-299: the figure is 299" in text(shown)


def test_quiet_is_the_score_and_what_is_wrong() -> None:
    found = text(middling(), quiet=True)
    assert found.splitlines()[0].startswith("  79 / 100")
    assert "eth0 (e1000): emulated" in found
    for left_out in ("vdscheck 0.1.0", "An emulated card", "UNKNOWN", "WAIVED", "ruleset", "sysctl -w"):
        assert left_out not in found
    assert "does not hold" in found


# The rest


def test_what_one_sentence_is_true_of_is_said_once() -> None:
    found = " ".join(text(middling()).split())
    names = "sysctl.persistence[vm.overcommit_memory], unsupported [vm.max_map_count], [fs.inotify.max_user_watches]"
    assert f"{names} it is … now; nobody sets it on disk" in found


def test_numbers_that_were_left_out_are_told_by_v() -> None:
    found = " ".join(text(middling(), verbose=True).split())
    for number in (0, 65530, 62114):
        assert f"is {number} now; nobody sets it on disk" in found


def test_sentences_of_two_checks_that_differ_in_numbers_stay_apart() -> None:
    few = [
        finding(name, Verdict.UNKNOWN, f"too few samples: {n} would do", reason=Reason.TOO_FEW_SAMPLES)
        for name, n in (("a.b", 10), ("a.c", 20))
    ]
    found = text(report(few))
    assert "10 would do" in found
    assert "20 would do" in found


def test_a_subject_within_another_word_is_left_alone() -> None:
    unknown = [
        finding("disk.space", Verdict.UNKNOWN, f"{n}: statvfs failed on {n}x and {n}", subject=n, reason=Reason.ERROR)
        for n in ("/a/b", "/c/d")
    ]
    found = text(report(unknown))
    assert "/a/b: statvfs failed on /a/bx and /a/b" in found
    assert "/c/d: statvfs failed on /c/dx and /c/d" in found


def test_unknown_names_its_reason_and_the_way_to_know() -> None:
    found = text(middling())
    assert re.search(r"sysctl\.inotify +permission\n +/proc/sys/fs/inotify/max_user_watches: permission denied", found)
    assert "sudo vdscheck" in found
    assert "1 check could see more with permission" in found


def test_a_waiver_is_shown_with_its_day_and_reason() -> None:
    found = text(middling())
    assert re.search(r"WAIVED +disk\.space\[/var/cache\] +until 2027-01-31\n +8\.12 % of it is free", found)
    assert "accepted: a cache that empties itself" in found


def test_passes_are_counted_and_listed_on_request_with_their_evidence() -> None:
    fact = Evidence("listen_overflows", 12, None, "nstat")
    shown = report([finding("sysctl.somaxconn", Verdict.PASS, "it is 4,096", evidence=(fact,)), *passes()])
    assert f"{len(PASSING) + 1} pass" in text(shown)
    assert "it is 4,096" not in text(shown)
    assert "listen overflows 12 (nstat)" in text(shown, verbose=True)
    assert "it is 4,096" in text(shown, verbose=True)


def test_gates_say_what_was_found_and_whether_they_hold() -> None:
    found = text(middling())
    assert "min-score 80 does not hold (found 79)" in found
    assert "min-coverage 60 holds" in found
    assert "min-score 70 does not hold (no score)" in text(EXAMPLES["undecided"]())


def test_markup_in_a_name_is_text() -> None:
    assert "[red]" in text(hostile())
    assert b"\x1b[31m[red]" not in drawn(hostile(), colour=True)


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(Verdict), ANY_TEXT, ANY_TEXT), max_size=6), ANY_TEXT, st.integers(1, 120))
def test_any_text_anywhere_makes_a_report_that_can_be_read(
    rows: list[tuple[Verdict, str, str]], name: str, width: int
) -> None:
    found = [
        finding(f"a.b{name}", verdict, said, subject=subject, waiver=Waiver("x", said, "2027-01-01"))
        for verdict, said, subject in rows
    ]
    shown = report(found, warnings=(name,))
    lines = drawn(shown, width, verbose=True).decode()
    assert all(character == "\n" or unicodedata.category(character) not in ("Cc", "Cf", "Cs") for character in lines)
    assert drawn(shown, width, utf8=False, colour=True).isascii()


def test_what_is_stated_in_words_is_not_told_as_a_number() -> None:
    machine: Expected = {"op": "stated", "pass": "bare metal", "fail": "a container", "unit": None, "source": "origin"}
    assert limit(machine) == "bare metal; what fails: a container"
    assert limit({**machine, "op": "at-most", "pass": 1, "fail": 5}) == "at most 1, beyond 5 it fails"
