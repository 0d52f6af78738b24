"""What is measured of a Kubernetes cluster, and what manifests say before they are deployed.

Not re-exported by the package: a run on a host does without it.
"""

from typing import Literal

from vdscheck.measurements.disk import DiskStack
from vdscheck.model.absence import Absent
from vdscheck.model.records import measurement
from vdscheck.stats import Distribution

Role = Literal["main", "init", "sidecar"]
"""`sidecar` is the native one: an init container with `restartPolicy: Always`, which ends with its pod."""


@measurement
class Resources:
    """Amounts of what is requested, limited, or there to be had; None is "not stated"."""

    cpu_millicores: int | None
    memory_bytes: int | None
    ephemeral_storage_bytes: int | None
    others: dict[str, int]
    """Extended resources and huge pages, by name."""

    @property
    def stated(self) -> dict[str, int]:
        """By the names that Kubernetes uses; CPU in millicores, all else in its own unit."""
        named = {
            "cpu": self.cpu_millicores,
            "memory": self.memory_bytes,
            "ephemeral-storage": self.ephemeral_storage_bytes,
        }
        return {name: value for name, value in named.items() if value is not None} | self.others


@measurement
class Requirement:
    """One line of a node selector term."""

    key: str
    operator: str
    """In, NotIn, Exists, DoesNotExist, Gt, Lt."""
    values: tuple[str, ...]


@measurement
class NodeTerm:
    """One of the terms of a required node affinity: all its lines must hold, and one term is enough."""

    labels: tuple[Requirement, ...]
    fields: tuple[Requirement, ...]


@measurement
class Toleration:
    """A taint that a pod bears; None is "not given", which matches everything."""

    key: str | None
    operator: str
    """Equal or Exists."""
    value: str
    effect: str | None


@measurement
class Taint:
    """What keeps pods off a node."""

    key: str
    value: str
    effect: str
    """NoSchedule, PreferNoSchedule, NoExecute."""

    @property
    def in_words(self) -> str:
        """As kubectl writes it."""
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


@measurement
class Mount:
    """Where a container sees a volume."""

    volume: str
    path: str
    read_only: bool


@measurement
class Container:
    """A container of a pod, without its environment and its arguments: they may hold secrets."""

    name: str
    image: str
    role: Role
    requests: Resources
    limits: Resources
    mounts: tuple[Mount, ...]
    paths: tuple[str, ...]
    """Absolute paths among its command and arguments that lie on one of its mounts."""
    line: int | None
    """Where it begins in its manifest."""


@measurement
class FurtherImage:
    """An image that a pod uses beside those of its containers."""

    place: str
    """`volume NAME` or `ephemeral container NAME`."""
    image: str


@measurement
class PodTemplate:
    """What decides where the pods of a workload can run, and how they live together."""

    containers: tuple[Container, ...]
    volumes: dict[str, str]
    """The kind of each volume, by its name."""
    restarts: bool
    """Whether the pod is meant to run for ever; not that of a job."""
    node_selector: dict[str, str]
    affinity: tuple[NodeTerm, ...] | None
    """The terms of the required node affinity; None where there is none."""
    tolerations: tuple[Toleration, ...]
    node_name: str | None
    """Set where the pod names its node itself, past the scheduler."""
    requests: Resources
    """Of the whole pod, as the scheduler counts it: with the peak of its init containers, and overhead."""
    kept_apart: tuple[str, ...]
    """What spreads the replicas: topology keys of spread constraints and anti-affinity."""
    not_judged: tuple[str, ...]
    """What else the scheduler heeds: pod affinity, topology spread, volumes, resource claims, a scheduler's name."""
    further_images: tuple[FurtherImage, ...] = ()
    unread: str = ""
    """Why nothing of it is kept, where it is too large to be; empty of all others."""


@measurement
class Pods:
    """The pods of one workload that have not ended."""

    count: int
    running: int
    unscheduled: int
    """The scheduler has found no node for them."""
    nodes: int
    """On how many nodes the others are."""
    waiting: tuple[str, ...]
    """Names of unscheduled ones: no more than three."""
    scheduler_said: str
    """The message at one of them."""


