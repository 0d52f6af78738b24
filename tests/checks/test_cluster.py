"""Each check of the cluster, for each verdict that it can give."""

from dataclasses import replace
from typing import Any

import pytest

from tests.support.making import NOTHING, amounts, container, inventory, node, pods, read, running, template, workload
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.judge.judge import judge
from vdscheck.measurements import DiskDevice, DiskStack, DriverKind
from vdscheck.measurements.cluster import (
    ClusterServer,
    ClusterVolumes,
    FurtherImage,
    Mount,
    NodeReport,
    NodeReports,
    NodeTerm,
    NodeUse,
    Requirement,
    Taint,
    Volume,
)
from vdscheck.model.absence import Absent, Reason, not_applicable, unmeasured
from vdscheck.model.judgement import Finding
from vdscheck.model.report import Taken
from vdscheck.ruleset.ruleset import build
from vdscheck.stats import Distribution, Recorder

FORBIDDEN = unmeasured(Reason.PERMISSION, "this user may not list it")
NO_MANIFEST = not_applicable("no manifest was named with -f")
LABELLED = {"disktype": "nvme"}
DIGEST = "0123456789abcdef" * 4


def answered(milliseconds: float, count: int = 40) -> Distribution:
    recorder = Recorder()
    recorder.add([int(milliseconds * 1e6)] * count)
    found = recorder.distribution()
    assert found is not None
    return found


def server(version: str = "v1.34.2", milliseconds: float = 2, count: int = 40) -> ClusterServer:
    get = answered(milliseconds, count)
    return ClusterServer(context="c", host="h", version=version, get=get, got="namespace default")


def judged(catalogue: Catalogue, check: str, limits: dict[str, Any] | None = None, **found: Any) -> dict[str, Finding]:
    """Findings by subject; what is not given is forbidden, but for manifests."""
    known: dict[str, Any] = {
        "server": FORBIDDEN,
        "nodes": FORBIDDEN,
        "workloads": FORBIDDEN,
        "volumes": FORBIDDEN,
        "node_reports": not_applicable("no reports"),
        "manifests": NO_MANIFEST,
    }
    taken = {
        f"cluster.{key.replace('_', '-')}": Taken(
            "2026-11-24T00:00:00.000Z",
            0.0,
            "",
            None if isinstance(each, Absent) else each,
            each if isinstance(each, Absent) else None,
        )
        for key, each in (known | found).items()
    }
    overrides = {"only": [check], "limits": {check: limits}} if limits else {"only": [check]}
    rules = build(catalogue, ["cluster"], overrides, "0", "cluster")
    return {each.subject or "": each for each in judge(catalogue, rules, taken, "2026-11-24").findings}


def verdicts(findings: dict[str, Finding]) -> dict[str, str]:
    return {subject: each.verdict.value for subject, each in findings.items()}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"server": server(), "nodes": inventory()}, {"get": "pass", "lists": "pass"}),
        ({"server": server(milliseconds=1500)}, {"get": "fail"}),
        ({"server": server(count=5, milliseconds=999)}, {"get": "unknown"}),
        (
            {"server": server(), "nodes": replace(inventory(), read=read(duration_s=31.0))},
            {"get": "pass", "lists": "fail"},
        ),
        ({}, {"": "unknown"}),
    ],
)
def test_api_latency(catalogue: Catalogue, found: dict[str, Any], expected: dict[str, str]) -> None:
    assert verdicts(judged(catalogue, "cluster.api-latency", **found)) == expected


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([], {"": "not-applicable"}),
        ([node()], {"": "pass"}),
        ([node(), node("b", ready=False)], {"NotReady": "fail"}),
        ([node(ready=None, troubles=("DiskPressure",))], {"Unknown": "fail", "DiskPressure": "fail"}),
    ],
)
def test_node_health(catalogue: Catalogue, nodes: list[Any], expected: dict[str, str]) -> None:
    assert verdicts(judged(catalogue, "cluster.node-health", nodes=inventory(*nodes))) == expected
    assert verdicts(judged(catalogue, "cluster.node-health")) == {"": "unknown"}


