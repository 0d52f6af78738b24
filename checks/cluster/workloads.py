"""What runs in a cluster, or is about to: whether it fits the nodes, and how its containers live together."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from vdscheck.measurements.cluster import ClusterNodes, ClusterWorkloads, Container, Manifests, Workload
from vdscheck.plugin import (
    Absent,
    AtLeast,
    AtMost,
    ByHand,
    Evidence,
    Expected,
    Judgement,
    Observed,
    Reason,
    Severity,
    Verdict,
    check,
    counted,
    frozen,
    not_applicable,
    spoken,
    unmeasured,
)

from .scheduling import Fit, Scheduler, match, some

Judged = Judgement | Absent | dict[str, Judgement | Absent]
SYSTEM = ("kube-system", "kube-public", "kube-node-lease")
"""The cluster's own namespaces: their workloads are its distributor's to mend. Judged where they are asked for."""
SHOWN = 20
"""Findings of one check: the others are counted in one more."""
_SEVERITY = {Verdict.FAIL: 0, Verdict.WARN: 1, Verdict.UNKNOWN: 2}


def _judged(live: ClusterWorkloads | Absent, manifests: Manifests | Absent) -> tuple[Workload, ...] | Absent:
    """The workloads that are asked about: those of manifests, else those that run."""
    if isinstance(manifests, Manifests):
        return manifests.workloads or not_applicable("the manifests hold no workload")
    if isinstance(live, Absent):
        return live
    asked = set(live.namespaces)
    found = tuple(
        each
        for each in live.workloads
        if each.kind != "StaticPod" and (each.namespace not in SYSTEM or each.namespace in asked)
    )
    if not found and asked:
        why = f"nothing runs in {some(sorted(asked))}, or there is no namespace of that name"
        return unmeasured(Reason.UNSUPPORTED, why)
    return found or not_applicable("no workload runs here beside the cluster's own")


def _by_workload(
    workloads: Iterable[Workload],
    judge: Callable[[Workload], Judgement | None],
    fine: str,
    nothing: str,
) -> Judged:
    """A finding for each workload that is not as it should be, and one for all others; `judge` may pass one over."""
    bad: list[tuple[Workload, Judgement]] = []
    good: list[Judgement] = []
    for workload in workloads:
        unread = workload.template.unread
        judged = _not_judged(unread) if unread else judge(workload)
        if judged is None:
            continue
        if judged.verdict is Verdict.PASS:
            good.append(judged)
        else:
            bad.append((workload, judged))
    if not bad and not good:
        return not_applicable(nothing)
    others = [replace(good[0], summary=f"{counted(len(good), 'workload')}: {fine}")] if good else []
    if not bad:
        return others[0]
    bad.sort(key=lambda pair: (_SEVERITY.get(pair[1].verdict, 3), -(pair[0].wanted or 0), pair[0].subject))
    shown, rest = bad[:SHOWN], bad[SHOWN:]
    found: dict[str, Judgement | Absent] = {}
    for each, judged in shown:
        # Two of one name, in two files, with a generated name or of a hidden namespace: none takes another's place.
        same = sum(other == each.subject or other.startswith(f"{each.subject}#") for other in found)
        found[f"{each.subject}#{same + 1}" if same else each.subject] = _placed(each, judged)
    if rest:
        named = some(each.subject for each, _ in rest)
        found["more"] = replace(rest[0][1], summary=f"{counted(len(rest), 'more workload')} like these: {named}")
    if others:
        found["others"] = others[0]
    return found


def _not_judged(why: str) -> Judgement:
    return Judgement(verdict=Verdict.UNKNOWN, summary=f"not judged: {why}", reason=Reason.UNSUPPORTED)


def _placed(workload: Workload, judged: Judgement) -> Judgement:
    return replace(judged, summary=f"{workload.where}: {judged.summary}") if workload.where else judged


def _pods(workload: Workload) -> str:
    """`3,000 pods (a, b, c, ...)`, as far as there are any."""
    pods = workload.pods
    if pods is None or not pods.count:
        return ""
    return f" ({counted(pods.count, 'pod')})"


def _place(container: Container) -> str:
    return f"{container.name} (line {container.line})" if container.line is not None else container.name


# Where it can run


_FITS: Expected = {
    "op": "stated",
    "pass": "a ready node that matches, is tolerated and has room",
    "fail": "none",
    "unit": None,
    "source": "Kubernetes: https://kubernetes.io/docs/concepts/scheduling-eviction/kube-scheduler/",
}


@check("cluster.node-selector", severity=Severity.HIGH)
def node_selector(
    nodes: ClusterNodes, live: ClusterWorkloads | Absent, manifests: Manifests | Absent
) -> Judgement | Absent | dict[str, Judgement | Absent]:
    """Each workload has a ready node that it may run on, with room for it.

    Why: A pod whose selector, affinity or tolerations match no node, or none that has room, stays Pending
        for ever, and nothing but the pod itself says so.
    False positives: A cluster that adds nodes by itself (an autoscaler) may bring one that fits. Not judged are
        pod affinity, strict topology spread, volumes, resource claims and other schedulers: where a workload has
        them the finding names them.
    By hand: kubectl get pods -A --field-selector status.phase=Pending; kubectl describe pod POD (Events);
        kubectl get nodes -l KEY=VALUE; kubectl describe node NODE (Allocated resources)
    Fix: kubectl label node NODE KEY=VALUE, where the node has what the label says;
        kubectl uncordon NODE; or lower what the pods request
    Undo: kubectl label node NODE KEY-; kubectl cordon NODE
    Sources: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/;
        https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/;
        https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/
    """
    workloads = _judged(live, manifests)
    if isinstance(workloads, Absent):
        return workloads
    whole = isinstance(live, ClusterWorkloads) and not live.namespaces
    scheduler = Scheduler(nodes, live.use if isinstance(live, ClusterWorkloads) and whole else None)
    found = _by_workload(
        workloads,
        lambda each: _placeable(each, scheduler),
        "a ready node for each" + ("" if whole else "; room was not judged, since not all pods were read"),
        "no workload asks for a node",
    )
    return _with_missing(found, live, manifests)


def _with_missing(found: Judged, live: ClusterWorkloads | Absent, manifests: Manifests | Absent) -> Judged:
    """Beside what was judged, the lists that could not be read: what they hold was judged by its pods alone."""
    if isinstance(manifests, Manifests) or isinstance(live, Absent) or not live.missing:
        return found
    parts = found if isinstance(found, dict) else {"others": found}
    return {**parts, **live.missing}


def _placeable(workload: Workload, scheduler: Scheduler) -> Judgement | None:
    template, pods = workload.template, workload.pods
    waiting = pods.unscheduled if pods else 0
    runs = bool(pods and pods.count > waiting)
    is_idle = workload.wanted == 0 or (workload.kind == "DaemonSet" and not waiting)
    if is_idle or template.node_name is not None:
        return None
    fit = scheduler.fit(template)
    if fit is None:
        return _not_judged(f"its wishes are too many to be held against {counted(scheduler.nodes, 'node')}")
    evidence = _fit_seen(fit)
    if runs and not waiting:
        if fit.ready:
            return stated(Verdict.PASS, f"{counted(len(fit.ready), 'node')} for it", _FITS, evidence)
        text = f"it runs{_pods(workload)}, but a pod that ended would find no node: {fit.why_none}"
        return stated(Verdict.WARN, text, _FITS, evidence)
    head = _waiting(workload)
    if not fit.ready:
        return stated(Verdict.FAIL, f"{head}{fit.why_none}{_wishes(workload)}", _FITS, evidence)
    return _roomy(workload, scheduler, fit, head)


def _roomy(workload: Workload, scheduler: Scheduler, fit: Fit, head: str) -> Judgement:
    pods, evidence = workload.pods, _fit_seen(fit)
    wanted = max(1, pods.unscheduled if pods and pods.unscheduled else workload.wanted or 1)
    if not scheduler.knows_use:
        text = f"{head}{match(len(fit.ready))}; whether one has room is not known"
        verdict = Verdict.WARN if pods and pods.unscheduled else Verdict.PASS
        return stated(verdict, text + _said(workload), _FITS, evidence)
    room = scheduler.room(workload.template, fit.ready, wanted)
    if not room:
        short = scheduler.fullest_in_words(workload.template, fit.ready)
        text = f"{head}{match(len(fit.ready), 'ready node')} and none has room: {short}"
        return stated(Verdict.FAIL, text, _FITS, evidence)
    if room < wanted:
        text = (
            f"{head}there is room for {room:,} of {counted(wanted, 'pod')} on {counted(len(fit.ready), 'ready node')}"
        )
        return stated(Verdict.WARN, text + _said(workload), _FITS, evidence)
    if pods and pods.unscheduled:
        text = f"{head}{match(len(fit.ready), 'ready node')}, and there is room: the cause lies elsewhere"
        return stated(Verdict.WARN, text + _said(workload), _FITS, evidence)
    return stated(Verdict.PASS, f"{counted(len(fit.ready), 'node')} for it, with room", _FITS, evidence)


def stated(
    verdict: Verdict, text: str, expected: Expected, evidence: tuple[Evidence, ...] = (), seen: str | None = None
) -> Judgement:
    """A judgement that no number bears; what was seen is the sentence, unless there is a word for it."""
    observed = Observed((seen or text)[:200], None, None, None, None)
    return Judgement(verdict=verdict, summary=text, observed=observed, expected=expected, evidence=evidence)


def _fit_seen(fit: Fit) -> tuple[Evidence, ...]:
    counts = (
        ("nodes", fit.nodes),
        ("matching", len(fit.selected)),
        ("tolerated and not cordoned", len(fit.allowed)),
        ("ready", len(fit.ready)),
    )
    return tuple(Evidence(name, value, None, "the API server's nodes") for name, value in counts)


def _waiting(workload: Workload) -> str:
    pods = workload.pods
    if pods is None or not pods.unscheduled:
        return ""
    named = ", ".join(pods.waiting)
    more = ", ..." if pods.unscheduled > len(pods.waiting) else ""
    wait = "waits" if pods.unscheduled == 1 else "wait"
    return f"{pods.unscheduled:,} of {counted(pods.count, 'pod')} {wait} for a node ({named}{more}): "


def _wishes(workload: Workload) -> str:
    """The selector in words, and what else the scheduler heeds."""
    selector = ",".join(f"{key}={value}" for key, value in sorted(workload.template.node_selector.items()))
    parts = [f"nodeSelector {selector}"] if selector else []
    parts += ["a required node affinity"] if workload.template.affinity is not None else []
    return (f" ({' and '.join(parts)})" if parts else "") + _said(workload)


def _said(workload: Workload) -> str:
    """What is not judged, and what the scheduler itself says."""
    parts = []
    if workload.template.not_judged:
        parts.append(f"not judged: {', '.join(workload.template.not_judged)}")
    if workload.pods is not None and workload.pods.scheduler_said:
        parts.append(f"the scheduler: {workload.pods.scheduler_said[:200]}")
    return f"; {'; '.join(parts)}" if parts else ""


# How its containers live together


_WORDS = re.compile(
    r"(?:^|[-_./])(log|logs|logger|logging|ship|shipper|log-shipper|fluent|fluentd|fluent-bit|fluentbit|filebeat|promtail"
    r"|vector|tail|tailer|proxy|envoy|istio|linkerd|sidecar|exporter|agent|statsd|telegraf|otel|collector|reloader)"
    r"(?=$|[-_./:@])"
)
_LOGS = re.compile(r"log|ship|fluent|filebeat|promtail|vector|tail")
_SOUND: Expected = {
    "op": "stated",
    "pass": "requests and limits, a volume shared with what it reads, an end with its pod",
    "fail": "one of them missing",
    "unit": None,
    "source": "Kubernetes: https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/",
}


@check("cluster.sidecars", severity=Severity.MEDIUM)
def sidecars(
    live: ClusterWorkloads | Absent, manifests: Manifests | Absent
) -> Judgement | Absent | dict[str, Judgement | Absent]:
    """Helper containers are limited, see what they read, and end with their pod.

    Why: A log shipper without limits takes CPU and memory from the container that earns the money; one that
        shares no volume with it ships nothing; one beside the container of a job keeps the job from ending.
    False positives: Which container is the helper is told by its name or image (log, proxy, agent, exporter, ...)
        or by a volume that it only reads; a helper that gets its data over the network needs no volume. A
        LimitRange of the namespace gives limits that a manifest does not state.
    By hand: kubectl get deployment NAME -o jsonpath='{.spec.template.spec}'; kubectl top pod --containers
    Fix: state resources.requests and resources.limits of the helper; mount the volume that the main container
        writes (an emptyDir) in both; make it an init container with restartPolicy Always
    Undo: kubectl rollout undo deployment NAME
    Sources: https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/;
        https://kubernetes.io/docs/concepts/cluster-administration/logging/ (sidecar containers);
        origin: CoolVDS, Microservices Patterns That Won't Wake You Up at 3 AM (a log shipper beside the app)
    """
    workloads = _judged(live, manifests)
    if isinstance(workloads, Absent):
        return workloads
    found = _by_workload(workloads, _sound, "its helper containers are sound", "no workload has a helper container")
    return _with_missing(found, live, manifests)


def _sound(workload: Workload) -> Judgement | None:
    beside = _Beside.of(workload)
    helpers = [(at, each) for at, each in enumerate(beside.containers) if beside.is_helper(each)]
    if not helpers:
        return None
    kinds, troubles = [], []
    for at, helper in helpers:
        shared = beside.shared(at)
        kinds.append(_described(helper, shared))
        wrong = _wrong(helper, shared, workload)
        if wrong:
            troubles.append(f"{_place(helper)} {', and '.join(wrong)}")
    pairs = zip(helpers, kinds, strict=True)
    seen = tuple(Evidence(each.name, what, None, "the pod template") for (_, each), what in pairs)
    if troubles:
        return stated(Verdict.FAIL, "; ".join(troubles) + _pods(workload), _SOUND, seen)
    return stated(Verdict.PASS, "; ".join(kinds), _SOUND, seen)


@frozen
class _Beside:
    """The containers of a pod that run beside each other, indexed: a tenant's pod may have thousands."""

    containers: list[Container]
    mains: int
    unnamed_mains: int
    """Of the main ones those that are not called as helpers are."""
    main_writers: Counter[str]
    """How many main containers write a volume."""
    writers: dict[str, list[tuple[int, int, str, str]]]
    """The first two containers that write a volume which is no secret: place, place of the mount, volume, name."""

    @classmethod
    def of(cls, workload: Workload) -> "_Beside":
        containers = [each for each in workload.template.containers if each.role != "init"]
        mains = [each for each in containers if each.role == "main"]
        writers: dict[str, list[tuple[int, int, str, str]]] = {}
        for at, each in enumerate(containers):
            for mount_at, mount in enumerate(each.mounts):
                known = writers.setdefault(mount.volume, [])
                is_secret = workload.template.volumes.get(mount.volume) == "secret"
                if not (mount.read_only or is_secret or len(known) > 1 or any(at == other for other, *_ in known)):
                    known.append((at, mount_at, mount.volume, each.name))
        return cls(
            containers,
            len(mains),
            sum(not _is_named_helper(each) for each in mains),
            Counter(volume for each in mains for volume in _written_by(each)),
            writers,
        )

    def is_helper(self, container: Container) -> bool:
        if container.role == "sidecar":
            return True
        if self.mains == (container.role == "main"):  # no other one
            return False
        if _is_named_helper(container):
            return self.unnamed_mains > 0
        own = _written_by(container) if container.role == "main" else set()
        mine = [mount for mount in container.mounts if self.main_writers[mount.volume] > (mount.volume in own)]
        return bool(mine) and all(mount.read_only for mount in mine)

    def shared(self, helper_at: int) -> tuple[str, str] | None:
        """The first volume of a helper that another container writes, with that container."""
        volumes = {mount.volume for mount in self.containers[helper_at].mounts}
        found = [each for volume in volumes for each in self.writers.get(volume, ()) if each[0] != helper_at]
        return min(found)[2:] if found else None


