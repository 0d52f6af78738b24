"""API servers that mean harm: any value in any field, and answers that are none.

Whatever they send, the run is no bug, the report is one of the schema that can be judged again, and nothing passes or
fails by what was not understood.
"""

import json
import logging
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.probes.cluster.hostile_lists import (
    KINDS,
    SEED,
    Mutation,
    Stored,
    again,
    answers,
    measured,
    mutations,
    reported,
)
from tests.probes.cluster.test_odd_servers import Answer, Answering, serving
from tests.support.program import vdscheck
from vdscheck.catalogue.catalogue import Catalogue, load
from vdscheck.cli import reference
from vdscheck.codec import encode
from vdscheck.model.absence import Reason, UnavailableError, unmeasured
from vdscheck.model.judgement import Finding, Verdict
from vdscheck.model.report import Report, Taken
from vdscheck.plugin import Terminal
from vdscheck.render.formats import FORMATS
from vdscheck.target.cluster import Cluster, Login, RequestCounts, _TooLargeError, login

JUDGED = (Verdict.PASS, Verdict.WARN, Verdict.FAIL)


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(reference.schema()))


def sent(content: dict[str, Any]) -> dict[str, bytes]:
    return {path: json.dumps(each).encode() for path, each in content.items()}


def told(finding: Finding) -> tuple[str, str | None, Verdict]:
    """What counts of a finding; that of all others has a subject where something stands beside it."""
    return finding.id, None if finding.subject == "others" else finding.subject, finding.verdict


def decided(made: Report) -> set[tuple[str, str | None, Verdict]]:
    return {told(each) for each in made.findings if each.verdict in JUDGED}


def sound(catalogue: Catalogue, schema: jsonschema.Draft202012Validator, taken: dict[str, Taken]) -> Report:
    """A report of it, which holds what every report must."""
    made = reported(catalogue, taken)
    schema.validate(json.loads(encode(made)))
    assert again(catalogue, made).findings == made.findings
    for text in (FORMATS["text"].function(made, Terminal(verbose=True)), FORMATS["json"].function(made, Terminal())):
        assert not {each for each in text.decode() if (each < " " and each != "\n") or "\x7f" <= each < "\xa0"}
    return made


# Any value in any field


def examined(
    catalogue: Catalogue, schema: jsonschema.Draft202012Validator, content: dict[str, bytes]
) -> tuple[dict[str, Taken], Report]:
    taken = measured(catalogue, Stored(sent=content))
    return taken, sound(catalogue, schema, taken)


@cache
def decided_of_sound_ones() -> set[tuple[str, str | None, Verdict]]:
    catalogue = load()
    return decided(reported(catalogue, measured(catalogue, Stored(sent=sent(answers())))))


def wrong(catalogue: Catalogue, schema: jsonschema.Draft202012Validator, each: Mutation) -> list[Any]:
    """What passes or fails that did not before, by a field that nobody can have understood."""
    _, made = examined(catalogue, schema, each.sent)
    return [*(decided(made) - decided_of_sound_ones())] if each.must_not_count else []


def test_the_sound_lists_are_read_whole(catalogue: Catalogue, schema: jsonschema.Draft202012Validator) -> None:
    taken, made = examined(catalogue, schema, sent(answers()))
    assert [key for key, each in taken.items() if each.absent] == []
    assert taken["cluster.workloads"].value.missing == {}
    assert len(decided(made)) > 12


def test_the_mutations_are_the_same_every_day_and_of_every_kind() -> None:
    assert [*mutations(40)] == [*mutations(40)] != [*mutations(40, SEED + 1)]
    assert {each.kind for each in mutations(40)} == set(KINDS)
    assert len({each.path for each in mutations(40)}) > 8


@pytest.mark.parametrize("part", range(4))
def test_no_value_of_any_field_decides_or_breaks(
    catalogue: Catalogue, schema: jsonschema.Draft202012Validator, part: int
) -> None:
    for each in [*mutations(40)][part::4]:
        assert wrong(catalogue, schema, each) == [], each


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_no_value_of_any_field_decides_or_breaks_of_many(
    catalogue: Catalogue, schema: jsonschema.Draft202012Validator, part: int
) -> None:
    for each in mutations(100, SEED + 1 + part):
        assert wrong(catalogue, schema, each) == [], each


