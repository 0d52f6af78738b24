"""The objects of the Kubernetes API, as far as they are read: typed, so that a page takes milliseconds.

Fields are those of the API reference (https://kubernetes.io/docs/reference/kubernetes-api/).
"""

from typing import Annotated, Any, Literal

import msgspec

Replicas = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
"""An int32 that the API server does not take where it is negative."""

NAME_LIMIT = 4096
"""Characters of a name or a value of a label: a saved report has no longer ones, and the API server takes 317."""
Name = Annotated[str, msgspec.Meta(max_length=NAME_LIMIT)]


class _Object(msgspec.Struct, rename="camel", gc=False):
    """What the server sends; unknown fields are passed over."""


class Owner(_Object):
    kind: str = ""
    name: str = ""
    controller: bool | None = None


class Meta(_Object):
    name: str = ""
    namespace: str = ""
    labels: dict[Name, Name] | None = None
    owner_references: list[Owner] | None = None
    creation_timestamp: str | None = None


class Expression(_Object):
    key: Name = ""
    operator: Name = ""
    values: list[str] | None = None
    """The API server takes one of any length here (Kubernetes before 1.33); no label has more than 63 characters."""


class SelectorTerm(_Object):
    match_expressions: list[Expression] | None = None
    match_fields: list[Expression] | None = None


class NodeSelector(_Object):
    node_selector_terms: list[SelectorTerm] | None = None


class NodeAffinity(_Object):
    required: NodeSelector | None = msgspec.field(default=None, name="requiredDuringSchedulingIgnoredDuringExecution")


class PodAffinityTerm(_Object):
    topology_key: Name = ""


class WeightedTerm(_Object):
    pod_affinity_term: PodAffinityTerm | None = None


class PodAffinity(_Object):
    required: list[PodAffinityTerm] | None = msgspec.field(
        default=None, name="requiredDuringSchedulingIgnoredDuringExecution"
    )
    preferred: list[WeightedTerm] | None = msgspec.field(
        default=None, name="preferredDuringSchedulingIgnoredDuringExecution"
    )


class Affinity(_Object):
    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class TaintObject(_Object):
    key: Name = ""
    value: Name = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class TolerationObject(_Object):
    key: Name | None = None
    operator: Name | None = None
    value: Name | None = None
    effect: Name | None = None


class Amounts(_Object):
    requests: dict[Name, str | int | float] | None = None
    limits: dict[Name, str | int | float] | None = None


class VolumeMount(_Object):
    name: str = ""
    mount_path: str = ""
    read_only: bool | None = None


class ContainerObject(_Object):
    name: str = ""
    image: str = ""
    command: list[str] | None = None
    args: list[str] | None = None
    resources: Amounts | None = None
    volume_mounts: list[VolumeMount] | None = None
    restart_policy: str | None = None


class SpreadConstraint(_Object):
    topology_key: Name = ""
    when_unsatisfiable: str = ""


class PodSpec(_Object):
    containers: list[ContainerObject] | None = None
    init_containers: list[ContainerObject] | None = None
    ephemeral_containers: list[ContainerObject] | None = None
    volumes: list[dict[str, Any]] | None = None
    restart_policy: str | None = None
    node_selector: dict[Name, Name] | None = None
    affinity: Affinity | None = None
    tolerations: list[TolerationObject] | None = None
    node_name: str | None = None
    overhead: dict[Name, str | int | float] | None = None
    topology_spread_constraints: list[SpreadConstraint] | None = None
    resource_claims: list[dict[str, Any]] | None = None
    scheduler_name: str | None = None


class Condition(_Object):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None


class PodStatus(_Object):
    phase: str = ""
    conditions: list[Condition] | None = None


class Pod(_Object):
    metadata: Meta
    spec: PodSpec
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class Template(_Object):
    metadata: Meta | None = None
    spec: PodSpec | None = None


class JobSpec(_Object):
    template: Template | None = None
    suspend: bool | None = None


class JobTemplate(_Object):
    spec: JobSpec | None = None


class ControllerSpec(_Object):
    replicas: Replicas | None = None
    template: Template | None = None
    job_template: JobTemplate | None = None
    suspend: bool | None = None


class Controller(_Object):
    metadata: Meta
    spec: ControllerSpec = msgspec.field(default_factory=ControllerSpec)


class NodeSpec(_Object):
    taints: list[TaintObject] | None = None
    unschedulable: bool | None = None


class NodeInfo(_Object):
    kubelet_version: str = ""
    machine_id: str = msgspec.field(default="", name="machineID")
    boot_id: str = msgspec.field(default="", name="bootID")


class NodeStatus(_Object):
    allocatable: dict[Name, str | int | float] | None = None
    conditions: list[Condition] | None = None
    node_info: NodeInfo | None = None


class NodeObject(_Object):
    metadata: Meta
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)


class ClaimRef(_Object):
    namespace: str = ""
    name: str = ""


class VolumeAffinity(_Object):
    required: NodeSelector | None = None


class VolumeSpec(_Object):
    claim_ref: ClaimRef | None = None
    node_affinity: VolumeAffinity | None = None


class VolumeObject(_Object):
    metadata: Meta
    spec: VolumeSpec = msgspec.field(default_factory=VolumeSpec)


class ConfigMap(_Object):
    metadata: Meta
    data: dict[str, str] | None = None


class ListMeta(_Object):
    continue_: str = msgspec.field(default="", name="continue")
    remaining_item_count: int | None = None


class Version(_Object):
    git_version: str = ""
