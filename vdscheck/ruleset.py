"""What measurements are judged by: profiles, overrides and waivers made into one set of thresholds."""

import fnmatch
import json
import pkgutil
import tomllib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vdscheck.catalogue import Catalogue, CheckEntry
from vdscheck.model import RulesetNote, Severity, Waiver, frozen
from vdscheck.plugin import ProfileFile
from vdscheck.target import TargetKind
from vdscheck.threshold import AtLeast, AtMost, Conflict, OneOf, Threshold, merged
from vdscheck.units import UnitError, amount

OFFER = {
    "cpus": ("cpu.contract", "CPUs"),
    "memory": ("memory.contract", "GiB"),
    "disk": ("disk.contract", "GB"),
    "bandwidth": ("sysctl.socket-buffers", "Mbit/s"),
}
"""What `[offer]` may state: the check that judges it, and the unit that it is judged in."""


_SET = "house: set in the configuration"


class RulesetError(Exception):
    """A profile, an override or a selection that cannot be followed; one line that says how to mend it."""


@frozen
class Profile:
    """Named thresholds with their sources, and the severities that they change."""

    name: str
    summary: str
    sources: str
    limits: Mapping[str, Mapping[str, Threshold]]
    whys: Mapping[str, str]
    """What follows when a limit is not met, by check id, where the profile says so."""
    severities: Mapping[str, Severity]


@frozen
class Ruleset:
    """The thresholds, severities, waivers and selection of one run."""

    note: RulesetNote
    limits: Mapping[str, Mapping[str, Threshold | Conflict]]
    severities: Mapping[str, Severity]
    waivers: tuple[Waiver, ...]
    whys: Mapping[str, str]
    """What follows when a check does not pass, by check id, where a profile says more than the check."""
    selected: tuple[CheckEntry, ...]
    """The checks that are part of it, in the order of their ids."""

    def includes(self, check_id: str, subject: str | None) -> bool:
        """Whether `--only` and `--skip` leave this finding in."""
        overrides = self.note.overrides
        only, skip = overrides.get("only", ()), overrides.get("skip", ())
        kept = not only or any(matches(pattern, check_id, subject) for pattern in only)
        return kept and not any(matches(pattern, check_id, subject) for pattern in skip)


def matches(pattern: str, check_id: str, subject: str | None) -> bool:
    """Whether a pattern means a finding: a check id or a glob, with a subject in brackets or without."""
    wanted, bracket, rest = pattern.partition("[")
    if not fnmatch.fnmatchcase(check_id, wanted):
        return False
    if not bracket:
        return True
    return subject is not None and _glob_subject(rest.removesuffix("]"), subject)


