"""The kernel settings that are judged: one table for the checks, for what outlives a boot, and for fixes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import field, replace

from vdscheck.measurements import BootTruth, KernelOwner, KeyAtBoot, Sysctls, not_ours
from vdscheck.plugin import (
    Absent,
    AtLeast,
    AtMost,
    ByHand,
    Evidence,
    Judgement,
    OneOf,
    Reason,
    SettingFix,
    Verdict,
    frozen,
    unmeasured,
    whole_number,
    with_unit,
)

Limit = AtLeast | AtMost | OneOf

STRICT_OVERCOMMIT = "2"
DEFAULT_PORTS = (32768, 60999)
"""Where the kernel starts to hand out local ports, and where it ends (ip-sysctl, ip_local_port_range)."""
LAST_PORT = 65535
FIRST_UNPRIVILEGED_PORT = 1024


def ports(text: str) -> int | None:
    """How many ports a range such as `32768 60999` holds."""
    ends = [whole_number(word) for word in text.split()]
    if len(ends) != 2 or ends[0] is None or ends[1] is None:  # noqa: PLR2004 - a range has two ends
        return None
    return max(0, ends[1] - ends[0] + 1)


def port_range(count: int) -> str:
    """A range of so many ports: the kernel's own where it is enough, else the uppermost."""
    first, last = DEFAULT_PORTS
    if count > last - first + 1:
        first, last = max(FIRST_UNPRIVILEGED_PORT, LAST_PORT - count + 1), LAST_PORT
    return f"{first} {last}"


def fields(text: str) -> tuple[int | str, ...]:
    """A setting word by word, so that blanks, tabs and leading zeros make no difference."""
    words = ((word, whole_number(word)) for word in text.split())
    return tuple(word if value is None else value for word, value in words)


FILTERS = {0: "off", 1: "strict", 2: "loose"}


@frozen
class Rule:
    """Which check and which of its limits judge a key, and how a number and its text belong together."""

    key: str
    check_id: str
    limit: str
    host_wide: bool = False
    """Whether the setting is the whole kernel's, so that a network namespace cannot have its own."""
    take: Callable[[str], int | None] = whole_number
    give: Callable[[int], str] = str
    verb: str = "is"
    words: Mapping[int, str] = field(default_factory=dict)
    """What its values mean, where they are modes."""


RULES = {
    rule.key: rule
    for rule in (
        Rule("net.core.somaxconn", "sysctl.somaxconn", "backlog"),
        Rule(
            "net.ipv4.tcp_tw_reuse",
            "sysctl.tcp-tw-reuse",
            "mode",
            words={0: "off", 1: "on", 2: "for loopback only"},
        ),
        Rule("net.ipv4.ip_local_port_range", "sysctl.port-range", "ports", take=ports, give=port_range, verb="holds"),
        Rule("net.ipv4.tcp_syncookies", "sysctl.syn-backlog", "cookies", words={0: "off", 1: "on", 2: "always"}),
        Rule("net.ipv4.tcp_max_syn_backlog", "sysctl.syn-backlog", "queue"),
        Rule("net.ipv4.tcp_slow_start_after_idle", "sysctl.slow-start-idle", "mode", words={0: "off", 1: "on"}),
        Rule("net.ipv4.ip_forward", "sysctl.ip-forward", "mode", words={0: "off", 1: "on"}),
        Rule(
            "net.ipv4.conf.all.rp_filter",
            "sysctl.rp-filter",
            "mode",
            words=FILTERS,
        ),
        Rule("net.ipv4.conf.default.rp_filter", "sysctl.rp-filter", "mode", words=FILTERS),
        # Only the initial network namespace may change it (nf_conntrack_standalone.c): it is the host's.
        Rule("net.netfilter.nf_conntrack_max", "sysctl.conntrack", "size", host_wide=True),
        Rule("fs.nr_open", "sysctl.file-handles", "nr_open", host_wide=True),
        Rule("fs.inotify.max_user_watches", "sysctl.inotify", "watches", host_wide=True),
        Rule("fs.inotify.max_user_instances", "sysctl.inotify", "instances", host_wide=True),
        Rule("vm.swappiness", "sysctl.swappiness", "swappiness", host_wide=True),
        Rule(
            "vm.overcommit_memory",
            "sysctl.overcommit",
            "mode",
            host_wide=True,
            words={0: "heuristic", 1: "always", 2: "never"},
        ),
        Rule("vm.max_map_count", "sysctl.max-map-count", "maps", host_wide=True),
    )
}


# What to set


def passes(rule: Rule, limit: Limit, text: str | None) -> bool:
    """Whether a value would satisfy its check."""
    value = None if text is None else rule.take(text)
    return value is not None and limit.verdict(value) is Verdict.PASS


def best(rule: Rule, limit: Limit, *texts: str | None) -> str | None:
    """The best value: one of those that are there already, where any is good, else the one that just passes.

    So nothing that is better than its limit is ever lowered to it. None where no value passes.
    """
    good = [text for text in texts if text is not None and passes(rule, limit, text)]
    if good and not isinstance(limit, OneOf):
        choose = max if isinstance(limit, AtLeast) else min
        return choose(good, key=lambda text: rule.take(text) or 0)
    if good:
        return good[0]
    if isinstance(limit, OneOf):
        return str(limit.values[0])
    rounded = math.ceil if isinstance(limit, AtLeast) else math.floor
    aim = rule.give(rounded(limit.pass_limit))
    return aim if passes(rule, limit, aim) else None


