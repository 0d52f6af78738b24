"""The two tiers of the tests: what the parts of the slow one are, and the record of how each part went."""

import datetime as dt
import fnmatch
import json
import os
import subprocess
from collections.abc import Iterable

import pytest

from tests.support.project import PROJECT

RECORD = PROJECT / "tests/slow-tier.json"
OUTCOMES = ("passed", "failed", "error", "skipped")
ENGINE = ("cli", "hosts", "judge", "linux", "measure", "process", "render", "target")
PARTS = {
    "boot": ("tests/probes/sysctl/boot/*",),
    "cluster": ("tests/probes/cluster/*", "tests/target/test_cluster_*.py"),
    "crashes": ("tests/fix/test_chains.py", "tests/fix/test_crashes.py", "tests/fix/test_server.py"),
    "fix": ("tests/fix/*", "tests/fixes/*"),
    "lab": ("tests/lab/*",),
    "network": ("tests/probes/path/*", "tests/probes/redis/*"),
    "servers": ("tests/*/test_server.py",),
    "engine": ("tests/test_*.py", *(f"tests/{folder}/*" for folder in ENGINE)),
}
"""The files of each part of the slow tier; of two parts the first that names a file has it."""


def part_of(file: str) -> str | None:
    """The part of the slow tier that a file of tests belongs to; None where none names it."""
    return next((part for part, names in PARTS.items() if any(fnmatch.fnmatchcase(file, name) for name in names)), None)


def file_of(node_id: str) -> str:
    """The file of a test, from the project's folder on."""
    return node_id.partition("::")[0]


def chosen() -> str | None:
    """The part that was asked for; None for the whole tier. Ends the run where there is no such part."""
    part = os.environ.get("VDSCHECK_PART") or None
    if part is not None and part not in PARTS:
        pytest.exit(f"the slow tier has no part {part}: it has {', '.join(PARTS)}", returncode=2)
    return part


def outside(items: Iterable[pytest.Item], part: str) -> list[pytest.Item]:
    """The tests that do not belong to a part of the slow tier."""
    return [item for item in items if not item.get_closest_marker("slow") or part_of(file_of(item.nodeid)) != part]


def without_a_part(items: Iterable[pytest.Item]) -> list[str]:
    """The files with slow tests that no part names: nobody would run them."""
    files = {file_of(item.nodeid) for item in items if item.get_closest_marker("slow")}
    return sorted(file for file in files if part_of(file) is None)


def commit() -> tuple[str, bool]:
    """The commit that is tested, and whether the tree differs from it by more than the record of another part."""
    return _git("rev-parse", "HEAD"), bool(_git("status", "--porcelain", "--", f":!{RECORD.relative_to(PROJECT)}"))


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True, cwd=PROJECT).stdout.strip()


def written(
    reports: Iterable[tuple[str, pytest.TestReport]], tested: tuple[str, bool], seed: int, wall_s: float
) -> None:
    """Write a line for each part of which slow tests ran; `reports` has each report with its outcome."""
    found: dict[str, dict[str, int]] = {}
    tests_s: dict[str, float] = {}
    for outcome, report in reports:
        part = part_of(file_of(report.nodeid))
        if part is None or "slow" not in report.keywords:
            continue
        counts = found.setdefault(part, dict.fromkeys(OUTCOMES, 0))
        counts[outcome] += 1
        tests_s[part] = tests_s.get(part, 0.0) + report.duration
    run = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": tested[0],
        "uncommitted_changes": tested[1],
        "seed": seed,
        "run_s": round(wall_s),
    }
    lines = {part: line for part, line in _recorded().items() if part in PARTS}
    lines |= {part: run | {"tests_s": round(tests_s[part])} | found[part] for part in found}
    RECORD.write_text(_a_line_each({part: lines[part] for part in sorted(lines)}))


def _recorded() -> dict[str, object]:
    return dict(json.loads(RECORD.read_text())) if RECORD.exists() else {}


def _a_line_each(table: dict[str, object]) -> str:
    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in table.items()) + "\n}\n"
