"""What `--fix` would do, worked out before anything is touched: a function of what was judged and measured."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from typing import TypeVar

from vdscheck import drop_in, held
from vdscheck.judge import Judged, Proposal
from vdscheck.measurements import (
    SETS_NOTHING,
    BootTruth,
    KernelOwner,
    KeyAtBoot,
    LateWriter,
    Listeners,
    NodeAgents,
    Sysctls,
)
from vdscheck.model import (
    DROP_IN,
    SETTING_KEY,
    Finding,
    FixChange,
    LeftAlone,
    Measurements,
    Reason,
    Verdict,
    frozen,
)
from vdscheck.threshold import authority

T = TypeVar("T")

ROUNDS_LIMIT = 10
OWNED_ON_A_NODE = (
    r"net\.ipv4\.ip_forward|net\.ipv6\.conf\..*forwarding|net\.ipv4\.conf\..*\.rp_filter|net\.bridge\.bridge-nf-.*"
    r"|net\.netfilter\.nf_conntrack_.*|vm\.overcommit_memory"
)
"""What kubelet, kube-proxy and network plugins set: kubernetes' component-helpers/node/util/sysctl and
pkg/proxy/conntrack; the CNI plugins' own documentation."""
BACKLOG = "net.core.somaxconn"
SHOWN_LIMIT = 8

Judge = Callable[[Measurements], Judged]
StatedBy = Callable[[str, str], tuple[str, ...]]
"""The profiles that have a limit of a check from a source."""
Foresee = Callable[[bytes], BootTruth | None]
"""What the next boot would be if our file had that content; None where that could not be worked out."""


@frozen
class Plan:
    """The changes, what is left alone, and what comes of it."""

    changes: tuple[FixChange, ...]
    left_alone: tuple[LeftAlone, ...]
    content: bytes | None
    """What our file will hold; None where it is not touched."""
    promised: Judged
    """What will be found, if nothing else changes."""
    unforeseen: tuple[str, ...] = ()
    """The keys that are left alone because the next boot with the change could not be worked out."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that are set."""
        return tuple(change.key for change in self.changes)


@frozen
class Surroundings:
    """What the plan is made from: the measurements that bear on it, each as it was taken."""

    measurements: Measurements
    content: bytes | None
    """What our file holds now."""
    image: bool
    """Whether there is no running kernel to set."""
    stated_by: StatedBy = field(default=lambda _check_id, _source: ())

    def of(self, kind: type[T]) -> T | None:
        """The measurement of a type; None where it is absent."""
        return next((taken.value for taken in self.measurements.values() if isinstance(taken.value, kind)), None)


def plan(judge: Judge, here: Surroundings, foresee: Foresee) -> Plan:
    """Work out which proposals of the findings are carried out, and what is found afterwards."""
    work = _Work(judge, here, foresee)
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


def same(first: str | None, second: str | None) -> bool:
    """Whether two values are the same field by field, so that blanks and leading zeros make no difference."""
    return first is not None and second is not None and _fields(first) == _fields(second)


def _fields(text: str) -> list[str]:
    return [re.sub(r"^(-?)0+(?=[0-9])", r"\1", word) for word in text.split()]


def lasts(key: str, wanted: str, boot: BootTruth | None) -> str | None:
    """Why a key will not be what is wanted after the next boot; None where it will."""
    if boot is None or key not in boot.keys:
        return "what it will be after the next boot is not known"
    decided = boot.keys[key]
    writers = _writers(key, boot)
    for writer in writers:
        if not same(writer.values.get(key), wanted):
            said = writer.values.get(key)
            to = "" if said is None else f" to {said}"
            return f"{writer.name} sets it{to} after each boot: let that say {wanted} ({writer.file})"
    if writers or same(decided.value, wanted):
        return None
    return _beaten(wanted, decided, boot)


def at_boot(key: str, boot: BootTruth) -> tuple[str | None, str] | None:
    """What a key will be after the next boot, and what decides; None where it is not among those looked at."""
    found = boot.keys.get(key)
    if found is None:
        return None
    writer = next((each for each in reversed(_writers(key, boot)) if key in each.values), None)
    return (found.value, found.where) if writer is None else (writer.values[key], f"{writer.name} ({writer.file})")


