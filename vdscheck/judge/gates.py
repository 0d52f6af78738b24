"""Gates: what a pipeline asks of a report."""

from collections.abc import Iterable

from vdscheck.judge.score import USUAL_COVERAGE
from vdscheck.model.judgement import Finding, Gate, Score, Verdict


def gates(
    findings: Iterable[Finding],
    scored: Score,
    *,
    min_score: int | None,
    min_coverage: int | None,
    fail_on: Iterable[str],
) -> tuple[Gate, ...]:
    """The gates that were asked for, and whether each holds."""
    found = []
    if min_score is not None:
        holds = scored.value is not None and scored.value >= min_score
        found.append(Gate("min-score", min_score, scored.value, holds))
        min_coverage = USUAL_COVERAGE if min_coverage is None else min_coverage
    if min_coverage is not None:
        percent = round(100 * scored.coverage, 1)
        found.append(Gate("min-coverage", min_coverage, percent, percent >= min_coverage))
    verdicts = [finding.verdict for finding in findings]
    for level in dict.fromkeys(fail_on):
        bad = {
            "warn": (Verdict.WARN, Verdict.FAIL),
            "fail": (Verdict.FAIL,),
            "unknown": (Verdict.UNKNOWN,),
        }[level]
        count = sum(verdict in bad for verdict in verdicts)
        found.append(Gate("fail-on", level, count, count == 0))
    return tuple(found)
