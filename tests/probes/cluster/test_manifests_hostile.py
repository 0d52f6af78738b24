"""Manifests and kubeconfigs of any content: judged as kubectl reads them, or refused in one line, and never a bug."""

import json
import resource
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.hostile_values import Place, Written, places, with_at, yaml_of, yaml_values
from tests.support.program import vdscheck
from vdscheck import __version__, codec
from vdscheck.catalogue.catalogue import Catalogue, load
from vdscheck.judge.judge import judge
from vdscheck.measurements.cluster import Manifests
from vdscheck.model.absence import Reason
from vdscheck.model.report import Taken
from vdscheck.plugin import SubjectError
from vdscheck.probes.cluster.manifests import read
from vdscheck.ruleset import ruleset, selection
from vdscheck.target.kubeconfig import ClusterError, contexts
from vdscheck.target.kubeconfig import read as kubeconfig
from vdscheck.target.plain_yaml import VALUES_LIMIT, YamlError, documents

POD: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "a", "namespace": "n", "labels": {"app": "a"}},
    "spec": {
        "replicas": 3,
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "c",
                        "image": "i:1",
                        "command": ["x"],
                        "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
                        "volumeMounts": [{"name": "v", "mountPath": "/var/log"}],
                    }
                ],
                "initContainers": [{"name": "i", "image": "i:2", "restartPolicy": "Always"}],
                "volumes": [{"name": "v", "emptyDir": {}}],
                "nodeSelector": {"disktype": "nvme"},
                "tolerations": [{"key": "k", "operator": "Exists"}],
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [
                                {"matchExpressions": [{"key": "z", "operator": "In", "values": ["1"]}]}
                            ]
                        }
                    },
                },
                "topologySpreadConstraints": [{"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
            }
        },
    },
}
LIST: dict[str, Any] = {"apiVersion": "v1", "kind": "List", "items": [POD, POD]}
SKELETONS = (POD, LIST)


def manifests(text: str | bytes) -> Manifests:
    return read(["-"], "default", lambda: text.encode() if isinstance(text, str) else text)


def refused(text: str | bytes) -> str:
    with pytest.raises(SubjectError) as why:
        manifests(text)
    assert len(str(why.value).splitlines()) == 1
    assert len(str(why.value)) < 400
    return str(why.value)


@cache
def rules() -> tuple[Catalogue, selection.Ruleset]:
    found = load()
    of_manifests = found.options["filename"].files
    assert of_manifests is not None
    return found, ruleset.build(found, ["cluster"], {"only": list(of_manifests.checks)}, __version__, "cluster")


def judged(found: Manifests) -> None:
    """What is read is judged, and can be written and read again; no check fails on it."""
    taken = Taken("2026-01-01T00:00:00Z", 0.0, "", found, None)
    made = judge(*rules(), {"cluster.manifests": taken}, "2026-01-01")
    assert [each.summary for each in made.findings if each.reason is Reason.ERROR] == []
    codec.encode(made.findings)
    assert codec.decode(codec.encode(found), Manifests) == found