def changed(path: str, change: Callable[[dict[str, Any]], object]) -> dict[str, bytes]:
    content = answers()
    change(content[path]["items"][0])
    return sent(content)


def _set(*keys: str | int) -> Callable[[dict[str, Any]], None]:
    """Put the last in the place of all before it."""

    def change(item: Any) -> None:
        *way, last, value = keys
        for key in way:
            item = item[key]
        item[last] = value

    return change


NODES, PODS, WEB = "/api/v1/nodes", "/api/v1/pods", "/apis/apps/v1/deployments"
LIMITS = ("spec", "containers", 0, "resources", "limits")
IN_WEB = ("spec", "template", *LIMITS)


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        (NODES, _set("status", "conditions", 0, "status", "maybe"), "Ready is maybe"),
        (NODES, _set("status", "conditions", 1, "status", "\x1b[2J"), "DiskPressure is "),
        (NODES, _set("status", "allocatable", "cpu", "much"), "cpu is much"),
        (NODES, _set("status", "allocatable", "pods", "-1"), "pods is -1"),
        (NODES, _set("status", "allocatable", "x.io/gpu", "NaN"), "gpu is NaN"),
        (NODES, _set("spec", "taints", 0, "effect", "NoFun"), "Invalid enum value 'NoFun'"),
        (NODES, _set("metadata", "labels", "x" * 5000, "y"), "length <= 4096"),
        (NODES, _set("metadata", "labels", "region", "y" * 5000), "length <= 4096"),
        (PODS, _set(*LIMITS, "memory", "all of it"), "memory is all of it"),
        (PODS, _set("spec", "initContainers", 0, "resources", "requests", "cpu", "x" * 9999), "cpu is xxx"),
        (PODS, _set("spec", "overhead", "cpu", "-5m"), "cpu is -5m"),
        (PODS, _set("spec", "nodeSelector", "x" * 5000, "y"), "length <= 4096"),
        (WEB, _set(*IN_WEB, "memory", "1Qi"), "memory is 1Qi"),
    ],
)
def test_a_list_with_a_field_that_nobody_understands_is_not_judged(
    catalogue: Catalogue,
    schema: jsonschema.Draft202012Validator,
    path: str,
    change: Callable[[dict[str, Any]], object],
    said: str,
) -> None:
    taken, _ = examined(catalogue, schema, changed(path, change))
    found = taken["cluster.nodes" if path == NODES else "cluster.workloads"]
    absent = found.value.missing["deployments.apps"] if path == WEB else found.absent
    assert absent is not None
    assert "is not what Kubernetes sends" in absent.detail
    assert said in absent.detail
    assert len(absent.detail) <= 300


def test_nodes_of_more_memory_than_there_is_make_a_report_that_can_be_judged(
    catalogue: Catalogue, schema: jsonschema.Draft202012Validator
) -> None:
    content = answers()
    nodes = content[NODES]["items"]
    for each in nodes:
        each["status"]["allocatable"] |= {"memory": "8191Pi", "cpu": "9E"}
    content[NODES]["items"] = [{**nodes[0], "metadata": {"name": f"n{number}"}} for number in range(3)]
    _, made = examined(catalogue, schema, sent(content))
    assert made.target.memory_bytes == 2**63 - 1


# Answers that are none

DEEP = b"[" * 10_000
PAGE = answers()[NODES]
SPACES = b" " * (1 << 22)


