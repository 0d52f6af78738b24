"""Pods gathered by what controls them, so that a cluster of any size is as large as its workloads."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from vdscheck.measurements.cluster import ClusterWorkloads, FurtherImage, ListRead, NodeUse, Pods, PodTemplate, Workload
from vdscheck.plugin import Absent, Cluster, ForbiddenError, UnavailableError, safe_text, secrets
from vdscheck.probes.cluster.objects import Controller, Pod, PodSpec
from vdscheck.probes.cluster.quantity import add
from vdscheck.probes.cluster.reading import listed, refuse_unread
from vdscheck.probes.cluster.templates import NAME_LIMIT, further_images, requested, template, unread

_CONTROLLERS = (
    ("deployments", "apps", "Deployment"),
    ("statefulsets", "apps", "StatefulSet"),
    ("daemonsets", "apps", "DaemonSet"),
    ("cronjobs", "batch", "CronJob"),
    ("jobs", "batch", "Job"),
)
_ENDED = ("Succeeded", "Failed")
_SHOWN = 3
_SHOWN_IMAGES = 100
TEMPLATES_LIMIT_BYTES = 12 << 20
"""Of all specifications together, as they are kept: some 9,000 ordinary ones. A measurement may have 16 MiB."""
RESOURCES_LIMIT = 500
"""Names of resources that are added up on a node: a node itself has some ten."""
_MESSAGE_LIMIT = 500
Key = tuple[str, str, str]
"""Namespace, kind and name of what controls some pods."""


@dataclass
class _Group:
    """The pods of one controller so far."""

    count: int = 0
    running: int = 0
    unscheduled: int = 0
    nodes: set[str] = field(default_factory=set)
    waiting: list[str] = field(default_factory=list)
    said: str = ""
    spec: PodSpec | None = None
    """That of a pod which waits for a node, else that of the newest."""
    rank: tuple[bool, str] = (False, "")
    further_images: dict[FurtherImage, None] = field(default_factory=dict)
    """Of all its pods: a container is added to one of them."""

    @property
    def pods(self) -> Pods:
        return Pods(
            count=self.count,
            running=self.running,
            unscheduled=self.unscheduled,
            nodes=len(self.nodes),
            waiting=tuple(self.waiting),
            scheduler_said=self.said,
        )


class Gathered:
    """All pods of a list, by controller and by node."""

    def __init__(self, jobs: Mapping[tuple[str, str], str]) -> None:
        self._jobs = jobs
        self.groups: dict[Key, _Group] = {}
        self.use: dict[str, tuple[int, dict[str, int]]] = {}

    def begin(self) -> Callable[[Pod], None]:
        """Forget all, and take what comes."""
        self.groups.clear()
        self.use.clear()
        return self.take

    def include(self, other: "Gathered") -> None:
        """Count in the pods of another list, of another namespace."""
        self.groups |= other.groups
        for node, (pods, requests) in other.use.items():
            self._used(node, pods, requests)

    def take(self, pod: Pod) -> None:
        """Count a pod in."""
        if pod.status.phase in _ENDED:
            return
        _refuse_unread(pod.spec, "pods")
        group = self.groups.setdefault(self._owner(pod), _Group())
        group.count += 1
        group.running += pod.status.phase == "Running"
        node = sys.intern(pod.spec.node_name or "")
        if node:
            group.nodes.add(node)
            self._used(node, 1, requested(pod.spec))
        else:
            self._waits(group, pod)
        if pod.spec.ephemeral_containers and len(group.further_images) < _SHOWN_IMAGES:
            group.further_images |= dict.fromkeys(further_images(pod.spec))
        rank = (not node, pod.metadata.creation_timestamp or "")
        if group.spec is None or rank > group.rank:
            group.spec, group.rank = pod.spec, rank

    def _used(self, node: str, pods: int, requests: dict[str, int]) -> None:
        before, sums = self.use.get(node, (0, {}))
        room = max(0, RESOURCES_LIMIT - len(sums))
        new = islice((name for name in requests if name not in sums), room)
        add(sums, {name: requests[name] for name in (*(name for name in requests if name in sums), *new)})
        self.use[node] = (before + pods, sums)

    @staticmethod
    def _waits(group: _Group, pod: Pod) -> None:
        for each in pod.status.conditions or ():
            if each.type == "PodScheduled" and each.status == "False" and each.reason == "Unschedulable":
                group.said = (
                    group.said or secrets.redact(safe_text(each.message or "")[: 2 * _MESSAGE_LIMIT])[:_MESSAGE_LIMIT]
                )
        group.unscheduled += 1
        if len(group.waiting) < _SHOWN:
            group.waiting.append(pod.metadata.name[:NAME_LIMIT])

    def _owner(self, pod: Pod) -> Key:
        meta = pod.metadata
        owner = next((each for each in meta.owner_references or () if each.controller), None)
        if owner is None:
            return meta.namespace, "Pod", meta.name
        if owner.kind == "ReplicaSet":
            end = f"-{(meta.labels or {}).get('pod-template-hash', '')}"
            if len(end) > 1 and owner.name.endswith(end):
                return meta.namespace, "Deployment", owner.name.removesuffix(end)
        if owner.kind == "Job":
            cron = self._jobs.get((meta.namespace, owner.name))
            if cron is not None:
                return meta.namespace, "CronJob", cron
        return (meta.namespace, "StaticPod" if owner.kind == "Node" else owner.kind, owner.name or meta.name)


@dataclass
class _Controllers:
    """Templates of controllers, and which CronJob has made which Job."""

    found: dict[Key, Controller] = field(default_factory=dict)
    jobs: dict[tuple[str, str], str] = field(default_factory=dict)

    def taker(self, kind: str, what: str) -> Callable[[], Callable[[Controller], None]]:
        def take(each: Controller) -> None:
            _refuse_unread(template_of(each), what)
            meta = each.metadata
            owner = next((one for one in meta.owner_references or () if one.controller), None)
            if kind == "Job":
                if owner is not None and owner.kind == "CronJob":
                    self.jobs[meta.namespace, meta.name] = owner.name
            elif owner is None:
                self.found[meta.namespace, kind, meta.name] = each

        return lambda: take


def _refuse_unread(spec: PodSpec | None, what: str) -> None:
    """Raise UnavailableError where an amount in a pod's specification cannot be read."""
    if spec is None:
        return
    refuse_unread(spec.overhead, what)
    for each in (*(spec.init_containers or ()), *(spec.containers or ())):
        if each.resources is not None:
            refuse_unread(each.resources.requests, what)
            refuse_unread(each.resources.limits, what)