@measurement
class Workload:
    """A controller and its pods, a bare pod, or either of them in a manifest."""

    kind: str
    namespace: str
    name: str
    where: str
    """File and line of a manifest; empty for what is in the cluster."""
    wanted: int | None
    """Replicas; None where that is not a number of its own (DaemonSet, CronJob)."""
    template: PodTemplate
    pods: Pods | None
    """None in a manifest."""

    @property
    def subject(self) -> str:
        """`prod/deployment/payment`."""
        return f"{self.namespace}/{self.kind.lower()}/{self.name}"


@measurement
class ListRead:
    """How one list was read from the API server."""

    what: str
    requests: int
    size_bytes: int
    """As the server sent it."""
    duration_s: float
    items: int


@measurement
class Node:
    """A node as the API server knows it."""

    name: str
    labels: dict[str, str]
    taints: tuple[Taint, ...]
    cordoned: bool
    ready: bool | None
    """None where the server does not know (its kubelet is silent)."""
    troubles: tuple[str, ...]
    """Conditions that are true and should not be: MemoryPressure, DiskPressure, ..."""
    allocatable: Resources
    most_pods: int | None
    kubelet: str
    """Its version; empty where it says none (virtual kubelets)."""
    machine_id: str
    boot_id: str


@measurement
class ClusterServer:
    """The API server: who it is, and how fast it answers for one object."""

    context: str
    host: str
    version: str
    """As `/version` says it; empty where it says none."""
    get: Distribution
    got: str
    """What was asked for."""


@measurement
class ClusterNodes:
    """All nodes (GET /api/v1/nodes)."""

    nodes: tuple[Node, ...]
    read: ListRead


@measurement
class NodeUse:
    """What the pods on a node have requested."""

    name: str
    pods: int
    requests: dict[str, int]
    """By resource name, as in Resources.stated."""


@measurement
class ClusterWorkloads:
    """Controllers and pods, gathered by controller (Deployments, StatefulSets, DaemonSets, Jobs, CronJobs, pods)."""

    namespaces: tuple[str, ...]
    """Which were read; empty is all."""
    why_namespaces: str
    """Why not all, where nobody asked for it; else empty."""
    workloads: tuple[Workload, ...]
    use: tuple[NodeUse, ...]
    """By node; only with all namespaces is it what the scheduler counts."""
    missing: dict[str, Absent]
    """Lists that could not be had, by resource (`deployments.apps`)."""
    reads: tuple[ListRead, ...]


@measurement
class Volume:
    """A persistent volume and where it can be used, by its labels and its node affinity."""

    name: str
    claim: str
    """`namespace/name` of the claim that has it; empty without."""
    regions: tuple[str, ...]
    zones: tuple[str, ...]


@measurement
class ClusterVolumes:
    """All persistent volumes (GET /api/v1/persistentvolumes)."""

    volumes: tuple[Volume, ...]
    read: ListRead


@measurement
class NodeReport:
    """What a report of `vdscheck run --json` says of the disks of one node."""

    source: str
    """File or ConfigMap."""
    node: str
    """The host's own name: the machine id and the boot id decide, not this."""
    machine_id: str
    boot_id: str
    taken_at: str
    stacks: tuple[DiskStack, ...]
    typical_fdatasync_ms: float | None
    """The median; None where it was not measured."""


@measurement
class NodeReports:
    """Reports of nodes, from files or from ConfigMaps with the label `vdscheck/node-report`."""

    reports: tuple[NodeReport, ...]
    refused: tuple[str, ...]
    """What looked like one and is none, and why: the first of them."""
    refused_more: int = 0
    """How many others were refused."""


@measurement
class Manifests:
    """Workloads of manifests, and what the files hold beside them."""

    files: tuple[str, ...]
    workloads: tuple[Workload, ...]
    others: dict[str, int]
    """How many objects of which other kind there are."""