def _is_named_helper(container: Container) -> bool:
    return bool(_WORDS.search(container.name) or _WORDS.search(container.image))


def _written_by(container: Container) -> set[str]:
    return {mount.volume for mount in container.mounts if not mount.read_only}


def _described(helper: Container, shared: tuple[str, str] | None) -> str:
    kind = "native sidecar" if helper.role == "sidecar" else "sidecar"
    if shared is None:
        return kind
    volume, writer = shared
    reads = f", reads {helper.paths[0]}" if helper.paths else ""
    return f"{kind} on the volume {volume} that {writer} writes{reads}"


def _wrong(helper: Container, shared: tuple[str, str] | None, workload: Workload) -> list[str]:
    wrong = []
    stated = {"requests": helper.requests, "limits": helper.limits}
    missing = [
        f"{name} {word[:-1]}"
        for word, amounts in stated.items()
        for name, value in (("CPU", amounts.cpu_millicores), ("memory", amounts.memory_bytes))
        if value is None
    ]
    if missing:
        wrong.append(f"states no {_or(missing)}")
    is_log = bool(_LOGS.search(helper.name) or any(path.endswith(".log") for path in helper.paths))
    on_host = any(workload.template.volumes.get(mount.volume) == "hostPath" for mount in helper.mounts)
    if is_log and not shared and not on_host:
        wrong.append("shares no volume with another container that writes it")
    if not workload.template.restarts and helper.role == "main":
        wrong.append("goes on when the job is done: a native sidecar ends with its pod")
    return wrong


