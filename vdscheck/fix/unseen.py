"""What a fix could not see of the settings that its checks judge: then to find nothing to change says nothing."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.fix.plan import Judge, Name
from vdscheck.fix_kind import FixKind
from vdscheck.model.absence import Reason
from vdscheck.model.fixes import LeftAlone
from vdscheck.model.judgement import Verdict
from vdscheck.model.report import Measurements


def unseen(catalogue: Catalogue, judge: Judge, measurements: Measurements, *, live: bool) -> tuple[LeftAlone, ...]:
    """What was not measured of the settings that the selected checks judge, each with why.

    A measurement goes by the id of its probe, a single setting by its key.
    """
    found: dict[LeftAlone, None] = {}
    for kind in catalogue.kinds.values():
        found |= dict.fromkeys(_unseen(kind, catalogue, judge, measurements, live=live))
    return tuple(found)


def _unseen(
    kind: FixKind, catalogue: Catalogue, judge: Judge, measurements: Measurements, *, live: bool
) -> Iterator[LeftAlone]:
    looked_up: dict[str, None] = {}
    judged = judge(kind.watched(measurements, looked_up, {}))
    applying = {finding.id for finding in judged.findings if finding.verdict is not Verdict.NOT_APPLICABLE}
    read = [each for check_id in sorted(applying) for each in catalogue.checks[check_id].measurement_types]
    if any(each in kind.whole for each in read):
        needed = [*kind.deciding, *(each for each in read if each in kind.single)]
        yield from _measurements(kind, catalogue, needed, measurements, live=live)
        yield from kind.not_read(looked_up, measurements, live=live)


def unread(catalogue: Catalogue, judge: Judge, found: Measurements, changed: Iterable[Name]) -> tuple[LeftAlone, ...]:
    """The judged settings that are not to be changed, and whose next value a file decides that could not be read."""
    left: list[LeftAlone] = []
    for kind in catalogue.kinds.values():
        if not any(True for _ in kind.not_foreseen(None, found)):
            continue
        keys = {name.key for name in changed if name.kind == kind.name}
        looked_up: dict[str, None] = {}
        judge(kind.watched(found, {}, looked_up))
        left += kind.not_foreseen([key for key in looked_up if key not in keys], found)
    return tuple(left)


def probes_of(catalogue: Catalogue, found: Collection[LeftAlone]) -> set[str]:
    """The probes that may see it when they look again."""
    names = {each.key for each in found if each.key in catalogue.probes}
    if len(names) == len(found):
        return names
    return names | {catalogue.by_type[each].probe.id for kind in catalogue.kinds.values() for each in kind.whole[:1]}


def _measurements(
    kind: FixKind, catalogue: Catalogue, wanted: list[Any], measurements: Measurements, *, live: bool
) -> Iterator[LeftAlone]:
    for each in dict.fromkeys(wanted):
        name = catalogue.by_type[each].probe.id
        taken = measurements.get(name)
        absent = None if taken is None else taken.absent
        if taken is not None and (absent is None or absent.kind == "not-applicable"):
            continue
        if absent is not None and absent.reason is Reason.NOT_RUN and not live:
            continue  # an image has no running system, and needs none
        why = "it was not measured" if absent is None else absent.detail
        yield LeftAlone(name, f"{kind.deciding.get(each, name)} could not be seen: {why}")
