"""Findings put together as a reader takes them in: one entry for one thing to know."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from vdscheck.model.absence import Reason
from vdscheck.model.judgement import Finding, Verdict
from vdscheck.model.records import frozen
from vdscheck.render.safe import harmless

WRONG = (Verdict.FAIL, Verdict.WARN)
NAMES_SHOWN = 6
NAME_LIMIT = 80
_SHORTEST_SUBJECT = 3
"""A shorter subject may stand in a sentence by chance."""
_NUMBER = r"(?<![\w.])\d(?:[\d.,]*\d)?(?!\w)"


@frozen
class Problem:
    """What one check found wrong, on one subject or on several."""

    findings: tuple[Finding, ...]
    """The worst first."""
    judged: int
    """On how many subjects the check decided."""

    @property
    def worst(self) -> Finding:
        """The finding that the check counts with."""
        return self.findings[0]

    @property
    def points(self) -> float:
        """How many points of the score it costs."""
        return max(finding.points_lost for finding in self.findings)


@frozen
class FindingGroup:
    """Findings that one sentence is true of."""

    findings: tuple[Finding, ...]
    sentence: str
    reason: Reason | None

    @property
    def names(self) -> tuple[str, ...]:
        """Their names; of a check that was named already only the subject, in brackets."""
        named: list[str] = []
        before = None
        for finding in self.findings:
            short = finding.id == before and finding.subject is not None
            named.append(f"[{finding.subject}]" if short else finding.name)
            before = finding.id
        return tuple(named)


def troubles(findings: Sequence[Finding]) -> list[Problem]:
    """What is wrong, by check, worst first: by points, then by severity, fail before warn."""
    decided: dict[str, int] = {}
    wrong: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.verdict.credit is not None:
            decided[finding.id] = decided.get(finding.id, 0) + 1
        if finding.verdict in WRONG:
            wrong.setdefault(finding.id, []).append(finding)
    found = [Problem(tuple(sorted(group, key=_badness)), decided[name]) for name, group in wrong.items()]
    return sorted(found, key=lambda trouble: (-trouble.points, _badness(trouble.worst), trouble.worst.id))


def alike(findings: Iterable[Finding], verdict: Verdict, *, roughly: bool) -> list[FindingGroup]:
    """The findings of this verdict, those of the same reason and sentence together; the weightiest first.

    Roughly: of one check also those whose sentences differ in nothing but numbers.
    """
    groups: dict[tuple[Reason | None, str], list[Finding]] = {}
    for finding in findings:
        if finding.verdict is verdict:
            groups.setdefault((finding.reason, _of_any_subject(finding)), []).append(finding)
    found = [FindingGroup(tuple(group), said, reason) for (reason, said), group in groups.items()]
    if roughly:
        found = _merged(found)
    said_of_one = [replace(a, sentence=a.findings[0].summary) if len(a.findings) == 1 else a for a in found]
    return sorted(said_of_one, key=lambda each: -max(finding.weight for finding in each.findings))


def _merged(groups: Iterable[FindingGroup]) -> list[FindingGroup]:
    found: dict[tuple[str, Reason | None, str], list[FindingGroup]] = {}
    for group in groups:
        ids = {finding.id for finding in group.findings}
        shape = re.sub(_NUMBER, "…", group.sentence) if len(ids) == 1 else group.sentence
        found.setdefault((min(ids), group.reason, shape), []).append(group)
    return [
        same[0]
        if len(same) == 1
        else FindingGroup(tuple(finding for group in same for finding in group.findings), shape, reason)
        for (_, reason, shape), same in found.items()
    ]


def listed(names: Sequence[str], most: int = NAMES_SHOWN) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - most
    return ", ".join(harmless(name, NAME_LIMIT) for name in names[:most]) + (f" and {more} more" if more > 0 else "")


def measured_and_why(finding: Finding) -> tuple[str, str]:
    """The summary in two: what was found, and its last sentence, which says what follows from it."""
    found, stop, why = finding.summary.rstrip(".").rpartition(". ")
    return (found, f"{why}.") if stop else (finding.summary, "")


def _badness(finding: Finding) -> tuple[float, int, int]:
    return (-finding.points_lost, -finding.weight, WRONG.index(finding.verdict))


def _of_any_subject(finding: Finding) -> str:
    """The sentence without the subject's name, so that what differs in nothing else is said once."""
    subject = finding.subject
    if subject is None or len(subject) < _SHORTEST_SUBJECT or subject not in finding.summary:
        return finding.summary
    said, *rest = finding.summary.split(subject)
    for piece in rest:
        within = said[-1:].isalnum() or said[-1:] in (".", "_") or piece[:1].isalnum() or piece[:1] == "_"
        said += (subject if within else "it") + piece
    return said
