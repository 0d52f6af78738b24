"""The nouns that cross boundaries: absence, verdicts, judgements, findings, fixes, the report."""

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Literal, TypedDict, TypeVar, cast, dataclass_transform

SCHEMA_VERSION = 1

DROP_IN = "/etc/sysctl.d/90-vdscheck.conf"
"""The one file in which this tool persists kernel settings."""
DROP_IN_FOLDER, _, DROP_IN_NAME = DROP_IN.rpartition("/")
SETTING_KEY = r"[a-z][a-z0-9_-]*(\.[A-Za-z0-9_-]+)+"
"""The key of a kernel setting that this tool may set, such as `net.core.somaxconn`."""

T = TypeVar("T")


class _Signature:
    """How a class is called, for those who ask (help(), property-based tests): made when it is asked for."""

    def __get__(self, _instance: object, owner: "type[_Frozen]") -> Any:  # noqa: ANN401 - inspect.Signature
        from inspect import Parameter, Signature

        kinds = {True: Parameter.KEYWORD_ONLY, False: Parameter.POSITIONAL_OR_KEYWORD}
        parameters = []
        for name, each in owner.__dataclass_fields__.items():
            has_default = each.default is not MISSING or each.default_factory is not MISSING
            default = ... if has_default else Parameter.empty
            parameters.append(Parameter(name, kinds[bool(each.kw_only)], default=default, annotation=each.type))
        return Signature(parameters)


class _Frozen:
    """What all our dataclasses share: `@dataclass(frozen=True)` would compile it anew for each class.

    That takes longer, for the hundred classes of a run, than all else that the run imports of ours.
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    __signature__ = _Signature()

    def __init__(self, *given: Any, **named: Any) -> None:  # noqa: ANN401 - of the types of the fields
        fields = self.__dataclass_fields__
        if not given and named.keys() == fields.keys():
            for name, value in named.items():  # the usual case, of a hundred thousand sockets too
                object.__setattr__(self, name, value)
            self.__post_init__()
            return
        if given:
            names = [name for name, each in fields.items() if not each.kw_only]
            if len(given) > len(names) or not named.keys().isdisjoint(names[: len(given)]):
                message = f"{type(self).__name__} takes {', '.join(names) or 'nothing by position'}, each once"
                raise TypeError(message)
            named.update(zip(names, given, strict=False))
        for name, each in fields.items():
            object.__setattr__(self, name, named.pop(name) if name in named else self._default(each))
        if named:
            message = f"{type(self).__name__} has no {', '.join(named)}"
            raise TypeError(message)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Whatever a class wants of its values."""

    def _default(self, missing: Field[Any]) -> Any:  # noqa: ANN401
        if missing.default is not MISSING:
            return missing.default
        if missing.default_factory is not MISSING:
            return missing.default_factory()
        message = f"{type(self).__name__} without its {missing.name}"
        raise TypeError(message)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__dataclass_fields__)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self.__dataclass_fields__))

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__dataclass_fields__)
        return f"{type(self).__name__}({said})"

    def __setattr__(self, name: str, content: object) -> None:
        # Whoever makes one without calling it, as a decoder does, sets each field once.
        if hasattr(self, name):
            message = f"cannot assign to field {name!r}"
            raise FrozenInstanceError(message)
        object.__setattr__(self, name, content)

    def __delattr__(self, name: str) -> None:
        message = f"cannot delete field {name!r} of {type(self).__name__}"
        raise FrozenInstanceError(message)


