"""Judging is pure, and the score follows the contract."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck.catalogue.catalogue import Catalogue, assemble
from vdscheck.judge.gates import gates
from vdscheck.judge.judge import Judged, judge
from vdscheck.judge.score import score
from vdscheck.model.absence import Absent, Reason, not_applicable, unmeasured
from vdscheck.model.judgement import Confidence, Finding, Severity, Verdict, Waiver
from vdscheck.model.report import RulesetNote, Taken
from vdscheck.plugin import AtLeast, AtMost, Check, Host, Judgement, Limits, check, measurement, probe
from vdscheck.ruleset.selection import Ruleset
from vdscheck.threshold import Conflict, Threshold

DOC = """A test's check.

Why: Because of this. And that.
False positives: none
By hand: look
Sources: this file
"""
TODAY = "2026-11-24"


@measurement
class Load:
    """A number."""

    x: int


@measurement
class Space:
    """A number for each folder."""

    x: int


class Folder:
    @classmethod
    def chosen(cls, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        return settings


@probe("test.load")
def load(_host: Host) -> Load:
    """Measures."""
    return Load(x=1)


@probe("test.space")
def space(_host: Host, _folder: Folder) -> Space:
    """Measures one by one."""
    return Space(x=1)


@check("load.high", severity=Severity.HIGH, doc=DOC)
def high(load: Load, most: AtMost) -> Judgement:
    return most.judge(load.x, "the load")


@check("load.bears", severity=Severity.LOW, doc=DOC)
def bears(load: Load | Absent, most: AtMost) -> Judgement:
    return most.judge(7 if isinstance(load, Absent) else load.x, "the load")


@check("load.sold", severity=Severity.LOW, doc=DOC)
def sold(load: Load, sold: AtLeast | Absent) -> Judgement | Absent:
    return not_applicable("nothing was sold") if isinstance(sold, Absent) else sold.judge(load.x, "it")


@check("space.each", severity=Severity.MEDIUM, doc=DOC)
def each(space: Space, most: AtMost) -> Judgement:
    return most.judge(space.x, "space")


@check("space.sum", severity=Severity.MEDIUM, doc=DOC)
def total(spaces: Mapping[str, Space], most: AtMost) -> Judgement:
    return most.judge(sum(space.x for space in spaces.values()), "the sum")


@check("space.all", severity=Severity.MEDIUM, doc=DOC)
def everything(spaces: Mapping[str, Space | Absent], most: AtMost) -> dict[str, Judgement | Absent]:
    return {name: s if isinstance(s, Absent) else most.judge(s.x, name) for name, s in spaces.items()}


@check("load.limits", severity=Severity.INFO, doc=DOC)
def others(load: Load, limits: Limits) -> Judgement:
    limit = limits.of("load.high")["most"]
    assert isinstance(limit, AtMost)
    return limit.judge(load.x, "by the limit of another check")


@check("load.broken", severity=Severity.LOW, doc=DOC)
def broken(load: Load) -> Judgement:
    raise ZeroDivisionError


@check("load.endless", severity=Severity.LOW, doc=DOC)
def endless(load: Load) -> Judgement:
    while True:
        pass


@check("load.wrong", severity=Severity.LOW, doc=DOC)
def wrong(load: Load) -> Judgement:
    return "fine"  # type: ignore[return-value]


MOST = AtMost(pass_limit=10, fail_limit=20, unit="x", source="house: a test")


def of(value: Any) -> Taken:
    absent = value if isinstance(value, Absent) else None
    return Taken("2026-11-24T00:00:00.000Z", 0.0, "Measures.", None if absent else value, absent)


def judged(
    *checks: Check,
    limits: Mapping[str, Mapping[str, Threshold | Conflict]] | None = None,
    waivers: tuple[Waiver, ...] = (),
    overrides: Mapping[str, Any] | None = None,
    whys: Mapping[str, str] | None = None,
    severities: Mapping[str, Severity] | None = None,
    measured: Mapping[str, Any] | None = None,
    **more: Any,
) -> Judged:
    catalogue: Catalogue = assemble(("test", each) for each in (*checks, load, space))
    found = {
        each.id: {
            n.name: MOST for n in catalogue.checks[each.id].needs if n.kind == "threshold" and not n.bears_absence
        }
        for each in checks
    }
    ruleset = Ruleset(
        RulesetNote("test", (), dict(overrides or {})),
        limits if limits is not None else found,
        severities or {},
        waivers,
        whys or {},
        tuple(catalogue.checks.values()),
    )
    found_here = {key.replace("_", ".", 1): value for key, value in more.items()} | dict(measured or {})
    measurements = {key: of(value) for key, value in found_here.items()}
    return judge(catalogue, ruleset, measurements, TODAY)


def only(result: Judged) -> Finding:
    (finding,) = result.findings
    return finding


SPACES: dict[str, Any] = {"test.space[/a]": Space(x=5), "test.space[/b]": Space(x=15), "test.space[/c]": Space(x=25)}


@pytest.mark.parametrize(("value", "verdict"), [(0, "pass"), (10, "pass"), (20, "warn"), (21, "fail")])
def test_a_check_gets_its_measurement_and_its_limit(value: int, verdict: str) -> None:
    finding = only(judged(high, test_load=Load(x=value)))
    assert (finding.verdict, finding.area, finding.title) == (verdict, "load", "A test's check")


@pytest.mark.parametrize(
    ("absent", "verdict", "reason"),
    [
        (unmeasured(Reason.PERMISSION, "as root"), "unknown", "permission"),
        (unmeasured(Reason.TIMEOUT, "too slow"), "unknown", "timeout"),
        (not_applicable("no such thing"), "not-applicable", None),
    ],
)
def test_a_check_is_not_called_without_its_measurement(absent: Absent, verdict: str, reason: str | None) -> None:
    finding = only(judged(broken, test_load=absent))
    assert (finding.verdict, finding.reason, finding.summary) == (verdict, reason, absent.detail)


def test_a_check_whose_type_bears_absence_is_called_with_it() -> None:
    finding = only(judged(bears, test_load=unmeasured(Reason.ERROR, "broken")))
    assert (finding.verdict, finding.observed and finding.observed.value) == ("pass", 7)


def test_a_limit_that_nobody_sets_is_an_absence_where_the_type_bears_it() -> None:
    assert only(judged(sold, limits={}, test_load=Load(x=1))).verdict == "not-applicable"


def test_what_was_not_measured_at_all_is_unknown() -> None:
    finding = only(judged(high))
    assert (finding.verdict, finding.reason) == ("unknown", "not-run")


def test_a_measurement_of_another_type_is_not_passed_on() -> None:
    assert only(judged(high, test_load=Space(x=1))).reason == "error"


def test_a_check_of_a_measurement_with_subjects_gives_a_finding_for_each() -> None:
    found = {finding.name: finding.verdict for finding in judged(each, measured=SPACES).findings}
    assert found == {"space.each[/a]": "pass", "space.each[/b]": "warn", "space.each[/c]": "fail"}


def test_a_check_of_all_subjects_gets_those_that_were_measured() -> None:
    lost = unmeasured(Reason.ERROR, "broken")
    finding = only(judged(total, measured=SPACES | {"test.space[/d]": lost}))
    assert finding.observed is not None
    assert (finding.subject, finding.observed.value) == (None, 45)


def test_a_check_may_name_its_subjects_itself() -> None:
    lost = unmeasured(Reason.TIMEOUT, "too slow")
    found = judged(everything, measured=SPACES | {"test.space[/d]": lost}).findings
    assert [finding.subject for finding in found] == ["/a", "/b", "/c", "/d"]
    assert found[3].reason == "timeout"


def test_a_check_may_ask_for_the_limits_of_others() -> None:
    result = judged(others, limits={"load.high": {"most": MOST}}, test_load=Load(x=25))
    assert only(result).verdict == "fail"


@pytest.mark.parametrize(("bad", "said"), [(broken, "ZeroDivisionError"), (wrong, "returned str")])
def test_a_check_that_fails_is_one_unknown_that_names_its_file(bad: Check, said: str) -> None:
    finding = only(judged(bad, test_load=Load(x=1)))
    assert finding.reason == "error"
    assert said in finding.summary
    assert "test_judge.py:" in finding.summary


def test_a_check_that_never_returns_is_one_unknown() -> None:
    finding = only(judged(endless, test_load=Load(x=1)))
    assert finding.reason == "error"
    assert "did not end within" in finding.summary


def test_profiles_that_cannot_both_hold_are_unknown_and_both_are_named() -> None:
    conflict = Conflict("profile a says 1, profile b says 2")
    finding = only(judged(high, limits={"load.high": {"most": conflict}}, test_load=Load(x=1)))
    assert (finding.verdict, finding.reason) == ("unknown", "conflict")
    assert finding.summary == conflict.detail


def test_what_is_wrong_says_what_follows_from_it() -> None:
    assert only(judged(high, test_load=Load(x=25))).summary.endswith("wanted (house). Because of this.")
    assert only(judged(high, test_load=Load(x=5))).summary.endswith("wanted (house)")
    said = only(judged(high, test_load=Load(x=25), whys={"load.high": "It burns."}))
    assert said.summary.endswith("It burns.")


def test_a_profile_changes_the_severity() -> None:
    finding = only(judged(high, test_load=Load(x=25), severities={"load.high": Severity.LOW}))
    assert (finding.severity, finding.weight) == ("low", 1)


@pytest.mark.parametrize(
    ("overrides", "left"),
    [
        ({"only": ["space.each[/a]"]}, ["/a"]),
        ({"skip": ["space.each[/a]"]}, ["/b", "/c"]),
        ({"only": ["space.*"], "skip": ["*[/[bc]]"]}, ["/a", "/b", "/c"]),
        ({"skip": ["*[/*]"]}, []),
    ],
)
def test_only_and_skip_take_subjects(overrides: dict[str, Any], left: list[str]) -> None:
    assert [finding.subject for finding in judged(each, measured=SPACES, overrides=overrides).findings] == left


# Waivers


@pytest.mark.parametrize(
    ("pattern", "expires", "verdict"),
    [
        ("load.high", TODAY, "waived"),
        ("load.*", "2026-11-25", "waived"),
        ("load.high", "2026-11-23", "fail"),
        ("load.high[/a]", "2026-11-25", "fail"),
    ],
)
def test_a_waiver_counts_until_its_day_has_gone_by(pattern: str, expires: str, verdict: str) -> None:
    result = judged(high, test_load=Load(x=25), waivers=(Waiver(pattern, "known", expires),))
    assert only(result).verdict == verdict
    assert only(result).observed is not None
    assert bool(result.warnings) == (verdict != "waived")


def test_a_waiver_never_hides_a_pass_or_an_unknown() -> None:
    waivers = (Waiver("load.high", "known", "2027-01-01"),)
    assert only(judged(high, test_load=Load(x=5), waivers=waivers)).verdict == "pass"
    assert only(judged(high, waivers=waivers)).verdict == "unknown"


# The score


def finding(verdict: str, severity: str = "medium", name: str = "area.name", subject: str | None = None) -> Finding:
    return Finding(
        id=name, subject=subject, area=name.partition(".")[0], title="", severity=Severity(severity),
        weight=Severity(severity).weight, verdict=Verdict(verdict), reason=None, summary="", observed=None,
        expected=None, evidence=(), points_lost=0.0, confidence=Confidence.HIGH, fix=None, waiver=None, docs="",
    )  # fmt: skip


def row(*words: str) -> list[Finding]:
    """Findings of different checks: `fail high`, `pass low`."""
    pairs = (word.split() for word in words)
    return [finding(verdict, severity, f"area.n{number}") for number, (verdict, severity) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("findings", "value", "grade", "coverage", "cap"),
    [
        (row("pass critical"), 100, "A", 1.0, None),
        (row("pass critical", "fail low"), 90, "A", 1.0, None),
        (row("pass high", "warn high"), 75, "C", 1.0, None),
        (row("pass critical", "pass critical", "fail high"), 79, "C", 1.0, 79),
        (row("fail critical", *["pass critical"] * 9), 49, "F", 1.0, 49),
        (row("fail critical", "fail high"), 0, "F", 1.0, 49),
        (row("pass medium", "unknown medium"), 100, "A", 0.5, None),
        (row("pass medium", "not-applicable critical"), 100, "A", 1.0, None),
        (row("pass medium", "waived critical"), 100, "A", 1.0, None),
        (row("pass low", "pass low", "fail low"), 66, "D", 1.0, None),
        (row("unknown high"), None, None, 0.0, None),
        (row("fail info"), None, None, 0.0, None),
        ([], None, None, 0.0, None),
    ],
)
def test_the_score_is_the_contracts(
    findings: list[Finding], value: int | None, grade: str | None, coverage: float, cap: int | None
) -> None:
    found = score(findings)
    assert (found.value, found.grade, found.coverage, found.cap) == (value, grade, coverage, cap)
    assert found.provisional == (value is None or coverage < 0.6)


def test_a_check_with_several_subjects_counts_once_with_its_worst() -> None:
    many = [finding("pass", subject="/a"), finding("fail", subject="/b"), finding("unknown", subject="/c")]
    found = score([*many, *row("pass medium")])
    assert found.value == 50
    assert found.coverage == round((3 * 2 / 3 + 3) / 6, 4)


def test_only_the_worst_finding_of_a_check_costs_points_and_costs_add_up_to_what_is_lost() -> None:
    result = judged(each, high, measured=SPACES, test_load=Load(x=15))
    lost = {finding.name: finding.points_lost for finding in result.findings}
    assert lost == {"load.high": 31.2, "space.each[/a]": 0, "space.each[/b]": 0, "space.each[/c]": 37.5}
    assert result.score.value == 31


FINDINGS = st.lists(
    st.builds(
        finding,
        st.sampled_from([verdict.value for verdict in Verdict]),
        st.sampled_from([severity.value for severity in Severity]),
        st.integers(0, 20).map(lambda number: f"area.n{number}"),
    ),
    max_size=30,
    unique_by=lambda each: each.id,
)


@given(FINDINGS)
def test_score_and_coverage_stay_in_their_bounds(findings: list[Finding]) -> None:
    found = score(findings)
    assert found.value is None or 0 <= found.value <= 100
    assert 0 <= found.coverage <= 1
    decided = [each for each in findings if each.verdict.credit is not None and each.weight]
    assert (found.value is None) == (not decided)


@given(FINDINGS, st.data())
def test_a_better_verdict_never_lowers_the_score(findings: list[Finding], data: st.DataObject) -> None:
    better = {"fail": "warn", "warn": "pass"}
    wrong = [number for number, each in enumerate(findings) if each.verdict.value in better]
    if wrong:
        number = data.draw(st.sampled_from(wrong))
        old = findings[number]
        improved = [*findings]
        improved[number] = finding(better[old.verdict.value], old.severity.value, old.id)
        before, after = score(findings).value, score(improved).value
        assert before is None or (after is not None and after >= before)


@given(FINDINGS, st.sampled_from(["unknown", "not-applicable", "waived"]))
def test_what_is_not_decided_leaves_the_score_alone(findings: list[Finding], verdict: str) -> None:
    more = finding(verdict, "critical", "other.name")
    assert score([*findings, more]).value == score(findings).value


# Gates


@pytest.mark.parametrize(
    ("findings", "asked", "holds"),
    [
        (row("pass low"), {"min_score": 100}, {"min-score": True, "min-coverage": True}),
        (row("warn low"), {"min_score": 51}, {"min-score": False, "min-coverage": True}),
        (row("pass low", "unknown low"), {"min_score": 0}, {"min-score": True, "min-coverage": False}),
        (
            row("pass low", "unknown low"),
            {"min_score": 0, "min_coverage": 50},
            {"min-score": True, "min-coverage": True},
        ),
        (row("unknown low"), {"min_score": 0, "min_coverage": 0}, {"min-score": False, "min-coverage": True}),
        (row("warn low"), {"fail_on": ["fail"]}, {"fail-on": True}),
        (row("fail low"), {"fail_on": ["warn"]}, {"fail-on": False}),
        (row("waived low"), {"fail_on": ["warn"]}, {"fail-on": True}),
        (row("unknown low"), {"fail_on": ["warn"]}, {"fail-on": True}),
        (row("unknown low"), {"fail_on": ["unknown"]}, {"fail-on": False}),
        (row("fail low"), {}, {}),
    ],
)
def test_each_gate_is_independent(findings: list[Finding], asked: dict[str, Any], holds: dict[str, bool]) -> None:
    more = {"min_score": None, "min_coverage": None, "fail_on": ()} | asked
    found = gates(findings, score(findings), **more)
    assert {gate.name: gate.holds for gate in found} == holds