def in_labels(written: str) -> dict[str, str]:
    (one,) = manifests(
        f"{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, "
        f"spec: {{containers: [{{name: c}}], nodeSelector: {{{written}}}}}}}"
    ).workloads
    return dict(one.template.node_selector)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("v: 2001-01-01", {"v": "2001-01-01"}),
        ("v: !!timestamp 2001-01-01", {"v": "2001-01-01"}),
        ("v: !!timestamp 2001-12-14t21:59:43.10-05:00", {"v": "2001-12-14t21:59:43.10-05:00"}),
        ("v: !foreign x", {"v": "x"}),
        ("v: !!python/name:os.system x", {"v": "x"}),
        ("v: !!binary aGk=", {"v": "hi"}),
        ("v: !!str 5", {"v": "5"}),
        ("v: 190:20:30", {"v": "190:20:30"}),
        ("v: =", {"v": "="}),
        ("v: !!merge x", {"v": "x"}),
        ("v: !!seq x", {"v": "x"}),
        (f"v: {'1' * 400}", {"v": "1" * 400}),
        ("1: x", {"1": "x"}),
        ("0x10: x", {"16": "x"}),
        ("yes: x", {"true": "x"}),
        ("1.5: x", {"1.5": "x"}),
        ("1.0: x", {"1": "x"}),
        ("2001-01-01: x", {"2001-01-01": "x"}),
        ("!!binary aGk=: x", {"hi": "x"}),
        ("a: x, a: z", {"a": "z"}),
        ('"<<": x', {"<<": "x"}),
        ("<<: [{a: x}, {a: z, b: z}]", {"a": "x", "b": "z"}),
    ],
)
def test_tags_and_keys_are_read_as_kubectl_reads_them(written: str, expected: dict[str, str]) -> None:
    """Each as `kubectl label --local -f - -o json` of version 1.32 prints it."""
    assert in_labels(written) == expected


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("v: !!bool x", "'x' is not true or false (!!bool)"),
        ("v: !!int x", "'x' is not a whole number (!!int)"),
        ("v: !!int 5.5", "'5.5' is not a whole number (!!int)"),
        ("v: !!float x", "'x' is not a number of JSON (!!float)"),
        ("v: !!timestamp x", "'x' is not a date (!!timestamp)"),
        ("v: !!binary x", "'x' is not base64 (!!binary)"),
        ("v: !!null x", "'x' is not null (!!null)"),
        ("v: .nan", "'.nan' is not a number of JSON (!!float)"),
        ("v: -.inf", "'-.inf' is not a number of JSON (!!float)"),
        ("~: x", "a key is null"),
        ("[a]: x", "a key is no text"),
        ("? {a: b}", "a key is no text"),
        ("<<: 5", "a merge (<<) takes a map or a list of maps"),
        ("<<: [5]", "a merge (<<) takes a map or a list of maps"),
        ("<<: null", "a merge (<<) takes a map or a list of maps"),
    ],
)
def test_what_kubectl_refuses_is_refused_with_its_line(written: str, said: str) -> None:
    spec = f"{{containers: [{{name: c}}], nodeSelector: {{{written}}}}}"
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {spec}\n"
    assert refused(text) == f"standard input:4: {said}"


def test_merges_of_many_maps_take_the_time_of_their_size() -> None:
    """Were all that is merged copied for each map, this would take minutes."""
    count = 60_000
    listed = "<<: [" + ", ".join(f"{{k{each}: {each}}}" for each in range(count)) + "]\n"
    singly = "".join(f"<<: {{k{each}: {each}}}\n" for each in range(count))
    for text in (listed, singly, f"- &m {{{listed.strip()}}}\n- *m\n"):
        [(found, _)] = documents(text)
        maps = found if isinstance(found, list) else [found]
        assert [(len(each), each["k0"], each[f"k{count - 1}"]) for each in maps] == [(count, 0, count - 1)] * len(maps)


def test_what_merges_bring_counts_as_values() -> None:
    keys = ", ".join(f"k{each}: 1" for each in range(1000))
    text = f"- &m {{{keys}}}\n" + "- {<<: *m}\n" * 300
    with pytest.raises(YamlError, match=f"more than {VALUES_LIMIT:,} values"):
        list(documents(text))
    assert len(next(documents(f"- &m {{{keys}}}\n" + "- {<<: *m}\n" * 100))[0]) == 101


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ("{a: b}", "standard input:1: the items of a List must be a list of objects"),
        ("abc", "standard input:1: the items of a List must be a list of objects"),
        ("5", "standard input:1: the items of a List must be a list of objects"),
        ("null", "standard input: no Kubernetes object in it"),
        ("[]", "standard input: no Kubernetes object in it"),
        ("[null]", "standard input:3: not a Kubernetes object: it has no apiVersion and kind"),
        ("[5]", "standard input:3: not a Kubernetes object: it has no apiVersion and kind"),
        ("[[]]", "standard input:3: not a Kubernetes object: it has no apiVersion and kind"),
    ],
)
def test_a_list_whose_items_are_none_is_one_line(items: str, said: str) -> None:
    assert refused(f"apiVersion: v1\nkind: List\nitems: {items}\n") == said


def test_items_that_a_merge_brings_in_are_read() -> None:
    pod = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c}]}}"
    text = f"x: &x {{items: [{pod}, {pod}]}}\n<<: *x\napiVersion: v1\nkind: List\n"
    assert len(manifests(text).workloads) == 2


def test_of_a_list_that_is_there_twice_the_last_counts() -> None:
    pod = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c}]}}"
    text = f"apiVersion: v1\nkind: List\nitems: []\nitems:\n- {pod}\n"
    (one,) = manifests(text).workloads
    assert one.where == "standard input:5"


@pytest.mark.parametrize("nothing", ["~", "null", "", "[]"])
def test_no_containers_before_the_others_are_none(nothing: str) -> None:
    spec = f"  initContainers: {nothing}\n  containers:\n  - name: c\n"
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n{spec}"
    (one,) = manifests(text).workloads
    assert [each.line for each in one.template.containers] == [7]


