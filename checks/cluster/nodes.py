"""Whether a Kubernetes cluster answers, whether its nodes are what their labels say, and what runs on them."""

import re
from collections.abc import Mapping
from dataclasses import replace

from vdscheck.measurements.cluster import (
    ClusterNodes,
    ClusterServer,
    ClusterVolumes,
    ClusterWorkloads,
    Node,
    NodeReport,
    NodeReports,
)
from vdscheck.plugin import (
    Absent,
    AtLeast,
    AtMost,
    ByHand,
    Evidence,
    Expected,
    Judgement,
    Observed,
    OneOf,
    Reason,
    Severity,
    Verdict,
    check,
    counted,
    evidence,
    exact,
    not_applicable,
    spoken,
    unmeasured,
)

from .scheduling import NAMED, barring, some
from .workloads import images, node_selector, resources, sidecars, spread, stated

ELSEWHERE = (node_selector, sidecars, resources, images, spread)
"""The checks of this area that have a file of their own: found through this module as well."""
COMMANDS = 20
_SHELL_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,252}")
_VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})")
_PLACES = {
    "region": ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
    "zone": ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
}


# The API server


@check("cluster.api-latency", severity=Severity.MEDIUM)
def api_latency(
    server: ClusterServer,
    nodes: ClusterNodes | Absent,
    workloads: ClusterWorkloads | Absent,
    get_p90: AtMost,
    whole_list: AtMost,
) -> dict[str, Judgement | Absent]:
    """The API server answers at once.

    Why: Schedulers, controllers and kubelets learn of every change from it: where it is slow, pods start late,
        endpoints are stale and a failed node is noticed late.
    False positives: A long way to the server: compare with `vdscheck path` to its address.
    By hand: time kubectl get --raw /api/v1/namespaces/default; kubectl get --raw /metrics |
        grep apiserver_request_duration_seconds; time kubectl get pods -A -o name
    Sources: https://github.com/kubernetes/community/blob/master/sig-scalability/slos/api_call_latency.md
    """
    get = get_p90.judge(
        server.get.percentile_ms(0.9),
        f"the p90 of a GET of {server.got}",
        evidence=tuple(
            Evidence(f"p{spoken(each.percent)}", each.value_us, "us", "GET by GET") for each in server.get.percentiles
        ),
    )
    found: dict[str, Judgement | Absent] = {"get": get}
    reads = [nodes.read] if isinstance(nodes, ClusterNodes) else []
    reads += workloads.reads if isinstance(workloads, ClusterWorkloads) else []
    if reads:
        slowest = max(reads, key=lambda each: each.duration_s)
        proof = evidence(slowest, "requests", "items", "size_bytes", source=f"the list of {slowest.what}")
        judged = whole_list.judge(
            round(slowest.duration_s, 3), f"the time of the slowest list ({slowest.what})", evidence=proof
        )
        total = (
            f"{counted(sum(each.requests for each in reads), 'request')}, {sum(each.size_bytes for each in reads):,}"
        )
        found["lists"] = replace(judged, summary=f"{judged.summary}; all lists: {total} bytes")
    return found


# Nodes


@check("cluster.node-health", severity=Severity.MEDIUM)
def node_health(nodes: ClusterNodes, unhealthy: AtMost) -> Judgement | Absent | dict[str, Judgement | Absent]:
    """Every node is ready and none is under pressure.

    Why: A node that is not ready runs nothing new and, after five minutes, loses what it ran; one under pressure
        evicts pods.
    False positives: A node that is being set up or taken down at this moment.
    By hand: kubectl get nodes; kubectl describe node NODE (Conditions)
    Sources: https://kubernetes.io/docs/reference/node/node-status/
    """
    if not nodes.nodes:
        return not_applicable("the cluster has no node")
    by_trouble: dict[str, list[str]] = {}
    for node in nodes.nodes:
        if node.ready is not True:
            by_trouble.setdefault("NotReady" if node.ready is False else "Unknown", []).append(node.name)
        for trouble in node.troubles:
            by_trouble.setdefault(trouble, []).append(node.name)
    total = len(nodes.nodes)
    if not by_trouble:
        judged = unhealthy.judge(0, "the number of nodes in trouble")
        return replace(judged, summary=f"all {counted(total, 'node')} ready, none under pressure")
    return {
        trouble: replace(
            unhealthy.judge(len(names), trouble),
            summary=f"{len(names):,} of {counted(total, 'node')}: {_in_words(trouble)} ({some(names)})",
        )
        for trouble, names in sorted(by_trouble.items())
    }


