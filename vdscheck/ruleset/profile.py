"""Profiles: limits with their sources, read from TOML."""

import pkgutil
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.catalogue.declarations import CheckEntry
from vdscheck.model.judgement import Severity
from vdscheck.model.records import frozen
from vdscheck.plugin import ProfileFile
from vdscheck.target.host import one_line
from vdscheck.threshold import AtLeast, AtMost, OneOf, Threshold


class RulesetError(Exception):
    """A profile, an override or a selection that cannot be followed; one line that says how to mend it."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


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
            entry = known_check(check_id, catalogue, where)
            threshold = _threshold(values, where)
            _same_kind(entry, limit, threshold, where)
            limits.setdefault(check_id, {})[limit] = threshold
            if "why" in values:
                whys[check_id] = str(values["why"])
    severities = dict(base.severities) if base else {}
    severities.update(severities_of(table.get("severity", {}), catalogue, f"profile {name}"))
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


def known_check(check_id: str, catalogue: Catalogue, where: str) -> CheckEntry:
    """The check of that id. Raises RulesetError with the nearest one."""
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


def severities_of(table: Mapping[str, Any], catalogue: Catalogue, where: str) -> dict[str, Severity]:
    """The severities of a table by check. Raises RulesetError."""
    found = {}
    for check_id, word in table.items():
        known_check(check_id, catalogue, where)
        try:
            found[check_id] = Severity(word)
        except ValueError as error:
            words = ", ".join(severity.value for severity in Severity)
            message = f"{where}: the severity of {check_id} is {word!r}; it is one of {words}"
            raise RulesetError(message) from error
    return found
