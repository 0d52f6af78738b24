"""Lists of an API server with a field that holds what nobody should send, and a run over them in this process."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.support.hostile_values import Place, places, with_at
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.cli import judge as again_by
from vdscheck.cli import request
from vdscheck.codec import encode
from vdscheck.judge.judge import judge
from vdscheck.model.absence import Absent, UnavailableError
from vdscheck.model.report import Report, Run, Taken
from vdscheck.report.build import build as report_of
from vdscheck.report.build import target_note
from vdscheck.ruleset.ruleset import build
from vdscheck.target.cluster import Cluster, Login, RequestCounts

SEED = 20261129
REGION, ZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"
PROBES = ("server", "nodes", "workloads", "volumes", "node-reports")
LONG = "x" * (1 << 20)
KINDS: dict[str, str] = {
    "null": "null",
    "truth": "true",
    "list": '[1, "x", null]',
    "mapping": '{"a": {"b": []}}',
    "400 digits": "9" * 400,
    "400 digits and a fraction": f"0.{'9' * 400}",
    "negative": "-1",
    "beyond 64 bits": str(2**64),
    "beyond a double": "1e400",
    "NaN": "NaN",
    "long": json.dumps(LONG),
    "controls": json.dumps("\x1b[2J\x1b]0;owned\x07\r\n\x9b31m\u202e\0"),
    "half a surrogate pair": r'"\ud800"',
    "text": '"hostile"',
    "negative amount": '"-5Gi"',
    "empty": '""',
}
"""What stands in the place of a field, as it is sent."""
OF_TEXT = ("long", "controls", "half a surrogate pair", "text", "negative amount", "empty")
_HOLE = "\ue000hole\ue000"


def container(name: str, **more: Any) -> dict[str, Any]:
    amounts = {"cpu": "100m", "memory": "64Mi"}
    mounts = [{"name": "logs", "mountPath": "/var/log/app", "readOnly": name != "app"}]
    usual = {"name": name, "image": f"{name}:1", "resources": {"requests": amounts, "limits": dict(amounts)}}
    return usual | {"volumeMounts": mounts, "command": ["/bin/run", "/var/log/app/a.log"], "args": []} | more


def pod_spec(**more: Any) -> dict[str, Any]:
    """One that has something in every field that is read."""
    line = {"key": ZONE, "operator": "In", "values": ["osl-1"]}
    term = {"matchExpressions": [line], "matchFields": []}
    apart = {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    other = {"topologyKey": ZONE}
    anti = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": other}]}
    return {
        "containers": [container("app"), container("log-shipper")],
        "initContainers": [container("prepare"), container("proxy", restartPolicy="Always")],
        "volumes": [{"name": "logs", "emptyDir": {}}],
        "restartPolicy": "Always",
        "nodeSelector": {"disktype": "nvme"},
        "affinity": {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}},
            "podAntiAffinity": anti,
        },
        "tolerations": [{"key": "own", "operator": "Equal", "value": "us", "effect": "NoSchedule"}],
        "overhead": {"cpu": "10m"},
        "topologySpreadConstraints": [apart],
        "resourceClaims": [],
        "schedulerName": "default-scheduler",
    } | more


def _named(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": "shop",
        "labels": {"app": "web"},
        "creationTimestamp": "2026-11-01T00:00:00Z",
    } | more


def _owned(kind: str, name: str) -> list[dict[str, Any]]:
    return [{"kind": kind, "name": name, "controller": True}]


def _node(name: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"disktype": "nvme", ZONE: "osl-1", REGION: "osl"}},
        "spec": {"taints": [{"key": "own", "value": "us", "effect": "NoSchedule"}], "unschedulable": False},
        "status": {
            "allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110", "ephemeral-storage": "1Gi", "x.io/gpu": 1},
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "fine"},
                {"type": "DiskPressure", "status": "False"},
            ],
            "nodeInfo": {"kubeletVersion": "v1.34.2", "machineID": f"m-{name}", "bootID": f"b-{name}"},
        },
    }  # fmt: skip


def _pod(name: str, node: str, owner: str) -> dict[str, Any]:
    meta = _named(name, ownerReferences=_owned("ReplicaSet", f"{owner}-5d4f"), labels={"pod-template-hash": "5d4f"})
    said = {
        "type": "PodScheduled",
        "status": "False" if not node else "True",
        "reason": "Unschedulable",
        "message": "no",
    }
    status = {"phase": "Running" if node else "Pending", "conditions": [said]}
    return {"metadata": meta, "spec": pod_spec(**({"nodeName": node} if node else {})), "status": status}


def _controller(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": _named(name), "spec": spec}


def _volume() -> dict[str, Any]:
    line = {"key": ZONE, "operator": "In", "values": ["osl-1"]}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [line]}]}}
    labels = {ZONE: "osl-1"}
    spec = {"claimRef": {"namespace": "shop", "name": "data"}, "nodeAffinity": affinity}
    return {"metadata": {"name": "pv-1", "labels": labels}, "spec": spec}


def _listed(*items: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "List", "apiVersion": "v1", "metadata": {"continue": "", "resourceVersion": "7"}, "items": [*items]}


def answers() -> dict[str, Any]:
    """What a small sound cluster answers, by path."""
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod_spec()}
    pods = _pod("web-5d4f-a", "n1", "web"), _pod("web-5d4f-b", "n2", "web"), _pod("api-5d4f-a", "", "api")
    job = {"template": {"spec": pod_spec(restartPolicy="Never")}}
    made_by = _controller("Job", "night-1", **job)
    made_by["metadata"]["ownerReferences"] = _owned("CronJob", "night")
    return {
        "/version": {"gitVersion": "v1.34.2", "major": "1", "minor": "34"},
        "/api/v1/namespaces/default": {"kind": "Namespace", "metadata": {"name": "default"}},
        "/api/v1/nodes": _listed(_node("n1"), _node("n2")),
        "/api/v1/pods": _listed(*pods),
        "/api/v1/persistentvolumes": _listed(_volume()),
        "/apis/apps/v1/deployments": _listed(
            _controller("Deployment", "web", replicas=2, template=template),
            _controller("Deployment", "new", replicas=2, template=template),
        ),
        "/apis/apps/v1/statefulsets": _listed(_controller("StatefulSet", "db", replicas=2, template=template)),
        "/apis/apps/v1/daemonsets": _listed(_controller("DaemonSet", "agent", template=template)),
        "/apis/batch/v1/cronjobs": _listed(_controller("CronJob", "night", suspend=False, jobTemplate={"spec": job})),
        "/apis/batch/v1/jobs": _listed(made_by),
        "/api/v1/namespaces/vdscheck/configmaps": _listed({"metadata": {"name": "n1"}, "data": {"report.json": "{}"}}),
    }  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """One field of one answer that holds something else."""

    path: str
    place: Place
    kind: str

    @property
    def sent(self) -> dict[str, bytes]:
        """All answers as they are sent."""
        sound = answers()
        holed = json.dumps(with_at(sound[self.path], self.place, _HOLE)).replace(json.dumps(_HOLE), KINDS[self.kind])
        return {path: json.dumps(each).encode() for path, each in sound.items()} | {self.path: holed.encode()}

    @property
    def before(self) -> Any:
        """What was there."""
        value = answers()[self.path]
        for key in self.place:
            value = value[key]
        return value

    @property
    def must_not_count(self) -> bool:
        """Whether nothing may pass or fail by it: what is there is of a kind that the API never sends there.

        A text in the place of a text is a name like others, unless it has a meaning of its own; what is null is
        not there, and what nobody reads is passed over.
        """
        if self.kind == "null" or (self.kind == "mapping" and isinstance(self.before, dict)):
            return False
        if isinstance(self.before, str) and self.kind in OF_TEXT:
            return self.has_a_meaning and self.kind != "empty"
        return not (isinstance(self.before, str) and self.is_an_amount)

    @property
    def is_an_amount(self) -> bool:
        return any(key in ("allocatable", "requests", "limits", "overhead") for key in self.place)

    @property
    def has_a_meaning(self) -> bool:
        """Whether the field holds one of a few words, or an amount."""
        truths = self.place[-1:] == ("status",) and self.path == "/api/v1/nodes"
        return truths or self.is_an_amount or (self.place[-1:] == ("effect",) and self.path == "/api/v1/nodes")


def mutations(count: int, seed: int = SEED) -> Iterator[Mutation]:
    """So many, each of another place, kind or list."""
    source, sound = random.Random(seed), answers()
    found = {path: [place for place in places(content) if place] for path, content in sound.items()}
    for number in range(count):
        path = source.choice([*sound, "/api/v1/nodes", "/api/v1/pods", "/apis/apps/v1/deployments"])
        yield Mutation(path, source.choice(found[path]), [*KINDS][number % len(KINDS)])


@dataclass
class Stored(Cluster):
    """A cluster whose answers are given; every list has one page."""

    login: Login = field(default_factory=lambda: Login((), None, "hostile", "default"))
    sent: dict[str, bytes] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return "hostile.example"

    def get(self, path: str, limit_bytes: int = 1 << 22) -> bytes:
        del limit_bytes
        return self.sent[path.partition("?")[0]]

    def page(self, path: str, token: str, asked: RequestCounts) -> bytes:
        del token
        asked.requests += 1
        assert asked.requests < 50, "the list never ends"
        return self.get(path)


def measured(catalogue: Catalogue, cluster: Cluster) -> dict[str, Taken]:
    """What each probe says; one that fails in another way than it may is a bug, and is raised."""
    found = {}
    for name in (f"cluster.{each}" for each in PROBES):
        value: Any
        try:
            value = catalogue.probes[name].probe.function(cluster)
        except UnavailableError as error:
            value = error.absent
        absent = value if isinstance(value, Absent) else None
        found[name] = Taken("2026-11-29T00:00:00.000Z", 0.0, "", None if absent else value, absent)
    return found


def reported(catalogue: Catalogue, taken: dict[str, Taken]) -> Report:
    """The report of it, with every check of a cluster."""
    rules = build(catalogue, ["cluster"], {"limits": {"cluster.residency": {"regions": ["osl"]}}}, "0", "cluster")
    run = Run("0" * 12, "2026-11-29T00:00:00Z", 0.0, complete=True, command=("vdscheck", "cluster"))
    judged = judge(catalogue, rules, taken, "2026-11-29")
    note = target_note("cluster", catalogue.headers["cluster"], taken, name="hostile")
    return report_of(
        version="0", run=run, target=note, ruleset=rules.note, judged=judged, measurements=taken, warnings=()
    )


def again(catalogue: Catalogue, made: Report) -> Report:
    """The same, saved and judged anew."""
    return again_by._judged_again(request.Settings(request.Asked(), None, {}), catalogue, "r.json", encode(made))[0]