def _in_words(trouble: str) -> str:
    return {"NotReady": "not ready", "Unknown": "silent, so that nobody knows"}.get(trouble, trouble)


@check("cluster.version-skew", severity=Severity.MEDIUM)
def version_skew(
    server: ClusterServer, nodes: ClusterNodes, older: AtMost
) -> Judgement | Absent | dict[str, Judgement | Absent]:
    """Each kubelet is of a version that the API server supports.

    Why: A kubelet beyond the supported skew may lack what the API server asks for, or read fields in another way;
        nobody tests the two together.
    False positives: Distributions that support more than upstream does.
    By hand: kubectl get nodes -o wide (VERSION); kubectl version
    Sources: https://kubernetes.io/releases/version-skew-policy/
    """
    its = _minor(server.version)
    if its is None:
        return unmeasured(Reason.UNSUPPORTED, f"the server's version {server.version or '(none)'} cannot be read")
    known: dict[tuple[int, int], list[str]] = {}
    silent = []
    for node in nodes.nodes:
        version = _minor(node.kubelet)
        if version is None:
            silent.append(node.name)
        else:
            known.setdefault(version, []).append(node.name)
    found: dict[str, Judgement | Absent] = {}
    for version, names in sorted(known.items()):
        behind = (its[0] - version[0]) * 100 + its[1] - version[1]
        text = f"{counted(len(names), 'kubelet')} of {version[0]}.{version[1]} under a server of {its[0]}.{its[1]}"
        judged = older.judge(max(behind, 0), text)
        if behind < 0:
            judged = replace(judged, verdict=Verdict.FAIL, observed=_version_seen(version))
            text += ": newer than the server"
        judged = replace(judged, summary=text if judged.verdict is Verdict.PASS else f"{text} ({some(names)})")
        found[f"{version[0]}.{version[1]}"] = judged
    why = f"no node states a kubelet's version ({some(silent)})" if silent else "the cluster has no node"
    return found or not_applicable(why)


def _version_seen(version: tuple[int, int]) -> Observed:
    return Observed(f"{version[0]}.{version[1]}", None, None, None, None)


def _minor(version: str) -> tuple[int, int] | None:
    found = _VERSION.match(version)
    return (int(found[1]), int(found[2])) if found else None


# Labels


def _carries(node: Node, labels: OneOf) -> bool:
    """Whether a node carries one of some labels (KEY=VALUE, or KEY alone for any value)."""
    for each in labels.values:
        key, equals, value = str(each).partition("=")
        if key in node.labels and (not equals or node.labels[key] == value):
            return True
    return False


@check("cluster.nvme-label", severity=Severity.HIGH)
def nvme_label(nodes: ClusterNodes, label: OneOf, least: AtLeast, wanted: AtLeast | Absent) -> Judgement | Absent:
    """Enough ready, schedulable nodes carry the NVMe label.

    Why: Pods that select the label run there and nowhere else: with one such node they end with it, and with none
        they wait for ever.
    False positives: Another label means the same here: --selector nvme=KEY=VALUE.
    By hand: kubectl get nodes -l disktype=nvme
    Fix: kubectl label node NODE disktype=nvme, where the node has NVMe; kubectl uncordon NODE
    Undo: kubectl label node NODE disktype-
    Sources: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#built-in-node-labels
    """
    carrying = [node for node in nodes.nodes if _carries(node, label)]
    usable = [node for node in carrying if _is_usable(node)]
    spoken_label = " or ".join(str(each) for each in label.values)
    if isinstance(wanted, Absent):
        if not carrying:
            return not_applicable(f"no node carries {spoken_label}, and --min-nvme does not say how many should")
        text = (
            f"{len(usable):,} of {counted(len(carrying), 'node')} with {spoken_label} can be used ({_named_of(usable)})"
        )
        return replace(least.judge(len(usable), "usable nodes"), summary=text)
    judged = wanted.judge(len(usable), f"the number of ready, schedulable nodes with {spoken_label}")
    rest = [node.name for node in carrying if not _is_usable(node)]
    more = f"; not usable: {some(rest)}" if rest else ""
    return replace(judged, summary=f"{judged.summary}{more}")


