"""The catalogue, one check, the profiles and the schema, as the small commands print them."""

import json
import os
from collections.abc import Iterable, Sequence

from vdscheck.catalogue.catalogue import Catalogue, load
from vdscheck.catalogue.declarations import CheckEntry, ProbeEntry
from vdscheck.cli.commands import in_order, with_formats
from vdscheck.codec import schema as schema_of
from vdscheck.fix_kind import FixKind
from vdscheck.plugin import Matter, Option, Terminal
from vdscheck.render.safe import json_document
from vdscheck.render.text import catalogue_pages
from vdscheck.render.text.catalogue_pages import CheckPage, LimitRow, MeasuredBy, OptionRow, ProfilePage, steps
from vdscheck.ruleset.profile import Profile, RulesetError, nearest, read_profile


def listing() -> bytes:
    """`vdscheck list`."""
    catalogue = load()
    terminal = _terminal()
    return catalogue_pages.listing(
        _check_pages(catalogue), width=terminal.width, colour=terminal.colour, utf8=terminal.utf8
    )


def explanation(check_id: str) -> bytes:
    """`vdscheck explain CHECK`. Raises RulesetError for an unknown check."""
    catalogue = load()
    wanted = check_id.partition("[")[0]
    if wanted not in catalogue.checks:
        message = f"there is no check {wanted}: {nearest(wanted, list(catalogue.checks))}"
        raise RulesetError(message)
    terminal = _terminal()
    page = _check_page(catalogue.checks[wanted], catalogue, _profiles(catalogue))
    return catalogue_pages.explanation(page, width=terminal.width, colour=terminal.colour, utf8=terminal.utf8)


def profiles() -> bytes:
    """`vdscheck profiles`."""
    terminal = _terminal()
    pages = [_profile_page(profile) for profile in _profiles(load())]
    return catalogue_pages.profiles(pages, width=terminal.width, colour=terminal.colour, utf8=terminal.utf8)


def schema() -> bytes:
    """`vdscheck schema`, and docs/report-v1.schema.json: of the report, and of what `undo --json` prints."""
    from vdscheck.fix.undo_report import DOCUMENTS

    catalogue = load()
    kinds = {probe_id: entry.provides for probe_id, entry in sorted(catalogue.probes.items())}
    return json_document((json.dumps(schema_of(kinds, DOCUMENTS), indent=2) + "\n").encode())


def checks_page() -> bytes:
    """docs/checks.md."""
    return catalogue_pages.markdown(_check_pages(load()))


def options_page() -> bytes:
    """docs/options.md."""
    catalogue = load()
    takers: dict[str, list[str]] = {}
    found: dict[str, Option] = {}
    for name in in_order(catalogue):
        for option in catalogue.options_of(name):
            key = option.name if catalogue.options.get(option.name) is option else f"{option.name} of {name}"
            takers.setdefault(key, []).append(name)
            found[key] = option
    tables = {name: each for name, each in catalogue.options.items() if each.takes == "table"}
    rows = [_option_row(option, takers.get(key, ())) for key, option in (found | tables).items()]
    offer = [(each.name, each.check, each.unit) for _, each in sorted(catalogue.offer.items())]
    return catalogue_pages.options(rows, offer)


def _option_row(option: Option, takers: Sequence[str]) -> OptionRow:
    value = option.metavar or "/".join(option.among)
    flags = [f"{flag} {value}" if value else flag for flag in option.flags]
    star = "*" if option.matter is Matter.REACH else ""
    key = f"[{option.name}]" if option.takes == "table" else option.name
    return OptionRow(
        written=", ".join(f"`{flag}`" for flag in flags),
        commands=", ".join(f"`{name}`" for name in takers),
        key="" if option.matter is None else f"`{key}`{star}",
        help=with_formats(option.help, ()),
    )


def _terminal() -> Terminal:
    return Terminal.of(os.environ, no_color=False, verbose=False, quiet=False)


def _profiles(catalogue: Catalogue) -> list[Profile]:
    return [read_profile(name, catalogue) for name in sorted(catalogue.profiles)]


def _check_pages(catalogue: Catalogue) -> list[CheckPage]:
    known = _profiles(catalogue)
    return [_check_page(entry, catalogue, known) for _, entry in sorted(catalogue.checks.items())]


def _check_page(entry: CheckEntry, catalogue: Catalogue, known: list[Profile]) -> CheckPage:
    check = entry.check
    judging = [profile for profile in known if set(entry.required_thresholds) <= set(profile.limits.get(check.id, {}))]
    return CheckPage(
        id=check.id,
        title=entry.title,
        severity=check.severity.value,
        profiles=tuple(profile.name for profile in judging),
        sections=entry.sections,
        measured_by=tuple(_measured_by(each) for each in catalogue.probes_of(entry)),
        limits=tuple(row for profile in judging for row in _limits(profile, check.id)),
        fix=_mended(entry, "Fix", [(kind, kind.page_fix) for kind in catalogue.kinds.values()]),
        undo=_mended(entry, "Undo", [(kind, kind.page_undo) for kind in catalogue.kinds.values()]),
    )


def _mended(entry: CheckEntry, heading: str, of_kinds: Iterable[tuple[FixKind, tuple[str, ...]]]) -> tuple[str, ...]:
    """How it is mended, or that is undone: as its docstring says, else as any setting of a kind is."""
    said = steps(entry.sections.get(heading, ""))
    if said:
        return tuple(said)
    pages = (lines for kind, lines in of_kinds if kind.whole[0] in entry.measurement_types)
    return tuple(line.format(check=entry.check.id) for line in next(pages, ()))


def _limits(profile: Profile, check_id: str) -> list[LimitRow]:
    return [
        LimitRow(profile=profile.name, check=check_id, name=name, limit=limit.described(), source=limit.source)
        for name, limit in profile.limits.get(check_id, {}).items()
    ]


def _measured_by(entry: ProbeEntry) -> MeasuredBy:
    probe, said = entry.probe, []
    if probe.window is not None:
        said.append(f"for {probe.window.default_s:g} s")
    if probe.alone:
        said.append("with a load of its own")
    if probe.window is not None and probe.window.passive_s is None:
        said.append("left out by --passive")
    if probe.sends:
        said.append("sends packets, left out by --offline")
    return MeasuredBy(probe=probe.id, method=probe.method, load=", ".join(said))


def _profile_page(profile: Profile) -> ProfilePage:
    return ProfilePage(
        name=profile.name,
        summary=profile.summary,
        sources=profile.sources,
        limits=tuple(row for check_id in sorted(profile.limits) for row in _limits(profile, check_id)),
        severities=tuple((check_id, severity.value) for check_id, severity in sorted(profile.severities.items())),
    )
