"""The score: points by severity, caps, grades, and how much was measured."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from vdscheck.model.judgement import AreaScore, Finding, Score, Severity, Verdict

PROVISIONAL_BELOW = 0.6
USUAL_COVERAGE = 60
"""Per cent: the gate that comes with one on the score, where no other is asked for."""
GRADES: tuple[tuple[int, Literal["A", "B", "C", "D"]], ...] = ((90, "A"), (80, "B"), (70, "C"), (50, "D"))
CAPS = {Severity.CRITICAL: 49, Severity.HIGH: 79}


# The score


def _by_check(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    grouped: dict[str, list[Finding]] = {}
    for finding in findings:
        grouped.setdefault(finding.id, []).append(finding)
    return grouped


def _worst(group: Iterable[Finding]) -> Finding | None:
    """Of the decided findings of one check the worst; the first of those that are equally bad."""
    decided = [finding for finding in group if finding.verdict.credit is not None]
    return min(decided, key=lambda finding: finding.verdict.credit or 0.0, default=None)


def _total(groups: Iterable[Iterable[Finding]]) -> tuple[float, int]:
    kept, weight = 0.0, 0
    for worst in filter(None, map(_worst, groups)):
        kept += worst.weight * (worst.verdict.credit or 0.0)
        weight += worst.weight
    return kept, weight


def _coverage(groups: Iterable[list[Finding]]) -> float | None:
    """The share that was decided; None where nothing applies."""
    decided, applicable = 0.0, 0
    for group in groups:
        applying = [finding for finding in group if finding.verdict is not Verdict.NOT_APPLICABLE]
        if applying:
            known = sum(finding.verdict is not Verdict.UNKNOWN for finding in applying)
            decided += group[0].weight * known / len(applying)
            applicable += group[0].weight
    return round(decided / applicable, 4) if applicable else None


def with_points(findings: list[Finding]) -> tuple[Finding, ...]:
    """The findings, each with the points that it costs: of a check's subjects the worst."""
    groups = _by_check(findings)
    _, weight = _total(groups.values())
    lost = {}
    for worst in filter(None, map(_worst, groups.values())):
        if weight:
            points = 100 * worst.weight * (1 - (worst.verdict.credit or 0.0)) / weight
            lost[id(worst)] = round(points, 1)
    return tuple(replace(each, points_lost=lost.get(id(each), 0.0)) for each in findings)


def score(findings: Iterable[Finding]) -> Score:
    """The score of some findings: the contract's formula, its caps and its grades."""
    groups = _by_check(findings)
    kept, weight = _total(groups.values())
    coverage = _coverage(groups.values()) or 0.0
    caps = [
        CAPS[worst.severity]
        for worst in filter(None, map(_worst, groups.values()))
        if worst.verdict is Verdict.FAIL and worst.severity in CAPS
    ]
    cap = min(caps, default=None)
    areas: dict[str, list[list[Finding]]] = {}
    for group in groups.values():
        areas.setdefault(group[0].area, []).append(group)
    by_area = {}
    for area, members in sorted(areas.items()):
        area_kept, area_weight = _total(members)
        value = _rounded(area_kept, area_weight)
        by_area[area] = AreaScore(value, _coverage(members))
    value = _rounded(kept, weight)
    if value is not None and cap is not None:
        value = min(value, cap)
    grade = None if value is None else _grade(value)
    return Score(value, grade, value is None or coverage < PROVISIONAL_BELOW, coverage, cap, by_area)


def _rounded(kept: float, weight: int) -> int | None:
    # Credits are halves and weights are whole, so the quotient is exact but for the last division.
    return math.floor(100 * kept / weight + 1e-9) if weight else None


def _grade(value: int) -> Literal["A", "B", "C", "D", "F"]:
    return next((grade for least, grade in GRADES if value >= least), "F")
