"""Where an estimate meets a limit: every verdict, both directions, and the edges."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck.model.absence import Reason, not_applicable, unmeasured
from vdscheck.model.fixes import SettingFix
from vdscheck.model.judgement import Confidence, Verdict
from vdscheck.stats import Estimate
from vdscheck.threshold import AtLeast, AtMost, OneOf, merged, spoken

MOST = AtMost(pass_limit=10, fail_limit=20, unit="ms", source="house: a test")
LEAST = AtLeast(pass_limit=20, fail_limit=10, unit="ms", source="house: a test")
ONE_LIMIT = AtMost(pass_limit=10, unit="ms", source="house: a test")
WARNS = AtMost(pass_limit=10, unit="ms", source="house: a test", unmet="warn")
FIX = SettingFix("sysctl", "a.b", "1", "0")


@pytest.mark.parametrize(
    ("limit", "value", "verdict"),
    [
        (MOST, 0, "pass"),
        (MOST, 10, "pass"),
        (MOST, 10.001, "warn"),
        (MOST, 20, "warn"),
        (MOST, 20.001, "fail"),
        (LEAST, 20, "pass"),
        (LEAST, 19.999, "warn"),
        (LEAST, 10, "warn"),
        (LEAST, 9.999, "fail"),
        (LEAST, 0, "fail"),
        (ONE_LIMIT, 10, "pass"),
        (ONE_LIMIT, 10.001, "fail"),
        (WARNS, 10.001, "warn"),
        (WARNS, 1e9, "warn"),
    ],
)
def test_limits_are_inclusive_and_have_two_sides(limit: AtMost | AtLeast, value: float, verdict: str) -> None:
    judged = limit.judge(value, "it")
    assert judged.verdict == verdict
    assert judged.observed is not None
    assert (judged.observed.low, judged.observed.high, judged.observed.count) == (value, value, None)
    assert judged.confidence is Confidence.HIGH


@pytest.mark.parametrize(
    ("limit", "estimate", "verdict", "confidence"),
    [
        (MOST, Estimate(8, 7, 9, 50), "pass", "high"),
        (MOST, Estimate(8, 7, 12, 50), "pass", "low"),
        (MOST, Estimate(12, 9, 15, 50), "warn", "low"),
        (MOST, Estimate(15, 11, 20, 50), "warn", "high"),
        (MOST, Estimate(15, 11, 21, 50), "unknown", "high"),
        (MOST, Estimate(8, 7, math.inf, 50, 368), "unknown", "high"),
        (MOST, Estimate(25, 19, 30, 50), "unknown", "high"),
        (MOST, Estimate(25, 21, 30, 50), "fail", "high"),
        (LEAST, Estimate(25, 21, 30, 50), "pass", "high"),
        (LEAST, Estimate(25, 15, 30, 50), "pass", "low"),
        (LEAST, Estimate(12, 9, 30, 50), "unknown", "high"),
        (LEAST, Estimate(8, -math.inf, 9, 50), "fail", "high"),
        (ONE_LIMIT, Estimate(8, 7, 12, 50), "unknown", "high"),
        (WARNS, Estimate(8, 7, 12, 50), "pass", "low"),
        (WARNS, Estimate(8, 7, math.inf, 50), "pass", "low"),
    ],
)
def test_an_interval_across_the_fail_limit_is_unknown_and_across_the_pass_limit_low_confidence(
    limit: AtMost | AtLeast, estimate: Estimate, verdict: str, confidence: str
) -> None:
    judged = limit.judge(estimate, "it")
    assert (judged.verdict, judged.confidence) == (verdict, confidence)
    assert (judged.reason is Reason.TOO_FEW_SAMPLES) == (verdict == "unknown")


def test_too_few_samples_names_how_many_would_do() -> None:
    judged = ONE_LIMIT.judge(Estimate(8, 7, math.inf, 50, 368), "the p99")
    assert "too few samples (50)" in judged.summary
    assert "368" in judged.summary
    assert judged.observed is not None
    assert judged.observed.high is None


@pytest.mark.parametrize("limit", [MOST, LEAST, OneOf(values=(1,), unit="", source="house: a test")])
def test_an_absence_stays_one(limit: Any) -> None:
    unknown = limit.judge(unmeasured(Reason.PERMISSION, "as root it can be read"), "it", fix=FIX)
    assert (unknown.verdict, unknown.reason, unknown.fix) == (Verdict.UNKNOWN, Reason.PERMISSION, None)
    assert unknown.summary == "as root it can be read"
    assert limit.judge(not_applicable("no such thing"), "it").verdict is Verdict.NOT_APPLICABLE


@pytest.mark.parametrize(("value", "kept"), [(5, False), (15, True), (25, True)])
def test_a_fix_is_offered_only_where_something_is_wrong(value: int, *, kept: bool) -> None:
    assert (MOST.judge(value, "it", fix=FIX).fix is FIX) == kept


@pytest.mark.parametrize(("value", "verdict"), [(1, "pass"), ("tsc", "pass"), (2, "fail"), ("1", "fail"), (0, "fail")])
def test_one_of_compares_values_as_they_are(value: Any, verdict: str) -> None:
    limit = OneOf(values=(1, "tsc"), unit="", source="house: a test")
    assert limit.judge(value, "it").verdict == verdict


def test_one_of_may_only_warn() -> None:
    assert OneOf(values=(1,), unit="", source="house: a test", unmet="warn").judge(2, "it").verdict is Verdict.WARN


def test_the_summary_says_what_against_what_and_who_says_so() -> None:
    source = "etcd hardware guide: https://etcd.io/docs/"
    limit = AtMost(pass_limit=10, unit="ms", source=source)
    said = limit.judge(Estimate(41.8, 38.2, 47.5, 400), "fdatasync p99").summary
    assert said == "fdatasync p99 is 41.8 ms [38.2, 47.5], at most 10 ms wanted (etcd hardware guide)"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (4096, "4,096"), (-1, "-1"), (0.123456, "0.123"), (1234.5, "1,234"), (10.0, "10"), ("a", "a")],
)
def test_numbers_are_written_as_people_read_them(value: Any, text: str) -> None:
    assert spoken(value) == text


@pytest.mark.parametrize(
    "make",
    [
        lambda: AtMost(pass_limit=math.nan, unit="", source="house: x"),
        lambda: AtMost(pass_limit=20, fail_limit=10, unit="", source="house: x"),
        lambda: AtLeast(pass_limit=10, fail_limit=20, unit="", source="house: x"),
        lambda: AtMost(pass_limit=1, fail_limit=2, unit="", source="house: x", unmet="warn"),
        lambda: OneOf(values=(), unit="", source="house: x"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        make()


LIMITS = st.builds(
    lambda low, high, two: AtMost(pass_limit=low, fail_limit=low + high if two else None, unit="", source="house: x"),
    st.integers(0, 100),
    st.integers(0, 100),
    st.booleans(),
)
ORDER = {Verdict.PASS: 0, Verdict.WARN: 1, Verdict.FAIL: 2}


@given(LIMITS, LIMITS, st.integers(-50, 300))
def test_the_stricter_of_two_limits_is_as_bad_as_the_worse_of_both(first: AtMost, second: AtMost, value: int) -> None:
    both = merged(first, second)
    assert isinstance(both, AtMost)
    worse = max(ORDER[first.verdict(value)], ORDER[second.verdict(value)])
    assert ORDER[both.verdict(value)] == worse


@given(st.floats(-1e6, 1e6), st.floats(0, 100), st.floats(-1e6, 1e6))
def test_at_least_is_at_most_mirrored(limit: float, more: float, value: float) -> None:
    most = AtMost(pass_limit=limit, fail_limit=limit + more, unit="", source="house: x")
    least = AtLeast(pass_limit=-limit, fail_limit=-(limit + more), unit="", source="house: x")
    assert most.verdict(value) == least.verdict(-value)


def test_values_that_no_two_profiles_share_are_a_conflict() -> None:
    one, two = (OneOf(values=(value,), unit="", source="house: x") for value in (1, 2))
    assert merged(one, two) is None
    assert merged(one, one) == one
    assert merged(one, MOST) is None


def test_of_two_lists_of_values_the_narrower_says_who_wants_it() -> None:
    wide = OneOf(values=("never", "madvise"), unit="", source="Redis: docs")
    narrow = OneOf(values=("never",), unit="", source="tuned: conf", unmet="warn")
    for pair in ((wide, narrow), (narrow, wide)):
        both = merged(*pair)
        assert both == OneOf(values=("never",), unit="", source="tuned: conf")
    crossed = merged(OneOf(values=(1, 2), unit="", source="a: x"), OneOf(values=(2, 3), unit="", source="b: y"))
    assert crossed == OneOf(values=(2,), unit="", source="a: x; b: y")


def test_a_word_that_is_wanted_does_not_read_as_part_of_the_sentence() -> None:
    found = OneOf(values=("never",), unit="", source="tuned: conf").judge("always", "the mode")
    assert found.summary == "the mode is always, wanted is never (tuned)"