def _is_usable(node: Node) -> bool:
    """Whether a pod that tolerates nothing may go there."""
    return bool(node.ready) and not barring((), node)


def _named_of(nodes: list[Node]) -> str:
    return some(node.name for node in nodes) or "none"


_TRUE: Expected = {
    "op": "stated",
    "pass": "the label, where the disk is NVMe",
    "fail": "the label, where it is not",
    "unit": None,
    "source": "origin: CoolVDS, Microservices Patterns That Won't Wake You Up at 3 AM (verify the NVMe yourself)",
}


@check("cluster.label-truth", severity=Severity.HIGH)
def label_truth(
    nodes: ClusterNodes, reports: NodeReports, label: OneOf, not_nvme_fdatasync: AtMost
) -> Judgement | Absent | dict[str, Judgement | Absent]:
    """A node that says NVMe has it.

    Why: A label is what somebody wrote: a database that selects it runs on whatever disk is there.
    False positives: A disk behind virtio cannot be known from inside: it is neither proven nor disproven, unless it
        is slower than NVMe ever is. A report belongs to a node by its machine id and boot id.
    By hand: vdscheck run --json on the node; lsblk -d -o NAME,TRAN,MODEL
    Fix: kubectl label node NODE disktype-; kubectl label node NODE disktype=nvme, where it has NVMe
    Undo: kubectl label node NODE disktype=nvme
    Sources: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
    """
    answers: dict[str, list[tuple[Node, str]]] = {"proven": [], "disproven": [], "unlabelled": [], "not-proven": []}
    by_machine: dict[str, list[NodeReport]] = {}
    for report in reports.reports:
        by_machine.setdefault(report.machine_id, []).append(report)
    for node in nodes.nodes:
        has, why = _has_nvme(node, by_machine.get(node.machine_id, []), not_nvme_fdatasync)
        claims = _carries(node, label)
        if claims:
            answer = "not-proven" if has is None else "proven" if has else "disproven"
            answers[answer].append((node, why))
        elif has:
            answers["unlabelled"].append((node, why))
    found = {name: _answer(name, members, label) for name, members in answers.items() if members}
    if reports.refused:
        count = counted(len(reports.refused) + reports.refused_more, "report")
        found["reports"] = unmeasured(Reason.ERROR, f"{count} could not be read: {some(reports.refused[:NAMED])}")
    return found or not_applicable("no node claims NVMe, and no report of one says that it has it")


def _has_nvme(node: Node, reports: list[NodeReport], limit: AtMost) -> tuple[bool | None, str]:
    """Whether a node has local NVMe, and how that is known; None where it is not."""
    current = [each for each in reports if node.boot_id and each.boot_id == node.boot_id]
    if not current:
        return None, "its report is of another boot" if reports else "no report of it"
    latest = max(current, key=lambda each: each.taken_at)
    devices = [device for stack in latest.stacks for device in stack.devices]
    local = [device for device in devices if device.is_nvme and not device.network]
    if local:
        return True, local[0].in_words
    words = " and ".join(dict.fromkeys(device.in_words for device in devices))
    if devices and all(device.network or not device.is_unknowable for device in devices):
        return False, words
    typical = latest.typical_fdatasync_ms
    if typical is not None and limit.verdict(exact(typical).value) is Verdict.FAIL:
        return False, f"{words}, whose typical fdatasync takes {spoken(round(typical, 1))} ms"
    known = f"{words}: what is behind it cannot be known from inside"
    return None, known if devices else "its report says nothing of its disks"


