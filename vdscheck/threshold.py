"""Thresholds: the one place where an estimate meets a limit."""

import math
from dataclasses import replace
from typing import Literal

from vdscheck.model.absence import Absent, Reason
from vdscheck.model.fixes import ByHand, SettingFix
from vdscheck.model.judgement import Confidence, Evidence, Expected, Judgement, Observed, Verdict
from vdscheck.model.records import frozen, named
from vdscheck.stats import Estimate, exact

Proposal = SettingFix | ByHand | None


def spoken(value: float | str) -> str:
    """A number as people read it: thousands apart, three significant digits of a fraction."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}" if abs(value) < 10**15 else f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # noqa: PLR2004


def with_unit(value: float | str, unit: str | None) -> str:
    """A number and its unit: `12 %`, `4,096`."""
    return f"{spoken(value)} {unit}" if unit else spoken(value)


def absent_judgement(absent: Absent) -> Judgement:
    """The judgement of what is absent: not applicable, or unknown with its reason."""
    verdict = Verdict.NOT_APPLICABLE if absent.kind == "not-applicable" else Verdict.UNKNOWN
    return Judgement(verdict=verdict, reason=absent.reason, summary=absent.detail)


def authority(source: str) -> str:
    """Who says so: what stands before the first colon of a source."""
    return source.partition(":")[0]


@named
class _Limit:
    """What AtMost and AtLeast share; `_sign` turns "at least" into "at most"."""

    pass_limit: float
    fail_limit: float | None = None
    unit: str
    source: str
    unmet: Literal["fail", "warn"] = "fail"

    _sign = 1

    def __post_init__(self) -> None:
        for limit in (self.pass_limit, self.fail_limit):
            if limit is not None and not math.isfinite(limit):
                message = f"a limit of {limit}"
                raise ValueError(message)
        if self.fail_limit is not None:
            if self.unmet == "warn":
                message = "a limit that only warns has no fail limit"
                raise ValueError(message)
            if (self.fail_limit - self.pass_limit) * self._sign < 0:
                message = f"fail limit {self.fail_limit} would be met before pass limit {self.pass_limit}"
                raise ValueError(message)

    @property
    def limit(self) -> float:
        """The limit up to which (from which) a value passes."""
        return self.pass_limit

    @property
    def fails_beyond(self) -> float | None:
        """The limit beyond which a value fails; None where nothing fails."""
        if self.unmet == "warn":
            return None
        return self.pass_limit if self.fail_limit is None else self.fail_limit

    def verdict(self, value: float) -> Verdict:
        """Pass, warn or fail for a value taken as exact. Limits are inclusive."""
        if value * self._sign <= self.pass_limit * self._sign:
            return Verdict.PASS
        beyond = self.fails_beyond
        if beyond is None or value * self._sign <= beyond * self._sign:
            return Verdict.WARN
        return Verdict.FAIL

    def expected(self) -> Expected:
        """The limit as the report carries it."""
        return {
            "op": "at-most" if self._sign > 0 else "at-least",
            "pass": self.pass_limit,
            "fail": self.fails_beyond,
            "unit": self.unit,
            "source": self.source,
        }

    @property
    def _wanted(self) -> str:
        return f"{'at most' if self._sign > 0 else 'at least'} {with_unit(self.pass_limit, self.unit)}"

    def phrase(self) -> str:
        """The limit as a finding says it: `at most 10 ms wanted (etcd)`."""
        return f"{self._wanted} wanted ({authority(self.source)})"

    def described(self) -> str:
        """The limit as a profile says it: `at most 10 ms, beyond 20 ms it fails`."""
        beyond = self.fails_beyond
        if beyond is None:
            return f"{self._wanted}, beyond it warns"
        if beyond == self.pass_limit:
            return self._wanted
        return f"{self._wanted}, beyond {with_unit(beyond, self.unit)} it fails"

    def stricter(self, other: "_Limit") -> "_Limit":
        """Of two limits in the same direction, what satisfies both."""
        tighter = min if self._sign > 0 else max
        pass_limit = tighter(self.pass_limit, other.pass_limit)
        both = [limit for limit in (self.fails_beyond, other.fails_beyond) if limit is not None]
        base = self if pass_limit == self.pass_limit else other
        if not both:
            return replace(base, pass_limit=pass_limit, fail_limit=None, unmet="warn")
        return replace(base, pass_limit=pass_limit, fail_limit=tighter(both), unmet="fail")

    def judge(
        self,
        value: Estimate | float | Absent,
        what: str,
        *,
        evidence: tuple[Evidence, ...] = (),
        fix: Proposal = None,
    ) -> Judgement:
        """Judge a value; `what` is the subject of the sentence ("fdatasync p99").

        The fix is kept only where the verdict is warn or fail.
        """
        if isinstance(value, Absent):
            return replace(absent_judgement(value), evidence=evidence, expected=self.expected())
        estimate = value if isinstance(value, Estimate) else exact(value)
        shown = value if isinstance(value, int) else estimate.value
        verdict = self.verdict(estimate.value)
        summary = f"{what} is {with_unit(shown, self.unit)}{_interval(estimate)}, {self.phrase()}"
        judged = Judgement(
            verdict=verdict,
            summary=summary,
            observed=_observed(shown, estimate, self.unit),
            expected=self.expected(),
            evidence=evidence,
            fix=None if verdict is Verdict.PASS else fix,
        )
        beyond = self.fails_beyond
        if beyond is not None and self._astride(estimate, beyond):
            needed = estimate.samples_to_clear(beyond)
            more = f": about {needed:,} samples would decide" if needed else ""
            return replace(
                judged,
                verdict=Verdict.UNKNOWN,
                reason=Reason.TOO_FEW_SAMPLES,
                summary=f"{summary}; too few samples ({estimate.count}){more}",
                fix=None,
            )
        if self._astride(estimate, self.pass_limit):
            return replace(judged, confidence=Confidence.LOW)
        return judged

    def _astride(self, estimate: Estimate, limit: float) -> bool:
        ends = (estimate.low * self._sign, estimate.high * self._sign)
        return min(ends) <= limit * self._sign < max(ends)


class AtMost(_Limit):
    """A limit from above. Without a fail limit it is both; with `unmet="warn"` nothing fails."""

    __slots__ = ()


class AtLeast(_Limit):
    """A limit from below, otherwise like AtMost."""

    __slots__ = ()
    _sign = -1


@named
class OneOf:
    """A value that must be one of a few."""

    values: tuple[int | str, ...]
    unit: str
    source: str
    unmet: Literal["fail", "warn"] = "fail"

    def __post_init__(self) -> None:
        if not self.values:
            message = "one of nothing"
            raise ValueError(message)

    def verdict(self, value: float | str) -> Verdict:
        """Pass, or what the profile says of a value that is none of these."""
        return Verdict.PASS if value in self.values else Verdict(self.unmet)

    def expected(self) -> Expected:
        """The values as the report carries them."""
        listed: int | str = self.values[0] if len(self.values) == 1 else self._listed()
        fail = listed if self.unmet == "fail" else None
        return {
            "op": "one-of",
            "pass": listed,
            "fail": fail,
            "unit": self.unit or None,
            "source": self.source,
        }

    def _listed(self) -> str:
        return " or ".join(spoken(value) for value in self.values)

    def phrase(self) -> str:
        """The values as a finding says them; a word stands where it cannot be read as part of the sentence."""
        if any(isinstance(value, str) for value in self.values):
            return f"wanted is {self._listed()} ({authority(self.source)})"
        return f"{self._listed()} wanted ({authority(self.source)})"

    def described(self) -> str:
        """The values as a profile says them."""
        return self._listed() if self.unmet == "fail" else f"{self._listed()}, anything else warns"

    def judge(
        self,
        value: float | str | Absent,
        what: str,
        *,
        evidence: tuple[Evidence, ...] = (),
        fix: Proposal = None,
    ) -> Judgement:
        """Judge a value; the fix is kept only where the verdict is warn or fail."""
        if isinstance(value, Absent):
            return replace(absent_judgement(value), evidence=evidence, expected=self.expected())
        verdict = self.verdict(value)
        number = None if isinstance(value, str) else float(value)
        return Judgement(
            verdict=verdict,
            summary=f"{what} is {with_unit(value, self.unit)}, {self.phrase()}",
            observed=Observed(value, number, number, None, self.unit or None),
            expected=self.expected(),
            evidence=evidence,
            fix=None if verdict is Verdict.PASS else fix,
        )


Threshold = AtMost | AtLeast | OneOf


@frozen
class Conflict:
    """Two chosen profiles that cannot both be satisfied."""

    detail: str


def merged(first: Threshold, second: Threshold) -> Threshold | None:
    """What satisfies both thresholds, or None where nothing does."""
    if isinstance(first, OneOf) and isinstance(second, OneOf):
        common = tuple(value for value in first.values if value in second.values)
        unmet: Literal["fail", "warn"] = "fail" if "fail" in (first.unmet, second.unmet) else "warn"
        if not common:
            return None
        narrower = [each.source for each in (first, second) if set(each.values) == set(common)]
        source = narrower[0] if narrower else f"{first.source}; {second.source}"
        return replace(first, values=common, unmet=unmet, source=source)
    if isinstance(first, AtMost) and isinstance(second, AtMost):
        return first.stricter(second)  # type: ignore[return-value]
    if isinstance(first, AtLeast) and isinstance(second, AtLeast):
        return first.stricter(second)  # type: ignore[return-value]
    return None


def _interval(estimate: Estimate) -> str:
    if estimate.low == estimate.high:
        return ""
    low = spoken(estimate.low) if math.isfinite(estimate.low) else "?"
    high = spoken(estimate.high) if math.isfinite(estimate.high) else "?"
    return f" [{low}, {high}]"


def _observed(shown: float, estimate: Estimate, unit: str) -> Observed:
    low = estimate.low if math.isfinite(estimate.low) else None
    high = estimate.high if math.isfinite(estimate.high) else None
    return Observed(shown, low, high, estimate.count, unit)