def of_nodes(status: int, content: bytes, **headers: str) -> Answering:
    """The answer to the question for the nodes; all others are those of a sound cluster."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda path, _query, _count: (status, given, content) if path == NODES else None


def raw(change: Callable[[bytes], bytes]) -> Answering:
    return of_nodes(200, change(json.dumps(PAGE).encode()))


def version(content: bytes) -> Answering:
    return lambda path, _query, _count: (200, {}, content) if path == "/version" else None


def endless(path: str, _query: dict[str, list[str]], _count: int) -> Answer | None:
    return (200, {}, json.dumps(PAGE | {"metadata": {"continue": "more"}}).encode()) if path == NODES else None


LENGTHS = {"Content_Length": "5", "Connection": "close"}
NOT_NODES: dict[str, tuple[Answering, str]] = {
    "a token that leads to itself": (endless, "does not end"),
    "204": (of_nodes(204, b""), "with 204"),
    "304": (of_nodes(304, b""), "with 304"),
    "418": (of_nodes(418, b"\x1b[31mteapot"), "with 418"),
    "418 with a deep message": (of_nodes(418, b'{"message":' * 10_000), "with 418"),
    "300 with a message of controls": (of_nodes(300, rb'{"message": "\u001b[2J\u202e"}'), "with 300"),
    "shorter than its length": (of_nodes(200, b"{}", Content_Length="900", Connection="close"), "was cut off"),
    "longer than its length": (of_nodes(200, json.dumps(PAGE).encode(), **LENGTHS), "Input data was truncated"),
    "a length that is none": (of_nodes(200, b"{}", Content_Length="-5", Connection="close"), "is not what Kubernetes"),
    "deep in a field that is read": (raw(lambda _: b'{"metadata": {}, "items": ' + DEEP), "is not what Kubernetes"),
    "deep in one that is not": (raw(lambda whole: b'{"x": ' + DEEP + b"," + whole[1:]), "is not what Kubernetes"),
    "two documents": (raw(lambda whole: whole + b"\n" + whole), "trailing characters"),
    "a byte order mark": (raw(lambda whole: b"\xef\xbb\xbf" + whole), "is not what Kubernetes"),
    "UTF-16": (raw(lambda whole: whole.decode().encode("utf-16")), "is not what Kubernetes"),
    "no UTF-8": (raw(lambda whole: whole.replace(b'"n1"', b'"n\xff\xfe"')), "is not what Kubernetes"),
    "NUL": (raw(lambda whole: b"\0" + whole), "is not what Kubernetes"),
    "a comment": (raw(lambda whole: b"// {}\n" + whole), "is not what Kubernetes"),
    "a list of lists": (raw(lambda whole: b"[" + whole + b"]"), "is not what Kubernetes"),
    "items of a mapping": (raw(lambda _: b'{"metadata": {}, "items": {"a": 1}}'), "is not what Kubernetes"),
    "no metadata": (raw(lambda _: b'{"items": []}'), "is not what Kubernetes"),
    "a page of spaces that is none": (raw(lambda _: SPACES), "is not what Kubernetes"),
}  # fmt: skip
VERSIONS = {
    "null": b"null",
    "a number": b'{"gitVersion": 134}',
    "deep": b'{"gitVersion": ' + DEEP,
    "digits": json.dumps({"gitVersion": f"v{'9' * 400}.{'9' * 400}"}).encode(),
    "controls": json.dumps({"gitVersion": "v1.34\x1b[2J\x07\r\n\x9b"}).encode(),
    "long": json.dumps({"gitVersion": "v1.34." + "x" * (1 << 20)}).encode(),
    "larger than an answer may be": b" " * (1 << 22) + b"{} ",
    "arabic digits": json.dumps({"gitVersion": "v\u0661.\u0663\u0664"}).encode(),
}


@pytest.fixture
def asked(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Answering], dict[str, Taken]]:
    """What the probes say of a server, asked from this process."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def measure(answering: Answering) -> dict[str, Taken]:
        with serving(answering, tmp_path) as config:
            return measured(catalogue, Cluster(login(str(config), None)))

    return measure


@pytest.mark.parametrize("name", NOT_NODES)
def test_an_answer_that_is_no_list_of_nodes_is_one_unknown(
    catalogue: Catalogue,
    schema: jsonschema.Draft202012Validator,
    asked: Callable[[Answering], dict[str, Taken]],
    name: str,
) -> None:
    answering, said = NOT_NODES[name]
    taken = asked(answering)
    assert taken["cluster.nodes"].absent is not None
    assert said in taken["cluster.nodes"].absent.detail
    made = sound(catalogue, schema, taken)
    about_nodes = [each for each in made.findings if each.id in ("cluster.node-health", "cluster.version-skew")]
    assert {each.verdict for each in about_nodes} == {Verdict.UNKNOWN}


