"""Which checks are selected, by patterns of ids and subjects."""

import fnmatch
from collections.abc import Mapping

from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.catalogue.declarations import CheckEntry
from vdscheck.model.judgement import Severity, Waiver
from vdscheck.model.records import frozen
from vdscheck.model.report import RulesetNote
from vdscheck.ruleset.profile import RulesetError, nearest, read_profile
from vdscheck.target.interface import TargetKind
from vdscheck.threshold import Conflict, Threshold


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


def refuse_unknown_pattern(pattern: str, catalogue: Catalogue, where: str) -> None:
    """Refuse a pattern that meets no check. Raises RulesetError with the nearest id."""
    wanted = pattern.partition("[")[0]
    if not any(fnmatch.fnmatchcase(check_id, wanted) for check_id in catalogue.checks):
        message = f"{where}: no check is called {pattern}: {nearest(wanted, list(catalogue.checks))}"
        raise RulesetError(message)


def refuse_pattern(waived: str, catalogue: Catalogue, target: TargetKind) -> None:
    """A waiver names one check, or one subject of one: a pattern accepts what nobody has looked at."""
    if "*" not in waived and "?" not in waived:
        return
    name, _, subject = waived.partition("[")
    every = [entry for check_id, entry in sorted(catalogue.checks.items()) if fnmatch.fnmatchcase(check_id, name)]
    here = [entry for entry in every if catalogue.target_of(entry) == target]
    matched = [entry.check.id for entry in here or every]
    how = "write one waiver for each that you accept"
    if matched == [name]:
        how = f"write {name} for all its subjects, or a waiver for each subject"
    elif subject:
        how += ", with its subject"
    message = (
        f"[[waivers]]: {waived} is a pattern, and a waiver names one check: {how}; it matched {', '.join(matched)}"
    )
    raise RulesetError(message)


def checks_selected(ruleset: Ruleset, catalogue: Catalogue, target: TargetKind) -> tuple[CheckEntry, ...]:
    """The checks of a target that are judged by a limit and neither skipped nor left out, by id."""
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


def refuse_empty_selection(ruleset: Ruleset, catalogue: Catalogue, target: TargetKind) -> None:
    """A pattern that leaves nothing would make every gate hold."""
    overrides, profiles = ruleset.note.overrides, ruleset.note.profiles
    for pattern in overrides.get("only", ()):
        name = pattern.partition("[")[0]
        meant = [entry for check_id, entry in sorted(catalogue.checks.items()) if fnmatch.fnmatchcase(check_id, name)]
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
