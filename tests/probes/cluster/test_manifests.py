"""Manifests as they are written, and as nobody should write them."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.program import plugin, report
from vdscheck.measurements.cluster import Manifests
from vdscheck.plugin import SubjectError
from vdscheck.probes.cluster.manifests import read
from vdscheck.probes.cluster.quantity import amount

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}}
PAYMENT = Path(__file__).parent / "payment.yaml"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


def manifests(text: str | bytes) -> Manifests:
    return read(["-"], "default", lambda: text.encode() if isinstance(text, str) else text)


def refused(text: str | bytes) -> str:
    with pytest.raises(SubjectError) as why:
        manifests(text)
    assert len(str(why.value).splitlines()) == 1
    return str(why.value)


def test_the_payment_service_is_read_with_its_lines() -> None:
    (one,) = read([str(PAYMENT)], "default", bytes).workloads
    assert (one.subject, one.wanted, one.where) == ("shop/deployment/payment", 3, f"{PAYMENT}:2")
    assert [(each.name, each.line) for each in one.template.containers] == [("payment-app", 19), ("log-shipper", 26)]
    assert one.template.containers[1].paths == ("/var/log/app/payment.log",)
    assert one.template.volumes == {"app-logs": "emptyDir"}
    assert one.template.node_selector == {"disktype": "nvme"}


def test_several_documents_lists_and_other_kinds_are_read() -> None:
    text = "---\n".join(
        [
            "# nothing\n",
            json.dumps(POD) + "\n",
            json.dumps({"apiVersion": "v1", "kind": "List", "items": [POD, POD]}) + "\n",
            json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}) + "\n",
        ]
    )
    found = manifests(text)
    assert [each.name for each in found.workloads] == ["a", "a", "a"]
    assert found.others == {"Service": 1}


def test_a_cron_job_holds_its_pod_two_levels_down() -> None:
    spec = {"restartPolicy": "OnFailure", "containers": [{"name": "c"}]}
    job = {"spec": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}}
    cron = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"}, **job}
    (one,) = manifests(json.dumps(cron)).workloads
    assert (one.kind, one.wanted, one.template.restarts) == ("CronJob", None, False)


def test_a_merge_key_is_followed() -> None:
    text = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n"
        "    - &one {name: x, image: 'i:1'}\n    - {<<: *one, name: y}\n"
    )
    (one,) = manifests(text).workloads
    assert [(each.name, each.image) for each in one.template.containers] == [("x", "i:1"), ("y", "i:1")]


@pytest.mark.parametrize("scheme", ["", "https://"])
def test_who_logs_in_to_a_registry_is_not_shown(scheme: str) -> None:
    image = f"{scheme}us3rNm:S3cr3tPw99@reg.example/i:1"
    (one,) = manifests(
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{containers: [{{name: x, image: '{image}'}}]}}"
    ).workloads
    assert [each.image for each in one.template.containers] == [f"{scheme}***@reg.example/i:1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no Kubernetes object"),
        ("a: [", "standard input:2: not YAML"),
        ("\x00", "not YAML"),
        (b"\xff\xfe", "not UTF-8"),
        ("hello", "standard input:1: not a Kubernetes object"),
        ("kind: Pod\n", "has no apiVersion and kind"),
        ("apiVersion: v1\nkind: 5\n", "has no apiVersion and kind"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}\n", "spec has no containers"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {}\nspec: {containers: [{name: c}]}\n", "without metadata.name"),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {}\n", "without spec.template.spec"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: 5}\n", "standard input:1: Pod: Expected"),
        ("apiVersion: v1\nkind: Pod\nmetadata: 5\nspec: {}\n", "standard input:1: Pod: Expected"),
        ("replicas: {{ .Values.replicas }}\n", "template of Helm"),
        ("{{- if .Values.on }}\nkind: Pod\n{{- end }}\n", "template of Helm"),
        (BOMB, "aliases stand for more than"),
        ("a: &a [*a]\n", "nested"),
        ("[" * 5000, ""),
        ("? [a]\n: b\n", "a key is no text"),
        ("a: !!python/object/apply:os.system [x]\n", ""),
    ],
)
def test_what_is_no_manifest_is_one_line(text: str | bytes, said: str) -> None:
    assert said in refused(text)


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    with suppress(SubjectError):
        assert manifests(data).files == ("-",)


@pytest.mark.parametrize(
    ("text", "per", "expected"),
    [
        ("100m", 1000, 100),
        ("0.1", 1000, 100),
        ("2", 1000, 2000),
        ("1", 1, 1),
        ("1Ki", 1, 1024),
        ("1.5Gi", 1, 3 * 2**29),
        ("1k", 1, 1000),
        ("1e3", 1, 1000),
        ("1E", 1, 10**18),
        ("12E2", 1, 1200),
        ("1n", 1000, 1),
        ("0", 1, 0),
        (5, 1, 5),
        (0.5, 1000, 500),
        ("", 1, None),
        ("1Xi", 1, None),
        ("-1", 1, None),
        ("9999E", 1, 2**63 - 1),
        ("8Ei", 1, 2**63 - 1),
        ("-9999E", 1, None),
        ("NaN", 1, None),
        ("1 Gi", 1, None),
    ],
)
def test_a_quantity_is_read_as_kubernetes_reads_it(text: str | float, per: int, expected: int | None) -> None:
    assert amount(text, per) == expected


@given(st.text(max_size=12) | st.floats() | st.integers())
def test_any_quantity_is_an_amount_or_none(text: str | float) -> None:
    found = amount(text)
    assert found is None or 0 <= found < 2**63


ACME = '''
from vdscheck.target.cluster import Cluster
from vdscheck.plugin import Judgement, Severity, Verdict, check, measurement, probe


@measurement
class Weather:
    fine: bool


@probe("acme.weather", cheap=True)
def weather(cluster: Cluster) -> Weather:
    """Looks out of the window."""
    return Weather(fine=True)


@check("acme.fine", severity=Severity.LOW)
def fine(found: Weather) -> Judgement:
    """The weather is fine.

    Why: It is better so.
    False positives: None.
    By hand: look
    Sources: the sky
    """
    return Judgement(verdict=Verdict.PASS if found.fine else Verdict.FAIL, summary="it is")
'''


def test_a_probe_of_others_examines_a_cluster_as_well(tmp_path: Path) -> None:
    words = ("cluster", "--offline", "-f", str(PAYMENT), "--only", "acme.*")
    found = report(*words, plugins=plugin(tmp_path, ACME))
    assert [(each["id"], each["verdict"]) for each in found["findings"]] == [("acme.fine", "pass")]