def _or(words: list[str]) -> str:
    return " and no ".join([", no ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


@check("cluster.resources", severity=Severity.MEDIUM)
def resources(
    live: ClusterWorkloads | Absent, manifests: Manifests | Absent, incomplete: AtMost
) -> Judgement | Absent | dict[str, Judgement | Absent]:
    """Every container says how much CPU and memory it needs, and how much memory it may take.

    Why: The scheduler places pods by their requests: without them a node is full before it is known to be. A
        container without a memory limit takes the memory of its neighbours before it is ended.
    False positives: A LimitRange of the namespace gives what a manifest does not state; pods in the cluster carry
        it. A CPU limit is not asked for: it throttles a service that has headroom beside it.
    By hand: kubectl get pods -A -o custom-columns=N:.metadata.name,R:.spec.containers[*].resources
    Fix: kubectl set resources deployment NAME -c CONTAINER --requests=cpu=100m,memory=128Mi --limits=memory=128Mi
    Undo: kubectl rollout undo deployment NAME
    Sources: https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/
    """
    workloads = _judged(live, manifests)
    if isinstance(workloads, Absent):
        return workloads

    def judge(workload: Workload) -> Judgement:
        bad = []
        for each in workload.template.containers:
            wanted = {
                "CPU request": each.requests.cpu_millicores,
                "memory request": each.requests.memory_bytes,
                "memory limit": each.limits.memory_bytes,
            }
            missing = [name for name, value in wanted.items() if value is None]
            if missing and each.role != "init":
                bad.append(f"{_place(each)} states no {_or(missing)}")
        judged = incomplete.judge(len(bad), "the number of containers without")
        return replace(judged, summary="; ".join(bad) + _pods(workload), fix=_SET_RESOURCES if bad else None)

    fine = "each container states its CPU and memory requests and a memory limit"
    return _with_missing(_by_workload(workloads, judge, fine, "no workload has a container"), live, manifests)


_SET_RESOURCES = ByHand(
    "state in the manifest what each container needs: measure it with kubectl top pod --containers, and add headroom"
)


@check("cluster.images", severity=Severity.MEDIUM)
def images(
    live: ClusterWorkloads | Absent, manifests: Manifests | Absent, movable: AtMost
) -> Judgement | Absent | dict[str, Judgement | Absent]:
    """Every image has a tag of its own, or a digest.

    Why: `latest`, or no tag, is another image at each pull: two replicas may run different code, and a roll back
        rolls back nothing.
    False positives: An image that is only ever built and run on one machine. Other tags can be moved as well:
        only a digest cannot.
    By hand: kubectl get pods -A -o custom-columns=NAME:.metadata.name,IMAGES:.spec.containers[*].image
    Sources: https://kubernetes.io/docs/concepts/containers/images/#image-names
    """
    workloads = _judged(live, manifests)
    if isinstance(workloads, Absent):
        return workloads

    def judge(workload: Workload) -> Judgement:
        of_containers = [(f"{_place(each)} runs", each.image) for each in workload.template.containers]
        further = [(f"{each.place} is of", each.image) for each in workload.template.further_images]
        every = [(place, image, _movable(image)) for place, image in (*of_containers, *further)]
        bad = [f"{place} {image or 'no image'}, {why}" for place, image, why in every if why]
        odd = [f"{place} {image!r}, which is no name of an image" for place, image, why in every if why is None]
        judged = movable.judge(len(bad), "the number of images that may change")
        said = "; ".join([*bad, *odd]) + _pods(workload)
        if odd and judged.verdict is Verdict.PASS:
            return Judgement(verdict=Verdict.UNKNOWN, summary=said, reason=Reason.UNSUPPORTED)
        return replace(judged, summary=said)

    fine = "every image has a tag of its own or a digest"
    return _with_missing(_by_workload(workloads, judge, fine, "no workload has a container"), live, manifests)


# The grammar of github.com/distribution/reference, by which kubelet reads the name of an image.
_DOMAIN = (
    r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*"
)
_FOLDER = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?P<name>(?:(?:{_DOMAIN}|\[[a-fA-F0-9:]+\])(?::[0-9]+)?/)?{_FOLDER}(?:/{_FOLDER})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?P<digest>@(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}))?"
)
_NAME_LIMIT, _ID = 255, re.compile("[0-9a-f]{64}")