def proposal(key: str, value: str | None, before: str | None) -> SettingFix | ByHand | None:
    """The fix that sets a key, unless only a person can tell whether the host bears it."""
    if value is None:
        return None
    fix = SettingFix("sysctl", key, value, before)
    if key == "vm.overcommit_memory" and value == STRICT_OVERCOMMIT != before:
        look = "grep -e CommitLimit -e Committed_AS /proc/meminfo"
        why = "set it by hand: once Committed_AS is near CommitLimit (vm.overcommit_ratio), programs get no more memory"
        return ByHand(why, (look,), setting=fix)
    return fix


# A value, now or after the next boot


@frozen
class Setting:
    """A key as it is judged: its value now or, where there is no running kernel, after the next boot."""

    rule: Rule
    text: str
    value: int | None
    at_boot: str | None
    """What the key will be after the next boot, where that is known."""
    decided_by: Evidence | None
    """What decides so; None where the running kernel was asked."""

    @property
    def after_boot(self) -> bool:
        """Whether this is what will be, not what is."""
        return self.decided_by is not None

    def judge(self, limit: Limit, here: str = "", evidence: tuple[Evidence, ...] = ()) -> Judgement | Absent:
        """Judge by a limit; `here` says what makes it matter on this host, where something does."""
        key = self.rule.key
        if self.value is None:
            return unreadable(key, self.text)
        fix = proposal(key, best(self.rule, limit, self.at_boot), None if self.after_boot else self.text)
        judged = limit.judge(self.value, key, fix=fix)
        return replace(
            judged,
            summary=self._summary(limit, judged, here),
            evidence=evidence if self.decided_by is None else (self.decided_by, *evidence),
        )

    def _summary(self, limit: Limit, judged: Judgement, here: str) -> str:
        when = "after the next boot, " if self.after_boot else ""
        value = 0 if self.value is None else self.value
        meaning = self.rule.words.get(value)
        said = (
            f"{when}{self.rule.key} {self.rule.verb} {with_unit(value, limit.unit)}{f' ({meaning})' if meaning else ''}"
        )
        reason = f": {here}" if here and judged.verdict is not Verdict.PASS else ""
        return f"{said}, {limit.phrase()}{reason}"


def set_by_nobody(key: str, at_boot: KeyAtBoot | None) -> str:
    """What the disk says of a key that has its default after the next boot."""
    if at_boot is not None and at_boot.overridden:
        return f"{at_boot.overridden[0]} is on disk, and nothing applies it at boot"
    return f"nobody sets {key} on disk"


def not_known(key: str, at_boot: KeyAtBoot | None) -> str:
    """Why nobody can tell what a key will be after the next boot."""
    if at_boot is not None and at_boot.origin == "unread":
        return f"what {key} will be after the next boot is not known: {at_boot.where}"
    return f"{set_by_nobody(key, at_boot)}, and the default of this kernel is not known"


def unreadable(key: str, text: str) -> Absent:
    """The absence of a value that has a text, and not one of its key."""
    return unmeasured(Reason.ERROR, f"{key} is {text[:60]!r}, which is not what this key holds")


def setting(key: str, owner: KernelOwner | Absent, kernel: Sysctls, boot: BootTruth | Absent) -> Setting | Absent:
    """A key's value, or why it cannot be judged here: another's kernel, no such key, nothing known."""
    rule = RULES[key]
    foreign = not_ours(key, owner, host_wide=rule.host_wide)
    if foreign is not None:
        return foreign
    at_boot = None if isinstance(boot, Absent) else boot.keys.get(key)
    later = None if at_boot is None else at_boot.value
    if key in kernel.values:
        text = kernel.values[key]
        return Setting(rule, text, rule.take(text), later, None)
    missing = kernel.missing.get(key) or unmeasured(Reason.NOT_RUN, f"{key} was not read")
    if missing.reason is not Reason.NOT_RUN or isinstance(boot, Absent):
        return missing
    if at_boot is None or later is None:
        return unmeasured(Reason.NOT_RUN, not_known(key, at_boot))
    return Setting(rule, later, rule.take(later), later, Evidence("decided_by", at_boot.where, None, boot.init))


def beside(key: str, found: Setting, kernel: Sysctls, boot: BootTruth | Absent) -> str | None:
    """Another key's value at the time that a setting is judged for: now, or after the next boot."""
    if not found.after_boot:
        return kernel.values.get(key)
    at_boot = None if isinstance(boot, Absent) else boot.keys.get(key)
    return None if at_boot is None else at_boot.value


def worst(*found: Judgement | Absent) -> Judgement | Absent:
    """Of several judgements the one to report: what is wrong, then what is not known, then what is right."""
    order = (Verdict.FAIL, Verdict.WARN, None, Verdict.PASS)
    return min(found, key=lambda each: order.index(None if isinstance(each, Absent) else each.verdict))