@pytest.mark.parametrize(
    ("version", "kubelets", "expected"),
    [
        ("v1.34.2", ["v1.34.0", "v1.31.9+k3s1"], {"1.34": "pass", "1.31": "pass"}),
        ("v1.34.2", ["v1.30.0"], {"1.30": "fail"}),
        ("v1.34.2", ["v1.35.0"], {"1.35": "fail"}),
        ("v1.34.2", [""], {"": "not-applicable"}),
        ("v1.34.2", [], {"": "not-applicable"}),
        ("", ["v1.34.0"], {"": "unknown"}),
    ],
)
def test_version_skew(catalogue: Catalogue, version: str, kubelets: list[str], expected: dict[str, str]) -> None:
    nodes = inventory(*(node(f"n{number}", kubelet=each) for number, each in enumerate(kubelets)))
    assert verdicts(judged(catalogue, "cluster.version-skew", server=server(version), nodes=nodes)) == expected


@pytest.mark.parametrize(
    ("nodes", "limits", "expected"),
    [
        ([node()], None, "not-applicable"),
        ([node(labels=LABELLED)], None, "pass"),
        ([node(labels=LABELLED, cordoned=True)], None, "fail"),
        ([node(labels=LABELLED)], {"wanted": "2 nodes"}, "fail"),
        ([node(labels=LABELLED), node("b", labels=LABELLED)], {"wanted": "2 nodes"}, "pass"),
        ([node(labels={"disk": "x"})], {"wanted": "1 nodes", "label": ["disk"]}, "pass"),
        (
            [node(labels=LABELLED, taints=(Taint(key="a", value="", effect="NoSchedule"),))],
            {"wanted": "1 nodes"},
            "fail",
        ),
    ],
)
def test_nvme_label(catalogue: Catalogue, nodes: list[Any], limits: dict[str, Any] | None, expected: str) -> None:
    assert verdicts(judged(catalogue, "cluster.nvme-label", limits, nodes=inventory(*nodes))) == {"": expected}


def disk(name: str, kind: DriverKind, network: str | None = None) -> DiskDevice:
    return DiskDevice(
        name=name,
        driver=None,
        kind=kind,
        transport=None,
        model=None,
        network=network,
        rotational=None,
        scheduler=None,
        size_bytes=1,
    )


def reported(name: str, *devices: DiskDevice, fdatasync: float | None = None, boot: str = "") -> NodeReport:
    stack = DiskStack(
        path="/var/lib", mount="/", file_system="ext4", source="/dev/x", layers=(), devices=devices, followed=True
    )
    return NodeReport(
        source=f"{name}.json",
        node=name,
        machine_id=f"m-{name}",
        boot_id=boot or f"b-{name}",
        taken_at="2026-11-24T00:00:00.000Z",
        stacks=(stack,) if devices else (),
        typical_fdatasync_ms=fdatasync,
    )


@pytest.mark.parametrize(
    ("labels", "reports", "expected"),
    [
        ({}, [], ""),
        (LABELLED, [], "not-proven"),
        (LABELLED, [reported("n1", disk("nvme0n1", "nvme"))], "proven"),
        (LABELLED, [reported("n1", disk("nvme0n1", "nvme"), boot="older")], "not-proven"),
        (LABELLED, [reported("n1", disk("nvme1n1", "nvme", "Amazon EBS"))], "disproven"),
        (LABELLED, [reported("n1", disk("sda", "passthrough"))], "disproven"),
        (LABELLED, [reported("n1", disk("vda", "paravirtual"))], "not-proven"),
        (LABELLED, [reported("n1", disk("vda", "paravirtual"), fdatasync=2.0)], "not-proven"),
        (LABELLED, [reported("n1", disk("vda", "paravirtual"), fdatasync=12.0)], "disproven"),
        (LABELLED, [reported("n1")], "not-proven"),
        ({}, [reported("n1", disk("nvme0n1", "nvme"))], "unlabelled"),
        ({}, [reported("n1", disk("sda", "passthrough"))], ""),
        (LABELLED, [reported("n2", disk("nvme0n1", "nvme"))], "not-proven"),
    ],
)
def test_label_truth(catalogue: Catalogue, labels: dict[str, str], reports: list[NodeReport], expected: str) -> None:
    told = NodeReports(reports=tuple(reports), refused=())
    found = judged(catalogue, "cluster.label-truth", nodes=inventory(node(labels=labels)), node_reports=told)
    verdict = {"proven": "pass", "disproven": "fail", "unlabelled": "warn", "not-proven": "unknown"}
    assert verdicts(found) == {expected: verdict.get(expected, "not-applicable")}
    commands = {"disproven": "kubectl label node n1 disktype-", "unlabelled": "kubectl label node n1 disktype=nvme"}
    fix = found[expected].fix
    assert (fix.commands if fix else ()) == ((commands[expected],) if expected in commands else ())


