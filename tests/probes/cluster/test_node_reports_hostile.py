"""Reports of nodes that somebody else wrote: each is judged by what it measured, or refused in one line."""

import json
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.probes.cluster.hostile_lists import Stored, answers, measured
from tests.probes.cluster.test_hostile_servers import schema, sent, sound
from tests.probes.cluster.test_odd_servers import serving
from tests.support.program import vdscheck
from tests.support.project import PROJECT
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.measurements.cluster import NodeReports
from vdscheck.model.judgement import Finding
from vdscheck.plugin import Host
from vdscheck.probes.cluster import reports

__all__ = ["schema"]

MACHINE, BOOT = "m-n1", "b-n1"
"""Of the first of the two nodes, both of which claim NVMe."""
STACK, LATENCY = "disk.stack[/var/lib]", "disk.latency[/var/lib]"
NVME = {"name": "nvme0n1", "driver": "nvme", "kind": "nvme", "transport": "nvme over pcie", "model": "Samsung"}
IDE = {"name": "sda", "driver": "ata_piix", "kind": "emulated", "transport": "ata", "model": "QEMU HARDDISK"}
ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\n\x9b31m\u202e"


@cache
def saved() -> bytes:
    whole = json.loads((PROJECT / "tests/earlier/reports/host-root.json").read_text())
    kept = {key: each for key, each in whole["measurements"].items() if key in (STACK, LATENCY)}
    return json.dumps(whole | {"measurements": kept}).encode()


def report(change: Callable[[dict[str, Any]], object] = lambda _: None, disk: dict[str, Any] = NVME) -> bytes:
    """What a node with such a disk says, changed."""
    whole = json.loads(saved())
    whole["target"] |= {"machine_id": MACHINE, "boot_id": BOOT}
    whole["measurements"][STACK]["value"]["devices"][0] |= disk
    change(whole)
    return json.dumps(whole).encode()


def put(*keys: str | int | Any) -> Callable[[dict[str, Any]], None]:
    """Put the last in the place of all before it."""

    def change(item: Any) -> None:
        *way, last, value = keys
        for key in way:
            item = item[key]
        item[last] = value

    return change


def deep(levels: int) -> bytes:
    return report(put("measurements", "x", {"value": "HOLE"})).replace(b'"HOLE"', b"[" * levels + b"]" * levels)


Told = Callable[[dict[str, bytes]], tuple[NodeReports, dict[str, Finding]]]


def judged(
    catalogue: Catalogue, validator: jsonschema.Draft202012Validator, cluster: Stored
) -> tuple[NodeReports, dict[str, Finding]]:
    taken = measured(catalogue, cluster)
    made = sound(catalogue, validator, taken)
    found = taken["cluster.node-reports"].value
    assert isinstance(found, NodeReports)
    return found, {each.subject or "": each for each in made.findings if each.id == "cluster.label-truth"}


def with_maps(reports: dict[str, bytes]) -> dict[str, bytes]:
    """The answers of a sound cluster that holds a ConfigMap for each report."""
    content = answers()
    content["/api/v1/namespaces/vdscheck/configmaps"]["items"] = [
        {"metadata": {"name": name}, "data": {"report.json": text.decode()}} for name, text in reports.items()
    ]
    return sent(content)


@pytest.fixture(params=["folder", pytest.param("ConfigMap", marks=pytest.mark.slow)])
def told(
    request: pytest.FixtureRequest, catalogue: Catalogue, schema: jsonschema.Draft202012Validator, tmp_path: Path
) -> Told:
    """What is made of some reports by their names, from files or from ConfigMaps."""

    def of_folder(reports: dict[str, bytes]) -> tuple[NodeReports, dict[str, Finding]]:
        for name, content in reports.items():
            (tmp_path / f"{name}.json").write_bytes(content)
        return judged(catalogue, schema, Stored(sent=sent(answers()), reports_folder=str(tmp_path)))

    def of_maps(reports: dict[str, bytes]) -> tuple[NodeReports, dict[str, Finding]]:
        return judged(catalogue, schema, Stored(sent=with_maps(reports)))

    return of_folder if request.param == "folder" else of_maps