def _answer(name: str, members: list[tuple[Node, str]], label: OneOf) -> Judgement | Absent:
    nodes = [node for node, _ in members]
    first = f"{members[0][0].name}: {members[0][1]}"
    count, said = counted(len(nodes), "node"), str(label.values[0])
    if name == "not-proven":
        why = f"{count} with {said} neither proven nor disproven ({_named_of(nodes)}); {first}"
        return unmeasured(Reason.NOT_RUN, why)
    key = said.partition("=")[0]
    if name == "proven":
        return stated(Verdict.PASS, f"{count} with {said}, and NVMe in it: {_named_of(nodes)}", _TRUE, seen=name)
    if name == "unlabelled":
        text = f"{count} with NVMe and without {said}: {_named_of(nodes)}; {first}"
        judged = stated(Verdict.WARN, text, _TRUE, seen=name)
        return replace(judged, fix=_labelled(nodes, said, f"{key}-", "say what is there"))
    text = f"{count} with {said} and no local NVMe: {_named_of(nodes)}; {first}"
    judged = stated(Verdict.FAIL, text, _TRUE, seen=name)
    return replace(judged, fix=_labelled(nodes, f"{key}-", said, "take the label off"))


def _labelled(nodes: list[Node], do: str, undo: str, why: str) -> ByHand | None:
    safe = [node.name for node in nodes if _SHELL_SAFE.fullmatch(node.name)]
    if not safe or any(not _SHELL_SAFE.fullmatch(each.replace("=", "").rstrip("-")) for each in (do, undo)):
        return None
    chosen = safe[:COMMANDS]
    more = f" (the first {COMMANDS} of {len(safe):,})" if len(safe) > COMMANDS else ""
    return ByHand(
        f"{why}{more}",
        tuple(f"kubectl label node {name} {do}" for name in chosen),
        tuple(f"kubectl label node {name} {undo}" for name in chosen),
    )


# Where it is


@check("cluster.residency", severity=Severity.HIGH)
def residency(
    nodes: ClusterNodes, volumes: ClusterVolumes | Absent, regions: OneOf | Absent
) -> Judgement | Absent | dict[str, Judgement | Absent]:
    """Every node and every volume is in an allowed region.

    Why: Where personal data is processed is a matter of law: a pod that moves to a node abroad takes the data
        along, and nobody notices.
    False positives: A label is what the provider, or somebody, wrote. A volume that states no place (NFS, hostPath)
        is not known, unless its node is.
    By hand: kubectl get nodes -L topology.kubernetes.io/region,topology.kubernetes.io/zone;
        kubectl get pv -o yaml (nodeAffinity)
    Sources: https://kubernetes.io/docs/reference/labels-annotations-taints/#topologykubernetesioregion;
        GDPR, chapter V (transfers to third countries)
    """
    if isinstance(regions, Absent):
        return not_applicable("--region does not say which regions or zones are allowed")
    found: dict[str, Judgement | Absent] = {}
    places = {node.name: _place_of(node.labels) for node in nodes.nodes}
    found.update(_residents("node", places, regions))
    if isinstance(volumes, Absent):
        found["volumes"] = volumes
    elif volumes.volumes:
        found.update(
            _residents("volume", {each.name: (*each.regions, *each.zones) for each in volumes.volumes}, regions)
        )
    return found or not_applicable("the cluster has no node")


def _place_of(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Region and zone of a node; the names of today before those of yesterday."""
    found = (next((labels[key] for key in keys if labels.get(key)), "") for keys in _PLACES.values())
    return tuple(filter(None, found))


def _residents(noun: str, places: Mapping[str, tuple[str, ...]], regions: OneOf) -> dict[str, Judgement | Absent]:
    inside, unknown = [], []
    outside: dict[str, list[str]] = {}
    for name, where in places.items():
        if not where:
            unknown.append(name)
        elif any(regions.verdict(each) is Verdict.PASS for each in where):
            inside.append(name)
        else:
            outside.setdefault("/".join(where), []).append(name)
    found: dict[str, Judgement | Absent] = {}
    for place, names in sorted(outside.items()):
        judged = regions.judge(place, f"the place of {counted(len(names), noun)}")
        found[f"{noun}s in {place}"] = replace(judged, summary=f"{judged.summary}: {some(names)}")
    if unknown:
        found[f"{noun}s without a place"] = unmeasured(
            Reason.UNSUPPORTED, f"{counted(len(unknown), noun)} without a region or zone: {some(unknown)}"
        )
    if inside:
        judged = regions.judge(str(regions.values[0]), "the place")
        text = f"{counted(len(inside), noun)} in {' or '.join(str(each) for each in regions.values)}"
        found[f"{noun}s"] = replace(judged, summary=text)
    return found