def test_a_name_that_a_shell_would_act_on_is_in_no_command(catalogue: Catalogue) -> None:
    bad = node("n1;reboot", labels=LABELLED, machine_id="m-n1", boot_id="b-n1")
    told = NodeReports(reports=(reported("n1", disk("sda", "passthrough")),), refused=("x.json is no report",))
    found = judged(catalogue, "cluster.label-truth", nodes=inventory(bad), node_reports=told)
    assert found["disproven"].fix is None
    assert found["reports"].verdict.value == "unknown"


def test_label_truth_without_reports(catalogue: Catalogue) -> None:
    there = inventory(node(labels=LABELLED))
    assert verdicts(judged(catalogue, "cluster.label-truth", nodes=there)) == {"": "not-applicable"}
    forbidden = judged(catalogue, "cluster.label-truth", nodes=there, node_reports=FORBIDDEN)
    assert verdicts(forbidden) == {"": "unknown"}


PLACES = {"regions": ["no-osl"]}
OSLO, FRANKFURT = ({"topology.kubernetes.io/region": name} for name in ("no-osl", "de-fra"))


@pytest.mark.parametrize(
    ("labels", "limits", "expected"),
    [
        ([OSLO], None, {"": "not-applicable"}),
        ([OSLO], PLACES, {"nodes": "pass"}),
        ([FRANKFURT], PLACES, {"nodes in de-fra": "fail"}),
        ([{}], PLACES, {"nodes without a place": "unknown"}),
        ([{"topology.kubernetes.io/zone": "no-osl"}], PLACES, {"nodes": "pass"}),
    ],
)
def test_residency_of_nodes(
    catalogue: Catalogue, labels: list[dict[str, str]], limits: dict[str, Any] | None, expected: dict[str, str]
) -> None:
    nodes = inventory(*(node(f"n{number}", labels=each) for number, each in enumerate(labels)))
    none = ClusterVolumes(volumes=(), read=read())
    found = judged(catalogue, "cluster.residency", limits, nodes=nodes, volumes=none)
    assert verdicts(found) == expected


def test_residency_of_volumes(catalogue: Catalogue) -> None:
    volumes = tuple(
        Volume(name=name, claim="", regions=regions, zones=())
        for name, regions in (("here", ("no-osl",)), ("abroad", ("us",)), ("nowhere", ()))
    )
    nodes, found = inventory(node(labels=OSLO)), ClusterVolumes(volumes=volumes, read=read())
    assert verdicts(judged(catalogue, "cluster.residency", PLACES, nodes=nodes, volumes=found)) == {
        "nodes": "pass",
        "volumes": "pass",
        "volumes in us": "fail",
        "volumes without a place": "unknown",
    }
    assert verdicts(judged(catalogue, "cluster.residency", PLACES, nodes=nodes))["volumes"] == "unknown"