def _movable(image: str) -> str | None:
    """Why an image may be another one at the next pull; empty where it may not, None where it names no image."""
    if not image:
        return "which has no tag"
    found = _IMAGE.fullmatch(image)
    if found is None or len(found["name"]) > _NAME_LIMIT or _ID.fullmatch(image):
        return None
    if found["digest"]:
        return ""
    if found["tag"] is None:
        return "which has no tag"
    return "a tag that moves" if found["tag"] == "latest" else ""


@check("cluster.spread", severity=Severity.MEDIUM)
def spread(
    live: ClusterWorkloads | Absent, manifests: Manifests | Absent, inventory: ClusterNodes | Absent, nodes: AtLeast
) -> Judgement | Absent | dict[str, Judgement | Absent]:
    """Replicas are on several nodes, and something keeps them apart.

    Why: Replicas on one node end with it. The scheduler spreads them as it can when they start, and what it
        could not then stays so, unless the pods say that they are to be kept apart.
    False positives: A cluster of one node (not applicable). Replicas for throughput alone.
    By hand: kubectl get pods -A -o wide --sort-by=.spec.nodeName
    Fix: add topologySpreadConstraints with topologyKey kubernetes.io/hostname, or a podAntiAffinity
    Undo: kubectl rollout undo deployment NAME
    Sources: https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/
    """
    workloads = _judged(live, manifests)
    if isinstance(workloads, Absent):
        return workloads
    if isinstance(inventory, ClusterNodes) and len(inventory.nodes) == 1:
        return not_applicable("the cluster has one node")

    def judge(workload: Workload) -> Judgement | None:
        template, pods = workload.template, workload.pods
        replicas = pods.count if pods and pods.count else workload.wanted or 0
        if workload.kind not in ("Deployment", "StatefulSet", "ReplicaSet") or not template.restarts or replicas <= 1:
            return None
        placed = pods.count - pods.unscheduled if pods else 0
        if pods and placed > 1:
            judged = nodes.judge(pods.nodes, "the number of nodes")
            if judged.verdict is not Verdict.PASS:
                return replace(judged, summary=f"all {placed:,} placed replicas are on one node")
        if template.kept_apart:
            text = f"kept apart by {', '.join(template.kept_apart)}"
            return stated(Verdict.PASS, text, nodes.expected())
        where = f" (on {counted(pods.nodes, 'node')} now)" if pods and pods.nodes else ""
        text = (
            f"{spoken(replicas)} replicas{where}, and nothing keeps them apart: "
            "no topologySpreadConstraints and no podAntiAffinity"
        )
        return stated(Verdict.WARN, text, nodes.expected())

    found = _by_workload(workloads, judge, "replicas are kept apart", "no workload has several replicas")
    return _with_missing(found, live, manifests)