def _beaten(wanted: str, decided: KeyAtBoot, boot: BootTruth) -> str:
    """What keeps a line of ours from deciding, and where to mend that."""
    if decided.needs_module is not None:
        return (
            f"at boot sysctl.d is applied before {decided.needs_module} is loaded, so no line there sets it: name the "
            "module in a file of /etc/modules-load.d"
        )
    if boot.init == "none":
        return next(iter(boot.problems), "nothing applies the files of sysctl.d at boot")
    excluded = [line.partition(" = ")[0] for line in decided.overridden if line.endswith("= (excluded)")]
    if excluded and decided.origin != "file":
        return f"{excluded[-1]} keeps it from being set: take that line out"
    if decided.value is None or decided.origin == "default":
        return _unset(wanted, decided, boot)
    return f"{decided.where} sets it to {decided.value} after {DROP_IN}: let that line say {wanted}"


def _unset(wanted: str, decided: KeyAtBoot, boot: BootTruth) -> str:
    """Why nothing sets a key for which there is a line of ours."""
    stuck = next((each for each in boot.problems if each.endswith(SETS_NOTHING)), None)
    where, _, value = (decided.overridden[-1] if decided.overridden else "").partition(" = ")
    if stuck is None and where and not where.startswith(f"{DROP_IN}:"):
        return f"{where} sets it to {value!r} after {DROP_IN}, which the kernel refuses: let that line say {wanted}"
    return f"a line in {DROP_IN} would not set it at boot: {stuck or decided.where}"


def _writers(key: str, boot: BootTruth) -> list[LateWriter]:
    return [writer for writer in boot.late_writers if writer.enabled and key in writer.keys]