SUBJECT = "shop/deployment/web"


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (workload(), "pass"),
        (workload(wanted=0, pods=pods(0)), "not-applicable"),
        (workload(kind="DaemonSet"), "not-applicable"),
        (workload(made=template(node_name="n1")), "not-applicable"),
        (workload(made=template(node_selector=LABELLED)), "warn"),
        (workload(made=template(node_selector=LABELLED), pods=pods(2, 2)), "fail"),
        (workload(pods=pods(2, 1)), "warn"),
        (workload(made=template(requests=amounts(5000)), pods=pods(2, 1)), "fail"),
        (workload(made=template(requests=amounts(3000)), pods=None), "warn"),
        (workload(made=template(requests=amounts(2000)), pods=None), "pass"),
        (workload(made=template(requests=amounts(5000)), pods=None), "fail"),
    ],
)
def test_node_selector(catalogue: Catalogue, one: Any, expected: str) -> None:
    found = judged(catalogue, "cluster.node-selector", nodes=inventory(node()), workloads=running(one))
    assert [each.verdict.value for each in found.values()] == [expected]


@pytest.mark.parametrize("check", ["node-selector", "sidecars", "resources", "images", "spread"])
def test_what_is_too_large_is_unknown_alone(catalogue: Catalogue, check: str) -> None:
    pair = template(container("app"), container("log", role="sidecar"), kept_apart=("zone",))
    large = workload("large", replace(pair, unread="its specification is too large"))
    nodes, live = inventory(node(), node("n2")), running(large, workload(made=pair))
    found = judged(catalogue, f"cluster.{check}", nodes=nodes, workloads=live)
    assert len(found) == 2
    unknown = found["shop/deployment/large"]
    assert (unknown.verdict.value, unknown.reason) == ("unknown", Reason.UNSUPPORTED)
    assert "too large" in unknown.summary
    assert found["others"].verdict.value != "unknown" if "others" in found else True


def test_two_workloads_of_one_name_are_two_findings_and_the_worst_has_the_name(catalogue: Catalogue) -> None:
    warned = workload(made=template(requests=amounts(100)), wanted=300, pods=pods(300, 299))
    failed = workload(made=template(node_selector=LABELLED), pods=pods(2, 2))
    fine = workload("fine")
    live = running(warned, failed, failed, fine)
    found = verdicts(judged(catalogue, "cluster.node-selector", nodes=inventory(node()), workloads=live))
    assert found == {SUBJECT: "fail", f"{SUBJECT}#2": "fail", f"{SUBJECT}#3": "warn", "others": "pass"}


@pytest.mark.parametrize(("namespaces", "verdict"), [((), "not-applicable"), (("nosuch",), "unknown")])
def test_a_namespace_that_was_asked_for_and_holds_nothing_is_not_known_to_be_one(
    catalogue: Catalogue, namespaces: tuple[str, ...], verdict: str
) -> None:
    found = judged(catalogue, "cluster.images", workloads=running(namespaces=namespaces))
    assert [each.verdict.value for each in found.values()] == [verdict]


def test_a_workload_with_too_many_wishes_is_unknown_alone(catalogue: Catalogue) -> None:
    wish = NodeTerm(labels=(Requirement(key="a", operator="Exists", values=()),), fields=())
    large = workload("large", template(affinity=(wish,) * 25_000))
    nodes = inventory(*(node(f"n{number}") for number in range(300)))
    found = judged(catalogue, "cluster.node-selector", nodes=nodes, workloads=running(large, workload()))
    assert verdicts(found) == {"shop/deployment/large": "unknown", "others": "pass"}


def test_node_selector_says_what_it_did_not_judge_and_what_the_scheduler_says(catalogue: Catalogue) -> None:
    waiting = pods(2, 1, scheduler_said="0/1 nodes: no volume")
    one = workload(made=template(not_judged=("volumes",)), pods=waiting)
    found = judged(catalogue, "cluster.node-selector", nodes=inventory(node()), workloads=running(one))
    assert "not judged: volumes; the scheduler: 0/1 nodes: no volume" in found[SUBJECT].summary


def test_node_selector_without_all_pods_does_not_judge_room(catalogue: Catalogue) -> None:
    big = workload(made=template(requests=amounts(5000)), pods=pods(2, 2))
    live = running(big, namespaces=("shop",), why_namespaces="403")
    found = judged(catalogue, "cluster.node-selector", nodes=inventory(node()), workloads=live)
    assert "whether one has room is not known" in found[SUBJECT].summary
    assert found[SUBJECT].verdict.value == "warn"


