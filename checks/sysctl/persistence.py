"""Whether the kernel settings that are judged outlive a reboot."""

from dataclasses import replace

from vdscheck.measurements import ASK, NOT_LOOKED_AT, BootTruth, KernelOwner, KeyAtBoot, LateWriter, Sysctls
from vdscheck.plugin import (
    Absent,
    AtLeast,
    AtMost,
    ByHand,
    Confidence,
    Evidence,
    Judgement,
    Limits,
    OneOf,
    Reason,
    SettingFix,
    Severity,
    Verdict,
    check,
    frozen,
    not_applicable,
    unmeasured,
    whole_number,
)

from .key_table import RULES, Limit, Rule, best, fields, not_known, passes, proposal, set_by_nobody, unreadable

DROP_IN_NAME = "90-vdscheck.conf"
"""The file below /etc/sysctl.d that fixes are written to; what comes after it by name overrides it."""


@check("sysctl.persistence", severity=Severity.HIGH)
def persistence(
    owner: KernelOwner | Absent, kernel: Sysctls, boot: BootTruth, limits: Limits
) -> dict[str, Judgement | Absent] | Absent:
    """Settings are the same after the next boot.

    Why: What was set by hand is gone after a reboot, which comes when nobody is looking. What stands on
        disk and is not loaded does not help until then.
    False positives: A service that sets the key when it starts, in a way that cannot be read from disk.
    By hand: sysctl KEY; systemd-analyze cat-config sysctl.d | grep -n -e '^# /' -e KEY
    Sources: https://www.freedesktop.org/software/systemd/man/latest/sysctl.d.html;
        https://www.freedesktop.org/software/systemd/man/latest/systemd-sysctl.service.html
    """
    if isinstance(owner, Absent):
        if owner.reason is not Reason.NOT_RUN:
            return owner
    elif not owner.ours:
        return not_applicable(f"the settings of a kernel that is not this machine's own are made elsewhere: {ASK}")
    found: dict[str, Judgement | Absent] = {}
    for key, rule in RULES.items():
        limit = limits.of(rule.check_id).get(rule.limit)
        if limit is None or not _consulted(key, kernel):
            continue
        if isinstance(limit, AtLeast | AtMost | OneOf):
            found[key] = _judged(rule, limit, kernel, boot)
        else:
            found[key] = unmeasured(Reason.CONFLICT, f"the chosen profiles contradict each other on {key}")
    return found or not_applicable("no chosen profile judges a kernel setting")


def _consulted(key: str, kernel: Sysctls) -> bool:
    """Whether the kernel asks for a key, as others are now.

    With SYN cookies on it does not ask for tcp_max_syn_backlog. Of two reverse path filters the larger one counts.
    """
    if key == "net.ipv4.tcp_max_syn_backlog":
        return whole_number(kernel.values.get("net.ipv4.tcp_syncookies", "")) == 0
    if key == "net.ipv4.conf.default.rp_filter":
        begun, every = (whole_number(kernel.values.get(each, "")) for each in (key, "net.ipv4.conf.all.rp_filter"))
        return begun is not None and every is not None and begun > every
    return True


@frozen
class _Difference:
    """A key that is one thing now and another after the next boot."""

    rule: Rule
    limit: Limit
    now: str
    at_boot: KeyAtBoot
    after: str
    writer: LateWriter | None
    """What sets it later than the files of sysctl.d, where something does."""

    @property
    def where(self) -> str:
        """What decides."""
        return self.at_boot.where if self.writer is None else self.writer.file


def _now(rule: Rule, kernel: Sysctls) -> str | Absent:
    text = kernel.values.get(rule.key)
    if text is None:
        return kernel.missing.get(rule.key) or unmeasured(Reason.NOT_RUN, f"{rule.key} was not read")
    return text if rule.take(text) is not None else unreadable(rule.key, text)


def _judged(rule: Rule, limit: Limit, kernel: Sysctls, boot: BootTruth) -> Judgement | Absent:
    key, at_boot = rule.key, boot.keys.get(rule.key)
    now, writer = _now(rule, kernel), _late_writer(key, boot)
    if isinstance(now, Absent):
        return now
    written = None if writer is None else writer.values.get(key)
    after = (None if at_boot is None else at_boot.value) if written is None else written
    same = after is not None and fields(after) == fields(now)
    if writer is not None and (same or written is None):
        return _kept_by(writer, key, now, boot)
    if at_boot is not None and after is None and at_boot.needs_module is not None:
        why = (
            f"{key} is {now} now; at the next boot sysctl.d is applied before {at_boot.needs_module} is loaded, so no "
            "line there sets it: name the module in a file of /etc/modules-load.d"
        )
        return unmeasured(Reason.UNSUPPORTED, why)
    if at_boot is None or after is None:
        unread = at_boot is not None and at_boot.origin == "unread"
        more = "" if unread else ": a line in a file of /etc/sysctl.d would settle it"
        return unmeasured(Reason.UNSUPPORTED, f"{key} is {now} now; {not_known('it', at_boot)}{more}")
    if same:
        said = f"{key} is {now} now and after the next boot: {at_boot.where}"
        sure = Confidence.LOW if any(map(_not_looked_at, boot.problems)) else Confidence.HIGH
        return Judgement(verdict=Verdict.PASS, summary=said, evidence=_evidence(at_boot, boot), confidence=sure)
    return _differs(_Difference(rule, limit, now, at_boot, after, writer), boot)


