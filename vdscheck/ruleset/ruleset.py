"""What measurements are judged by: profiles, overrides and waivers made into one set of thresholds."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.model.judgement import Severity, Waiver
from vdscheck.model.report import RulesetNote
from vdscheck.ruleset.overrides import offer_of, override
from vdscheck.ruleset.profile import Profile, RulesetError, read_profile, severities_of
from vdscheck.ruleset.selection import (
    Ruleset,
    checks_selected,
    refuse_empty_selection,
    refuse_pattern,
    refuse_unknown_pattern,
)
from vdscheck.target.interface import TargetKind
from vdscheck.threshold import AtLeast, AtMost, Conflict, OneOf, Threshold, merged

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
    severities |= severities_of(overrides.get("severity", {}), catalogue, "[severity]")
    override(limits, overrides.get("limits", {}), catalogue)
    offer_of(limits, overrides.get("offer", {}), catalogue)
    for option in ("only", "skip"):
        for pattern in overrides.get(option, ()):
            refuse_unknown_pattern(pattern, catalogue, f"--{option}")
    waivers = tuple(Waiver(**each) for each in overrides.get("waivers", ()))
    for waiver in waivers:
        refuse_unknown_pattern(waiver.check, catalogue, "[[waivers]]")
        if not saved:
            refuse_pattern(waiver.check, catalogue, target)
    note = RulesetNote(_identity(profiles, version, overrides, limits), tuple(profiles), dict(overrides))
    whys: dict[str, str] = {}
    for profile in chosen:
        whys = {**profile.whys, **whys}
    ruleset = Ruleset(note, limits, severities, waivers, whys, ())
    ruleset = replace(ruleset, selected=checks_selected(ruleset, catalogue, target))
    refuse_empty_selection(ruleset, catalogue, target)
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


def _identity(
    profiles: Sequence[str],
    version: str,
    overrides: Mapping[str, Any],
    limits: Mapping[str, Mapping[str, Threshold | Conflict]],
) -> str:
    said = {check: {name: repr(limit) for name, limit in named.items()} for check, named in limits.items()}
    text = json.dumps([list(profiles), overrides, said], sort_keys=True, default=str)
    return f"{'+'.join(profiles)}@{version} {zlib.crc32(text.encode()):08x}"