def test_an_empty_document_between_others_is_passed_over() -> None:
    pod = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{}]}})
    assert len(manifests(f"---\n---\n{pod}\n---\n# nothing\n---\n~\n---\n{pod}\n").workloads) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\tapiVersion: v1\n", "standard input:1: not YAML: found character that cannot start any token"),
        ("kind: Pod\0\n", "control characters are not allowed"),
        ("kind: Pod\n".encode("utf-16"), "not UTF-8"),
        ("[" * 100_000, "standard input:1: nested too deeply"),
        ("- " * 100_000, "standard input:1: nested too deeply"),
        ("a: " + "[" * 200 + "]" * 200, "standard input:1: nested more than 100 deep"),
        ("a: &a [*a]", "standard input:1: nested more than 100 deep"),
        ("- &a [*a, *a]", "standard input:1: nested more than 100 deep"),
    ],
)
def test_what_no_parser_takes_is_one_line(text: str | bytes, said: str) -> None:
    assert said in refused(text)


def test_a_large_file_is_called_large_and_costs_little(tmp_path: Path) -> None:
    """A plain one has no aliases, and what its values would cost is not spent first."""
    file = tmp_path / "m.yaml"
    file.write_text("x: [" + "[]," * 3_000_000 + "]\n")
    done = vdscheck("cluster", "--offline", "-f", str(file), preexec_fn=within_512_mb)
    assert done.stderr == f"vdscheck: {file}:1: more than {VALUES_LIMIT:,} values: split it\n"
    assert (done.returncode, done.stdout) == (2, "")


def within_512_mb() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))


def test_a_file_of_many_aliases_is_called_that() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "its aliases stand for more than 500,000 values" in refused("\n".join(lines))


def test_amounts_beyond_all_measure_are_judged() -> None:
    largest = {"cpu": "9223372036854775", "memory": "9223372036854775807", "nvidia.com/gpu": "9223372036854775807"}
    each = {"name": "c", "image": "i:1", "resources": {"requests": largest, "limits": largest}}
    spec = {"containers": [each] * 5, "initContainers": [each] * 5}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}
    judged(manifests(json.dumps(pod)))


@pytest.mark.parametrize("replicas", ["-1", "2147483648", "9" * 400, "1.5", ".inf", '"3"', "yes"])
def test_replicas_that_no_cluster_takes_are_refused(replicas: str) -> None:
    assert refused(yaml_of(with_at(POD, ("spec", "replicas"), Written(replicas)))).startswith("standard input:1: ")


def any_manifest() -> st.SearchStrategy[str]:
    """A manifest with any value of YAML at any place."""
    found: list[tuple[Any, Place]] = [(whole, place) for whole in SKELETONS for place in places(whole)]
    return st.tuples(st.sampled_from(found), yaml_values()).map(
        lambda drawn: yaml_of(with_at(drawn[0][0], drawn[0][1], drawn[1]))
    )


def read_or_refused(text: str) -> None:
    with suppress(SubjectError):
        judged(manifests(text))


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(any_manifest())
def test_any_value_at_any_place_of_a_manifest_is_judged_or_refused(text: str) -> None:
    read_or_refused(text)


@pytest.mark.slow
@settings(max_examples=20_000, suppress_health_check=list(HealthCheck))
@given(any_manifest())
def test_any_value_at_any_place_of_many_manifests(text: str) -> None:
    read_or_refused(text)


@settings(max_examples=300)
@given(yaml_values())
def test_any_yaml_is_a_value_of_json_or_refused(written: Written) -> None:
    with suppress(YamlError):
        for value, _ in documents(written.text):
            assert json.loads(json.dumps(value, allow_nan=False)) == value


# The program says the same

BAD = """{apiVersion: v1, kind: Pod, metadata: {name: bad},
  spec: {containers: [{name: app, image: app}, {name: log-shipper, image: fluentd}]},
}
---
"""
"""What a gate must not hold with, whatever stands beside it."""
_LABELS = ", ".join(["first: &long " + "v" * 4096, *(f"k{number}: *long" for number in range(4200))])
ALIASES = f"""apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec: {{containers: [{{name: a, image: a}}], nodeSelector: {{{_LABELS}}}}}
"""


def pod_of(containers: int) -> str:
    held = ", ".join(f"{{name: c{number}, image: c}}" for number in range(containers))
    return f"{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{containers: [{held}]}}}}\n"