def _glob_subject(pattern: str, subject: str) -> bool:
    return fnmatch.fnmatchcase(subject, pattern.replace("[", "[[]"))


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint that names the nearest known word, or lists a few."""
    from difflib import get_close_matches  # only a refusal needs it

    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known)[:12])}"


# Profiles


def read_profile(name: str, catalogue: Catalogue) -> Profile:
    """A profile by name, with what it extends. Raises RulesetError."""
    return _profile(name, catalogue, ())


def _profile(name: str, catalogue: Catalogue, inside: tuple[str, ...]) -> Profile:
    if name not in catalogue.profiles:
        message = f"there is no profile {name}: {nearest(name, list(catalogue.profiles))}"
        raise RulesetError(message)
    if name in inside:
        message = f"profile {name} extends itself"
        raise RulesetError(message)
    table = _table(catalogue.profiles[name], name)
    base = _profile(str(table["extends"]), catalogue, (*inside, name)) if "extends" in table else None
    limits: dict[str, dict[str, Threshold]] = {}
    whys: dict[str, str] = {}
    if base:
        limits = {check: dict(named) for check, named in base.limits.items()}
        whys = dict(base.whys)
    for check_id, named in table.get("limits", {}).items():
        for limit, values in named.items():
            where = f"profile {name}, {check_id}.{limit}"
            entry = _known_check(check_id, catalogue, where)
            threshold = _threshold(values, where)
            _same_kind(entry, limit, threshold, where)
            limits.setdefault(check_id, {})[limit] = threshold
            if "why" in values:
                whys[check_id] = str(values["why"])
    severities = dict(base.severities) if base else {}
    severities.update(_severities(table.get("severity", {}), catalogue, f"profile {name}"))
    return Profile(name, str(table["summary"]), str(table["sources"]), limits, whys, severities)


def _table(file: ProfileFile, name: str) -> dict[str, Any]:
    try:
        # Not importlib.resources, which takes ten times as long to import.
        table = tomllib.loads((pkgutil.get_data(file.package, file.file) or b"").decode("utf-8"))
    except (OSError, ValueError, ImportError) as error:
        message = f"profile {name} ({file.package}/{file.file}): {error}"
        raise RulesetError(message) from error
    for key in ("summary", "sources"):
        if not isinstance(table.get(key), str):
            message = f"profile {name} ({file.package}/{file.file}) has no {key}"
            raise RulesetError(message)
    return table


def _known_check(check_id: str, catalogue: Catalogue, where: str) -> CheckEntry:
    entry = catalogue.checks.get(check_id)
    if entry is None:
        message = f"{where}: there is no check {check_id}: {nearest(check_id, list(catalogue.checks))}"
        raise RulesetError(message)
    return entry


def _threshold(values: Mapping[str, Any], where: str) -> Threshold:
    known = {"at_most", "at_least", "one_of", "fail", "unmet", "unit", "source", "why"}
    unknown = set(values) - known
    directions = [key for key in ("at_most", "at_least", "one_of") if key in values]
    if unknown or len(directions) != 1:
        message = f"{where}: a limit has one of at_most, at_least, one_of, and: fail, unmet, unit, source, why"
        raise RulesetError(message)
    for key in ("unit", "source"):
        if not isinstance(values.get(key), str):
            message = f"{where}: a limit without its {key}"
            raise RulesetError(message)
    common = {"unit": values["unit"], "source": values["source"], "unmet": values.get("unmet", "fail")}
    limit = values[directions[0]]
    try:
        if directions == ["one_of"]:
            return OneOf(values=tuple(limit), **common)
        kind = AtMost if directions == ["at_most"] else AtLeast
        return kind(pass_limit=limit, fail_limit=values.get("fail"), **common)
    except (TypeError, ValueError) as error:
        message = f"{where}: {error}"
        raise RulesetError(message) from error


def _same_kind(entry: CheckEntry, limit: str, threshold: Threshold, where: str) -> None:
    need = entry.need(limit)
    if need is None:
        names = [each.name for each in entry.needs if each.kind == "threshold"]
        message = f"{where}: {entry.check.id} has no limit {limit}; it has {', '.join(names) or 'none'}"
        raise RulesetError(message)
    if not isinstance(threshold, need.type):
        message = f"{where}: {entry.check.id} takes {need.type.__name__} here, not {type(threshold).__name__}"
        raise RulesetError(message)


def _severities(table: Mapping[str, Any], catalogue: Catalogue, where: str) -> dict[str, Severity]:
    found = {}
    for check_id, word in table.items():
        _known_check(check_id, catalogue, where)
        try:
            found[check_id] = Severity(word)
        except ValueError as error:
            words = ", ".join(severity.value for severity in Severity)
            message = f"{where}: the severity of {check_id} is {word!r}; it is one of {words}"
            raise RulesetError(message) from error
    return found


# The ruleset


def build(
    catalogue: Catalogue,
    profiles: Sequence[str],
    overrides: Mapping[str, Any],
    version: str,
    target: TargetKind = "host",
    *,
    saved: bool = False,
) -> Ruleset:
    """The ruleset of some profiles and overrides, for a host or for a cluster.

    `overrides` is what the configuration and the command line change, in a form that the report
    keeps: `limits`, `severity`, `offer`, `waivers`, `only`, `skip`. Those of a `saved` report count as they did:
    an earlier version took patterns as waivers. Raises RulesetError.
    """
    profiles = list(dict.fromkeys(profiles))  # to say one twice says nothing more
    chosen = [read_profile(name, catalogue) for name in profiles]
    for profile in chosen:
        _refuse_a_stranger(profile, catalogue, target)
    limits = _merged(chosen)
    severities: dict[str, Severity] = {}
    for profile in chosen:
        for check_id, severity in profile.severities.items():
            heavier = severities.get(check_id)
            if heavier is None or severity.weight > heavier.weight:
                severities[check_id] = severity
    severities |= _severities(overrides.get("severity", {}), catalogue, "[severity]")
    _override(limits, overrides.get("limits", {}), catalogue)
    _offer(limits, overrides.get("offer", {}))
    for option in ("only", "skip"):
        for pattern in overrides.get(option, ()):
            _known_pattern(pattern, catalogue, f"--{option}")
    waivers = tuple(Waiver(**each) for each in overrides.get("waivers", ()))
    for waiver in waivers:
        _known_pattern(waiver.check, catalogue, "[[waivers]]")
        if not saved:
            _refuse_a_pattern(waiver.check, catalogue)
    note = RulesetNote(_identity(profiles, version, overrides, limits), tuple(profiles), dict(overrides))
    whys: dict[str, str] = {}
    for profile in chosen:
        whys = {**profile.whys, **whys}
    ruleset = Ruleset(note, limits, severities, waivers, whys, ())
    ruleset = replace(ruleset, selected=_selected(ruleset, catalogue, target))
    _refuse_an_empty_selection(ruleset, catalogue, target)
    return ruleset


def _refuse_a_stranger(profile: Profile, catalogue: Catalogue, target: TargetKind) -> None:
    """A profile that limits only what is not here would judge nothing, and look as if it had."""
    kinds = {catalogue.target_of(catalogue.checks[check_id]) for check_id in profile.limits}
    if kinds and target not in kinds:
        hint = "--profile cluster does" if target == "cluster" else "vdscheck cluster judges by it"
        message = f"profile {profile.name} says nothing of a {target}: {hint}"
        raise RulesetError(message)


def stated_by(profiles: Sequence[str], catalogue: Catalogue, check_id: str, source: str) -> tuple[str, ...]:
    """Those of the chosen profiles that have a limit of this check from this source."""
    limits = {name: read_profile(name, catalogue).limits.get(check_id, {}) for name in profiles}
    return tuple(name for name, named in limits.items() if any(limit.source == source for limit in named.values()))


def _merged(profiles: Sequence[Profile]) -> dict[str, dict[str, Threshold | Conflict]]:
    limits: dict[str, dict[str, Threshold | Conflict]] = {}
    origin: dict[tuple[str, str], str] = {}
    for profile in profiles:
        for check_id, named in profile.limits.items():
            for name, threshold in named.items():
                before = limits.setdefault(check_id, {}).get(name)
                after: Threshold | Conflict = threshold
                if isinstance(before, AtMost | AtLeast | OneOf):
                    first = origin[check_id, name]
                    after = merged(before, threshold) or Conflict(
                        f"profile {first} says {before.phrase()}, profile {profile.name} says "
                        f"{threshold.phrase()}: no value satisfies both"
                    )
                elif before is not None:
                    after = before
                limits[check_id][name] = after
                origin.setdefault((check_id, name), profile.name)
    return limits


def _override(
    limits: dict[str, dict[str, Threshold | Conflict]], table: Mapping[str, Any], catalogue: Catalogue
) -> None:
    for check_id, named in table.items():
        entry = _known_check(check_id, catalogue, "[limits]")
        for name, written in named.items():
            where = f'[limits."{check_id}"] {name}'
            need = entry.need(name)
            if need is None:
                names = [each.name for each in entry.needs if each.kind == "threshold"]
                message = f"{where}: {check_id} has no limit {name}; it has {', '.join(names) or 'none'}"
                raise RulesetError(message)
            before = limits.get(check_id, {}).get(name)
            if before is None and need.bears_absence:
                limits[check_id] = {**limits.get(check_id, {}), name: _stated(need.type, written, where)}
                continue
            if before is None or isinstance(before, Conflict):
                message = f"{where}: no chosen profile has this limit, so its unit is not known"
                raise RulesetError(message)
            limits[check_id] = {**limits[check_id], name: _overridden(before, written, where)}


def _stated(kind: Any, written: Any, where: str) -> Threshold:  # noqa: ANN401 - a type of threshold
    """A limit that no profile has, since only the user can say it: `"3 nodes"`, or a list of values."""
    if kind is OneOf:
        return _overridden(OneOf(values=("",), unit="", source=_SET), written, where)
    number, _, unit = str(written).strip().partition(" ")
    try:
        limit = float(number)
        whole = int(limit) if limit.is_integer() else limit
        made: Threshold = kind(pass_limit=whole, unit=unit.strip(), source=_SET)
    except ValueError as error:
        message = f'{where}: {written!r} is not an amount: write "3 nodes", for example'
        raise RulesetError(message) from error
    return made


def _overridden(before: Threshold, written: Any, where: str) -> Threshold:  # noqa: ANN401
    if isinstance(before, OneOf):
        values = tuple(written) if isinstance(written, list) else (written,)
        if not values or not all(isinstance(value, int | str) for value in values):
            message = f"{where}: a value, or a list of values, is wanted"
            raise RulesetError(message)
        return replace(before, values=values, source=_SET)
    stages = written if isinstance(written, dict) else {"pass": written}
    if not set(stages) <= {"pass", "fail"} or "pass" not in stages:
        message = f'{where}: write "10 {before.unit}" or {{pass = "...", fail = "..."}}'
        raise RulesetError(message)
    try:
        amounts = {stage: _amount(value, before.unit) for stage, value in stages.items()}
        unmet = "fail" if "fail" in amounts else before.unmet
        return replace(before, pass_limit=amounts["pass"], fail_limit=amounts.get("fail"), unmet=unmet, source=_SET)
    except ValueError as error:
        message = f"{where}: {error}"
        raise RulesetError(message) from error


def _amount(written: Any, unit: str) -> float:  # noqa: ANN401
    if isinstance(written, int | float) and not isinstance(written, bool):
        if unit:
            message = f'a limit without its unit: write "{written} {unit}"'
            raise UnitError(message)
        return written
    return amount(str(written), unit)


def _offer(limits: dict[str, dict[str, Threshold | Conflict]], offer: Mapping[str, Any]) -> None:
    for key, written in offer.items():
        check_id, unit = OFFER[key]
        try:
            bought = float(written) if isinstance(written, int) else amount(str(written), unit)
            if bought <= 0:
                message = "more than nothing was bought"
                raise UnitError(message)
            sold = AtLeast(pass_limit=bought, unit=unit, source="offer: what was bought, from [offer]")
        except ValueError as error:
            message = f"[offer] {key}: {error}"
            raise RulesetError(message) from error
        limits[check_id] = {"sold": sold}


def _known_pattern(pattern: str, catalogue: Catalogue, where: str) -> None:
    wanted = pattern.partition("[")[0]
    if not any(fnmatch.fnmatchcase(check_id, wanted) for check_id in catalogue.checks):
        message = f"{where}: no check is called {pattern}: {nearest(wanted, list(catalogue.checks))}"
        raise RulesetError(message)


def _refuse_a_pattern(waived: str, catalogue: Catalogue) -> None:
    """A waiver names one check, or one subject of one: a pattern accepts what nobody has looked at."""
    if "*" not in waived and "?" not in waived:
        return
    name, _, subject = waived.partition("[")
    matched = [check_id for check_id in sorted(catalogue.checks) if fnmatch.fnmatchcase(check_id, name)]
    how = "write one waiver for each that you accept"
    if matched == [name]:
        how = f"write {name} for all its subjects, or a waiver for each subject"
    elif subject:
        how += ", with its subject"
    message = (
        f"[[waivers]]: {waived} is a pattern, and a waiver names one check: {how}; it matched {', '.join(matched)}"
    )
    raise RulesetError(message)


def _selected(ruleset: Ruleset, catalogue: Catalogue, target: TargetKind) -> tuple[CheckEntry, ...]:
    only, skip = (ruleset.note.overrides.get(key, ()) for key in ("only", "skip"))
    chosen = []
    for check_id, entry in sorted(catalogue.checks.items()):
        if not _is_judged(entry, ruleset.limits) or catalogue.target_of(entry) != target:
            continue
        names = [pattern.partition("[")[0] for pattern in only]
        if only and not any(fnmatch.fnmatchcase(check_id, name) for name in names):
            continue
        if any("[" not in pattern and fnmatch.fnmatchcase(check_id, pattern) for pattern in skip):
            continue
        chosen.append(entry)
    return tuple(chosen)


def _refuse_an_empty_selection(ruleset: Ruleset, catalogue: Catalogue, target: TargetKind) -> None:
    """A pattern that leaves nothing would make every gate hold."""
    overrides, profiles = ruleset.note.overrides, ruleset.note.profiles
    for pattern in overrides.get("only", ()):
        name = pattern.partition("[")[0]
        meant = [entry for check_id, entry in catalogue.checks.items() if fnmatch.fnmatchcase(check_id, name)]
        if all(catalogue.target_of(entry) != target for entry in meant):
            command = {"host": "vdscheck cluster", "cluster": "vdscheck run"}[target]
            message = f"--only {pattern}: {meant[0].check.id} is judged by another command: {command}"
            raise RulesetError(message)
        if not any(_is_judged(entry, ruleset.limits) for entry in meant):
            message = (
                f"--only {pattern}: no check of profile{'s' if len(profiles) > 1 else ''} {', '.join(profiles)}; "
                f"{meant[0].check.id} is judged by: {', '.join(_judging(meant[0], catalogue)) or 'none'}"
            )
            raise RulesetError(message)
    patterned = [f"--{key}" for key in ("only", "skip") if overrides.get(key)]
    if patterned and not ruleset.selected:
        message = f"{' and '.join(patterned)} leave{'' if len(patterned) > 1 else 's'} no check"
        raise RulesetError(message)


def _judging(entry: CheckEntry, catalogue: Catalogue) -> list[str]:
    return [name for name in sorted(catalogue.profiles) if _is_judged(entry, read_profile(name, catalogue).limits)]


def _is_judged(entry: CheckEntry, limits: Mapping[str, Mapping[str, object]]) -> bool:
    return set(entry.required_thresholds) <= set(limits.get(entry.check.id, {}))


def _identity(
    profiles: Sequence[str],
    version: str,
    overrides: Mapping[str, Any],
    limits: Mapping[str, Mapping[str, Threshold | Conflict]],
) -> str:
    said = {check: {name: repr(limit) for name, limit in named.items()} for check, named in limits.items()}
    text = json.dumps([list(profiles), overrides, said], sort_keys=True, default=str)
    return f"{'+'.join(profiles)}@{version} {zlib.crc32(text.encode()):08x}"
