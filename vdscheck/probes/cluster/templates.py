"""What a pod's specification says, as far as it is judged."""

import re
from collections.abc import Iterator
from dataclasses import replace

from vdscheck.measurements.cluster import (
    Container,
    FurtherImage,
    Mount,
    NodeTerm,
    PodTemplate,
    Requirement,
    Resources,
    Role,
    Toleration,
)
from vdscheck.plugin import secrets
from vdscheck.probes.cluster.objects import Affinity, Amounts, ContainerObject, Expression, PodAffinity, PodSpec
from vdscheck.probes.cluster.quantity import add, from_stated, raise_to, resources

NAME_LIMIT = 253
"""The longest name that Kubernetes takes (RFC 1123 subdomain)."""
IMAGE_LIMIT = 512
PATHS_LIMIT = 5
_PATH = re.compile(r"(?:^|(?<=[\s=:'\"(<>]))(/[A-Za-z0-9._/*+-]{1,200})")
_NODE_NAME = "metadata.name"


def template(spec: PodSpec, *, of_daemon: bool = False) -> PodTemplate:
    """The judged part of a pod's specification."""
    init, main = spec.init_containers or [], spec.containers or []
    affinity = spec.affinity or Affinity()
    return PodTemplate(
        containers=tuple(
            [container(each, _role_of_init(each)) for each in init] + [container(each, "main") for each in main]
        ),
        volumes={str(each.get("name"))[:NAME_LIMIT]: _kind_of_volume(each) for each in spec.volumes or []},
        restarts=(spec.restart_policy or "Always") == "Always",
        node_selector=dict(spec.node_selector or {}),
        affinity=_terms(affinity, of_daemon=of_daemon),
        tolerations=tuple(
            Toleration(key=each.key, operator=each.operator or "Equal", value=each.value or "", effect=each.effect)
            for each in spec.tolerations or []
        ),
        node_name=spec.node_name or None,
        requests=from_stated(requested(spec)),
        kept_apart=_kept_apart(spec, affinity),
        not_judged=_not_judged(spec, affinity),
        further_images=further_images(spec),
    )


def further_images(spec: PodSpec) -> tuple[FurtherImage, ...]:
    """The images of volumes (KEP 4639) and of containers that were added for debugging, each once."""
    found: dict[FurtherImage, None] = {}
    for each in spec.volumes or []:
        if "image" in each:
            source = each["image"]
            written = source.get("reference") if isinstance(source, dict) else None
            found[_further("volume", str(each.get("name")), written if isinstance(written, str) else "")] = None
    for added in spec.ephemeral_containers or []:
        found[_further("ephemeral container", added.name, added.image)] = None
    return tuple(found)


def _further(what: str, name: str, image: str) -> FurtherImage:
    return FurtherImage(place=f"{what} {name[:NAME_LIMIT]}", image=_shown_image(image))


def _shown_image(written: str) -> str:
    return secrets.without_secrets(written)[:IMAGE_LIMIT]


def unread(why: str) -> PodTemplate:
    """What stands for a specification of which nothing is kept."""
    return replace(template(PodSpec()), unread=why)


def _role_of_init(written: ContainerObject) -> Role:
    return "sidecar" if written.restart_policy == "Always" else "init"


def container(written: ContainerObject, role: Role) -> Container:
    """The judged part of a container."""
    mounts = tuple(
        Mount(volume=each.name[:NAME_LIMIT], path=each.mount_path[:NAME_LIMIT], read_only=bool(each.read_only))
        for each in written.volume_mounts or []
    )
    return Container(
        name=written.name[:NAME_LIMIT],
        image=_shown_image(written.image),
        role=role,
        requests=_requests(written),
        limits=resources(written.resources.limits if written.resources else None),
        mounts=mounts,
        paths=_paths([*(written.command or []), *(written.args or [])], mounts),
        line=None,
    )


def _requests(written: ContainerObject) -> Resources:
    """What it requests; a limit without a request is the request as well: the API server's default."""
    amounts = written.resources or Amounts()
    return resources({**(amounts.limits or {}), **(amounts.requests or {})})