def test_a_gate_does_not_hold_beside_the_largest_pod(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(BAD + pod_of(2000))
    done = vdscheck("cluster", "--offline", "-f", str(file), "--fail-on", "fail")
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            yaml_of(with_at(POD, ("spec", "template", "spec", "containers", 0, "image"), Written("!!bool x"))),
            "(!!bool)",
        ),
        (yaml_of({**LIST, "items": Written("abc")}), "the items of a List must be a list of objects"),
        ("hello", ":1: not a Kubernetes object: it has no apiVersion and kind"),
        (BAD + pod_of(2001), ":5: Pod: 2,001 containers in one pod, and at most 2,000 are examined"),
        (BAD + ALIASES, "bytes, more than the 16,711,680 that are examined at once: name fewer, or parts of them"),
    ],
    ids=["tag", "list", "text", "containers", "aliases"],
)
def test_a_wrong_manifest_is_a_wrong_call(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(text)
    done = vdscheck("cluster", "--offline", "-f", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.startswith(f"vdscheck: {file}:")
    assert len(done.stderr.splitlines()) == 1


# Kubeconfigs

CONFIG: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "x",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": True}}],
    "users": [{"name": "u", "user": {"token": "s3cret-token", "exec": {"command": "x", "args": ["y"]}}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "n"}}],
}


def not_a_kubeconfig(folder: Path, text: str | bytes) -> str:
    file = folder / "config"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ClusterError) as why:
        contexts({str(file): kubeconfig(str(file))})
    assert len(str(why.value).splitlines()) == 1
    assert "s3cret" not in str(why.value)
    return str(why.value).removeprefix(str(file))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("contexts",), "[[x]]", ": contexts: each needs a name that is a text"),
        (("contexts",), "[{name: null}]", ": contexts: each needs a name that is a text"),
        (("contexts",), "[{name: 5}]", ": contexts: each needs a name that is a text"),
        (("contexts",), "{a: b}", ": not a kubeconfig: contexts is not a list"),
        (("contexts", 0, "context"), "5", ": contexts: x: context is not a map"),
        (("contexts", 0, "context", "namespace"), "[n]", ": contexts: x: namespace is not a text: put it in quotes"),
        (("current-context",), "5", ": current-context is not a text: put it in quotes"),
        (("clusters",), "5", ": not a kubeconfig: clusters is not a list"),
        (("clusters", 0), "c", ": clusters: each needs a name that is a text"),
        (("clusters", 0, "cluster", "server"), "5", ": clusters: c: server is not a text: put it in quotes"),
        *(
            (
                ("clusters", 0, "cluster", "insecure-skip-tls-verify"),
                value,
                ": clusters: c: insecure-skip-tls-verify is neither true nor false: write it without quotes",
            )
            for value in ("'false'", "0", "[false]")
        ),
        (("users", 0, "name"), "2001", ": users: each needs a name that is a text"),
        (("users", 0, "user", "token"), "5", ": users: u: token is not a text: put it in quotes"),
        (("users", 0, "user", "token"), "!!bool s3cret-token", ":1: not a kubeconfig: not YAML"),
        (("users", 0, "user", "token"), "!!timestamp s3cret-token", ":1: not a kubeconfig: not YAML"),
        (("users", 0, "user", "password"), "0123", ": users: u: password is not a text: put it in quotes"),
    ],
)
def test_a_kubeconfig_of_wrong_kinds_is_one_line(tmp_path: Path, place: Place, value: str, said: str) -> None:
    whole = (
        with_at(CONFIG, place[:-1], {**_at(CONFIG, place[:-1]), place[-1]: Written(value)})
        if isinstance(place[-1], str)
        else with_at(CONFIG, place, Written(value))
    )
    assert not_a_kubeconfig(tmp_path, yaml_of(whole)) == said


def _at(value: Any, place: Place) -> Any:
    for key in place:
        value = value[key]
    return value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("---\na: b\n---\nc: d\n", ": not a kubeconfig: one document is wanted"),
        ("a: b\n".encode("utf-16"), ": not a kubeconfig: not UTF-8 (byte 0)"),
        ("a: &a [*a]\n", ":1: not a kubeconfig: not YAML"),
        ("[" * 100_000, ":1: not a kubeconfig: not YAML"),
        ("5", ": not a kubeconfig: no map in it"),
    ],
)
def test_what_is_no_kubeconfig_is_one_line(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert not_a_kubeconfig(tmp_path, text) == said


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(place=st.sampled_from(list(places(CONFIG))), written=yaml_values())
def test_any_value_at_any_place_of_a_kubeconfig_is_read_or_refused(
    tmp_path: Path, place: Place, written: Written
) -> None:
    file = tmp_path / "config"
    file.write_text(yaml_of(with_at(CONFIG, place, written)))
    with suppress(ClusterError):
        found, current = contexts({str(file): kubeconfig(str(file))})
        assert all(isinstance(each, str) for each in (current, *found, *found.values()))
