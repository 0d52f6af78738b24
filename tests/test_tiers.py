"""The slow tier is cut into parts that miss nothing, and each run of a part is a line of the record."""

import json
from pathlib import Path

import pytest

from tests import tiers

EARLIER = '{"fix": {"commit": "old"}, "lab": {"commit": "kept"}, "date": "of a form that is gone"}'


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("tests/probes/sysctl/boot/test_oracle.py", "boot"),
        ("tests/probes/cluster/test_scale.py", "cluster"),
        ("tests/fix/test_server.py", "crashes"),
        ("tests/fix/test_units.py", "fix"),
        ("tests/lab/test_lab.py", "lab"),
        ("tests/probes/path/test_lab.py", "network"),
        ("tests/probes/redis/test_servers.py", "network"),
        ("tests/hosts/test_server.py", "servers"),
        ("tests/probes/disk/test_server.py", "servers"),
        ("tests/test_of_something_new.py", "engine"),
        ("tests/folder/test_of_something_new.py", None),
    ],
)
def test_each_file_has_one_part(file: str, part: str | None) -> None:
    assert tiers.part_of(file) == part


def report(node_id: str, *, slow: bool = True) -> pytest.TestReport:
    keywords = {"slow": 1} if slow else {}
    return pytest.TestReport(node_id, ("", 0, ""), keywords, "passed", None, "call", duration=1.5)


def test_the_record_has_a_line_for_each_part_that_ran_and_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "slow-tier.json"
    record.write_text(EARLIER)
    monkeypatch.setattr(tiers, "RECORD", record)
    reports = [
        ("passed", report("tests/fix/test_units.py::test_one@server")),
        ("failed", report("tests/fix/test_units.py::test_two")),
        ("passed", report("tests/fix/test_plan.py::test_of_every_day", slow=False)),
        ("passed", report("tests/test_units.py::test_of_every_day", slow=False)),
    ]
    tiers.written(reports, ("new", False), 7, 12.4)
    found = json.loads(record.read_text())
    assert list(found) == ["fix", "lab"]
    assert found["lab"] == {"commit": "kept"}
    counts = {word: found["fix"][word] for word in ("commit", "seed", "run_s", "tests_s", *tiers.OUTCOMES)}
    assert counts == {
        "commit": "new",
        "seed": 7,
        "run_s": 12,
        "tests_s": 3,
        "passed": 1,
        "failed": 1,
        "error": 0,
        "skipped": 0,
    }
    assert len(record.read_text().splitlines()) == len(found) + 2
