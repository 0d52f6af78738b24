"""The report of every captured host is what it was before: figures, verdicts, points and score."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support import host_trees
from tests.support.project import PROJECT
from vdscheck import measurements
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.judge.judge import judge
from vdscheck.measure.measure import Effort, Options, measure
from vdscheck.model.judgement import Finding
from vdscheck.ruleset.ruleset import build

KEPT = PROJECT / "tests/hosts/reports.json"
PROFILES = ["web", "kubernetes-node", "latency", "postgres", "redis"]
OFFER = {"cpus": 2, "memory": "4 GiB", "disk": "20 GB"}


def reported(catalogue: Catalogue, name: str, folder: Path) -> dict[str, Any]:
    """The findings by name, and the score."""
    rules = build(catalogue, PROFILES, {"offer": OFFER}, "test")
    host = host_trees.unpack(host_trees.all_hosts()[name], folder)
    needed = {entry.probe.id: entry for check in rules.selected for entry in catalogue.probes_of(check)}
    outcome = measure(host, needed.values(), Options(effort=Effort.PASSIVE))
    judged = judge(catalogue, rules, outcome.measurements, "2026-11-24")
    findings = {
        each.name: f"{each.verdict.value} {each.reason and each.reason.value} {_figure(each)} {each.points_lost}"
        for each in judged.findings
    }
    sources = {said.source for each in judged.findings for said in each.evidence}
    assert not {source for source in sources if not source or source in measurements.__all__ or is_a_class(source)}
    score = judged.score
    return {"findings": findings, "score": [score.value, score.grade, score.cap, score.coverage, score.provisional]}


def is_a_class(source: str) -> bool:
    """Whether what is named as a source is a name of the code, and neither a file nor a call."""
    return re.fullmatch(r"(?:[A-Z][a-z]+){2,}|[A-Z][a-z]+(?:[A-Z]\w*)+", source) is not None


def _figure(finding: Finding) -> str:
    seen = finding.observed
    return "-" if seen is None else f"{seen.value} [{seen.low}, {seen.high}] {seen.unit}"


@pytest.mark.parametrize("name", sorted(host_trees.all_hosts()))
def test_the_report_of_a_captured_host_is_what_it_was(catalogue: Catalogue, name: str, tmp_path: Path) -> None:
    found = json.loads(json.dumps(reported(catalogue, name, tmp_path)))
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if os.environ.get("VDSCHECK_REWRITE_GOLDEN"):
        KEPT.write_text(json.dumps(kept | {name: found}, indent=1, sort_keys=True) + "\n")
    else:
        assert found == kept.get(name), "a check or a limit changed? VDSCHECK_REWRITE_GOLDEN=1, without -n"