def _paths(words: list[str], mounts: tuple[Mount, ...]) -> tuple[str, ...]:
    """Paths below the mounts; each is looked up by its folders, since a pod may have thousands of both."""
    below = {each.path.rstrip("/") + "/" for each in mounts if each.path}
    shown = (secrets.without_secrets(secrets.without_logins(word))[:4096] for word in words)
    every = (path for word in shown for path in _PATH.findall(word))
    found = dict.fromkeys(path for path in every if not below.isdisjoint(_folders(path)))
    return tuple(found)[:PATHS_LIMIT]


def _folders(path: str) -> Iterator[str]:
    return (path[: at + 1] for at, character in enumerate(path) if character == "/")


def _kind_of_volume(written: dict[str, object]) -> str:
    return next((key for key in written if key != "name"), "emptyDir")[:NAME_LIMIT]


def requested(spec: PodSpec) -> dict[str, int]:
    """What the scheduler counts for a pod.

    https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers: the
    larger of all that run together (containers and native sidecars) and of each init container beside the sidecars
    that were started before it; and the overhead of its runtime class.
    """
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for each in spec.init_containers or []:
        own = _requests(each).stated
        if _role_of_init(each) == "sidecar":
            add(sidecars, own)
            raise_to(peak, {name: sidecars[name] for name in own})
        else:
            # Of what it does not ask for the sidecars ask as much as they did.
            together = {name: sidecars.get(name, 0) for name in own}
            add(together, own)
            raise_to(peak, together)
    for each in spec.containers or []:
        add(sidecars, _requests(each).stated)
    raise_to(peak, sidecars)
    add(peak, resources(spec.overhead).stated)
    return peak


def _terms(affinity: Affinity, *, of_daemon: bool) -> tuple[NodeTerm, ...] | None:
    required = affinity.node_affinity.required if affinity.node_affinity else None
    if required is None:
        return None
    terms = []
    for each in required.node_selector_terms or []:
        fields = each.match_fields or []
        if of_daemon:
            # The controller of a DaemonSet ties each pod to its node so: that is no wish of its template.
            fields = [field for field in fields if field.key != _NODE_NAME]
        labels = each.match_expressions or []
        if of_daemon and not fields and not labels:
            return None
        terms.append(NodeTerm(labels=_requirements(labels), fields=_requirements(fields)))
    return tuple(terms)


def _requirements(written: list[Expression]) -> tuple[Requirement, ...]:
    return tuple(
        Requirement(
            key=each.key, operator=each.operator, values=tuple(value[:NAME_LIMIT] for value in each.values or ())
        )
        for each in written
    )


def _kept_apart(spec: PodSpec, affinity: Affinity) -> tuple[str, ...]:
    keys = [each.topology_key for each in spec.topology_spread_constraints or []]
    return tuple(dict.fromkeys([*keys, *_anti(affinity.pod_anti_affinity)]))


def _anti(anti: PodAffinity | None) -> list[str]:
    if anti is None:
        return []
    required = [each.topology_key for each in anti.required or []]
    preferred = [each.pod_affinity_term.topology_key for each in anti.preferred or [] if each.pod_affinity_term]
    return [*required, *preferred]


def _not_judged(spec: PodSpec, affinity: Affinity) -> tuple[str, ...]:
    claims = any("persistentVolumeClaim" in each or "ephemeral" in each for each in spec.volumes or [])
    strict = any(each.when_unsatisfiable == "DoNotSchedule" for each in spec.topology_spread_constraints or [])
    other = spec.scheduler_name not in (None, "", "default-scheduler")
    found = {
        "pod affinity": bool(affinity.pod_affinity and affinity.pod_affinity.required),
        "pod anti-affinity": bool(affinity.pod_anti_affinity and affinity.pod_anti_affinity.required),
        "topology spread": strict,
        "volumes": claims,
        "resource claims": bool(spec.resource_claims),
        "a scheduler of its own": other,
    }
    return tuple(name for name, there in found.items() if there)