class _Work:
    """From proposals to what is done about them, by supposing each change and judging again."""

    def __init__(self, judge: Judge, here: Surroundings, foresee: Foresee) -> None:
        self._judge, self._here, self._foresee = judge, here, foresee
        self._before = judge(here.measurements)
        self._boot = here.of(BootTruth)
        self._foreseen = self._boot
        self._wanted: dict[str, Proposal] = {}
        self._askers: dict[str, list[Proposal]] = {}
        self._tried: dict[str, list[str]] = {}
        self._left: dict[str, str] = {}
        self._unforeseen: list[str] = []

    # Which values

    def settle(self) -> None:
        """Take up what the findings ask for, until what would then be found asks for nothing more."""
        for _ in range(ROUNDS_LIMIT):
            if not self._take_up(self._supposed().proposals):
                return
            content = self._content()
            self._foreseen = self._boot if content is None else self._foresee(content)
            for key in list(self._wanted):
                why = lasts(key, self._wanted[key].fix.value, self._foreseen)
                if why is not None:
                    self._leave(key, why)
                    self._unforeseen += [] if self._foreseen else [key]

    def _take_up(self, proposals: Iterable[Proposal]) -> bool:
        new = False
        asked: dict[str, Proposal] = {}
        for proposal in proposals:
            self._askers.setdefault(proposal.fix.key, []).append(proposal)
            asked.setdefault(proposal.fix.key, proposal)
            tried = self._tried.get(proposal.fix.key, [])
            if not any(same(proposal.fix.value, value) for value in tried):
                asked[proposal.fix.key] = proposal
        for key, proposal in asked.items():
            new |= key not in self._left and self._try(key, proposal)
        return new

    def _try(self, key: str, proposal: Proposal) -> bool:
        """Suppose a value that was not supposed yet; whether there is something new to judge."""
        tried = self._tried.setdefault(key, [])
        if any(same(proposal.fix.value, value) for value in tried):
            known = self._wanted.get(key)
            if known is not None and not same(known.fix.value, proposal.fix.value):
                wishes = " and ".join(dict.fromkeys(f"{each.finding} {each.fix.value}" for each in self._askers[key]))
                self._leave(key, f"the findings do not agree on it: {wishes}")
                return True
            return False
        why = self._why_not(key)
        if why is not None:
            self._leave(key, why)
            return False
        tried.append(proposal.fix.value)
        self._wanted[key] = proposal
        return True

    def _leave(self, key: str, why: str) -> None:
        self._wanted.pop(key, None)
        self._left[key] = why

    # Which keys

    def _why_not(self, key: str) -> str | None:
        """Why a key is not ours to set, whatever its value."""
        if not re.fullmatch(SETTING_KEY, key) or self._boot is None or key not in self._boot.keys:
            return "what it will be after the next boot is not known"
        owner = self._here.of(KernelOwner)
        if owner is None and not self._here.image:
            return "whose kernel this is could not be told"
        if owner is not None and not owner.ours:
            return f"the kernel is not this machine's own ({', '.join(owner.clues[:3])}): ask who runs the host"
        if (why := self._agents_own(key)) is not None:
            return why
        if not self._here.image and self._now(key) is None:
            return "it does not exist now, or cannot be read"
        return None

    def _agents_own(self, key: str) -> str | None:
        """Why a key may be the agents' of a Kubernetes node."""
        agents = self._here.of(NodeAgents)
        if not re.fullmatch(OWNED_ON_A_NODE, key) or (agents is not None and not agents.is_node):
            return None
        if agents is None:
            return "whether this is a Kubernetes node, whose agents set it, could not be told"
        return f"kubelet or the network plugin of this Kubernetes node sets it ({', '.join(agents.evidence[:3])})"

    def _now(self, key: str) -> str | None:
        sysctls = self._here.of(Sysctls)
        return None if self._here.image or sysctls is None else sysctls.values.get(key)

    # What comes of it

    def _in_file(self) -> dict[str, str]:
        """The settings that need a line of ours: not those that the next boot brings anyway."""
        values = {key: proposal.fix.value for key, proposal in self._wanted.items()}
        return {key: value for key, value in values.items() if lasts(key, value, self._boot) is not None}

    def _content(self) -> bytes | None:
        settings = self._in_file()
        return drop_in.merged(self._here.content, settings) if settings else None

    def _supposed(self) -> Judged:
        now = {} if self._here.image else {key: each.fix.value for key, each in self._wanted.items()}
        return self._judge(held.supposed(self._here.measurements, now, self._then()))

    def _then(self) -> BootTruth | None:
        """The next boot as foreseen, for the keys that are set; for the others as it is."""
        before, after = self._boot, self._foreseen
        if before is None or after is None:
            return None
        keys = {key: after.keys[key] if key in self._wanted else value for key, value in before.keys.items()}
        return replace(after, keys=keys)

    def spare_what_gets_worse(self) -> None:
        """Leave out each change without which fewer findings get worse."""
        while self._wanted and (bad := worse(self._before.findings, self._supposed().findings)):
            key = min(self._wanted, key=self._worse_without)
            self._leave(key, f"it would make {', '.join(bad[:3])} worse")

    def _worse_without(self, key: str) -> int:
        kept = self._wanted.pop(key)
        try:
            return len(worse(self._before.findings, self._supposed().findings))
        finally:
            self._wanted[key] = kept

    def plan(self) -> Plan:
        """The plan as it stands."""
        settings = self._in_file()
        changes = tuple(self._change(key, settings) for key in sorted(self._wanted))
        left = [LeftAlone(key, why) for key, why in sorted(self._left.items())]
        unforeseen = tuple(sorted(self._unforeseen))
        return Plan(changes, (*left, *self._conflicts()), self._content(), self._supposed(), unforeseen)

    def _change(self, key: str, settings: Mapping[str, str]) -> FixChange:
        proposal = self._wanted[key]
        askers = dict.fromkeys(self._asker(each) for each in self._askers[key])
        return FixChange(
            key=key,
            file=DROP_IN if key in settings else None,
            before=self._now(key),
            at_boot=None if self._boot is None else self._boot.keys[key].value,
            wanted=proposal.fix.value,
            after=None,
            outcome="planned",
            why=", ".join(askers),
            may_restart=self._held_back(key),
        )

    def _asker(self, proposal: Proposal) -> str:
        """The check that asks for a value, with who says so: `sysctl.somaxconn (web: origin)`."""
        check_id = proposal.finding.partition("[")[0]
        if not proposal.source:
            return check_id
        profiles = ", ".join(self._here.stated_by(check_id, proposal.source))
        said = f"{profiles}: {authority(proposal.source)}" if profiles else authority(proposal.source)
        return f"{check_id} ({said})"

    def _held_back(self, key: str) -> tuple[str, ...]:
        """Services whose sockets got the old limit: they may have asked for more, and keep it until a restart."""
        listeners, now = self._here.of(Listeners), self._now(key)
        if key != BACKLOG or listeners is None or now is None:
            return ()
        held = {each.owner for each in listeners.sockets if str(each.backlog) == now and each.owner is not None}
        return tuple(sorted(held)[:SHOWN_LIMIT])

    def _conflicts(self) -> list[LeftAlone]:
        """What the chosen profiles contradict each other on."""
        return [
            LeftAlone(finding.subject or finding.id, finding.summary)
            for finding in self._before.findings
            if finding.reason is Reason.CONFLICT and finding.area == "sysctl"
        ]
