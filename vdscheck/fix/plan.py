"""What `--fix` would do, worked out before anything is touched: a function of what was judged and measured."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Any, NamedTuple

from vdscheck.fix_kind import FixKind, Surroundings
from vdscheck.judge.judge import Judged, Proposal
from vdscheck.model.absence import Reason
from vdscheck.model.fixes import FixChange, LeftAlone
from vdscheck.model.judgement import Finding, Verdict
from vdscheck.model.records import frozen
from vdscheck.model.report import Measurements
from vdscheck.threshold import authority

ROUNDS_LIMIT = 10

Kinds = Mapping[str, FixKind]
"""By their names."""
Judge = Callable[[Measurements], Judged]
StatedBy = Callable[[str, str], tuple[str, ...]]
"""The profiles that have a limit of a check from a source."""
Foresee = Callable[[FixKind, bytes], Any]
"""What the next boot would be if the file of a kind had that content; None where that could not be worked out."""


class Name(NamedTuple):
    """A setting, as a plan knows it."""

    kind: str
    key: str


@frozen
class Plan:
    """The changes, what is left alone, and what comes of it."""

    changes: tuple[FixChange, ...]
    left_alone: tuple[LeftAlone, ...]
    contents: Mapping[str, bytes]
    """What the file of a kind will hold, by the kind; only those that are touched."""
    promised: Judged
    """What will be found, if nothing else changes."""
    unforeseen: tuple[Name, ...] = ()
    """The settings that are left alone because the next boot with the change could not be worked out."""

    @property
    def names(self) -> tuple[Name, ...]:
        """The settings that are set."""
        return tuple(Name(change.kind, change.key) for change in self.changes)


@frozen
class Ground:
    """What a plan is made from."""

    surroundings: Surroundings
    kinds: Kinds
    contents: Mapping[str, bytes | None]
    """What the file of each kind holds now; None is no file."""
    stated_by: StatedBy = field(default=lambda _check_id, _source: ())


def plan(judge: Judge, ground: Ground, foresee: Foresee) -> Plan:
    """Work out which proposals of the findings are carried out, and what is found afterwards."""
    work = _Work(judge, ground, foresee)
    work.settle()
    work.spare_what_gets_worse()
    return work.plan()


def worse(before: Iterable[Finding], after: Iterable[Finding]) -> list[str]:
    """The findings whose verdict is worse than before, by name. What was not known before cannot get worse."""
    now = {finding.name: finding.verdict for finding in after}
    return [each.name for each in before if each.name in now and _is_worse(each.verdict, now[each.name])]


def _is_worse(before: Verdict, after: Verdict) -> bool:
    if before.credit is None:
        return False
    if after.credit is not None:
        return after.credit < before.credit
    return before is Verdict.PASS and after in (Verdict.UNKNOWN, Verdict.WAIVED)


class _Work:
    """From proposals to what is done about them, by supposing each change and judging again."""

    def __init__(self, judge: Judge, ground: Ground, foresee: Foresee) -> None:
        self._judge, self._here, self._foresee = judge, ground.surroundings, foresee
        self._kinds, self._contents, self._stated_by = ground.kinds, ground.contents, ground.stated_by
        self._before = judge(self._here.measurements)
        self._boot: dict[str, Any] = {name: self._here.of(kind.boot) for name, kind in self._kinds.items()}
        self._foreseen = dict(self._boot)
        self._wanted: dict[Name, Proposal] = {}
        self._askers: dict[Name, list[Proposal]] = {}
        self._tried: dict[Name, list[str]] = {}
        self._left: dict[Name, str] = {}
        self._unforeseen: list[Name] = []

    # Which values

    def settle(self) -> None:
        """Take up what the findings ask for, until what would then be found asks for nothing more."""
        for _ in range(ROUNDS_LIMIT):
            if not self._take_up(self._supposed().proposals):
                return
            for kind in self._kinds.values():
                content = self._content(kind)
                self._foreseen[kind.name] = self._boot[kind.name] if content is None else self._foresee(kind, content)
            for name in list(self._wanted):
                foreseen = self._foreseen[name.kind]
                why = self._kinds[name.kind].lasts(name.key, self._wanted[name].fix.value, foreseen)
                if why is not None:
                    self._leave(name, why)
                    self._unforeseen += [] if foreseen else [name]

    def _take_up(self, proposals: Iterable[Proposal]) -> bool:
        new = False
        asked: dict[Name, Proposal] = {}
        for proposal in proposals:
            name = Name(proposal.fix.kind, proposal.fix.key)
            self._askers.setdefault(name, []).append(proposal)
            asked.setdefault(name, proposal)
            if not self._was_tried(name, proposal):
                asked[name] = proposal
        for name, proposal in asked.items():
            new |= name not in self._left and self._try(name, proposal)
        return new

    def _was_tried(self, name: Name, proposal: Proposal) -> bool:
        kind = self._kinds.get(name.kind)
        tried = self._tried.get(name, [])
        return kind is not None and any(kind.same(proposal.fix.value, value) for value in tried)

    def _try(self, name: Name, proposal: Proposal) -> bool:
        """Suppose a value that was not supposed yet; whether there is something new to judge."""
        kind = self._kinds.get(name.kind)
        if kind is None:
            self._leave(name, f"nothing that is installed sets a {name.kind}")
            return False
        if self._was_tried(name, proposal):
            known = self._wanted.get(name)
            if known is not None and not kind.same(known.fix.value, proposal.fix.value):
                wishes = " and ".join(dict.fromkeys(f"{each.finding} {each.fix.value}" for each in self._askers[name]))
                self._leave(name, f"the findings do not agree on it: {wishes}")
                return True
            return False
        why = kind.why_not(name.key, self._here)
        if why is not None:
            self._leave(name, why)
            return False
        self._tried.setdefault(name, []).append(proposal.fix.value)
        self._wanted[name] = proposal
        return True

    def _leave(self, name: Name, why: str) -> None:
        self._wanted.pop(name, None)
        self._left[name] = why

    # What comes of it

    def _values(self, kind: FixKind) -> dict[str, str]:
        return {name.key: each.fix.value for name, each in self._wanted.items() if name.kind == kind.name}

    def _in_file(self, kind: FixKind) -> dict[str, str]:
        """The settings that need a line of ours: not those that the next boot brings anyway."""
        boot = self._boot[kind.name]
        return {key: value for key, value in self._values(kind).items() if kind.lasts(key, value, boot) is not None}

    def _content(self, kind: FixKind) -> bytes | None:
        settings = self._in_file(kind)
        return kind.merged(self._contents.get(kind.name), settings) if settings else None

    def _supposed(self) -> Judged:
        found = self._here.measurements
        for kind in self._kinds.values():
            values = self._values(kind)
            found = kind.supposed(found, {} if self._here.image else values, self._then(kind, values))
        return self._judge(found)

    def _then(self, kind: FixKind, values: Mapping[str, str]) -> Any:  # noqa: ANN401 - of the type kind.boot
        """The next boot as foreseen, for the settings that are set; for the others as it is."""
        before, after = self._boot[kind.name], self._foreseen[kind.name]
        return None if before is None or after is None else kind.foreseen(before, after, values.keys())

    def spare_what_gets_worse(self) -> None:
        """Leave out each change without which fewer findings get worse."""
        while self._wanted and (bad := worse(self._before.findings, self._supposed().findings)):
            name = min(list(self._wanted), key=self._worse_without)  # which takes each out for a moment
            self._leave(name, f"it would make {', '.join(bad[:3])} worse")

    def _worse_without(self, name: Name) -> int:
        kept = self._wanted.pop(name)
        try:
            return len(worse(self._before.findings, self._supposed().findings))
        finally:
            self._wanted[name] = kept

    def plan(self) -> Plan:
        """The plan as it stands."""
        in_file = {kind.name: self._in_file(kind) for kind in self._kinds.values()}
        changes = tuple(self._change(name, in_file[name.kind]) for name in sorted(self._wanted))
        left = [LeftAlone(name.key, why) for name, why in sorted(self._left.items())]
        contents = {kind.name: self._content(kind) for kind in self._kinds.values()}
        written = {name: content for name, content in contents.items() if content is not None}
        unforeseen = tuple(sorted(self._unforeseen))
        return Plan(changes, (*left, *self._conflicts()), written, self._supposed(), unforeseen)

    def _change(self, name: Name, in_file: Mapping[str, str]) -> FixChange:
        kind, proposal, boot = self._kinds[name.kind], self._wanted[name], self._boot[name.kind]
        decided = None if boot is None else kind.at_boot(name.key, boot)
        askers = dict.fromkeys(self._asker(each) for each in self._askers[name])
        return FixChange(
            kind=name.kind,
            key=name.key,
            file=kind.file if name.key in in_file else None,
            before=kind.now(name.key, self._here),
            at_boot=None if decided is None else decided.value,
            wanted=proposal.fix.value,
            after=None,
            outcome="planned",
            why=", ".join(askers),
            may_restart=kind.may_restart(name.key, self._here),
        )

    def _asker(self, proposal: Proposal) -> str:
        """The check that asks for a value, with who says so: `sysctl.somaxconn (web: origin)`."""
        check_id = proposal.finding.partition("[")[0]
        if not proposal.source:
            return check_id
        profiles = ", ".join(self._stated_by(check_id, proposal.source))
        said = f"{profiles}: {authority(proposal.source)}" if profiles else authority(proposal.source)
        return f"{check_id} ({said})"

    def _conflicts(self) -> list[LeftAlone]:
        """What the chosen profiles contradict each other on."""
        return [
            LeftAlone(finding.subject or finding.id, finding.summary)
            for finding in self._before.findings
            if finding.reason is Reason.CONFLICT and finding.area in self._kinds
        ]
