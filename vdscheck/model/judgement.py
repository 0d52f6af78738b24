"""The nouns that cross boundaries: absence, verdicts, judgements, findings, fixes, the report."""

from enum import StrEnum
from typing import Literal, TypedDict

from vdscheck.model.absence import Reason
from vdscheck.model.fixes import ByHand, FixNote, SettingFix
from vdscheck.model.records import frozen, named


class Verdict(StrEnum):
    """What a check concludes."""

    PASS = "pass"  # noqa: S105 - a verdict
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not-applicable"
    WAIVED = "waived"

    @property
    def credit(self) -> float | None:
        """The share of its weight that a check keeps; None where the score is left alone."""
        return _CREDIT.get(self)


_CREDIT = {Verdict.PASS: 1.0, Verdict.WARN: 0.5, Verdict.FAIL: 0.0}


class Severity(StrEnum):
    """How much a check weighs in the score."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"

    @property
    def weight(self) -> int:
        """The weight of the check in the score."""
        return _WEIGHT[self]


_WEIGHT = {
    Severity.CRITICAL: 10,
    Severity.HIGH: 5,
    Severity.MEDIUM: 3,
    Severity.LOW: 1,
    Severity.INFO: 0,
}


class Confidence(StrEnum):
    """Low where an interval lies across the pass limit, or where something decisive is unseen."""

    HIGH = "high"
    LOW = "low"


@frozen
class Evidence:
    """A fact beside the judged one that a doubting engineer would ask to see next."""

    name: str
    value: int | float | str
    unit: str | None
    source: str


@frozen
class Observed:
    """What was measured: exact (low = high = value, no count), or with an interval and a count.

    An unbounded side of an interval is None.
    """

    value: int | float | str
    low: float | None
    high: float | None
    count: int | None
    unit: str | None


Expected = TypedDict(
    "Expected",
    {
        "op": Literal["at-most", "at-least", "one-of", "stated"],
        "pass": float | int | str | None,
        "fail": float | int | str | None,
        "unit": str | None,
        "source": str,
    },
)


@named
class Judgement:
    """What a check returns: a verdict, the sentence that says why, and what bears it."""

    verdict: Verdict
    summary: str
    reason: Reason | None = None
    observed: Observed | None = None
    expected: Expected | None = None
    evidence: tuple[Evidence, ...] = ()
    confidence: Confidence = Confidence.HIGH
    fix: SettingFix | ByHand | None = None


@frozen
class Waiver:
    """A finding that the configuration accepts, with a reason, until a day (included)."""

    check: str
    """A check id (then all its subjects), or a finding such as `sysctl.persistence[vm.swappiness]`."""
    reason: str
    expires: str
    """A day as YYYY-MM-DD."""


@named
class Finding:
    """The judgement of one check on one subject."""

    id: str
    subject: str | None
    area: str
    title: str
    severity: Severity
    weight: int
    verdict: Verdict
    reason: Reason | None
    summary: str
    observed: Observed | None
    expected: Expected | None
    evidence: tuple[Evidence, ...]
    points_lost: float
    confidence: Confidence
    fix: FixNote | None
    waiver: Waiver | None
    docs: str

    @property
    def name(self) -> str:
        """The id, with the subject where there is one: `disk.space[/var]`."""
        return self.id if self.subject is None else f"{self.id}[{self.subject}]"


@frozen
class AreaScore:
    """The score of one area alone; value is None where nothing in it was decided."""

    value: int | None
    coverage: float | None
    """As in Score; None where nothing in it applies."""


@frozen
class Score:
    """The score of the whole report, 0 to 100, and what it rests on."""

    value: int | None
    grade: Literal["A", "B", "C", "D", "F"] | None
    provisional: bool
    coverage: float
    """The share of what applies that was decided, 0 to 1."""
    cap: int | None
    """The most that the score can be with the failures found; None where nothing caps it."""
    areas: dict[str, AreaScore]


@frozen
class Loosening:
    """What a configuration file that was found, and not named by the caller, changes of what a gate rests on."""

    file: str
    what: tuple[str, ...]


@frozen
class Gate:
    """A condition that the caller asked for."""

    name: str
    threshold: int | str
    value: int | float | None
    holds: bool
    loosened_by: Loosening | None = None