# One report


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut off": (lambda: report()[:-1000], "truncated"),
    "empty": (lambda: b"", "truncated"),
    "null": (lambda: b"null", "Expected `object`"),
    "a list": (lambda: b"[" + report() + b"]", "Expected `object`"),
    "two documents": (lambda: report() * 2, "trailing characters"),
    "another schema": (lambda: report(put("schema_version", 2)), "schema version 2, but"),
    "a schema of 400 digits": (lambda: report(put("schema_version", 10**399)), "schema version 1000000"),
    "a schema that is a text": (lambda: report(put("schema_version", "1")), "Expected `int`"),
    "of a cluster": (lambda: report(put("target", "kind", "cluster")), "of which machine"),
    "of no machine": (lambda: report(put("target", "machine_id", None)), "of which machine"),
    "of no boot": (lambda: report(put("target", "boot_id", "")), "of which machine"),
    "of no time": (lambda: report(put("run", "started_at", "zzzz")), "run.started_at is not a time"),
    "of the future": (lambda: report(put("run", "started_at", "2999-01-01T00:00:00Z")), "is after tomorrow"),
    "of a week": (lambda: report(put("run", "started_at", "2026-W01-1")), "run.started_at is not a time"),
    "33 MiB": (lambda: b" " * (33 << 20) + report(), "larger than 16,777,216 bytes"),
    "10,000 levels": (lambda: deep(10_000), "recursion"),
    "a disk of 400 digits": (
        lambda: report(put("measurements", STACK, "value", "devices", 0, "size_bytes", 10**399)),
        "the size of a disk is none",
    ),
    "a disk of less than nothing": (
        lambda: report(put("measurements", STACK, "value", "devices", 0, "size_bytes", -1)),
        "the size of a disk is none",
    ),
    "400 digits of times": (
        lambda: report(put("measurements", LATENCY, "value", "fdatasync", "count", 10**399)),
        "is no report of a host",
    ),
    "a histogram of 400 digits": (
        lambda: report(put("measurements", LATENCY, "value", "fdatasync", "histogram_ns", [[10**399, 10**399]])),
        "is no report of a host",
    ),
    "a time beyond all measure": (
        lambda: report(put("measurements", LATENCY, "value", "fdatasync", "percentiles", 0, "value_us", 1e300)),
        "value_us is 1e+300",
    ),
    "NaN": (
        lambda: report().replace(b'"size_bytes": ', b'"size_bytes": NaN, "x": ', 1),
        "invalid",
    ),
    "a list of disks that is a mapping": (
        lambda: report(put("measurements", STACK, "value", "devices", {})),
        "Expected `array`",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_report_is_refused_in_one_line_and_takes_no_other_along(told: Told, name: str) -> None:
    content, said = REFUSED[name]
    found, findings = told({"bad": content(), "good": report()})
    assert len(found.reports) == len(found.refused) == 1
    assert said in found.refused[0]
    assert len(found.refused[0]) < 500
    assert findings["proven"].verdict.value == "pass"
    assert findings["reports"].verdict.value == "unknown"


JUDGED: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "of another machine": (lambda: report(put("target", "machine_id", "foreign")), "not-proven", "no report of it"),
    "of another boot": (lambda: report(put("target", "boot_id", "former")), "not-proven", "of another boot"),
    "of no disk": (lambda: report(put("measurements", {})), "not-proven", "says nothing of its disks"),
    "100 levels beside it": (lambda: deep(100), "proven", "NVMe in it: n1"),
    "a host with controls": (lambda: report(put("target", "name", ESCAPES)), "proven", "NVMe in it: n1"),
    "a host that is a path": (lambda: report(put("target", "name", "../../../etc/passwd")), "proven", "n1"),
    "a disk with controls": (lambda: report(disk=IDE | {"model": ESCAPES}), "disproven", "n1: sda ("),
    "a disk of a long name": (lambda: report(disk=IDE | {"name": "x" * (1 << 20)}), "disproven", "n1: xxx"),
}


@pytest.mark.parametrize("name", JUDGED)
def test_what_is_a_report_counts_for_its_own_node_alone(told: Told, name: str) -> None:
    content, subject, said = JUDGED[name]
    found, findings = told({"one": content()})
    assert (len(found.reports), found.refused) == (1, ())
    assert said in findings[subject].summary
    assert ("n2" in findings["not-proven"].summary, "reports" in findings) == (True, False)


def test_a_report_is_judged_by_what_it_measured_and_not_by_what_it_says(told: Told) -> None:
    def lies(whole: dict[str, Any]) -> None:
        for each in whole["findings"]:
            each |= {"verdict": "pass", "summary": "local NVMe, proven"}
        whole["score"] = {"value": 100, "grade": "A"}

    _, findings = told({"lies": report(lies, disk=IDE)})
    assert findings["disproven"].verdict.value == "fail"
    assert "proven" not in findings


def test_of_two_reports_of_a_node_the_newer_one_counts(told: Told) -> None:
    before, after = (put("run", "started_at", f"2026-11-0{day}T00:00:00Z") for day in (1, 2))
    found, findings = told({"a": report(after, disk=IDE), "b": report(before)})
    assert len(found.reports) == 2
    assert "n1" in findings["disproven"].summary