def read(cluster: Cluster) -> ClusterWorkloads:
    """All controllers and pods that may be read."""
    try:
        return _read(cluster, cluster.namespaces, "")
    except ForbiddenError as error:
        if cluster.namespaces or error.nobody:
            raise
        return _read(cluster, (cluster.login.namespace,), error.absent.detail)


def _read(cluster: Cluster, namespaces: tuple[str, ...], why: str) -> ClusterWorkloads:
    controllers, missing, reads = _controllers(cluster, namespaces)
    gathered = _pods(cluster, namespaces, controllers, reads)
    return ClusterWorkloads(
        namespaces=namespaces,
        why_namespaces=why,
        workloads=_assembled(controllers, gathered),
        use=tuple(NodeUse(name=name, pods=pods, requests=sums) for name, (pods, sums) in sorted(gathered.use.items())),
        missing=missing,
        reads=tuple(reads),
    )


def _paths(prefix: str, resource: str, namespaces: tuple[str, ...]) -> list[str]:
    return [f"{prefix}/namespaces/{name}/{resource}" for name in namespaces] or [f"{prefix}/{resource}"]


def _controllers(
    cluster: Cluster, namespaces: tuple[str, ...]
) -> tuple[_Controllers, dict[str, Absent], list[ListRead]]:
    controllers = _Controllers()
    missing: dict[str, Absent] = {}
    reads: list[ListRead] = []
    for resource, group, kind in _CONTROLLERS:
        what = f"{resource}.{group}"
        for path in _paths(f"/apis/{group}/v1", resource, namespaces):
            try:
                reads.append(listed(cluster, path, what, Controller, controllers.taker(kind, what)))
            except UnavailableError as error:
                missing[what] = error.absent
    return controllers, missing, reads


def _pods(cluster: Cluster, namespaces: tuple[str, ...], controllers: _Controllers, reads: list[ListRead]) -> Gathered:
    everything = Gathered(controllers.jobs)
    for path in _paths("/api/v1", "pods", namespaces):
        part = Gathered(controllers.jobs)
        reads.append(listed(cluster, path, "pods", Pod, part.begin))
        everything.include(part)
    return everything


def _assembled(controllers: _Controllers, gathered: Gathered) -> tuple[Workload, ...]:
    keys = sorted({*controllers.found, *gathered.groups})
    made = (_workload(key, controllers.found.get(key), gathered.groups.get(key)) for key in keys)
    return _bounded([each for each in made if each is not None])


def _bounded(workloads: list[Workload]) -> tuple[Workload, ...]:
    """All of them; where they are too much together, the largest without what they say.

    Who may write in one namespace is not to keep all others from being judged.
    """
    sizes = {place: len(repr(each.template)) for place, each in enumerate(workloads)}
    total = sum(sizes.values())
    for place in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if total <= TEMPLATES_LIMIT_BYTES:
            break
        total -= sizes[place]
        why = f"its specification is too large beside all others (about {sizes[place]:,} bytes)"
        workloads[place] = replace(workloads[place], template=unread(why))
    return tuple(workloads)


def _workload(key: Key, controller: Controller | None, group: _Group | None) -> Workload | None:
    namespace, kind, name = key
    daemon = kind == "DaemonSet"
    found: PodTemplate | None = None
    if group is not None and group.spec is not None:
        found = template(group.spec, of_daemon=daemon)
        # Where its node was chosen for it by the scheduler it did not choose it itself.
        further = tuple({**dict.fromkeys(found.further_images), **group.further_images})
        found = replace(found, node_name=None, further_images=further)
    elif controller is not None:
        spec = template_of(controller)
        found = None if spec is None else template(spec, of_daemon=daemon)
    if found is None:
        return None
    return Workload(
        kind=kind,
        namespace=namespace[:NAME_LIMIT],
        name=name[:NAME_LIMIT],
        where="",
        wanted=replicas(kind, controller),
        template=found,
        pods=group.pods
        if group is not None
        else Pods(count=0, running=0, unscheduled=0, nodes=0, waiting=(), scheduler_said=""),
    )


def replicas(kind: str, controller: Controller | None) -> int | None:
    """How many pods are wanted, where that is a number: 1 unless it is stated."""
    if kind in ("Pod", "StaticPod"):
        return 1
    if controller is None or kind not in ("Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"):
        return None
    return 1 if controller.spec.replicas is None else controller.spec.replicas


def template_of(controller: Controller) -> PodSpec | None:
    """The pod specification in a controller, also that of a CronJob."""
    spec = controller.spec
    held = spec.template
    if held is None and spec.job_template is not None and spec.job_template.spec is not None:
        held = spec.job_template.spec.template
    return held.spec if held is not None else None