def _kept_by(writer: LateWriter, key: str, now: str, boot: BootTruth) -> Judgement:
    """Something sets the key later; where its value cannot be read, the one that is seen now is the likely one."""
    at_boot, known = boot.keys.get(key), key in writer.values
    sets = "sets" if known else "may set"
    return Judgement(
        verdict=Verdict.PASS,
        summary=f"{key} is {now} now; {writer.name} {sets} it after each boot ({writer.file})",
        evidence=_evidence(at_boot, boot),
        confidence=Confidence.HIGH if known else Confidence.LOW,
    )


def _differs(found: _Difference, boot: BootTruth) -> Judgement:
    unseen = any(writer.enabled and not writer.keys for writer in boot.late_writers)
    return Judgement(
        verdict=Verdict.WARN if passes(found.rule, found.limit, found.after) else Verdict.FAIL,
        summary=f"{found.rule.key} is {found.now} now and {found.after} after the next boot: {_cause(found)}",
        evidence=_evidence(found.at_boot, boot),
        confidence=Confidence.LOW if unseen else Confidence.HIGH,
        fix=_lasting(found, boot),
    )


def _late_writer(key: str, boot: BootTruth) -> LateWriter | None:
    """What sets it last: the order cannot be read from disk, so where several differ its value is not known."""
    found = [writer for writer in boot.late_writers if writer.enabled and key in writer.keys]
    if not found:
        return None
    told = {tuple(fields(writer.values.get(key) or "")) for writer in found}
    return found[-1] if len(told) == 1 else replace(found[-1], values={})


def _evidence(at_boot: KeyAtBoot | None, boot: BootTruth) -> tuple[Evidence, ...]:
    found = []
    if at_boot is not None:
        found.append(Evidence("decided_by", at_boot.where, None, boot.init))
        found.extend(Evidence("does_not_win", line, None, boot.init) for line in at_boot.overridden)
        if at_boot.procps_value is not None:
            found.append(Evidence("sysctl_system_would_set", at_boot.procps_value, None, "procps: sysctl --system"))
    found.extend(Evidence("not_looked_at", each, None, boot.init) for each in boot.problems if _not_looked_at(each))
    silent = [writer for writer in boot.late_writers if writer.enabled and not writer.keys]
    found.extend(Evidence("may_set_settings_later", writer.name, None, writer.file) for writer in silent)
    return tuple(found)


def _not_looked_at(problem: str) -> bool:
    return problem.endswith(NOT_LOOKED_AT)


def _cause(found: _Difference) -> str:
    at_boot = found.at_boot
    if found.writer is not None:
        return f"{found.writer.name} sets it after the boot ({found.writer.file})"
    if at_boot.origin == "default":
        return f"set now, lost at reboot; {set_by_nobody('it', at_boot)}: {at_boot.where}"
    loser = next((line for line in at_boot.overridden if _says(line, found.now)), None)
    if loser is not None:
        return f"{loser.partition(' = ')[0]} is overridden by {at_boot.where}"
    if passes(found.rule, found.limit, found.now):
        return f"set now, lost at reboot; {at_boot.where} sets the other"
    return f"on disk, not loaded ({at_boot.where})"


def _says(line: str, value: str) -> bool:
    """Whether a line `FILE:LINE = VALUE` says a value."""
    return fields(line.partition(" = ")[2]) == fields(value)


def _lasting(found: _Difference, boot: BootTruth) -> SettingFix | ByHand | None:
    """Our own file where it would win; otherwise the line of somebody else that has to be edited."""
    key = found.rule.key
    value = best(found.rule, found.limit, found.now, found.after)
    fix = proposal(key, value, found.now)
    if isinstance(fix, SettingFix) and fields(fix.value) == fields(found.after):
        return replace(fix, at_boot=False)
    if found.writer is not None and value is not None:
        return ByHand(f"let {found.writer.name} set {key} = {value} ({found.writer.file}): it comes after sysctl.d")
    if boot.init == "none" and value is not None:
        why = next(iter(boot.problems), "nothing applies the files of sysctl.d")
        return ByHand(f"let whatever starts this machine set {key} = {value}; {why}")
    if not isinstance(fix, SettingFix) or not _comes_later(found.at_boot):
        return fix
    return ByHand(f"let {found.where} say {key} = {fix.value}: that file is read after {DROP_IN_NAME} and overrides it")


def _comes_later(at_boot: KeyAtBoot) -> bool:
    file = at_boot.where.rpartition(":")[0]
    return at_boot.origin == "file" and file.rpartition("/")[2] > DROP_IN_NAME