def _made(cls: type[T], *, kw_only: bool) -> type[T]:
    """The class as a frozen dataclass with slots, with the methods that all share."""
    own = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    bases = tuple(base for base in cls.__bases__ if base is not object)
    if not issubclass(cls, _Frozen):
        bases = (_Frozen, *bases)
    based = cast("type[T]", type(cls.__name__, bases, own | {"__qualname__": cls.__qualname__}))
    return dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(based)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Make a frozen dataclass with slots."""
    return _made(cls, kw_only=False)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def named(cls: type[T]) -> type[T]:
    """Make a frozen dataclass with slots whose fields are given by name."""
    return _made(cls, kw_only=True)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def measurement(cls: type[T]) -> type[T]:
    """Make a measurement type: frozen, with fields given by name, and without NaN and numbers beyond MOST.

    Units stand in the names of its fields; its docstring says where the figures come from.
    """
    if "__post_init__" not in cls.__dict__:
        cls.__post_init__ = refuse_absurd  # type: ignore[attr-defined]
    return _made(cls, kw_only=True)


class Reason(StrEnum):
    """Why something is not known."""

    PERMISSION = "permission"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    UNSUPPORTED = "unsupported"
    TOO_FEW_SAMPLES = "too-few-samples"
    CONFLICT = "conflict"
    NOT_RUN = "not-run"
    ERROR = "error"


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
class Absent:
    """There is no value; `detail` says why, and what to do about it.

    Made with `not_applicable` (makes no sense here) or `unmeasured` (could not be had).
    """

    kind: Literal["not-applicable", "unmeasured"]
    reason: Reason | None
    detail: str
    limit: str | None = None
    """The limit of the session that stopped the measurement, such as `the limit of open files (ulimit -n 8)`."""


def not_applicable(why: str) -> Absent:
    """The value makes no sense on this target."""
    return Absent("not-applicable", None, why)


def unmeasured(reason: Reason, why: str) -> Absent:
    """The value may exist, and could not be had."""
    return Absent("unmeasured", reason, why)


def limited(limit: str) -> Absent:
    """The value may exist, and a limit of this session stopped its measurement."""
    return Absent("unmeasured", Reason.ERROR, f"{limit} stopped this measurement", limit)


class UnavailableError(Exception):
    """A target could not give what was asked of it; `absent` is what the engine keeps of it."""

    def __init__(self, absent: Absent) -> None:
        super().__init__(absent.detail)
        self.absent = absent


AMOUNT_LIMIT = 2**63 - 1
"""What every reader of a report takes for a whole number."""
MOST = 1e60
"""No quantity of a computer is larger, and what checks calculate from smaller ones stays finite."""


def refuse_absurd(self: object) -> None:
    """Raise ValueError when a field of a dataclass is NaN or beyond MOST: JSON has no NaN and infinity."""
    for name in self.__dataclass_fields__:  # type: ignore[attr-defined]
        value = getattr(self, name)
        if isinstance(value, float) and not -MOST <= value <= MOST:
            message = f"{type(self).__name__}.{name} is {value}: what was not measured is Absent"
            raise ValueError(message)


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


@frozen
class SetSysctl:
    """A proposed change that the tool can make itself: a kernel setting, now and at every boot."""

    key: str
    value: str
    before: str | None
    """The value that it replaces; None where the key could not be read."""
    at_boot: bool = True
    """False where the next boot gives this value already, so that only the running kernel lacks it."""

    @property
    def summary(self) -> str:
        """What it does, for people."""
        when = "now and at every boot" if self.at_boot else "now, as the next boot will"
        return f"set {self.key} to {self.value}, {when}"

    @property
    def commands(self) -> tuple[str, ...]:
        """The same by hand: now, and at every boot."""
        now = f"sysctl -w {shlex.quote(f'{self.key}={self.value}')}"
        line = shlex.quote(f"{self.key} = {self.value}")
        return (now, f"echo {line} >> {DROP_IN}") if self.at_boot else (now,)

    @property
    def undo(self) -> tuple[str, ...]:
        """What takes it back by hand."""
        line = shlex.quote(f"\\#^{self.key} = #d")
        now = () if self.before is None else (f"sysctl -w {shlex.quote(f'{self.key}={self.before}')}",)
        return (*now, f"sed -i {line} {DROP_IN}") if self.at_boot else now


@frozen
class ByHand:
    """A proposed change that only a person can make, with the commands for it, if there are any."""

    summary: str
    commands: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()


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
    fix: SetSysctl | ByHand | None = None


@frozen
class FixNote:
    """A fix as the report tells it: what would be done by hand, and how to take it back."""

    id: str
    safe: bool
    """Whether the tool itself may do it."""
    summary: str
    commands: tuple[str, ...]
    undo: tuple[str, ...]


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


@frozen
class Taken:
    """One measurement as it was taken: when, how, how long, and the value or its absence."""

    taken_at: str
    duration_s: float
    method: str
    value: Any
    absent: Absent | None

    @property
    def outcome(self) -> Any:  # noqa: ANN401 - the type is the probe's
        """The value, or the Absent that stands for it."""
        return self.value if self.absent is None else self.absent


Measurements = Mapping[str, Taken]
"""By probe id, or probe id and subject as `redis.ping[127.0.0.1:6379]`."""


@frozen
class Tool:
    """The program that made the report."""

    name: str
    version: str


@frozen
class RulesetNote:
    """What the measurements were judged by; scores compare only within one id."""

    id: str
    profiles: tuple[str, ...]
    overrides: dict[str, Any]


@frozen
class Run:
    """When and how the report came about."""

    id: str
    started_at: str
    duration_s: float
    complete: bool
    command: tuple[str, ...]


@named
class TargetNote:
    """What was examined. None is "not known"."""

    kind: Literal["host", "cluster"]
    name: str
    machine_id: str | None
    boot_id: str | None
    os: str | None
    kernel: str | None
    virtualization: str | None
    cpu_model: str | None
    cpus: int | None
    memory_bytes: int | None
    root: str | None
    """The directory examined instead of the running host."""
    nodes: int | None = None
    """Of a cluster."""


@frozen
class FixChange:
    """One kernel setting that `--fix` sets, or would set."""

    key: str
    file: str | None
    """The file that sets it at every boot; None where the next boot gives the wanted value already."""
    before: str | None
    """None where no running kernel is examined."""
    at_boot: str | None
    """What the next boot gave before the change; None where that is not known."""
    wanted: str
    after: str | None
    """What was read in the end; None where nothing was set."""
    outcome: Literal["planned", "applied", "given-back", "left"]
    """`left`: somebody else changed it meanwhile, so it was not given back."""
    why: str
    """The findings that want it, and on whose authority."""
    may_restart: tuple[str, ...]
    """Services that may profit from a restart, as they keep what they got when they began to listen."""


@frozen
class LeftAlone:
    """A kernel setting that `--fix` does not set although a finding asks for it."""

    key: str
    why: str


@named
class FixRecord:
    """What `--fix` did, or would do."""

    id: str | None
    """The journal entry; None where nothing was written."""
    outcome: Literal["applied", "planned", "nothing-to-do", "undecided", "declined", "refused", "given-back"]
    """`undecided`: not all settings could be seen, so nothing was changed; `left_alone` names them."""
    detail: str
    """Why it came so, where that is not plain; else empty."""
    score_before: int | None
    score_promised: int | None
    """The score that the plan leads to if nothing else changes."""
    changes: tuple[FixChange, ...]
    left_alone: tuple[LeftAlone, ...]


@named
class Report:
    """Everything that one run found; every output format is a function of it."""

    schema_version: int
    tool: Tool
    ruleset: RulesetNote
    run: Run
    target: TargetNote
    score: Score
    gates: tuple[Gate, ...]
    findings: tuple[Finding, ...]
    fix: FixRecord | None
    """What `--fix` did; None where it was not asked for."""
    measurements: dict[str, Taken]
    warnings: tuple[str, ...]
