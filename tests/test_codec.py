"""What crosses a pipe or is saved comes back the same, and what is not a report is refused."""

import dataclasses
import functools
import inspect
import json
import types
import typing
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdscheck import measurements as all_measurements
from vdscheck.catalogue.catalogue import Catalogue, load
from vdscheck.codec import CodecError, convert, decode, decode_report, encode, schema
from vdscheck.judge.judge import judge
from vdscheck.measure.measure import Effort, Options, measure
from vdscheck.measurements import cluster
from vdscheck.model.records import MOST
from vdscheck.model.report import Taken
from vdscheck.ruleset.ruleset import build
from vdscheck.ruleset.selection import Ruleset
from vdscheck.stats import Distribution, Recorder
from vdscheck.target.host import Host

KINDS = [
    kind
    for module in (all_measurements, cluster)
    for kind in vars(module).values()
    if isinstance(kind, type)
    and dataclasses.is_dataclass(kind)
    and kind.__module__.startswith(all_measurements.__name__)
    and (module is cluster or kind not in vars(cluster).values())
]
TODAY = "2026-11-24"


PLAIN = {
    int: st.integers(-(2**63), 2**64 - 1) | st.just(0),
    float: st.floats(-MOST, MOST) | st.just(0.0),
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that a measurement may hold."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values(each) for each in arguments])
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if hint is Distribution:
        return st.lists(st.integers(0, 10**12), min_size=1, max_size=500).map(distribution)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return instances(hint)
    return PLAIN[hint] if hint in PLAIN else st.from_type(hint)


def distribution(samples_ns: list[int]) -> Distribution:
    recorder = Recorder()
    recorder.add(samples_ns)
    found = recorder.distribution()
    assert found is not None
    return found


@functools.cache
def instances(kind: Any) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{field.name: values(hints[field.name]) for field in dataclasses.fields(kind)})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=30)
@given(data=st.data())
def test_every_measurement_comes_back_the_same(kind: Any, data: st.DataObject) -> None:
    value = data.draw(instances(kind))
    assert decode(encode(value), kind) == value
    assert convert(json.loads(encode(value)), kind) == value