@pytest.mark.parametrize("name", VERSIONS)
def test_a_version_that_is_none_decides_nothing(
    catalogue: Catalogue,
    schema: jsonschema.Draft202012Validator,
    asked: Callable[[Answering], dict[str, Taken]],
    name: str,
) -> None:
    made = sound(catalogue, schema, asked(version(VERSIONS[name])))
    skew = [each.verdict for each in made.findings if each.id == "cluster.version-skew"]
    assert skew == [Verdict.NOT_APPLICABLE if name in ("controls", "long") else Verdict.UNKNOWN]


def test_of_a_key_that_is_there_twice_the_last_counts(asked: Callable[[Answering], dict[str, Taken]]) -> None:
    twice = raw(lambda whole: b'{"metadata": {"continue": "x"}, "items": [],' + whole[1:])
    assert [each.name for each in asked(twice)["cluster.nodes"].value.nodes] == ["n1", "n2"]


def test_a_page_that_is_much_larger_than_any_is_read(asked: Callable[[Answering], dict[str, Taken]]) -> None:
    found = asked(raw(lambda whole: SPACES + whole + SPACES))["cluster.nodes"].value
    assert [each.name for each in found.nodes] == ["n1", "n2"]


# The program


def run(answering: Answering, folder: Path, schema: jsonschema.Draft202012Validator) -> dict[str, Any]:
    with serving(answering, folder) as config:
        done = vdscheck("cluster", "--kubeconfig", str(config), "--json", timeout=200)
    assert (done.returncode, done.stderr) == (0, "")
    found = dict(json.loads(done.stdout))
    schema.validate(found)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", NOT_NODES)
def test_the_program_says_so_and_ends_well(tmp_path: Path, schema: jsonschema.Draft202012Validator, name: str) -> None:
    found = run(NOT_NODES[name][0], tmp_path, schema)
    assert NOT_NODES[name][1] in found["measurements"]["cluster.nodes"]["absent"]["detail"]


@pytest.mark.slow
def test_a_list_of_pages_without_end_is_given_up_at_its_deadline(
    tmp_path: Path, schema: jsonschema.Draft202012Validator
) -> None:
    def answering(path: str, query: dict[str, list[str]], _count: int) -> Answer | None:
        if path != "/api/v1/persistentvolumes":
            return None
        token = str(int(query.get("continue", ["0"])[0]) + 1)
        items = answers()["/api/v1/persistentvolumes"]["items"] * 100
        return 200, {}, json.dumps({"metadata": {"continue": token}, "items": items}).encode()

    found = run(answering, tmp_path, schema)
    assert found["measurements"]["cluster.volumes"]["absent"]["reason"] in ("timeout", "error")
    assert found["run"]["duration_s"] < 45


@pytest.mark.slow
def test_a_page_beyond_its_limit_is_refused(tmp_path: Path, schema: jsonschema.Draft202012Validator) -> None:
    found = run(raw(lambda whole: b" " * (257 << 20) + whole), tmp_path, schema)
    assert "is larger than 268,435,456 bytes" in found["measurements"]["cluster.nodes"]["absent"]["detail"]


class Large(Cluster):
    """A list of which only a few objects fit into a page."""

    fits = 5

    def _asked(self, path: str, limit_bytes: int, asked: RequestCounts) -> bytes:
        asked.requests += 1
        if int(re.findall("limit=([0-9]+)", path)[0]) > self.fits:
            raise _TooLargeError(unmeasured(Reason.ERROR, f"it is larger than {limit_bytes}"))
        return b"page"


def test_a_page_that_is_too_large_is_asked_for_with_fewer_items() -> None:
    """A tenant with some two hundred large pods is not to keep all others from being read."""
    cluster, asked = Large(Login((), None, "x", "default")), RequestCounts()
    assert cluster.page("/api/v1/pods", "", asked) == b"page"
    assert cluster.page("/api/v1/pods", "next", asked) == b"page"
    assert (asked.requests, asked.page_items) == (4, 5)
    cluster.fits = 0
    with pytest.raises(UnavailableError, match="larger"):
        cluster.page("/api/v1/pods", "", RequestCounts())