def test_config_maps_with_all_of_them_are_read(catalogue: Catalogue, schema: jsonschema.Draft202012Validator) -> None:
    whole = {name: content() for name, (content, *_) in (REFUSED | JUDGED).items() if name != "33 MiB"}
    found, findings = judged(catalogue, schema, Stored(sent=with_maps(whole)))
    assert len(found.reports) == len(JUDGED)
    assert len(found.refused) + found.refused_more == len(REFUSED) - 1
    assert findings["reports"].verdict.value == "unknown"


# A folder


def test_what_is_no_file_is_refused_and_none_of_it_is_waited_for(
    catalogue: Catalogue, schema: jsonschema.Draft202012Validator, tmp_path: Path
) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    (tmp_path / "elsewhere").write_bytes(report())
    (folder / "linked.json").symlink_to(tmp_path / "elsewhere")
    (folder / "dangling.json").symlink_to("nowhere")
    (folder / "loop.json").symlink_to("loop.json")
    (folder / "secret.json").symlink_to("/etc/passwd")
    (folder / "folder.json").mkdir()
    os.mkfifo(folder / "fifo.json")
    (folder / "zero.json").symlink_to("/dev/zero")
    (folder / f"{ESCAPES}.json").write_bytes(b"{}")
    (folder / "no-report.txt").write_bytes(b"{}")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.json")).write_bytes(report())
    found, findings = judged(catalogue, schema, Stored(sent=sent(answers()), reports_folder=str(folder)))
    assert [each.source for each in found.reports] == [str(folder / "linked.json")]
    assert len(found.refused) == 8
    assert "root:" not in "".join(found.refused)
    assert "n1" in findings["proven"].summary


def test_a_folder_of_ten_thousand_files_is_read(
    catalogue: Catalogue, schema: jsonschema.Draft202012Validator, tmp_path: Path
) -> None:
    for number in range(10_000):
        (tmp_path / f"{number}.json").touch()
    (tmp_path / "z.json").write_bytes(report())
    found, findings = judged(catalogue, schema, Stored(sent=sent(answers()), reports_folder=str(tmp_path)))
    assert (len(found.reports), len(found.refused), found.refused_more) == (1, 20, 9_980)
    assert findings["reports"].verdict.value == "unknown"
    assert findings["reports"].summary.startswith("10,000 reports could not be read: ")


def test_reports_that_cannot_be_read_are_unknown_also_where_no_node_claims_anything(
    catalogue: Catalogue, schema: jsonschema.Draft202012Validator, tmp_path: Path
) -> None:
    (tmp_path / "a.json").touch()
    content = answers()
    for each in content["/api/v1/nodes"]["items"]:
        each["metadata"]["labels"] = {}
    _, findings = judged(catalogue, schema, Stored(sent=sent(content), reports_folder=str(tmp_path)))
    assert {subject: each.verdict.value for subject, each in findings.items()} == {"reports": "unknown"}


# The program


@pytest.mark.slow
def test_the_program_takes_a_folder_of_all_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    for name, (content, *_) in (REFUSED | JUDGED).items():
        (folder / f"{name}.json").write_bytes(content())
    nodes = sent(answers())
    with serving(lambda path, _query, _count: (200, {}, nodes[path]) if path in nodes else None, tmp_path) as config:
        done = vdscheck("cluster", "--kubeconfig", str(config), "--node-reports", str(folder), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)["measurements"]["cluster.node-reports"]["value"]
    assert (len(found["reports"]), len(found["refused"])) == (len(JUDGED), 20)


@pytest.mark.parametrize(
    ("dead", "limit_s", "refused"),
    [
        (["b.json"], 60.0, ["b.json does not answer"]),
        (["a.json", "d.json"], 60.0, ["a.json does not answer", "d.json does not answer"]),
        (["a.json"], 0.2, ["a.json does not answer", *(f"{each}.json was not read: others took" for each in "bcd")]),
    ],
)
def test_a_file_that_never_answers_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead: list[str], limit_s: float, refused: list[str]
) -> None:
    never = threading.Event()
    really = Host.read_bytes

    def read(self: Host, path: str, *, limit_bytes: int | None = None) -> bytes:
        if Path(path).name in dead:
            never.wait()
        return really(self, path, limit_bytes=limit_bytes)

    monkeypatch.setattr(Host, "read_bytes", read)
    monkeypatch.setattr(reports, "FILE_LIMIT_S", 0.5)
    monkeypatch.setattr(reports, "ALL_LIMIT_S", limit_s)
    for name in "abcd":
        (tmp_path / f"{name}.json").write_bytes(report())
    found = reports._from_folder(str(tmp_path))
    never.set()
    assert len(found.reports) == 4 - len(refused)
    assert all(said in each for said, each in zip(refused, found.refused, strict=True))