ADDED = {"refused_more", "further_images", "unread"}
"""Fields that saved reports of before lack, and whose default value says what was meant there."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_measurement_has_a_default_value(kind: Any) -> None:
    for field in dataclasses.fields(kind):
        if field.name in ADDED:
            continue
        assert field.default is dataclasses.MISSING, field.name
        assert field.default_factory is dataclasses.MISSING, field.name


def taken(value: Any) -> Taken:
    return Taken("2026-11-24T00:00:00.000Z", 0.0, "", value, None)


def back(saved: Taken, kind: Any) -> Taken:
    """What is read again of what was saved."""
    return saved if saved.value is None else taken(convert(json.loads(encode(saved.value)), kind))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_saved_measurements_are_judged_as_fresh_ones(catalogue: Catalogue, kind: Any, data: st.DataObject) -> None:
    """Each kind with any values, beside those of this host for all others; and no check that reads it fails on them."""
    entry = catalogue.by_type.get(kind)
    ruleset = of_what_reads(kind)
    if entry is None or ruleset is None:
        return
    subjects = [""] if entry.subject is None else [f"[{name}]" for name in entry.subject.chosen({})]
    drawn = {f"{entry.probe.id}{subject}": taken(data.draw(instances(kind))) for subject in subjects}
    fresh = {**of_this_host(), **drawn}
    saved = {**of_this_host_saved(), **{key: back(each, kind) for key, each in drawn.items()}}
    judged = judge(catalogue, ruleset, fresh, TODAY)
    assert judge(catalogue, ruleset, saved, TODAY) == judged
    assert [
        finding.summary for finding in judged.findings if finding.reason == "error" and "failed" in finding.summary
    ] == []


@functools.cache
def of_what_reads(kind: Any) -> Ruleset | None:
    """The checks of all profiles that read a measurement, where there are such."""
    catalogue = load()
    entry = catalogue.by_type.get(kind)
    if entry is None:
        return None
    profiles = [name for name in catalogue.profiles if (name == "cluster") == (entry.target == "cluster")]
    offer: dict[str, Any] = (
        {}
        if entry.target == "cluster"
        else {"offer": {"cpus": 4, "memory": "8 GB", "disk": "80 GB", "bandwidth": "1 Gbit/s"}}
    )
    every = build(catalogue, profiles, offer, "0", entry.target)
    readers = [each.check.id for each in every.selected if kind in each.measurement_types]
    return build(catalogue, profiles, {**offer, "only": readers}, "0", entry.target) if readers else None


@functools.cache
def of_this_host() -> dict[str, Taken]:
    """What the probes find here."""
    probes = [entry for entry in load().probes.values() if entry.target == "host"]
    outcome = measure(Host(), probes, Options(Effort.PASSIVE))
    return {
        key: dataclasses.replace(each, taken_at="", duration_s=0.0, method="")
        for key, each in outcome.measurements.items()
    }


@functools.cache
def of_this_host_saved() -> dict[str, Taken]:
    """The same, saved and read again."""
    probes = load().probes
    return {key: back(each, probes[key.partition("[")[0]].provides) for key, each in of_this_host().items()}


REPORT: dict[str, Any] = {
    "schema_version": 1,
    "ruleset": {"id": "x", "profiles": ["web"], "overrides": {}},
    "run": {"id": "x", "started_at": "2026-11-24T00:00:00Z", "duration_s": 1, "complete": True, "command": []},
    "target": dict.fromkeys(
        ["machine_id", "boot_id", "os", "kernel", "virtualization", "cpu_model", "cpus", "memory_bytes", "root"]
    )
    | {"kind": "host", "name": "x"},
    "measurements": {
        "memory.stall": {
            "taken_at": "x",
            "duration_s": 0,
            "method": "",
            "absent": None,
            "value": {
                "some_avg10_percent": 0,
                "some_avg60_percent": 0,
                "some_avg300_percent": 0,
                "full_avg60_percent": None,
                "some_total_us": 0,
            },
        }
    },
}
MEASURED = REPORT["measurements"]["memory.stall"]
KNOWN = {"memory.stall": all_measurements.MemoryPressure}


def test_a_saved_report_is_read_with_the_types_of_its_probes() -> None:
    value = decode_report(json.dumps(REPORT).encode(), KNOWN).measurements["memory.stall"].value
    assert isinstance(value, all_measurements.MemoryPressure)
    assert value.some_avg60_percent == 0


def test_a_measurement_of_a_probe_that_is_not_installed_is_kept_as_it_is() -> None:
    assert decode_report(json.dumps(REPORT).encode(), {}).measurements["memory.stall"].value["some_total_us"] == 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "truncated"),
        (json.dumps(REPORT).encode()[:-40], "truncated"),
        (b"[]", "Expected `object`"),
        (b"{}", "schema_version"),
        (json.dumps(REPORT | {"schema_version": 2}).encode(), "schema version 2"),
        (json.dumps(REPORT | {"schema_version": "1"}).encode(), "schema_version"),
        (json.dumps({"schema_version": 1}).encode(), "missing required field"),
        (b'{"schema_version": ' + b"9" * 1_000_000 + b"}", ""),
        (b"[" * 100_000, ""),
        (b'{"schema_version": 1, "x": ' + b'{"a":' * 100_000, ""),
        (b'{"schema_version": 1, "x": "\xff"}', ""),
        (
            json.dumps(REPORT | {"measurements": {"memory.stall": MEASURED | {"value": None}}}).encode(),
            "neither or both",
        ),
        (
            json.dumps(
                REPORT
                | {"measurements": {"memory.stall": MEASURED | {"value": MEASURED["value"] | {"some_total_us": "x"}}}}
            ).encode(),
            "memory.stall.value",
        ),
        (json.dumps(REPORT).encode().replace(b'"some_total_us": 0', b'"some_total_us": 1e999'), ""),
        (json.dumps(REPORT).encode().replace(b'_avg10_percent": 0', b'_avg10_percent": 1e61'), "1e+61"),
    ],
)
def test_what_is_not_a_report_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(CodecError) as refused:
        decode_report(data, KNOWN)
    assert said in str(refused.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_report_or_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode_report(data, KNOWN)


def test_a_hundred_thousand_findings_are_no_trouble() -> None:
    data = json.dumps(REPORT | {"findings": [{"id": "x" * 50}] * 100_000}).encode()
    assert decode_report(data, KNOWN).schema_version == 1


def test_the_schema_is_a_schema_and_knows_every_probe(catalogue: Catalogue) -> None:
    made = schema({probe_id: entry.provides for probe_id, entry in catalogue.probes.items()})
    jsonschema.Draft202012Validator.check_schema(made)
    patterns = made["$defs"]["Report"]["properties"]["measurements"]["patternProperties"]
    assert len(patterns) == len(catalogue.probes)


def test_the_schema_is_the_same_whether_or_not_python_takes_the_indent_from_docstrings(catalogue: Catalogue) -> None:
    made = schema({probe_id: entry.provides for probe_id, entry in catalogue.probes.items()})
    said = [each["description"] for each in made["$defs"].values() if "description" in each]
    assert any("\n" in text for text in said)
    assert [text for text in said if text != inspect.cleandoc(text)] == []


def test_half_a_pair_in_the_text_of_a_plugin_is_no_bug() -> None:
    value = {"a\ud800": ("\udfff", ["b\udc80"], 1, None)}
    assert json.loads(encode(value)) == {"a\\ud800": ["\\udfff", ["b\\x80"], 1, None]}


OLDER = {"kernel.old": MEASURED, "kernel.old[a]": MEASURED}


def test_a_measurement_is_read_by_the_id_that_it_had() -> None:
    saved = json.dumps(REPORT | {"measurements": OLDER}).encode()
    found = decode_report(saved, KNOWN, {"kernel.old": "memory.stall"}).measurements
    assert {key: type(each.value) for key, each in found.items()} == dict.fromkeys(
        ("memory.stall", "memory.stall[a]"), KNOWN["memory.stall"]
    )


def test_where_a_report_has_both_ids_that_of_today_counts() -> None:
    now = MEASURED | {"method": "the newer"}
    saved = json.dumps(REPORT | {"measurements": OLDER | {"memory.stall": now}}).encode()
    found = decode_report(saved, KNOWN, {"kernel.old": "memory.stall"}).measurements
    assert found["memory.stall"].method == "the newer"
    assert set(found) == {"memory.stall", "memory.stall[a]"}


@pytest.mark.parametrize("field", ["some_avg10_percent", "some_total_us"])
def test_a_field_that_an_older_report_lacks_costs_its_measurement_alone(field: str) -> None:
    value = {name: each for name, each in MEASURED["value"].items() if name != field}
    other = {
        "time.clock": MEASURED | {"value": None, "absent": {"kind": "unmeasured", "reason": "error", "detail": "x"}}
    }
    saved = json.dumps(REPORT | {"measurements": {"memory.stall": MEASURED | {"value": value}} | other}).encode()
    found = decode_report(saved, KNOWN).measurements
    absent = found["memory.stall"].absent
    assert absent is not None
    assert (absent.reason, absent.detail.startswith("written by an older version: ")) == ("unsupported", True)
    assert field in absent.detail
    assert found["time.clock"].absent is not None