@pytest.mark.parametrize("check", ["node-selector", "sidecars", "resources", "images", "spread"])
def test_lists_that_could_not_be_read_are_named_beside_what_was_judged(catalogue: Catalogue, check: str) -> None:
    pair = template(container("app"), container("log", role="sidecar"), kept_apart=("zone",))
    live = running(workload(made=pair), missing={"deployments.apps": FORBIDDEN})
    found = verdicts(judged(catalogue, f"cluster.{check}", nodes=inventory(node(), node("n2")), workloads=live))
    assert found.pop("deployments.apps") == "unknown"
    assert len(found) == 1


def test_what_is_used_is_not_free(catalogue: Catalogue) -> None:
    use = (NodeUse(name="n1", pods=1, requests={"cpu": 3500}),)
    one = workload(made=template(requests=amounts(1000)), pods=pods(1, 1))
    found = judged(catalogue, "cluster.node-selector", nodes=inventory(node()), workloads=running(one, use=use))
    assert "1 CPU wanted, at most 0.5 CPU free" in found[SUBJECT].summary


def test_room_on_one_of_two_nodes_is_not_said_of_both(catalogue: Catalogue) -> None:
    use = (NodeUse(name="n1", pods=1, requests={"cpu": 3500}),)
    one = workload(made=template(requests=amounts(1000)), pods=pods(1, 1))
    nodes = inventory(node(), node("n2"))
    found = judged(catalogue, "cluster.node-selector", nodes=nodes, workloads=running(one, use=use))
    assert "1 of 1 pod waits for a node (p-0): 2 ready nodes match, and there is room" in found[SUBJECT].summary
    assert found[SUBJECT].verdict.value == "warn"


def test_three_thousand_pods_of_a_workload_are_one_finding(catalogue: Catalogue) -> None:
    one = workload(made=template(node_selector=LABELLED), pods=pods(3000, 3000), wanted=3000)
    found = judged(catalogue, "cluster.node-selector", nodes=inventory(node()), workloads=running(one))
    assert "3,000 of 3,000 pods wait for a node (p-0, p-1, p-2, ...)" in found[SUBJECT].summary


def test_many_bad_workloads_are_counted_beyond_twenty(catalogue: Catalogue) -> None:
    bad = template(container(image="app"))
    found = judged(
        catalogue, "cluster.images", workloads=running(*(workload(f"w{number:02}", bad) for number in range(30)))
    )
    assert len(found) == 21
    assert found["more"].summary.startswith(
        "10 more workloads like these: shop/deployment/w20, shop/deployment/w21, shop/deployment/w22 and 7 others"
    )


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("app", "fail"),
        ("app:latest", "fail"),
        ("host:5000/app", "fail"),
        ("host:5000/app:1.2", "pass"),
        (f"app@sha256:{DIGEST}", "pass"),
        (f"app:latest@sha256:{DIGEST}", "pass"),
        (f"[2001:db8::1]:5000/a/b_c/d--e:v1@sha512:{DIGEST * 2}", "pass"),
        ("Host.example/app:1", "pass"),
        ("", "fail"),
        ("app:latest@", "unknown"),
        ("app@sha256:00", "unknown"),
        (f"app@md5:{DIGEST}", "unknown"),
        ("app:latest ", "unknown"),
        ("app:latest\n", "unknown"),
        ("\tapp:1", "unknown"),
        ("app:1:2", "unknown"),
        ("App:1", "unknown"),
        ("https://host/app:1", "unknown"),
        ("a//b:1", "unknown"),
        (f"app:{'1' * 129}", "unknown"),
        (f"{'a/' * 130}b:1", "unknown"),
        (DIGEST, "unknown"),
    ],
)
def test_images(catalogue: Catalogue, image: str, expected: str) -> None:
    found = judged(catalogue, "cluster.images", workloads=running(workload(made=template(container(image=image)))))
    assert [each.verdict.value for each in found.values()] == [expected]
    assert verdicts(judged(catalogue, "cluster.images")) == {"": "unknown"}
    assert verdicts(judged(catalogue, "cluster.images", workloads=running())) == {"": "not-applicable"}


@pytest.mark.parametrize(
    ("image", "expected"), [("data:latest", "fail"), ("data", "fail"), ("data:1", "pass"), ("data:latest@", "unknown")]
)
@pytest.mark.parametrize("place", ["volume models", "ephemeral container debug"])
def test_images_of_volumes_and_of_ephemeral_containers(
    catalogue: Catalogue, place: str, image: str, expected: str
) -> None:
    made = template(further_images=(FurtherImage(place=place, image=image),))
    [found] = judged(catalogue, "cluster.images", workloads=running(workload(made=made))).values()
    assert found.verdict.value == expected
    assert expected == "pass" or f"{place} is of " in found.summary


def test_what_moves_is_told_beside_what_is_no_image(catalogue: Catalogue) -> None:
    made = template(container(image="app:latest"), container("other", image="x y"))
    [found] = judged(catalogue, "cluster.images", workloads=running(workload(made=made))).values()
    assert found.verdict.value == "fail"
    assert "app runs app:latest, a tag that moves; other runs 'x y', which is no name of an image" in found.summary


def test_workloads_of_the_system_are_judged_where_they_are_asked_for(catalogue: Catalogue) -> None:
    one = workload(made=template(container(image="x")), namespace="kube-system")
    assert verdicts(judged(catalogue, "cluster.images", workloads=running(one))) == {"": "not-applicable"}
    asked = running(one, namespaces=("kube-system",))
    assert verdicts(judged(catalogue, "cluster.images", workloads=asked)) == {"kube-system/deployment/web": "fail"}


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([container()], "pass"),
        ([container(limits=NOTHING)], "fail"),
        ([container(requests=amounts(1))], "fail"),
        ([container(limits=amounts(None, 1))], "pass"),
        ([container(), container("setup", role="init", requests=NOTHING)], "pass"),
    ],
)
def test_resources(catalogue: Catalogue, containers: list[Any], expected: str) -> None:
    found = judged(catalogue, "cluster.resources", workloads=running(workload(made=template(*containers))))
    assert [each.verdict.value for each in found.values()] == [expected]


@pytest.mark.parametrize(
    ("one", "nodes", "expected"),
    [
        (workload(wanted=1, pods=pods(1)), 2, "not-applicable"),
        (workload(kind="DaemonSet"), 2, "not-applicable"),
        (workload(), 1, "not-applicable"),
        (workload(), 2, "warn"),
        (workload(made=template(kept_apart=("kubernetes.io/hostname",))), 2, "pass"),
        (workload(made=template(kept_apart=("kubernetes.io/hostname",)), pods=pods(2, nodes=1)), 2, "fail"),
        (workload(pods=None), 2, "warn"),
    ],
)
def test_spread(catalogue: Catalogue, one: Any, nodes: int, expected: str) -> None:
    there = inventory(*(node(f"n{number}") for number in range(nodes)))
    found = judged(catalogue, "cluster.spread", workloads=running(one), nodes=there)
    assert [each.verdict.value for each in found.values()] == [expected]


SHARED = (Mount(volume="logs", path="/logs", read_only=False),)
READS = (Mount(volume="logs", path="/logs", read_only=True),)
APP = container(mounts=SHARED)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (template(container()), "not-applicable"),
        (template(APP, container("log-shipper", mounts=READS)), "pass"),
        (template(APP, container("other", mounts=READS)), "pass"),
        (template(APP, container("other")), "not-applicable"),
        (template(APP, container("log-shipper")), "fail"),
        (template(APP, container("log-shipper", mounts=READS, limits=NOTHING)), "fail"),
        (template(APP, container("proxy")), "pass"),
        (template(APP, container("proxy"), restarts=False), "fail"),
        (template(APP, container("proxy", role="sidecar"), restarts=False), "pass"),
        (template(container(), container("promtail", mounts=READS), volumes={"logs": "hostPath"}), "pass"),
        (template(container("envoy"), container("proxy")), "not-applicable"),
    ],
)
def test_sidecars(catalogue: Catalogue, made: Any, expected: str) -> None:
    found = judged(catalogue, "cluster.sidecars", workloads=running(workload(made=made)))
    assert [each.verdict.value for each in found.values()] == [expected]
